"""Crosses of moving averages: against fractions, compiled against plain, and where 64 bits end."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInputError
from app.strategies import moving_average_cross
from app.strategies.moving_average_cross import MOVING_AVERAGE_CROSS
from app.strategies.signals import SignalCodes
from ml.bars import Bars
from ml.labels import BUY, HOLD, SELL
from tests.support.models import MINUTE_MS, walk_bars

UNITS = 100_000_000


def bars_of(units: list[int]) -> Bars:
    close = np.array(units, dtype=np.float64) / UNITS
    return Bars(MINUTE_MS * np.arange(len(units)), close, close, close, close, np.zeros(len(units)))


def signals(bars: Bars, fast_bars: int, slow_bars: int) -> SignalCodes:
    return MOVING_AVERAGE_CROSS.compute_signals(
        bars, MINUTE_MS, {"fast_bars": fast_bars, "slow_bars": slow_bars}
    ).signals


def expected_signals(units: list[int], fast_bars: int, slow_bars: int) -> list[int]:
    """The definition, in fractions."""
    ahead = [
        Fraction(sum(units[bar + 1 - fast_bars : bar + 1]), fast_bars)
        - Fraction(sum(units[bar + 1 - slow_bars : bar + 1]), slow_bars)
        for bar in range(slow_bars - 1, len(units))
    ]
    said = [HOLD] * min(slow_bars, len(units))
    for was, now in pairwise(ahead):
        said.append(BUY if now > 0 >= was else SELL if now < 0 <= was else HOLD)
    return said


def test_crosses_are_told_after_the_bar_that_makes_them() -> None:
    units = [unit * UNITS for unit in (10, 10, 10, 11, 12, 10, 8, 8, 8)]
    assert signals(bars_of(units), 1, 3).tolist() == [
        *(HOLD, HOLD, HOLD),  # too few bars to cross from
        BUY,  # 11 over 10.33, from 10 at 10
        HOLD,
        SELL,  # 10 under 11
        HOLD,
        HOLD,
        HOLD,  # 8 at 8: level with the slow average is no side
    ]


@given(
    units=st.lists(st.integers(1, 40) | st.integers(1, 4 * 10**15), max_size=60),
    fast_bars=st.integers(1, 12),
    more=st.integers(1, 12),
)
def test_crosses_are_those_of_the_definition(units: list[int], fast_bars: int, more: int) -> None:
    assert signals(bars_of(units), fast_bars, fast_bars + more).tolist() == expected_signals(
        units, fast_bars, fast_bars + more
    )


def test_price_that_floats_hold_a_hair_too_low_counts_whole() -> None:
    assert int(0.57 * UNITS) == 56_999_999, "what a price of 0.57 must not become"
    assert signals(bars_of([56_999_999] * 3 + [57_000_000]), 1, 3).tolist() == [HOLD, HOLD, HOLD, BUY]


def test_compiled_and_plain_say_the_same_where_sums_wrap_around(monkeypatch: pytest.MonkeyPatch) -> None:
    market = walk_bars(6_000)
    high = replace(market, close=market.close * 1e7)  # 1e17 units: 92 bars wrap around 64 bits
    holed = np.where(np.arange(6_000) < 2_500, market.open_time_ms, market.open_time_ms + MINUTE_MS)
    for bars in (market, replace(market, open_time_ms=holed), replace(high, open_time_ms=holed)):
        plain = signals(bars, 2, 9)
        monkeypatch.setattr(moving_average_cross, "_COMPILED_BARS", 0)
        compiled = signals(bars, 2, 9)
        monkeypatch.undo()
        np.testing.assert_array_equal(compiled, plain)
        assert np.bincount(plain).min() > 300


@pytest.mark.parametrize("compiled_from", [0, 1_000_000])
def test_candles_looked_at_once_serve_every_pair(monkeypatch: pytest.MonkeyPatch, compiled_from: int) -> None:
    bars, find_signals = walk_bars(3_000), MOVING_AVERAGE_CROSS.find_signals
    monkeypatch.setattr(moving_average_cross, "_COMPILED_BARS", compiled_from)
    assert find_signals is not None
    find = find_signals(bars, np.array([0, 3_000]))
    for fast_bars, slow_bars in ((3, 200), (10, 50), (59, 60)):
        said = find({"fast_bars": fast_bars, "slow_bars": slow_bars})
        units = np.rint(bars.close * UNITS).astype(np.int64).tolist()
        assert said.tolist() == expected_signals(units, fast_bars, slow_bars)


def test_prices_beyond_64_bits_are_compared_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving_average_cross, "_COMPILED_BARS", 0)
    units = [10**19 + 10**16 * (7 * bar % 13) for bar in range(40)]
    bars = bars_of(units)
    exact = np.rint(bars.close * UNITS).astype(object)
    assert signals(bars, 2, 5).tolist() == expected_signals([int(unit) for unit in exact], 2, 5)


def test_fast_average_that_is_not_shorter_conflicts() -> None:
    for fast_bars, slow_bars in ((50, 50), (60, 50)):
        with pytest.raises(InvalidInputError, match=f"fast_bars is {fast_bars}; it must be less") as refused:
            MOVING_AVERAGE_CROSS.check_values({"fast_bars": fast_bars, "slow_bars": slow_bars})
        assert refused.value.code == "parameters_conflict"
    values = MOVING_AVERAGE_CROSS.check_values({"slow_bars": 11})
    assert MOVING_AVERAGE_CROSS.name_model(values) == "moving-average-cross:fast_bars=10,slow_bars=11"
    assert MOVING_AVERAGE_CROSS.lookback(values) == 12
