"""Laws of the desk: whatever the market does and whoever orders, the account adds up and owes nobody anything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from app.broker.desk import Desk, Terms
from app.broker.market_orders import Protection, buy_or_sell, enter, leave, protect
from app.broker.resting import judge_resting
from app.domain.cycle import BookedFill, DustTransfer, ExecutionStatus, Settlement
from app.domain.money import to_units
from app.domain.order import OrderKind, OrderStatus, Origin, Side
from app.domain.portfolio import Portfolio, find_contradictions, postings
from app.domain.standing import Standing
from tests.support.desks import MINUTE, Prices, after, hold, make_market, open_desk, units
from tests.support.standings import NOON

CASH = 10_000
LOT = units("0.1")

PRICE = st.integers(1, 40_000).map(lambda cents: cents / 100)
STEADY = st.integers(9_000, 11_000).map(lambda cents: cents / 100)


@st.composite
def candles(draw: st.DrawFn) -> Prices:
    price = draw(st.sampled_from([STEADY, STEADY, PRICE]))
    four = [draw(price) for _ in range(4)]
    return (four[0], max(four), min(four), four[3], draw(st.sampled_from([0.0, 3.7, 1_000.0])))


@dataclass(frozen=True)
class Step:
    """One booking: the candles that have closed since the one before, and what is done then."""

    candles: tuple[Prices, ...]
    deed: str
    side: Side
    kind: OrderKind
    lots: int
    distance: int
    lives_minutes: int | None


STEPS = st.lists(
    st.builds(
        Step,
        candles=st.lists(candles(), min_size=1, max_size=3).map(tuple),
        deed=st.sampled_from(["watch", "decide", "decide", "market", "market", "rest", "rest", "leave"]),
        side=st.sampled_from(Side),
        kind=st.sampled_from([OrderKind.LIMIT, OrderKind.LIMIT, OrderKind.STOP_LOSS, OrderKind.TRAILING_STOP]),
        lots=st.integers(1, 1_500),
        distance=st.integers(1, 400),
        lives_minutes=st.sampled_from([None, None, 1, 3]),
    ),
    min_size=1,
    max_size=12,
)
TERMS = st.builds(
    Terms,
    fee_bps=st.sampled_from([Decimal(0), Decimal(10), Decimal(500)]),
    slippage_bps=st.sampled_from([Decimal(0), Decimal(3)]),
    volume_share=st.sampled_from([Decimal(0), Decimal("0.1")]),
    allow_short=st.booleans(),
)


def do(desk: Desk, step: Step) -> Settlement:
    """Judge what rests, then do the deed, as cycles and people do it."""
    judge_resting(desk)
    quantity = step.lots * LOT
    if step.deed == "market" and (not desk.is_exit(step.side)) <= (step.side is Side.BUY or desk.terms.allow_short):
        buy_or_sell(desk, step.side, quantity, Origin.PERSON)
    elif step.deed == "leave" and desk.held:
        leave(desk, min(quantity, abs(desk.held)), Origin.PERSON)
    elif step.deed == "decide":
        decide(desk, step)
    elif step.deed == "rest":
        rest(desk, step)
    return desk.settle(ExecutionStatus.SKIPPED, "x", "X.")


def decide(desk: Desk, step: Step) -> None:
    if desk.is_exit(step.side):
        leave(desk, abs(desk.held), Origin.SIGNAL)
    elif desk.held == 0 and (step.side is Side.BUY or desk.terms.allow_short):
        distance = to_units(Decimal(step.distance) / 100)
        if enter(desk, step.side, desk.portfolio.available // 2, 10**15, Origin.SIGNAL) is None and desk.held:
            protect(desk, Protection(distance, 2 * distance, Decimal(step.distance) / 10_000))


def rest(desk: Desk, step: Step) -> None:
    is_exit = desk.is_exit(step.side)
    if not is_exit and step.kind is not OrderKind.LIMIT:
        return
    away = Decimal(step.distance) / 100 * (1 if step.side is Side.BUY else -1)
    price = max(Decimal("0.01"), desk.snapshot.quote.price + (away if step.kind is not OrderKind.LIMIT else -away))
    trail = Decimal(step.distance) / 10_000 if step.kind is OrderKind.TRAILING_STOP else None
    lives = None if step.lives_minutes is None else desk.now + step.lives_minutes * MINUTE
    more = {"price": price, "trail_fraction": trail, "expires_at": lives, "reduce_only": is_exit}
    desk.rest(desk.order(step.side, step.kind, step.lots * LOT, Origin.PERSON, **more))


def book(standing: Standing, step: Step, terms: Terms, seen: list[Prices], number: int) -> tuple[Standing, Settlement]:
    """Book a step, twice from the same start: the same comes of it."""
    seen += step.candles
    market = make_market(*seen[-9:], quote=seen[-1][3], end=NOON + len(seen) * MINUTE)
    settlements = []
    for _ in range(2):
        desk = open_desk(standing, market, terms, booking_id=f"booking-{number}")
        settlements.append(do(desk, step))
    assert settlements[0] == settlements[1]
    return after(standing, settlements[0]), settlements[0]


@settings(max_examples=120, deadline=None, derandomize=True)
@given(steps=STEPS, terms=TERMS)
def test_account_adds_up_after_any_orders_on_any_candles(steps: list[Step], terms: Terms) -> None:
    standing, seen = hold(0, cash=CASH), []  # type: tuple[Standing, list[Prices]]
    start = standing.portfolio
    entries: list[BookedFill | DustTransfer] = []
    for number, step in enumerate(steps):
        before = standing
        standing, settlement = book(standing, step, terms, seen, number)
        entries += settlement.entries
        check_account(standing)
        check_orders(before, standing, settlement, number)
    assert replay(start, entries, standing) == standing.portfolio


def check_account(standing: Standing) -> None:
    portfolio, snapshot = standing.portfolio, standing.snapshot
    assert find_contradictions(portfolio, units(CASH)) == []
    assert portfolio.cash >= 0
    assert portfolio.available >= 0
    assert snapshot.equity == portfolio.cash + portfolio.market_value(snapshot.marks)
    assert snapshot.peak_equity >= snapshot.equity
    assert sorted(snapshot.marks) == portfolio.symbols()
    for held in (*portfolio.positions.values(), *portfolio.dust.values()):
        assert held.quantity % LOT == 0
        assert held.quantity * held.cost > 0
        assert held.entry_fees >= 0
    assert all(held.quantity > 0 for held in portfolio.dust.values())


def check_orders(before: Standing, standing: Standing, settlement: Settlement, number: int) -> None:
    held = standing.portfolio.quantity("BTCUSDT")
    guards = [order for order in standing.orders if order.origin is Origin.LIQUIDATION]
    assert len(guards) == (1 if held < 0 else 0)
    assert all(to_units(guard.quantity) >= -held for guard in guards)
    for order in standing.orders:
        assert order.status is OrderStatus.NEW
        assert order.remaining > 0
        assert not order.reduce_only or held * (1 if order.side is Side.SELL else -1) > 0
    known = {order.id for order in before.orders}
    assert {order.id for order in settlement.moved} <= known
    for order in settlement.orders:
        assert order.created_at <= (order.closed_at or standing.snapshot.at) == standing.snapshot.at
        assert (order.id in known) is not order.id.startswith(f"booking-{number}-")
    filled = [order.id for order in settlement.orders]
    assert all(fill.order_id in filled for fill in settlement.fills)


def replay(portfolio: Portfolio, entries: list[BookedFill | DustTransfer], standing: Standing) -> Portfolio:
    """What the entries alone come to; the balances that each carries are compared on the way."""
    for entry in entries:
        if isinstance(entry, DustTransfer):
            portfolio = portfolio.to_dust(entry.symbol) if entry.quantity > 0 else portfolio.from_dust(entry.symbol)
            continue
        fill = entry.fill
        quantity, notional, fee = (to_units(amount) for amount in (fill.quantity, fill.notional, fill.fee))
        opened = standing.portfolio.positions.get(entry.symbol)
        at = opened.opened_at if opened else standing.snapshot.at
        portfolio, exit_ = portfolio.apply(entry.symbol, fill.side, quantity, notional, fee, at)
        assert sum(postings(fill.side, notional, fee, entry.symbol, exit_).values()) == 0
        assert (portfolio.cash, portfolio.holding(entry.symbol)) == (entry.cash_after, entry.position_after)
        assert min(quantity, notional, to_units(fill.price)) > 0
        assert (exit_ is None) is (entry.exit is None)
        if exit_ is not None and entry.exit is not None:
            assert (exit_.cost, exit_.profit, exit_.entry_fees) == (
                entry.exit.cost,
                entry.exit.profit,
                entry.exit.entry_fees,
            )
    held = {
        symbol: replace(one, opened_at=standing.portfolio.positions[symbol].opened_at)
        for symbol, one in portfolio.positions.items()
    }
    dust = {
        symbol: replace(one, opened_at=standing.portfolio.dust[symbol].opened_at)
        for symbol, one in portfolio.dust.items()
    }
    return replace(portfolio, positions=held, dust=dust)


def test_order_ids_start_again_with_each_booking_that_is_retried() -> None:
    for _ in range(2):
        desk = open_desk(hold(0), now=NOON + timedelta(seconds=5))
        assert enter(desk, Side.BUY, units(1_001), units(10), Origin.SIGNAL) is None
        protect(desk, Protection(units(2)))
        settlement = desk.settle(ExecutionStatus.FILLED, "filled", "Done.")
        assert [order.id for order in settlement.orders] == ["booking-1", "booking-2"]
