from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from types import FunctionType
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.broker import fill_rules, order_rules
from app.broker.order_rules import (
    BUY,
    LIMIT,
    LIQUIDATION,
    NEVER,
    NO_FILL,
    SELL,
    STOP_LOSS,
    TAKE_PROFIT,
    TRAILING_STOP,
)
from app.domain.money import PPM, UNITS

STOPS = (STOP_LOSS, TRAILING_STOP, LIQUIDATION)
LIMITS = (LIMIT, TAKE_PROFIT)


class Candle(NamedTuple):
    """The prices the rules look at, in their order."""

    opening: int
    high: int
    low: int


QUIET = Candle(100, 105, 95)

candles = st.tuples(st.integers(1, 200), st.integers(0, 60), st.integers(0, 60)).map(
    lambda parts: Candle(parts[0], parts[0] + parts[1], max(1, parts[0] - parts[2]))
)
prices = st.integers(1, 260)
sides = st.sampled_from([BUY, SELL])
ticks = st.sampled_from([1, 5, 10, 100])
ratios = st.tuples(st.integers(0, 5_000), st.just(10_000))
orders = st.lists(st.tuples(st.sampled_from([*STOPS, *LIMITS]), sides, prices), max_size=8)


def judge(resting: list[tuple[int, int, int]], candle: Candle) -> list[tuple[int, int]]:
    """`judge_candle` for orders of kind, side and price."""
    kinds, order_sides, order_prices = ([order[part] for order in resting] for part in range(3))
    return order_rules.judge_candle(kinds, order_sides, order_prices, *candle)


@pytest.mark.parametrize(
    ("side", "limit", "expected"),
    [
        *((BUY, 95, NO_FILL), (BUY, 96, 96), (BUY, 100, 100), (BUY, 101, 100), (BUY, 94, NO_FILL)),
        *((SELL, 105, NO_FILL), (SELL, 104, 104), (SELL, 100, 100), (SELL, 99, 100), (SELL, 106, NO_FILL)),
    ],
)
def test_limit_price_at_the_edges_of_a_candle_fills_only_beyond_it(side: int, limit: int, expected: int) -> None:
    assert order_rules.limit_price(side, limit, *QUIET) == expected


@pytest.mark.parametrize(
    ("side", "trigger", "expected"),
    [
        *((SELL, 94, NO_FILL), (SELL, 95, 95), (SELL, 100, 100), (SELL, 101, 100)),
        *((BUY, 106, NO_FILL), (BUY, 105, 105), (BUY, 100, 100), (BUY, 99, 100)),
    ],
)
def test_stop_price_at_the_edges_of_a_candle_fills_on_a_touch(side: int, trigger: int, expected: int) -> None:
    assert order_rules.stop_price(side, trigger, *QUIET) == expected


@pytest.mark.parametrize("kind", STOPS)
@given(side=sides, trigger=prices, candle=candles)
def test_stop_of_any_candle_fills_exactly_when_reached_and_never_better_than_its_trigger(
    kind: int, side: int, trigger: int, candle: Candle
) -> None:
    price = order_rules.raw_price(kind, side, trigger, *candle)
    reached = candle.high >= trigger if side == BUY else candle.low <= trigger
    assert (price != NO_FILL) is reached
    if reached:
        assert candle.low <= price <= candle.high
        assert price in {trigger, candle.opening}
        assert side * price >= side * trigger
        assert side * price >= side * candle.opening


@pytest.mark.parametrize("kind", LIMITS)
@given(side=sides, limit=prices, candle=candles)
def test_limit_of_any_candle_fills_exactly_when_passed_and_never_worse_than_its_limit(
    kind: int, side: int, limit: int, candle: Candle
) -> None:
    price = order_rules.raw_price(kind, side, limit, *candle)
    passed = candle.low < limit if side == BUY else candle.high > limit
    assert (price != NO_FILL) is passed
    if passed:
        assert candle.low <= price <= candle.high
        assert price in {limit, candle.opening}
        assert side * price <= side * limit
        assert side * price <= side * candle.opening


