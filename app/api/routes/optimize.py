"""Optimisations: asking for one, and what came of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response

from app.api import optimizations, schemas
from app.api.csv_pages import CSV_ANSWER, AsListing
from app.api.deps import IdempotencyHeader, RunningService, no_body
from app.api.optimization_requests import NewOptimization
from app.api.problems import documented
from app.api.routes.backtests import Computed, StrategyFilter
from app.api.routes.trading import REPLAYED_HEADER, Cursor, Limit
from app.api.strict import StrictRoute
from app.domain.job import Job
from app.domain.record import canonical

router = APIRouter(route_class=StrictRoute, tags=["optimize"])

_LISTED: dict[int | str, dict[str, Any]] = {200: CSV_ANSWER}

OptimizationId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The optimisation's id.")]


@router.post(
    "/optimize",
    operation_id="run_optimization",
    summary="Look for parameters",
    status_code=202,
    response_model=schemas.Job,
    response_description="The optimisation is queued; follow it under `Location`. Its `result` has the `run_id`.",
    responses={
        202: {
            "headers": {
                **REPLAYED_HEADER,
                "Location": {"description": "The job's address.", "schema": {"type": "string"}},
            }
        },
        **documented(409, writes=True),
    },
)
async def run_optimization(
    service: RunningService, response: Response, key: IdempotencyHeader, body: NewOptimization
) -> Job:
    """Try parameters of a strategy on past candles, and find out what choosing the best of them is worth.

    Each choice is judged on days after those it was made by. Nothing is recommended where the probability of
    overfitting is above 0.5, or where the best may be luck by the number of trials. Asked again, one that was
    cancelled or killed goes on where it was. One runs at a time; another request meanwhile is refused.
    """
    request = body.to_optimization(service.settings, service.clock.now())
    words = canonical(body.model_dump(mode="json", exclude_none=True))
    job, replayed = await service.optimizations.start(request, key.bind("run-optimization", words))
    response.headers["Location"] = f"/jobs/{job.id}"
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return job


@router.get(
    "/optimize/runs",
    operation_id="list_optimizations",
    summary="List optimisations",
    response_model=optimizations.SummaryPage,
    responses=_LISTED | documented(503),
)
async def list_optimizations(
    service: RunningService,
    listing: AsListing,
    wanted: Computed,
    limit: Limit = 100,
    cursor: Cursor = None,
    strategy: StrategyFilter = None,
) -> Any:  # noqa: ANN401 - a page, or CSV
    """Optimisations that are kept, by when they were computed, newest first; those of the command line, too."""
    page = await service.optimizations.list(limit, cursor, wanted, strategy)
    return listing.answer(optimizations.SummaryPage, page)


@router.get(
    "/optimize/runs/{optimization_id}",
    operation_id="get_optimization",
    summary="Get an optimisation",
    response_model=optimizations.Optimization,
    responses=documented(404, 503),
)
async def get_optimization(service: RunningService, optimization_id: OptimizationId) -> Any:  # noqa: ANN401 - FastAPI makes one of it
    """What was asked for and found, and what is to be thought of it by all that was tried until now."""
    return await service.optimizations.load(optimization_id)


@router.delete(
    "/optimize/runs/{optimization_id}",
    operation_id="delete_optimization",
    summary="Delete an optimisation",
    dependencies=[Depends(no_body)],
    status_code=204,
    responses=documented(404, writes=True),
)
async def delete_optimization(service: RunningService, optimization_id: OptimizationId) -> None:
    """Throw an optimisation away. What it tried stays counted, against all others on these candles."""
    await service.optimizations.delete(optimization_id)
