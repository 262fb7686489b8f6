"""The shadow books: worked out by hand, and laws over any history."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.risk.shadow_books import ShadowBooks, _Book

Event = tuple[str, float, float] | tuple[str, float]
"""A cycle (symbol, quote, cost of one side), or a fill (symbol, fraction of equity)."""

symbols = st.sampled_from(["BTCUSDT", "ETHUSDT", "SOLUSDT"])
quotes = st.floats(0.01, 1_000.0)
cycles = st.tuples(symbols, quotes, st.floats(0.0, 0.05))
fills = st.tuples(symbols, st.floats(0.001, 1.5))
histories = st.lists(st.one_of(cycles, cycles, fills), max_size=60)


def feed(books: ShadowBooks, events: list[Event]) -> ShadowBooks:
    for event in events:
        if len(event) == 3:
            books.add_cycle(len(books._times_ms) * 1_000, *event)
        else:
            books.add_fill(*event)
    return books


def made(events: list[Event], seed: int = 1) -> ShadowBooks:
    return feed(ShadowBooks(1_000.0, seed), events)


def bytes_of(books: ShadowBooks) -> list[bytes]:
    found = books.curves()
    return [curve.tobytes() for curve in (found.times_ms, found.always_flat, found.buy_and_hold, found.random)]


def test_buy_and_hold_pays_for_its_first_symbol_with_all_its_cash() -> None:
    books = made([("BTCUSDT", 50.0, 0.25), ("BTCUSDT", 60.0, 0.1), ("BTCUSDT", 40.0, 0.0)])
    # 1000 / 1.25 = 800 buys 16.
    assert books.curves().buy_and_hold.tolist() == [800.0, 960.0, 640.0]
    assert books.curves().times_ms.tolist() == [0, 1_000, 2_000]


def test_buy_and_hold_sells_of_each_symbol_to_fund_an_equal_share_of_a_new_one() -> None:
    books = made([("BTCUSDT", 100.0, 0.0), ("ETHUSDT", 10.0, 0.0), ("BTCUSDT", 200.0, 0.0), ("SOLUSDT", 1.0, 0.0)])
    assert books.curves().buy_and_hold.tolist() == pytest.approx([1_000.0, 1_000.0, 1_500.0, 1_500.0])
    # 5 BTC and 50 ETH; then a third of each makes 500 SOL.
    assert books._buy_and_hold._units == pytest.approx({"BTCUSDT": 10 / 3, "ETHUSDT": 100 / 3, "SOLUSDT": 500.0})
    assert books._buy_and_hold.cash == 0.0


def test_buy_and_hold_pays_on_both_sides_for_a_new_symbol() -> None:
    books = made([("BTCUSDT", 100.0, 0.0), ("BTCUSDT", 100.0, 0.2), ("ETHUSDT", 1.0, 0.25)])
    # Half of 1000 is sold for 400, which buys 320.
    assert books.curves().buy_and_hold.tolist() == pytest.approx([1_000.0, 1_000.0, 820.0])


@settings(max_examples=50, deadline=None)
@given(st.lists(quotes, min_size=1, max_size=30))
def test_buy_and_hold_of_one_symbol_without_costs_is_the_ratio_of_prices(prices: list[float]) -> None:
    found = made([("BTCUSDT", price, 0.0) for price in prices]).curves().buy_and_hold
    assert found.tolist() == pytest.approx([1_000.0 * price / prices[0] for price in prices], rel=1e-9, abs=1e-6)


def test_random_book_turns_a_ticket_into_a_purchase_and_the_next_into_a_sale() -> None:
    books = made([("BTCUSDT", 100.0, 0.25)])
    books.add_fill("BTCUSDT", 0.2)
    while books.random_fills == 0:
        feed(books, [("BTCUSDT", 100.0, 0.25)])
    # A fifth of 1000 is bought for 250.
    assert books._random.cash == 750.0
    assert books._random._units == {"BTCUSDT": 2.0}
    assert books.curves().random[-1] == 950.0
    books.add_fill("BTCUSDT", 0.01)
    while books.random_fills == 1:
        feed(books, [("BTCUSDT", 200.0, 0.25)])
    # 2 at 200, less a quarter.
    assert books._random.cash == books.curves().random[-1] == 1_050.0
    assert books._random._units == {}


def test_random_book_buys_no_more_than_its_cash_is_enough_for() -> None:
    books = made([("BTCUSDT", 100.0, 0.25), ("BTCUSDT", 1.5), *[("BTCUSDT", 100.0, 0.25)] * 200])
    assert books.random_fills == 1
    assert books._random.cash == 0.0
    assert books.curves().random[-1] == 800.0


def test_random_book_keeps_a_ticket_that_finds_no_cash() -> None:
    start: list[Event] = [("BTCUSDT", 100.0, 0.0), ("BTCUSDT", 1.0), *[("BTCUSDT", 100.0, 0.0)] * 200]
    books = feed(made(start), [("ETHUSDT", 0.5), *[("ETHUSDT", 1.0, 0.0)] * 200])
    assert books.random_fills == 1
    feed(books, [("BTCUSDT", 1.0), *[("BTCUSDT", 100.0, 0.0)] * 200, *[("ETHUSDT", 1.0, 0.0)] * 200])
    assert books.random_fills == 3
    assert books._random._units == {"ETHUSDT": 500.0}


def test_waiting_tickets_are_drawn_with_one_chance_in_ten_at_every_cycle() -> None:
    books = ShadowBooks(1_000.0, seed=3)
    waiting = 50_000
    for _ in range(waiting):
        books.add_fill("BTCUSDT", 0.5)
    for _ in range(30):
        drawn = len(books._urn.draw("BTCUSDT"))
        # Four standard errors; thirty looks go beyond them once in 500 seeds.
        assert drawn / waiting == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / waiting))
        waiting -= drawn


def test_random_book_trades_neither_before_a_fill_nor_at_other_symbols_cycles() -> None:
    other: list[Event] = [("ETHUSDT", 1.0, 0.0)] * 300
    assert made([("BTCUSDT", 100.0, 0.0), ("BTCUSDT", 0.5), *other]).random_fills == 0
    assert made(other).random_fills == 0


def test_random_book_makes_as_many_fills_as_the_account_in_time() -> None:
    events: list[Event] = [("BTCUSDT", 100.0, 0.001), ("BTCUSDT", 0.1)] * 50
    assert made([*events, *[("BTCUSDT", 100.0, 0.001)] * 300]).random_fills == 50


def test_another_seed_makes_another_random_book_and_leaves_the_others() -> None:
    events: list[Event] = [("BTCUSDT", 100.0, 0.01), ("BTCUSDT", 0.1)] * 30
    one, same, other = made(events), made(events), made(events, seed=2)
    assert bytes_of(one) == bytes_of(same)
    assert bytes_of(one)[:3] == bytes_of(other)[:3]
    assert bytes_of(one)[3] != bytes_of(other)[3]


@settings(max_examples=100, deadline=None)
@given(histories, st.integers(0, 5))
def test_books_never_owe_and_never_trade_more_than_the_account(events: list[Event], seed: int) -> None:
    books = ShadowBooks(1_000.0, seed)
    noted = 0
    for event in events:
        feed(books, [event])
        noted += len(event) == 2
        assert books._random.cash >= 0.0
        assert books._buy_and_hold.cash >= 0.0
        assert all(units > 0.0 for units in books._random._units.values())
        assert books.random_fills <= noted
    found = books.curves()
    assert set(found.always_flat.tolist()) <= {1_000.0}
    assert len(found.always_flat) == len(found.random) == len(found.buy_and_hold) == len(events) - noted
    for book in (books._random, books._buy_and_hold):
        worth = math.fsum(units * books._quotes[symbol] for symbol, units in book._units.items())
        assert book.equity == pytest.approx(book.cash + worth, rel=1e-9, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(histories, st.integers(0, 60))
def test_books_know_nothing_of_later_events_and_go_on_where_they_were(events: list[Event], cut: int) -> None:
    early = made(events[:cut])
    count = len(early.curves().times_ms)
    whole = made(events)
    assert early.curves().random.tobytes() == whole.curves().random[:count].tobytes()
    assert early.curves().buy_and_hold.tobytes() == whole.curves().buy_and_hold[:count].tobytes()
    assert bytes_of(feed(early, events[cut:])) == bytes_of(whole)


@settings(max_examples=50, deadline=None)
@given(histories)
def test_random_book_at_prices_that_stand_still_loses_its_costs_alone(events: list[Event]) -> None:
    still: list[Event] = [(event[0], 7.0, 0.0) if len(event) == 3 else event for event in events]
    assert made(still).curves().random.tolist() == pytest.approx([1_000.0] * sum(len(event) == 3 for event in events))


def test_running_sum_is_true_after_many_changes() -> None:
    random = np.random.default_rng(5)
    names = [f"S{number}USDT" for number in range(50)]
    books = ShadowBooks(1_000.0, seed=1)
    for place, (name, price) in enumerate(
        zip(random.integers(0, 50, 5_000).tolist(), random.uniform(1e-3, 1e5, 5_000).tolist(), strict=True)
    ):
        books.add_cycle(place, names[name], price, 0.001)
        books.add_fill(names[name], 0.1)
    for book in (books._random, books._buy_and_hold):
        worth = math.fsum(units * books._quotes[symbol] for symbol, units in book._units.items())
        assert book.equity == pytest.approx(book.cash + worth, rel=1e-12)


def test_rounding_errors_of_a_quote_that_was_enormous_do_not_stay() -> None:
    books = made([("BTCUSDT", 0.3, 0.0), ("BTCUSDT", 1e16, 0.0), ("BTCUSDT", 0.3, 0.0)])
    assert books.curves().buy_and_hold[-1] != pytest.approx(1_000.0, rel=1e-9)
    feed(books, [("BTCUSDT", 0.3, 0.0)] * 1_000)
    assert books.curves().buy_and_hold[-1] == pytest.approx(1_000.0, rel=1e-12)


def test_book_that_holds_nothing_is_worth_its_cash() -> None:
    quotes = {"BTCUSDT": 0.3}
    book = _Book(1_000.0, quotes)
    book.buy("BTCUSDT", 700.0, 0.001)
    book.mark("BTCUSDT", 1e16)
    book.mark("BTCUSDT", -1e16)
    assert book.equity != pytest.approx(1_000.0, rel=1e-3)
    book.sell("BTCUSDT", 1.0, 0.001)
    assert book.equity == book.cash == pytest.approx(300.0 + 700.0 * 0.999 / 1.001)


@pytest.mark.parametrize("cycle", [(0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (math.inf, 0.0), (1.0, 1.0), (1.0, -0.1)])
def test_cycle_that_cannot_be_is_refused_and_changes_nothing(cycle: tuple[float, float]) -> None:
    books = made([("BTCUSDT", 1.0, 0.0)])
    before = bytes_of(books)
    with pytest.raises(ValueError, match="above 0"):
        books.add_cycle(1_000, "BTCUSDT", *cycle)
    assert bytes_of(books) == before


def test_cycle_of_the_past_is_refused() -> None:
    books = made([("BTCUSDT", 1.0, 0.0), ("BTCUSDT", 1.0, 0.0)])
    books.add_cycle(1_000, "BTCUSDT", 1.0, 0.0)
    with pytest.raises(ValueError, match="order of time"):
        books.add_cycle(999, "BTCUSDT", 1.0, 0.0)


@pytest.mark.parametrize("amount", [0.0, -1.0, math.nan, math.inf])
def test_fill_and_initial_cash_that_cannot_be_are_refused(amount: float) -> None:
    with pytest.raises(ValueError, match="fraction must be above 0"):
        made([]).add_fill("BTCUSDT", amount)
    with pytest.raises(ValueError, match="initial_cash must be above 0"):
        ShadowBooks(amount, seed=1)