@given(trigger=prices, candle=candles)
def test_prices_of_a_mirrored_candle_are_mirrored(trigger: int, candle: Candle) -> None:
    mirror = 1_000
    mirrored = Candle(mirror - candle.opening, mirror - candle.low, mirror - candle.high)
    for rule in (order_rules.stop_price, order_rules.limit_price):
        sold, bought = rule(SELL, trigger, *candle), rule(BUY, mirror - trigger, *mirrored)
        assert bought == (NO_FILL if sold == NO_FILL else mirror - sold)


@given(side=sides, gap=st.integers(0, 50), candle=candles)
def test_open_beyond_the_price_fills_at_the_open(side: int, gap: int, candle: Candle) -> None:
    worse_for_stop = candle.opening - side * gap
    assert order_rules.stop_price(side, worse_for_stop, *candle) == candle.opening
    better_for_limit = candle.opening + side * (gap + 1)
    assert order_rules.limit_price(side, better_for_limit, *candle) == candle.opening


@pytest.mark.parametrize("kind", STOPS)
@given(side=sides, trigger=prices, candle=candles, ratio=ratios, tick=ticks)
def test_fill_price_of_any_stop_is_within_the_candle_widened_by_slippage_and_one_tick(
    kind: int, side: int, trigger: int, candle: Candle, ratio: tuple[int, int], tick: int
) -> None:
    raw = order_rules.raw_price(kind, side, trigger, *candle)
    if raw == NO_FILL:
        return
    price = order_rules.fill_price(kind, side, raw, ratio, tick)
    assert price % tick == 0
    slip = Fraction(*ratio)
    if price != tick:
        assert candle.low * (1 - slip) - tick < price < candle.high * (1 + slip) + tick
        assert side * price >= side * raw * (1 + side * slip)
        assert side * price >= side * trigger


@pytest.mark.parametrize("kind", LIMITS)
@given(side=sides, wish=prices, candle=candles, ratio=ratios, tick=st.sampled_from([1, 5, 10]))
def test_fill_price_of_any_limit_on_the_tick_pays_no_slippage_and_keeps_its_promise(
    kind: int, side: int, wish: int, candle: Candle, ratio: tuple[int, int], tick: int
) -> None:
    limit = order_rules.round_limit(side, wish, tick)
    raw = order_rules.raw_price(kind, side, limit, *candle)
    if raw == NO_FILL:
        return
    price = order_rules.fill_price(kind, side, raw, ratio, tick)
    assert price % tick == 0
    assert 0 <= side * (price - raw) < tick
    assert side * price <= side * limit <= side * wish


def test_fill_price_of_a_stop_in_a_crash_stays_above_zero() -> None:
    ratio = fill_rules.slippage_ratio(high=1_000, low=10, close=10, least_ppm=300)
    assert Fraction(*ratio) > 1
    assert order_rules.fill_price(STOP_LOSS, SELL, 900, ratio, tick=10) == 10


@given(side=sides, price=prices, tick=ticks)
def test_rounding_of_limits_and_triggers_moves_less_than_a_tick_to_the_right_side(
    side: int, price: int, tick: int
) -> None:
    limit, trigger = order_rules.round_limit(side, price, tick), order_rules.round_trigger(side, price, tick)
    assert limit % tick == trigger % tick == 0
    assert 0 <= side * (price - limit) < tick
    assert 0 <= side * (trigger - price) < tick


@given(
    side=sides,
    entry=prices,
    seen=st.lists(candles, max_size=10),
    distance_ppm=st.integers(0, PPM),
    tick=ticks,
)
def test_trailing_trigger_over_any_candles_follows_the_best_price_and_never_moves_back(
    side: int, entry: int, seen: list[Candle], distance_ppm: int, tick: int
) -> None:
    best = entry
    trigger = order_rules.trailing_trigger(side, best, distance_ppm, tick)
    for candle in seen:
        best = order_rules.best_price(side, best, candle.high, candle.low)
        moved = order_rules.trailing_trigger(side, best, distance_ppm, tick)
        assert side * moved <= side * trigger
        trigger = moved
    extremes = [entry, *(candle.low if side == BUY else candle.high for candle in seen)]
    assert best == (min(extremes) if side == BUY else max(extremes))
    exact = best * (1 + Fraction(side * distance_ppm, PPM))
    assert trigger % tick == 0
    assert 0 <= side * (trigger - exact) < tick


