"""Cycles, trades and the market."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response

from app.api import schemas
from app.api.deps import IdempotencyHeader, RunningService, no_body
from app.api.problems import documented
from app.api.requests import text_schema
from app.api.strict import StrictRoute
from app.domain.candle import Interval
from app.domain.cycle import CycleReport, Trade
from app.domain.ports import Page, Selection
from app.setting_kinds import SYMBOL_PATTERN

router = APIRouter(route_class=StrictRoute)

REPLAYED_HEADER = {
    "Idempotency-Replayed": {
        "description": "`true` on the answer to an earlier request with the same key.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}

_SOURCE_PATTERN = r"^[a-z][a-z0-9_]{0,31}$"
_CURSOR_PATTERN = r"^[!-~]{1,200}$"

SymbolOrDefault = Annotated[
    str | None,
    Query(pattern=SYMBOL_PATTERN, description="Such as BTCUSDT; DEFAULT_SYMBOL when left out."),
    text_schema(pattern=SYMBOL_PATTERN, examples=["BTCUSDT"]),
]
IntervalOrDefault = Annotated[
    Interval | None,
    Query(description="DEFAULT_INTERVAL when left out."),
    text_schema(enum=[interval.value for interval in Interval]),
]
SymbolFilter = Annotated[
    str | None,
    Query(pattern=SYMBOL_PATTERN, description="Only this symbol."),
    text_schema(pattern=SYMBOL_PATTERN),
]
SourceFilter = Annotated[
    str | None,
    Query(pattern=_SOURCE_PATTERN, description="Only this source of market data."),
    text_schema(pattern=_SOURCE_PATTERN),
]
Limit = Annotated[int, Query(ge=1, le=1_000, description="How many at most.")]
Cursor = Annotated[
    str | None,
    Query(pattern=_CURSOR_PATTERN, description="`next_cursor` of the page before."),
    text_schema(pattern=_CURSOR_PATTERN, format="cursor"),
]


@router.post(
    "/trading/run-cycle",
    tags=["trading"],
    operation_id="run_cycle",
    summary="Run one cycle",
    dependencies=[Depends(no_body)],
    response_model=schemas.Cycle,
    response_description="The cycle ended; `execution` says whether it traded.",
    responses={200: {"headers": REPLAYED_HEADER}, **documented(404, 409, 502, 504, writes=True)},
)
async def run_cycle(
    service: RunningService,
    response: Response,
    key: IdempotencyHeader,
    symbol: SymbolOrDefault = None,
    interval: IntervalOrDefault = None,
) -> CycleReport:
    """Look at the market, ask the model, and book a simulated fill when it is confident and the limits allow it.

    The candles that have closed since the last cycle are judged first: resting orders that they reached are filled
    before anything is decided, stops before targets, and stand in `orders` and `fills`. A decision's order then meets
    the limits; each that was looked at stands in `checks` with its value, and the first that failed is the
    `reason_code`. An entry is sized within them, and its stop-loss and target are placed with it.

    No real order is ever sent. The same closed candle never trades twice. A cycle that has to refuse,
    for instance because the market data is stale, answers with a problem that carries its `cycle_id`.
    """
    chosen_symbol = symbol or service.settings.default_symbol
    chosen_interval = interval or service.settings.default_interval
    bound = key.bind("run-cycle", chosen_symbol, chosen_interval.value)
    report, replayed = await service.run_cycle(chosen_symbol, chosen_interval, bound)
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return report


@router.get(
    "/trading/trades",
    tags=["trading"],
    operation_id="list_trades",
    summary="List trades",
    response_model=schemas.TradePage,
    responses=documented(503),
)
async def list_trades(
    service: RunningService,
    limit: Limit = 100,
    cursor: Cursor = None,
    symbol: SymbolFilter = None,
    source: SourceFilter = None,
) -> Page[Trade]:
    """Simulated fills, newest first."""
    return await service.ledger.list_trades(limit=limit, cursor=cursor, wanted=Selection(symbol, source))


@router.get(
    "/trading/trades/{trade_id}",
    tags=["trading"],
    operation_id="get_trade",
    summary="Get a trade",
    response_model=schemas.TradeDetail,
    responses=documented(404, 503),
)
async def get_trade(service: RunningService, trade_id: Annotated[int, Path(ge=1, le=2**63 - 1)]) -> dict[str, Any]:
    """One simulated fill, with the decision and the cycle behind it."""
    trade = await service.ledger.get_trade(trade_id)
    cycle = await service.ledger.get_cycle(trade.cycle_id) if trade.cycle_id else None
    fields = {name: getattr(trade, name) for name in schemas.Trade.model_fields}
    return {**fields, "decision": cycle.decision if cycle else None, "cycle": cycle}


@router.get(
    "/trading/cycles",
    tags=["trading"],
    operation_id="list_cycles",
    summary="List cycles",
    response_model=schemas.CyclePage,
    responses=documented(503),
)
async def list_cycles(
    service: RunningService,
    limit: Limit = 100,
    cursor: Cursor = None,
    symbol: SymbolFilter = None,
    source: SourceFilter = None,
) -> Page[CycleReport]:
    """Cycles in a line each, newest first, the refused ones included."""
    return await service.ledger.list_cycles(limit=limit, cursor=cursor, wanted=Selection(symbol, source))


@router.get(
    "/trading/cycles/{cycle_id}",
    tags=["trading"],
    operation_id="get_cycle",
    summary="Get a cycle",
    response_model=schemas.Cycle,
    responses=documented(404, 503),
)
async def get_cycle(
    service: RunningService, cycle_id: Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
) -> CycleReport:
    """One cycle, as it was answered when it ran."""
    return await service.ledger.get_cycle(cycle_id)


@router.get(
    "/trading/market/latest",
    tags=["trading"],
    operation_id="get_latest_market",
    summary="Look at the market",
    response_model=schemas.LatestMarket,
    responses=documented(404, 502, 503, 504),
)
async def get_latest_market(service: RunningService, symbol: SymbolOrDefault = None) -> dict[str, Any]:
    """The latest price, the last closed candles and the indicators; nothing is decided or booked."""
    chosen = symbol or service.settings.default_symbol
    view, source, interval = await service.latest_market(chosen)
    return {"symbol": chosen, "interval": interval, "source": source, "market": view}
