"""What an account holds: average cost, its share of it in each exit, fees apart, and that all of it adds up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.money import UNITS
from app.domain.order import Side
from app.domain.portfolio import Exit, Portfolio, Position, find_contradictions, postings

AT = datetime(2026, 11, 21, tzinfo=UTC)
LATER = AT + timedelta(days=1)
CASH = 10_000 * UNITS
BTC = "BTCUSDT"


def buy(portfolio: Portfolio, quantity: int, notional: int, fee: int = 0, at: datetime = AT) -> Portfolio:
    return portfolio.apply(BTC, Side.BUY, quantity, notional, fee, at)[0]


def sell(portfolio: Portfolio, quantity: int, notional: int, fee: int = 0, at: datetime = AT) -> Portfolio:
    return portfolio.apply(BTC, Side.SELL, quantity, notional, fee, at)[0]


def test_buying_twice_averages_the_cost_and_keeps_the_fees_apart() -> None:
    held = buy(buy(Portfolio(CASH), 3, 300, 7), 1, 200, 5, LATER)
    assert held.positions == {BTC: Position(4, 500, 12, AT)}
    assert (held.cash, held.fees, held.realised) == (CASH - 512, 12, 0)
    assert held.positions[BTC].average_price == 125 * UNITS
    assert (held.quantity(BTC), held.holding(BTC), held.quantity("ETHUSDT")) == (4, 4, 0)


def test_partial_exit_takes_its_share_rounded_down_and_the_last_one_the_rest() -> None:
    held = buy(Portfolio(CASH), 3, 100, 10)
    held, first = held.apply(BTC, Side.SELL, 1, 50, 1, LATER)
    assert first == Exit(1, 33, 3, 17, AT, is_long=True)
    assert held.positions == {BTC: Position(2, 67, 7, AT)}
    held, second = held.apply(BTC, Side.SELL, 2, 60, 1, LATER)
    assert second == Exit(2, 67, 7, -7, AT, is_long=True)
    assert held == Portfolio(CASH - 100 + 110 - 12, {}, {}, realised=10, fees=12)


def test_short_has_negative_cost_holds_twice_of_it_and_gains_by_a_fall() -> None:
    held = sell(Portfolio(CASH), 10, 1_000, 1)
    assert held.positions == {BTC: Position(-10, -1_000, 1, AT)}
    assert (held.cash, held.margin_held, held.available) == (CASH + 999, 2_000, CASH - 1_001)
    assert held.market_value({BTC: 90 * UNITS}) == -900
    assert held.positions[BTC].average_price == 100 * UNITS
    held, exit_ = held.apply(BTC, Side.BUY, 4, 320, 1, LATER)
    assert exit_ == Exit(4, -400, 0, 80, AT, is_long=False)
    assert held.positions == {BTC: Position(-6, -600, 1, AT)}


@pytest.mark.parametrize(("first", "second"), [(Side.BUY, Side.SELL), (Side.SELL, Side.BUY)])
def test_fill_that_would_turn_a_position_round_is_refused(first: Side, second: Side) -> None:
    held = Portfolio(CASH).apply(BTC, first, 10, 1_000, 0, AT)[0]
    with pytest.raises(ValueError, match="cannot turn a position round"):
        held.apply(BTC, second, 11, 1_100, 0, AT)


def test_position_that_was_nothing_is_opened_anew() -> None:
    held = buy(sell(buy(Portfolio(CASH), 1, 10), 1, 10), 1, 10, 0, LATER)
    assert held.positions[BTC].opened_at == LATER


def test_dust_goes_there_and_comes_back_with_its_cost() -> None:
    held = buy(Portfolio(CASH), 4, 400, 8).to_dust(BTC)
    assert (held.positions, held.dust) == ({}, {BTC: Position(4, 400, 8, AT)})
    assert (held.quantity(BTC), held.holding(BTC), held.symbols()) == (0, 4, [BTC])
    held = buy(held, 6, 900, 2, LATER).to_dust(BTC)
    assert held.dust == {BTC: Position(10, 1_300, 10, AT)}
    held = buy(held, 2, 100, 1, LATER)
    assert (held.holding(BTC), held.market_value({BTC: UNITS})) == (12, 12)
    joined = held.from_dust(BTC)
    assert (joined.positions, joined.dust) == ({BTC: Position(12, 1_400, 11, AT)}, {})
    assert find_contradictions(joined, CASH) == []


def test_market_value_without_a_mark_is_an_error() -> None:
    with pytest.raises(KeyError):
        buy(Portfolio(CASH), 1, 1).market_value({})


def test_contradictions_are_named() -> None:
    sound = buy(Portfolio(CASH), 1, 100, 5)
    assert find_contradictions(sound, CASH) == []
    for wrong in (replace(sound, cash=sound.cash + 1), replace(sound, fees=4), replace(sound, realised=1)):
        (words,) = find_contradictions(wrong, CASH)
        assert words.startswith(f"cash is {wrong.cash}, but cost, profit and fees leave ")
    assert len(find_contradictions(sound, CASH + 1)) == 1
    (words,) = find_contradictions(sell(Portfolio(100), 1, 101), 100)
    assert words == "the cash that no short holds is -1, below zero (in 1e-8 units)"


FILLS = st.lists(
    st.tuples(
        st.sampled_from(["BTCUSDT", "ETHUSDT"]),
        st.sampled_from(Side),
        st.integers(1, 10**6),
        st.integers(1, 10**9),
        st.integers(0, 10**6),
        st.sampled_from(["", "", "", "to", "from"]),
    ),
    max_size=25,
)


@given(fills=FILLS)
def test_any_fills_conserve_cash_and_post_to_zero(fills: list[tuple[str, Side, int, int, int, str]]) -> None:
    held, accounts, flows = Portfolio(CASH), dict[str, int](), 0
    for symbol, side, asked, notional, fee, dust in fills:
        quantity = held.quantity(symbol)
        is_exit = quantity * (1 if side is Side.SELL else -1) > 0
        traded = min(asked, abs(quantity)) if is_exit else asked
        held, exit_ = held.apply(symbol, side, traded, notional, fee, AT)
        entry = postings(side, notional, fee, symbol, exit_)
        assert sum(entry.values()) == 0
        for account, change in entry.items():
            accounts[account] = accounts.get(account, 0) + change
        flows += (notional if side is Side.SELL else -notional) - fee
        if dust == "to" and held.quantity(symbol) > 0:
            held = held.to_dust(symbol)
        elif dust == "from" and symbol in held.dust and held.quantity(symbol) >= 0:
            held = held.from_dust(symbol)
        assert [words for words in find_contradictions(held, CASH) if not words.startswith("the cash that")] == []
    assert held.cash == CASH + flows
    for account, total in accounts.items():
        kind, _, symbol = account.partition(":")
        costs = sum(one[symbol].cost for one in (held.positions, held.dust) if symbol in one)
        assert total == {"cash": flows, "fees": held.fees, "profit": -held.realised}.get(kind, costs)