def test_trailing_stop_is_judged_with_its_trigger_from_before_the_candle() -> None:
    candle = Candle(opening=100, high=120, low=105)
    before = order_rules.trailing_trigger(SELL, 100, 100_000, tick=1)
    assert order_rules.raw_price(TRAILING_STOP, SELL, before, *candle) == NO_FILL
    best = order_rules.best_price(SELL, 100, candle.high, candle.low)
    assert order_rules.trailing_trigger(SELL, best, 100_000, tick=1) == 108


@pytest.mark.parametrize(("opened_ms", "expected"), [(99, False), (100, True), (159, True), (160, False), (161, False)])
def test_is_judged_from_its_acceptance_until_its_expiry(opened_ms: int, *, expected: bool) -> None:
    assert order_rules.is_judged(opened_ms, accepted_ms=100, expires_ms=160) is expected


def test_is_judged_without_an_expiry_at_any_time() -> None:
    assert order_rules.is_judged(10**15, accepted_ms=0, expires_ms=NEVER)


@given(
    volume=st.integers(0, 10**16),
    share_ppm=st.integers(0, PPM),
    lot=st.sampled_from([1, 1_000, UNITS]),
    lots=st.integers(1, 10**6),
)
def test_fill_quantity_is_capped_for_limits_and_whole_for_stops(
    volume: int, share_ppm: int, lot: int, lots: int
) -> None:
    available = order_rules.volume_share(volume, share_ppm, lot)
    assert available % lot == 0
    assert available <= Fraction(volume * share_ppm, PPM) < available + lot
    assert {order_rules.fill_quantity(kind, lots * lot, available) for kind in STOPS} == {lots * lot}
    assert {order_rules.fill_quantity(kind, lots * lot, available) for kind in LIMITS} == {min(lots * lot, available)}


@given(cost=st.integers(10**6, 10**15), quantity=st.integers(1, 10**15))
def test_liquidation_price_is_the_last_at_which_no_more_than_nine_tenths_of_the_margin_is_lost(
    cost: int, quantity: int
) -> None:
    price = order_rules.liquidation_price(cost, quantity)
    margin = order_rules.short_collateral(cost) - cost
    assert Fraction(price * quantity, UNITS) - cost <= Fraction(9, 10) * margin
    assert Fraction((price + 1) * quantity, UNITS) - cost > Fraction(9, 10) * margin


@given(
    ticks_of_entry=st.integers(1, 10**6), tick=ticks, quantity=st.integers(1, 10**15), fee_ppm=st.integers(0, 50_000)
)
def test_cover_cap_of_any_short_is_the_highest_tick_its_collateral_pays(
    ticks_of_entry: int, tick: int, quantity: int, fee_ppm: int
) -> None:
    def cost_of_cover(price: int) -> int:
        notional = fill_rules.buy_notional(price, quantity)
        return notional + fill_rules.fee(notional, fee_ppm)

    collateral = order_rules.short_collateral(fill_rules.sell_notional(ticks_of_entry * tick, quantity))
    cap = order_rules.cover_cap(collateral, quantity, fee_ppm, tick)
    assert cap % tick == 0
    assert cost_of_cover(cap) <= collateral < cost_of_cover(cap + tick)


@given(
    ticks_of_entry=st.integers(1, 10**6), tick=ticks, quantity=st.integers(1, 10**15), fee_ppm=st.integers(0, 50_000)
)
def test_cover_cap_of_a_short_worth_something_is_above_its_entry_and_its_liquidation(
    ticks_of_entry: int, tick: int, quantity: int, fee_ppm: int
) -> None:
    entry = ticks_of_entry * tick
    cost = fill_rules.sell_notional(entry, quantity)
    if cost < 1_000:
        return
    cap = order_rules.cover_cap(order_rules.short_collateral(cost), quantity, fee_ppm, tick)
    assert cap >= entry
    assert cap + tick > order_rules.liquidation_price(cost, quantity)


@given(resting=orders, candle=candles)
def test_judge_candle_of_any_orders_gives_each_that_fills_once_at_its_price(
    resting: list[tuple[int, int, int]], candle: Candle
) -> None:
    alone = {place: order_rules.raw_price(*order, *candle) for place, order in enumerate(resting)}
    events = judge(resting, candle)
    assert dict(events) == {place: price for place, price in alone.items() if price != NO_FILL}
    assert len(events) == len(dict(events))


