"""Features: the same bits wherever the series begins and ends, and finite for every valid candle."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.bars import Bars, FloatArray
from ml.features import FEATURE_NAMES, LOOKBACK_BARS, compute_features, compute_newest_features
from tests.support.models import MINUTE_MS, walk_bars

EXAMPLES = settings(max_examples=40, deadline=None)
CHUNK_ROWS = 4_096


@st.composite
def bars_strategy(draw: st.DrawFn, least: int = LOOKBACK_BARS, most: int = 160) -> Bars:
    """Valid candles: calm, wild or flat spells, with and without trades."""
    size = draw(st.integers(least, most))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([1e-6, 1.0, 1e9]))
    spread = draw(st.sampled_from([0.0, 1e-9, 0.001, 0.3]))
    steps = spread * random.standard_normal(size + 1) * (random.random(size + 1) < draw(st.sampled_from([0.05, 1.0])))
    price = scale * np.exp(np.clip(np.cumsum(steps), -5, 5))
    opened, close = price[:-1], price[1:]
    wick = 1.0 + spread * random.random(size)
    volume = random.random(size) * draw(st.sampled_from([0.0, 1e-8, 1e12])) * (random.random(size) < 0.7)
    times = MINUTE_MS * (draw(st.integers(0, 30_000_000)) + np.arange(size, dtype=np.int64))
    return Bars(times, opened, np.maximum(opened, close) * wick, np.minimum(opened, close) / wick, close, volume)


def scaled(bars: Bars, price: float, volume: float) -> Bars:
    prices = (bars.open * price, bars.high * price, bars.low * price, bars.close * price)
    return Bars(bars.open_time_ms, *prices, bars.volume * volume)


def compute_plainly(bars: Bars) -> dict[str, float]:
    """The newest row by the book, in plain Python."""
    close, volume = bars.close.tolist(), bars.volume.tolist()
    moves = [after - before for before, after in itertools.pairwise(close)]
    returns = [move / before for move, before in zip(moves, close, strict=False)]
    spreads = (bars.high - bars.low).tolist()
    highest, lowest = max(bars.high[-50:]), min(bars.low[-50:])
    signed = [math.copysign(1, move) * amount if move else 0.0 for move, amount in zip(moves, volume[1:], strict=True)]
    angle = 2 * math.pi * (int(bars.open_time_ms[-1]) % 86_400_000) / 86_400_000
    return {
        **{f"return_{ago}": close[-1] / close[-1 - ago] - 1 for ago in (1, 5, 15, 50)},
        "distance_from_mean_50": close[-1] / (math.fsum(close[-50:]) / 50) - 1,
        "channel_position_50": (close[-1] - lowest) / (highest - lowest),
        "rsi_14": math.fsum(max(move, 0) for move in moves[-14:]) / math.fsum(abs(move) for move in moves[-14:]),
        "volatility_15": math.sqrt(math.fsum(one * one for one in returns[-15:]) / 15),
        "volatility_50": math.sqrt(math.fsum(one * one for one in returns[-50:]) / 50),
        "range_ratio": (math.fsum(spreads[-5:]) / 5) / (math.fsum(spreads[-50:]) / 50),
        "relative_volume": (math.fsum(volume[-5:]) / 5) / (math.fsum(volume[-50:]) / 50),
        "volume_balance_15": math.fsum(signed[-15:]) / math.fsum(volume[-15:]),
        "time_sin": math.sin(angle),
        "time_cos": math.cos(angle),
    }


@EXAMPLES
@given(bars_strategy(), st.data())
def test_rows_do_not_change_when_later_candles_come(bars: Bars, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(bars)))
    assert compute_features(bars[:size]).tobytes() == compute_features(bars)[:size].tobytes()


@EXAMPLES
@given(bars_strategy(), st.data())
def test_rows_do_not_depend_on_candles_before_the_lookback(bars: Bars, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(bars) - LOOKBACK_BARS))
    complete, late = compute_features(bars), compute_features(bars[start:])
    assert late[LOOKBACK_BARS - 1 :].tobytes() == complete[start + LOOKBACK_BARS - 1 :].tobytes()


@EXAMPLES
@given(bars_strategy())
def test_newest_row_has_the_bits_of_the_last_row_of_the_matrix(bars: Bars) -> None:
    assert compute_newest_features(bars).tobytes() == compute_features(bars)[-1].tobytes()


@EXAMPLES
@given(bars_strategy())
def test_rows_are_finite_from_the_first_full_lookback_on(bars: Bars) -> None:
    matrix = compute_features(bars)
    assert matrix.shape == (len(bars), len(FEATURE_NAMES))
    assert np.isnan(matrix[: LOOKBACK_BARS - 1]).all()
    assert np.isfinite(matrix[LOOKBACK_BARS - 1 :]).all()


@EXAMPLES
@given(bars_strategy(), st.integers(-20, 20), st.integers(-20, 20))
def test_rows_do_not_change_with_the_units_of_price_and_volume(bars: Bars, price: int, volume: int) -> None:
    other = scaled(bars, 2.0**price, 2.0**volume)
    assert compute_features(other).tobytes() == compute_features(bars).tobytes()


def test_rows_across_chunks_have_the_bits_of_rows_alone() -> None:
    bars = walk_bars(2 * CHUNK_ROWS + 60, seed=1)
    matrix = compute_features(bars)
    for end in (CHUNK_ROWS + 49, CHUNK_ROWS + 50, CHUNK_ROWS + 51, CHUNK_ROWS + 52, 2 * CHUNK_ROWS + 51, len(bars)):
        assert compute_newest_features(bars[:end]).tobytes() == matrix[end - 1].tobytes()


@pytest.mark.parametrize("seed", range(5))
def test_newest_row_is_what_the_table_of_the_module_says(seed: int) -> None:
    bars = walk_bars(LOOKBACK_BARS + 7 * seed, seed, first_open_time_ms=MINUTE_MS * 1_000 * seed)
    wanted = compute_plainly(bars)
    assert tuple(wanted) == FEATURE_NAMES
    assert compute_newest_features(bars).tolist() == pytest.approx(list(wanted.values()), rel=1e-9, abs=1e-12)


def test_flat_market_without_trades_has_the_values_of_the_table() -> None:
    flat: FloatArray = np.full(60, 0.3)
    times = MINUTE_MS * np.arange(60, dtype=np.int64)
    row = compute_newest_features(Bars(times, flat, flat, flat, flat, np.zeros(60)))
    values = dict(zip(FEATURE_NAMES, row.tolist(), strict=True))
    assert values["channel_position_50"] == 0.5
    assert values["rsi_14"] == 0.5
    assert values["range_ratio"] == 1.0
    assert values["relative_volume"] == 1.0
    assert values["volume_balance_15"] == 0.0
    assert values["return_50"] == values["volatility_50"] == 0.0


@pytest.mark.parametrize("size", [0, 1, LOOKBACK_BARS - 1])
def test_too_few_candles_give_rows_without_values(size: int) -> None:
    bars = walk_bars(size)
    assert np.isnan(compute_features(bars)).all()
    assert compute_features(bars).shape == (size, len(FEATURE_NAMES))
    with pytest.raises(ValueError, match=f"51 candles are needed, there are {size}"):
        compute_newest_features(bars)
