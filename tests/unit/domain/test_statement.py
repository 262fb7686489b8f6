"""The summary and the holdings of an account."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from app.domain.money import UNITS
from app.domain.order import Order, OrderKind, Origin, Side
from app.domain.portfolio import Portfolio, Position
from app.domain.standing import Snapshot, Standing
from app.domain.statement import list_holdings, summarize_account
from tests.support.standings import NOON, RUN

LONG = Position(2 * UNITS, 200 * UNITS, UNITS, NOON)
SHORT = Position(-3 * UNITS, -30 * UNITS, UNITS // 2, NOON)
DUST = Position(UNITS // 100, UNITS, 0, NOON)


def make_standing() -> Standing:
    """Two coins bought at 100 that are at 110, three sold at 10 that are at 12, and a hundredth of one as dust."""
    cash = (10_000 - 200 + 30 - 1) * UNITS - 3 * UNITS // 2
    portfolio = Portfolio(cash, {"LONGS": LONG, "ASHORT": SHORT}, {"LONGS": DUST}, realised=0, fees=3 * UNITS // 2)
    marks = {"LONGS": 110 * UNITS, "ASHORT": 12 * UNITS}
    equity = cash + portfolio.market_value(marks)
    snapshot = Snapshot(NOON, portfolio, equity, 2 * equity, equity - 7 * UNITS, marks, trades_today=4)
    stop = Order(
        "stop", "LONGS", Side.SELL, OrderKind.STOP_LOSS, Decimal(2), Origin.PERSON, NOON, NOON, reduce_only=True
    )
    entry = replace(stop, id="entry", kind=OrderKind.LIMIT, side=Side.BUY, reduce_only=False)
    return Standing(RUN, snapshot, (stop, entry))


def test_summary_adds_up() -> None:
    summary = summarize_account(make_standing(), NOON)

    assert summary.market_value == Decimal("220") - 36 + Decimal("1.1")
    assert summary.unrealised_profit == 20 - 6 + Decimal("0.1")
    assert summary.equity == summary.cash + summary.market_value
    assert summary.equity == (summary.initial_cash + summary.realised_profit + summary.unrealised_profit - summary.fees)
    assert (summary.margin_held, summary.available) == (Decimal(60), summary.cash - 60)
    assert (summary.open_positions, summary.open_orders, summary.dust_value) == (2, 2, Decimal("1.1"))
    assert (summary.drawdown, summary.day_profit, summary.trades_today) == (0.5, Decimal(7), 4)
    assert summary.total_return == float(summary.equity) / 10_000 - 1


def test_summary_of_the_next_day_begins_it_anew() -> None:
    summary = summarize_account(make_standing(), NOON + timedelta(days=1))

    assert (summary.day_profit, summary.trades_today, summary.at) == (Decimal(0), 0, NOON)


def test_holdings_are_positions_by_symbol_and_then_dust() -> None:
    short, long, dust = list_holdings(make_standing())

    assert [one.account for one in (short, long, dust)] == ["position:ASHORT", "position:LONGS", "dust:LONGS"]
    assert (short.is_long, short.quantity, short.average_price, short.cost) == (
        False,
        Decimal(3),
        Decimal(10),
        Decimal(-30),
    )
    assert (short.market_value, short.unrealised_profit) == (Decimal(-36), Decimal(-6))
    assert (long.is_long, long.quantity, long.average_price) == (True, Decimal(2), Decimal(100))
    assert long.unrealised_profit == 20
    assert (long.order_ids, short.order_ids, dust.order_ids) == (("stop",), (), ())
    assert (dust.quantity, dust.cost, dust.mark) == (Decimal("0.01"), Decimal(1), Decimal(110))
