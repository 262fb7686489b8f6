"""Backtests: asking for one, what came of it, and which strategies there are."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response

from app.api import backtest_listings, backtests, schemas
from app.api.backtest_requests import NewBacktest, StrategyName
from app.api.csv_pages import CSV_ANSWER, AsListing
from app.api.deps import IdempotencyHeader, RunningService, no_body
from app.api.problems import documented
from app.api.requests import Time, text_schema
from app.api.routes.trading import REPLAYED_HEADER, Cursor, Limit, SymbolFilter
from app.api.strict import StrictRoute
from app.domain.job import Job
from app.domain.ports import Selection
from app.domain.record import canonical
from app.strategies.registry import STRATEGIES

router = APIRouter(route_class=StrictRoute, tags=["backtest"])

_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
_LISTED: dict[int | str, dict[str, Any]] = {200: CSV_ANSWER}

BacktestId = Annotated[str, Path(pattern=_ID_PATTERN, description="The backtest's id.")]
StrategyFilter = Annotated[
    StrategyName | None,
    Query(description="Only this strategy."),
    text_schema(enum=list(STRATEGIES)),
]
ComputedSince = Annotated[
    Time | None, Query(description="Only what was computed at this time or after it."), text_schema(format="date-time")
]
ComputedUntil = Annotated[
    Time | None, Query(description="Only what was computed before this time."), text_schema(format="date-time")
]
Points = Annotated[int, Query(ge=8, le=10_000, description="In how many points at most.")]


async def _computed(symbol: SymbolFilter = None, since: ComputedSince = None, until: ComputedUntil = None) -> Selection:
    return Selection(symbol=symbol, since=since, until=until)


Computed = Annotated[Selection, Depends(_computed)]


@router.post(
    "/backtest/run",
    operation_id="run_backtest",
    summary="Run a backtest",
    status_code=202,
    response_model=schemas.Job,
    response_description="The backtest is queued; follow it under `Location`. Its `result` has the `run_id`.",
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
async def run_backtest(
    service: RunningService, response: Response, key: IdempotencyHeader, body: NewBacktest | None = None
) -> Job:
    """Trade a strategy on past candles, by the rules of the live service and beside everything else.

    Candles that are missing are fetched. The same request on the same candles is computed once: the job of a second
    one ends as soon as its candles have been looked at, with the `run_id` of the first. One backtest runs at a time;
    another request meanwhile is refused.
    """
    asked = body or NewBacktest()
    request = asked.to_domain(service.settings, service.clock.now())
    words = canonical(asked.model_dump(mode="json", exclude_none=True))
    job, replayed = await service.start_backtest(request, key.bind("run-backtest", words))
    response.headers["Location"] = f"/jobs/{job.id}"
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return job


@router.get(
    "/backtest/runs",
    operation_id="list_backtests",
    summary="List backtests",
    response_model=backtests.SummaryPage,
    responses=_LISTED | documented(503),
)
async def list_backtests(
    service: RunningService,
    listing: AsListing,
    wanted: Computed,
    limit: Limit = 100,
    cursor: Cursor = None,
    strategy: StrategyFilter = None,
) -> Any:  # noqa: ANN401 - a page, or CSV
    """Backtests that are kept, by when they were computed, newest first; those of the command line, too."""
    page = await service.backtests.list(limit, cursor, wanted, strategy)
    return listing.answer(backtests.SummaryPage, page)


@router.get(
    "/backtest/runs/{backtest_id}",
    operation_id="get_backtest",
    summary="Get a backtest",
    response_model=backtests.Backtest,
    responses=documented(404, 503),
)
async def get_backtest(service: RunningService, backtest_id: BacktestId) -> Any:  # noqa: ANN401 - FastAPI makes a Backtest of it
    """What was asked for, what it ran on and came to, and how likely luck is by all that was tried until now."""
    return (await service.backtests.load(backtest_id)).run


@router.delete(
    "/backtest/runs/{backtest_id}",
    operation_id="delete_backtest",
    summary="Delete a backtest",
    dependencies=[Depends(no_body)],
    status_code=204,
    responses=documented(404, writes=True),
)
async def delete_backtest(service: RunningService, backtest_id: BacktestId) -> None:
    """Throw a backtest away. That it was tried stays counted, against all others on these candles."""
    await service.backtests.delete(backtest_id)


@router.get(
    "/backtest/runs/{backtest_id}/equity",
    operation_id="get_backtest_equity",
    summary="Show a backtest's equity",
    response_model=backtests.Curve,
    responses=_LISTED | documented(404, 503),
)
async def get_backtest_equity(
    service: RunningService, listing: AsListing, backtest_id: BacktestId, points: Points = 1_000
) -> Any:  # noqa: ANN401 - a curve, or CSV
    """Equity after each cycle beside that of buy-and-hold, oldest first, thinned to `points`."""
    result = await service.backtests.load_as_kept(backtest_id)
    return listing.answer(backtests.Curve, await asyncio.to_thread(backtest_listings.list_curve, result, points))


@router.get(
    "/backtest/runs/{backtest_id}/trades",
    operation_id="list_backtest_trades",
    summary="List a backtest's trades",
    response_model=backtests.ClosedTradePage,
    responses=_LISTED | documented(404, 503),
)
async def list_backtest_trades(
    service: RunningService, listing: AsListing, backtest_id: BacktestId, limit: Limit = 100, cursor: Cursor = None
) -> Any:  # noqa: ANN401 - a page, or CSV
    """What each exit closed, oldest first; a position that is open at the end is not among them."""
    result = await service.backtests.load_as_kept(backtest_id)
    page = await asyncio.to_thread(backtest_listings.list_trades, result, limit, cursor)
    return listing.answer(backtests.ClosedTradePage, page)


@router.get(
    "/backtest/runs/{backtest_id}/decisions",
    operation_id="list_backtest_decisions",
    summary="List a backtest's decisions",
    response_model=backtests.DecisionPage,
    responses=_LISTED | documented(404, 503),
)
async def list_backtest_decisions(
    service: RunningService, listing: AsListing, backtest_id: BacktestId, limit: Limit = 100, cursor: Cursor = None
) -> Any:  # noqa: ANN401 - a page, or CSV
    """What came of each candle, and everything that was filled, oldest first."""
    result = await service.backtests.load_as_kept(backtest_id)
    page = await asyncio.to_thread(backtest_listings.list_decisions, result, limit, cursor)
    return listing.answer(backtests.DecisionPage, page)


@router.get(
    "/backtest/strategies",
    operation_id="list_strategies",
    summary="List strategies",
    response_model=backtests.StrategyList,
    responses=documented(),
)
async def list_strategies() -> dict[str, Any]:
    """Everything that a backtest can be asked of, and the values that its parameters may have."""
    return {"items": list(STRATEGIES.values())}
