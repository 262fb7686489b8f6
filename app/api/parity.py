"""What the routes of parity answer: life held against the backtest, trade by trade."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from app.api.schemas import Answer, Moment, Money
from app.domain.candle import Interval
from app.domain.order import Origin, Side
from app.research.parity.report import Cause, StretchStart

Count = Annotated[int, Field(ge=0)]

_BUY = {
    "side": "BUY",
    "quantity": "0.03906",
    "price": "63998.2",
    "fee": "0.49995394",
    "cash_after": "7499.73035406",
    "position_after": "0.03906",
}
_RUN = "binance.forest.main.1"
_EXAMPLE: dict[str, Any] = {
    "created_at": "2026-11-21T02:00:00.000Z",
    "code_version": "0.2.1",
    "since": None,
    "runs": [_RUN],
    "cycles": 1440,
    "trades": 212,
    "equal": 211,
    "causes": {"person_acted": 1},
    "unexplained": 0,
    "differences": [
        {
            "run": _RUN,
            "cycle_id": None,
            "at": "2026-11-21T01:30:00.000Z",
            "symbol": "BTCUSDT",
            "cause": "person_acted",
            "what": "close by a person: SELL 0.03906 BTC at 64010.3, 3.00 bps from the quote, fee 0.50004846.",
        }
    ],
    "next_open": {
        "matched": 205,
        "only_live": 6,
        "only_backtest": 4,
        "without_cycle": 4,
        "mean_bps": 0.31,
        "largest_bps": 10.25,
        "equity_difference": "5.48116083",
    },
    "stretches": [
        {
            "run": _RUN,
            "since": "2026-11-20T02:00:02.123Z",
            "until": "2026-11-21T01:29:02.456Z",
            "start": "beginning",
            "cycles": 1410,
            "equity_live": "9992.94278526",
            "equity_next_open": "9998.42394609",
        }
    ],
    "rows": [
        {
            "run": _RUN,
            "trade_id": 42,
            "cycle_id": "01KAX2J8Y7Q4M2V6ZC3N5T9B1D",
            "at": "2026-11-21T01:02:03.456Z",
            "symbol": "BTCUSDT",
            "interval": "1m",
            "candle_open_time": "2026-11-21T01:01:00.000Z",
            "origin": "signal",
            "live": _BUY,
            "backtest": _BUY,
            "cause": None,
            "next_open_price": "63996.1",
            "difference_bps": 0.328,
        }
    ],
    "rows_left_out": 211,
}


class TradeFacts(Answer):
    """What must be equal of a trade, to the last 1e-8."""

    side: Side
    quantity: Money
    price: Money
    fee: Money
    cash_after: Money
    position_after: Money


class TradeParity(Answer):
    """One trade, in life and in the backtest."""

    run: str
    trade_id: int | None = Field(description="The live trade; null where only the backtest traded.")
    cycle_id: str | None = Field(description="The cycle that booked it; null where a person did.")
    at: Moment
    symbol: str
    interval: Interval | None
    candle_open_time: Moment | None
    origin: Origin
    live: TradeFacts | None = Field(description="As it is in the books; null where only the backtest traded.")
    backtest: TradeFacts | None = Field(description="At the live quote; null where the backtest made none.")
    cause: Cause | None = Field(description="Why they are not equal, or cannot be shown to be; null where they are.")
    next_open_price: Money | None = Field(
        description="The price of the same trade where every fill is at the next open; null where that made none."
    )
    difference_bps: float | None = Field(description="How much worse (above 0) the live price was than that.")


class Difference(Answer):
    """A cycle, or a person's doing, in which life and the backtest parted."""

    run: str
    cycle_id: str | None
    at: Moment | None
    symbol: str | None
    cause: Cause
    what: str = Field(description="The first field that differs, with what is recorded and what came out.")


class NextOpen(Answer):
    """What it changes to fill at the next candle's open instead of at the live quote."""

    matched: Count = Field(description="Live trades that the backtest at the next open made, too.")
    only_live: Count
    only_backtest: Count
    without_cycle: Count = Field(description="Those of the backtest alone on candles that no live cycle looked at.")
    mean_bps: float | None = Field(description="Mean of `difference_bps`; null without a matched trade.")
    largest_bps: float | None = Field(description="The one that is furthest from 0; null without a matched trade.")
    equity_difference: Money = Field(description="What that backtest ended with more than life, over all stretches.")


class Stretch(Answer):
    """Cycles in a row under the same settings and without a person's doing."""

    run: str
    since: Moment
    until: Moment
    start: StretchStart
    cycles: Count
    equity_live: Money
    equity_next_open: Money


class Parity(Answer):
    """Life and the backtest, trade by trade; docs/parity.md says what is compared."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    created_at: Moment
    code_version: str
    since: Moment | None
    runs: list[str]
    cycles: Count = Field(description="How many were run again.")
    trades: Count
    equal: Count = Field(description="Trades that are equal with the live quotes.")
    causes: dict[str, int] = Field(description="How many of the other trades have which cause.")
    unexplained: Count = Field(description="Differences without a named cause; above 0, the books or the code changed.")
    differences: list[Difference]
    next_open: NextOpen
    stretches: list[Stretch]
    rows: list[TradeParity] = Field(description="The trades; the newest, those that are not equal before others.")
    rows_left_out: Count
