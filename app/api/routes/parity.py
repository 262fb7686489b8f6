"""Life held against the backtest."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from app.api import parity, schemas
from app.api.deps import IdempotencyHeader, RunningService, no_body
from app.api.problems import documented
from app.api.routes.events import SinceFilter
from app.api.routes.portfolio import RunFilter
from app.api.routes.trading import REPLAYED_HEADER
from app.api.strict import StrictRoute
from app.domain.job import Job
from app.domain.ports import Selection
from app.research.parity.report import ParityReport

router = APIRouter(route_class=StrictRoute, prefix="/parity", tags=["parity"])


@router.get(
    "/latest",
    operation_id="get_parity",
    summary="Show whether the backtest confirms life",
    response_model=parity.Parity,
    responses=documented(404, 503),
)
async def get_parity(service: RunningService) -> ParityReport:
    """The newest comparison of the recorded live cycles with the backtest, with at most 1,000 of its trades.

    It was made by `POST /parity/run` or `python -m app parity`; before the first there is `parity_not_found`.
    """
    return await service.parity.latest()


@router.post(
    "/run",
    operation_id="run_parity",
    summary="Hold life against the backtest",
    dependencies=[Depends(no_body)],
    status_code=202,
    response_model=schemas.Job,
    response_description="The comparison is queued; follow it under `Location`, then ask for the latest report.",
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
async def run_parity(
    service: RunningService,
    response: Response,
    key: IdempotencyHeader,
    since: SinceFilter = None,
    run: RunFilter = None,
) -> Job:
    """Run every recorded live cycle again by the backtest, beside everything else, and compare every trade.

    Some hundred cycles a second are compared. One comparison runs at a time; another request meanwhile is refused.
    """
    wanted = Selection(since=since, run=run)
    job, replayed = await service.start_parity(wanted, key.bind("parity", str(since), str(run)))
    response.headers["Location"] = f"/jobs/{job.id}"
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return job
