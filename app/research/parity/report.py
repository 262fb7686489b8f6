"""What a comparison of life with the backtest came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from app.domain.candle import Interval
from app.domain.order import Origin, Side

T = TypeVar("T")


class Cause(StrEnum):
    """Why something is not equal; all but the last are explained."""

    PERSON_ACTED = "person_acted"
    MODEL_MISSING = "model_missing"
    CANDLES_RESTATED = "candles_restated"
    RECORD_UNREADABLE = "record_unreadable"
    VERSION_CHANGED = "version_changed"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class TradeFacts:
    """What must be equal of a trade, to the last 1e-8."""

    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    cash_after: Decimal
    position_after: Decimal


@dataclass(frozen=True, slots=True)
class TradeParity:
    """One trade, in life and in the backtest.

    Attributes:
        run: The account.
        trade_id: The live trade, None where there is none.
        cycle_id: The cycle that booked it, None where a person did.
        at: When it was booked, or would have been.
        symbol: What was traded.
        interval: The candle's, None for a person's market order.
        candle_open_time: The candle that was decided on, or that reached an order; None for a person's market order.
        origin: Who placed its order.
        live: The trade as it is in the books, None where only the backtest traded.
        backtest: The trade that the backtest made at the live quote, None where it made none.
        cause: Why they are not equal, or cannot be shown to be; None where they are.
        next_open_price: The price of the same trade in a backtest that fills at the next candle's open, None where
            that made no such trade.
        difference_bps: How much worse (above 0) the live price was for the account than that, in basis points.
    """

    run: str
    trade_id: int | None
    cycle_id: str | None
    at: datetime
    symbol: str
    interval: Interval | None
    candle_open_time: datetime | None
    origin: Origin
    live: TradeFacts | None
    backtest: TradeFacts | None
    cause: Cause | None = None
    next_open_price: Decimal | None = None
    difference_bps: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A cycle, or a person's doing, in which life and the backtest parted; from the next cycle on they go together.

    `what` names the first field that differs, with what is recorded and what the backtest came to.
    """

    run: str
    cycle_id: str | None
    at: datetime | None
    symbol: str | None
    cause: Cause
    what: str


class StretchStart(StrEnum):
    """Why the backtest that fills at the next open began anew from the recorded account."""

    BEGINNING = "beginning"
    PERSON_ACTED = "person_acted"
    SETTINGS_CHANGED = "settings_changed"
    RECORD_UNREADABLE = "record_unreadable"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Cycles in a row under the same settings and without a person's doing, and what both came to at their end."""

    run: str
    since: datetime
    until: datetime
    start: StretchStart
    cycles: int
    equity_live: Decimal
    equity_next_open: Decimal


@dataclass(frozen=True, slots=True)
class NextOpen:
    """What it changes to fill at the next candle's open, as backtests do, instead of at the live quote.

    Attributes:
        matched: Live trades on a candle on which that backtest made the same kind of trade, too.
        only_live: Live trades that it did not make.
        only_backtest: Trades that it alone made.
        without_cycle: Those of them on candles that no live cycle has looked at.
        mean_bps: The mean of `TradeParity.difference_bps`, None without a matched trade.
        largest_bps: The one that is furthest from 0, None without a matched trade.
        equity_difference: What the backtest ended with more than life, over all stretches, in quote units.
    """

    matched: int
    only_live: int
    only_backtest: int
    without_cycle: int
    mean_bps: float | None
    largest_bps: float | None
    equity_difference: Decimal


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Life and the backtest, trade by trade.

    Attributes:
        created_at: When they were compared.
        code_version: The version of the code that compared them.
        since: From when on cycles were looked at, None for all.
        runs: The accounts.
        cycles: How many cycles were run again.
        trades: How many trades there are, those that only one of both made included.
        equal: How many are equal with the live quotes.
        causes: How many of the others have which cause.
        unexplained: How many differences have no cause that could be named.
        differences: Every cycle and person's doing in which they parted.
        next_open: What filling at the next open changes.
        stretches: Where that began anew, and what came of it.
        rows: The trades, oldest first for each account.
        rows_left_out: How many trades are counted and not among `rows`.
    """

    created_at: datetime
    code_version: str
    since: datetime | None
    runs: tuple[str, ...]
    cycles: int
    trades: int
    equal: int
    causes: Mapping[str, int]
    unexplained: int
    differences: tuple[Difference, ...]
    next_open: NextOpen
    stretches: tuple[Stretch, ...]
    rows: tuple[TradeParity, ...]
    rows_left_out: int = 0

    @property
    def is_explained(self) -> bool:
        """Whether every difference has a named cause."""
        return self.unexplained == 0


def shorten(report: ParityReport, most: int) -> ParityReport:
    """The same report with at most so many rows, and so many differences and stretches, the newest.

    Trades that are not equal, and differences that are unexplained, go before the others.
    """
    kept = _pick(report.rows, most, lambda row: row.cause is not None)
    return replace(
        report,
        rows=kept,
        rows_left_out=report.rows_left_out + len(report.rows) - len(kept),
        differences=_pick(report.differences, most, lambda one: one.cause is Cause.UNEXPLAINED),
        stretches=report.stretches[-most:],
    )


def _pick(items: Sequence[T], most: int, goes_first: Callable[[T], bool]) -> tuple[T, ...]:
    ranked = sorted(range(len(items)), key=lambda place: (not goes_first(items[place]), -place))
    return tuple(items[place] for place in sorted(ranked[:most]))