@given(resting=orders, candle=candles)
def test_judge_candle_of_any_orders_puts_stops_first_then_the_price_nearest_the_open(
    resting: list[tuple[int, int, int]], candle: Candle
) -> None:
    events = judge(resting, candle)
    ranks = [
        (resting[place][0] not in STOPS, abs(price - candle.opening), resting[place][0] != LIQUIDATION, place)
        for place, price in events
    ]
    assert ranks == sorted(ranks)


@given(resting=orders)
def test_judge_candle_that_touches_no_price_fills_nothing(resting: list[tuple[int, int, int]]) -> None:
    far = [(kind, side, 1_000 if (side == BUY) is (kind in STOPS) else 1) for kind, side, _ in resting]
    assert judge(far, QUIET) == []


def test_judge_candle_that_reaches_stop_and_target_fills_the_stop_first() -> None:
    assert judge([(TAKE_PROFIT, SELL, 104), (STOP_LOSS, SELL, 95)], QUIET) == [(1, 95), (0, 104)]
    assert judge([(TAKE_PROFIT, SELL, 98), (STOP_LOSS, SELL, 95)], QUIET) == [(1, 95), (0, 100)]


def test_judge_candle_that_opens_beyond_both_fills_the_liquidation_before_the_stop() -> None:
    assert judge([(STOP_LOSS, BUY, 80), (LIQUIDATION, BUY, 90)], QUIET) == [(1, 100), (0, 100)]
    assert judge([(LIQUIDATION, BUY, 104), (STOP_LOSS, BUY, 103)], QUIET) == [(1, 103), (0, 104)]


def compile_rules() -> dict[str, Callable[..., Any]]:
    """Every rule of both modules, compiled from its own source by numba, as `native` taught it."""
    from app.research.backtest import native  # noqa: F401, PLC0415 - teaches numba, which takes a second

    return {
        name: numba.njit(rule)
        for module in (fill_rules, order_rules)
        for name, rule in vars(module).items()
        if isinstance(rule, FunctionType) and rule.__module__ == module.__name__
    }


@pytest.mark.slow
def test_every_rule_compiled_by_numba_equals_the_plain_one() -> None:
    compiled = compile_rules()
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("is_judged", (120, 100, 160)),
        ("fill_price", (STOP_LOSS, SELL, 9_500, (300, PPM), 10)),
        ("round_limit", (BUY, 10_007, 10)),
        ("round_trigger", (BUY, 10_007, 10)),
        ("best_price", (SELL, 100, 104, 99)),
        ("trailing_trigger", (BUY, 10_400, 20_000, 10)),
        ("volume_share", (1_234, 100_000, 10)),
        ("fill_quantity", (LIMIT, 500, 120)),
        ("short_collateral", (1_000,)),
        ("liquidation_price", (1_000, 10)),
        ("cover_cap", (2_000, 10, 1_000, 1)),
        ("slippage_ratio", (101, 99, 100, 300)),
        ("affordable_quantity", (100_000, 10, 1, 200)),
    ]
    for name, arguments in calls:
        rule = getattr(order_rules, name, None) or getattr(fill_rules, name)
        assert compiled[name](*arguments) == rule(*arguments), name
    for side in (BUY, SELL):
        for trigger in range(90, 111):
            assert compiled["stop_price"](side, trigger, *QUIET) == order_rules.stop_price(side, trigger, *QUIET)
            assert compiled["limit_price"](side, trigger, *QUIET) == order_rules.limit_price(side, trigger, *QUIET)
    kinds = np.array([TAKE_PROFIT, LIMIT, STOP_LOSS, LIQUIDATION, TRAILING_STOP])
    order_sides = np.array([SELL, BUY, SELL, BUY, SELL])
    for shift in range(-6, 7):
        order_prices = np.array([104, 98, 97, 103, 97]) + shift
        events = compiled["judge_candle"](kinds, order_sides, order_prices, *QUIET)
        assert events == order_rules.judge_candle(kinds.tolist(), order_sides.tolist(), order_prices.tolist(), *QUIET)
