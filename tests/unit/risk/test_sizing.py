"""How much an entry may spend: worked numbers of each rule, what cannot be said, and what always holds."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.money import PPM, UNITS
from app.domain.order import Side
from app.domain.risk import SizingMethod, StopRule
from app.domain.signal import Edge, Prediction, Signal
from app.risk.protection import Distances, ProtectionRule, measure_distances, multiple_of
from app.risk.sizing import (
    Basis,
    SizingRule,
    annualise,
    find_share,
    floor_ppm,
    share_at_risk,
    share_by_kelly,
    share_for_volatility,
    size_entry,
    to_ppm,
)

SAID = {Signal.BUY: 0.5, Signal.SELL: 0.25, Signal.HOLD: 0.25}
MOVES = {Signal.BUY: 0.5, Signal.SELL: -0.5, Signal.HOLD: 0.0}
PREDICTION = Prediction(Signal.BUY, SAID, "forest-test", 0.001, Edge.NONE)
KNOWING = replace(PREDICTION, class_returns=MOVES, round_trip_cost=0.0)
BASIS = Basis(Side.BUY, PREDICTION, price=100 * UNITS)
WHOLE = 10_000 * UNITS

money = st.integers(0, 10**18)


def test_fixed_fraction_is_a_share_of_the_cash_that_no_short_holds_whatever_the_equity() -> None:
    check, budget = size_entry(SizingRule(), BASIS, equity=99 * WHOLE, available=WHOLE)
    assert budget == 2_500 * UNITS
    assert (check.passed, check.value, check.limit) == (True, "2500", "10000")
    assert check.detail == "SIZING=fixed_fraction spends 25 % of the available cash, 2500."


def test_risk_per_trade_loses_its_share_of_equity_at_the_stop() -> None:
    rule = SizingRule(SizingMethod.RISK_PER_TRADE)
    check, budget = size_entry(rule, replace(BASIS, stop_distance=4 * UNITS), equity=WHOLE, available=WHOLE)
    assert budget == 1_250 * UNITS, "12.5 units at 100, each of which loses 4, lose 50: half a percent of 10 000"
    assert check.detail == "SIZING=risk_per_trade spends 12.5 % of the equity, 1250."


def test_risk_per_trade_with_a_near_stop_is_cut_to_the_cash() -> None:
    rule = SizingRule(SizingMethod.RISK_PER_TRADE)
    check, budget = size_entry(rule, replace(BASIS, stop_distance=UNITS // 10), equity=WHOLE, available=WHOLE // 2)
    assert budget == 5_000 * UNITS
    assert check.value == "50000"
    assert check.detail.endswith("spends 500 % of the equity, 50000: cut to the cash there is, 5000.")


def test_volatility_target_scales_down_to_the_target_and_never_beyond_the_whole() -> None:
    rule = SizingRule(SizingMethod.VOLATILITY_TARGET)
    assert size_entry(rule, replace(BASIS, volatility=0.8), WHOLE, WHOLE)[1] == 2_500 * UNITS
    assert size_entry(rule, replace(BASIS, volatility=0.1), WHOLE, WHOLE)[1] == WHOLE


def test_annualised_volatility_of_a_minute_is_that_of_525_600_minutes() -> None:
    assert annualise(0.001, timedelta(minutes=1)) == pytest.approx(0.001 * math.sqrt(525_600), rel=1e-15)


def test_kelly_of_an_even_bet_is_twice_the_probability_less_one() -> None:
    said = {Signal.BUY: 0.75, Signal.SELL: 0.25, Signal.HOLD: 0.0}
    even = {Signal.BUY: 1.0, Signal.SELL: -1.0, Signal.HOLD: 0.0}
    assert share_by_kelly(Side.BUY, said, even, 0.0, Decimal(1)) == 500_000
    assert share_by_kelly(Side.SELL, {**said, Signal.BUY: 0.25, Signal.SELL: 0.75}, even, 0.0, Decimal(1)) == 500_000


def test_kelly_after_costs_takes_them_from_every_outcome() -> None:
    # Gains 0.375, -0.625, -0.125: mean 0.0, though 0.125 before costs.
    assert share_by_kelly(Side.BUY, SAID, MOVES, 0.125, Decimal(1)) == 0
    # Gains 0.4375, -0.5625, -0.0625: mean 0.0625, mean square 0.17578125.
    assert share_by_kelly(Side.BUY, SAID, MOVES, 0.0625, Decimal(1)) == 355_555


def test_kelly_is_capped_and_without_a_gain_nothing() -> None:
    rule = SizingRule(SizingMethod.KELLY)
    known = replace(BASIS, prediction=KNOWING)
    assert find_share(rule, known) == 250_000
    check, budget = size_entry(rule, replace(known, side=Side.SELL), WHOLE, WHOLE)
    assert (budget, check.passed, check.code) == (0, False, "size_zero")
    flat = dict.fromkeys(Signal, 0.0)
    assert share_by_kelly(Side.BUY, SAID, flat, 0.0, Decimal(1)) == 0


@pytest.mark.parametrize(
    ("method", "basis", "needs"),
    [
        (SizingMethod.RISK_PER_TRADE, BASIS, "average true range is above zero"),
        (SizingMethod.VOLATILITY_TARGET, BASIS, "15 candles without a gap whose price moved"),
        (SizingMethod.KELLY, BASIS, "the mean return of each signal"),
        (
            SizingMethod.KELLY,
            replace(BASIS, prediction=replace(PREDICTION, class_returns=MOVES)),
            "the mean return of each signal",
        ),
    ],
)
def test_size_that_cannot_be_computed_is_refused_and_not_guessed(
    method: SizingMethod, basis: Basis, needs: str
) -> None:
    check, budget = size_entry(SizingRule(method), basis, WHOLE, WHOLE)
    assert (check.code, check.passed, check.value, budget) == ("size_unknown", False, "unknown", 0)
    assert needs in check.detail
    assert check.detail.startswith(f"SIZING={method} cannot say")


@given(
    method=st.sampled_from(SizingMethod),
    equity=st.integers(-(10**18), 10**18),
    more=money,
    available=st.integers(-(10**18), 10**18),
    basis=st.builds(
        Basis,
        side=st.sampled_from(Side),
        prediction=st.just(KNOWING),
        price=st.integers(1, 10**15),
        stop_distance=st.integers(1, 10**15),
        volatility=st.floats(1e-12, 100),
    ),
)
def test_budget_is_never_above_the_cash_and_never_falls_as_equity_rises(
    method: SizingMethod, equity: int, more: int, available: int, basis: Basis
) -> None:
    _, budget = size_entry(SizingRule(method), basis, equity, available)
    _, larger = size_entry(SizingRule(method), basis, equity + more, available)
    assert 0 <= budget <= larger <= max(available, 0)


@given(
    shares=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    moves=st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    cost=st.floats(0, 0.1),
    cap=st.integers(1, PPM),
    side=st.sampled_from(Side),
)
def test_kelly_stays_from_nothing_to_its_cap(
    shares: list[float], moves: list[float], cost: float, cap: int, side: Side
) -> None:
    said, returns = dict(zip(Signal, shares, strict=True)), dict(zip(Signal, moves, strict=True))
    share = share_by_kelly(side, said, returns, cost, Decimal(cap).scaleb(-6))
    assert 0 <= share <= cap


@given(price=st.integers(1, 10**15), stop=st.integers(1, 10**15), risk=st.integers(1, PPM))
def test_loss_at_the_stop_is_never_more_than_what_is_at_risk(price: int, stop: int, risk: int) -> None:
    share = share_at_risk(risk, price, stop)
    assert Fraction(share, PPM) * stop / price <= Fraction(risk, PPM)


def test_whole_parts_per_million_are_cut_off_and_bounded() -> None:
    assert to_ppm(Decimal("0.1234569")) == 123_456
    assert share_for_volatility(Decimal("0.0001"), 0.3) == 333
    assert floor_ppm(math.inf) == 1_000 * PPM


@pytest.mark.parametrize(
    ("rule", "distances"),
    [
        (ProtectionRule(), Distances()),
        (ProtectionRule(StopRule.STOP_LOSS), Distances(stop=6 * UNITS)),
        (
            ProtectionRule(StopRule.STOP_LOSS, Decimal("1.5"), Decimal("0.25")),
            Distances(stop=9 * UNITS // 2, target=3 * UNITS // 4),
        ),
        (ProtectionRule(StopRule.TRAILING_STOP), Distances(trail_fraction=Decimal("0.03"))),
        (ProtectionRule(StopRule.NONE, Decimal(2), Decimal(4)), Distances(target=12 * UNITS)),
    ],
)
def test_distances_are_multiples_of_the_true_range(rule: ProtectionRule, distances: Distances) -> None:
    assert measure_distances(rule, atr=3 * UNITS, price=200 * UNITS) == distances


def test_trail_is_in_whole_parts_per_million_and_never_none() -> None:
    rule = ProtectionRule(StopRule.TRAILING_STOP)
    assert measure_distances(rule, atr=2, price=3).trail_fraction == Decimal("1.333333")
    assert measure_distances(rule, atr=1, price=10**12).trail_fraction == Decimal("0.000001")


def test_atr_distance_is_rounded_down() -> None:
    assert multiple_of(3, 33) == 0
    assert multiple_of(300, 33) == 99
