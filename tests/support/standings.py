"""Accounts and markets for the tests of what a trade may risk: round numbers, so that results can be read off."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from app.domain.candle import Candle, Interval
from app.domain.instrument import Instrument
from app.domain.market import MarketSnapshot, Quote
from app.domain.money import UNITS
from app.domain.portfolio import Portfolio, Position
from app.domain.standing import Halt, Run, RunKey, Snapshot, Standing
from tests.support.candles import MILLISECOND

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
BITCOIN = Instrument("BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"), Decimal(5))
RUN = Run(RunKey("simulated"), 1, Decimal(10_000), datetime(2026, 11, 1, tzinfo=UTC))


def make_market(
    quote: str = "100", *, close: str = "100", half_range: str = "1", volume: str = "1000", bars: int = 100
) -> MarketSnapshot:
    """Candles that all close at `close` and run `half_range` to either side, so that the ATR is twice that."""
    last, reach = Decimal(close), Decimal(half_range)
    opened = [NOON - Interval.M1.duration * (bars - place) for place in range(bars)]
    candles = tuple(
        Candle(
            open_time=one,
            close_time=one + Interval.M1.duration - MILLISECOND,
            open=last,
            high=last + reach,
            low=last - reach,
            close=last,
            volume=Decimal(volume),
        )
        for one in opened
    )
    return MarketSnapshot("simulated", "BTCUSDT", Interval.M1, candles, Quote(Decimal(quote), NOON), BITCOIN, NOON, 0.0)


def make_account(
    cash: int = 10_000, held: Mapping[str, int] | None = None, price: int = 100, **more: object
) -> Snapshot:
    """An account with whole units of cash, and of what is `held` (negative: short), all bought and worth `price`."""
    positions = {
        symbol: Position(quantity * UNITS, quantity * price * UNITS, 0, NOON)
        for symbol, quantity in (held or {}).items()
    }
    portfolio = Portfolio(cash * UNITS, positions)
    marks = dict.fromkeys(positions, price * UNITS)
    equity = portfolio.cash + portfolio.market_value(marks)
    fields = {"peak_equity": equity, "day_equity": equity, "marks": marks, **more}
    return Snapshot(NOON, portfolio, equity, **fields)  # type: ignore[arg-type]


def make_standing(account: Snapshot | None = None, halt: Halt | None = None) -> Standing:
    """The account, by itself."""
    return Standing(RUN, account or make_account(), halt=halt)
