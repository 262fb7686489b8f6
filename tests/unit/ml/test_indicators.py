"""The reported indicators against their definitions, computed the slow way."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.bars import Bars
from ml.indicators import compute_atr, compute_seed_indicators, compute_volatility
from tests.support.models import walk_bars

ROOT = Path(__file__).parents[3]


def flat(closes: list[float]) -> Bars:
    close = np.array(closes)
    return Bars(60_000 * np.arange(len(close), dtype=np.int64), close, close, close, close, np.ones(len(close)))


def wilder_rsi(closes: list[float], period: int) -> float:
    """Wilder's recursion as he wrote it: first a plain mean of `period` moves, then each new one has 1/period."""
    moves = [later - earlier for earlier, later in pairwise(closes)]
    up = sum(max(move, 0.0) for move in moves[:period]) / period
    down = sum(max(-move, 0.0) for move in moves[:period]) / period
    for move in moves[period:]:
        up = (up * (period - 1) + max(move, 0.0)) / period
        down = (down * (period - 1) + max(-move, 0.0)) / period
    return 100.0 * up / (up + down)


@given(bars=st.integers(50, 300), seed=st.integers(0, 2**16))
def test_indicators_are_those_of_the_textbook(bars: int, seed: int) -> None:
    walk = walk_bars(bars, seed)
    closes = walk.close.tolist()

    found = compute_seed_indicators(walk)

    assert found["sma_10"] == pytest.approx(math.fsum(closes[-10:]) / 10, rel=1e-12)
    assert found["sma_50"] == pytest.approx(math.fsum(closes[-50:]) / 50, rel=1e-12)
    assert found["rsi_14"] == pytest.approx(wilder_rsi(closes, 14), abs=1e-9)
    assert found["price_change_1m"] == closes[-1] / closes[-2] - 1


@pytest.mark.parametrize(
    ("bars", "known"),
    [
        (0, set()),
        (1, set()),
        (2, {"price_change_1m"}),
        (10, {"price_change_1m", "sma_10"}),
        (14, {"price_change_1m", "sma_10"}),
        (15, {"price_change_1m", "sma_10", "rsi_14"}),
        (49, {"price_change_1m", "sma_10", "rsi_14"}),
        (50, {"price_change_1m", "sma_10", "rsi_14", "sma_50"}),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_what_the_bars_do_not_reach_back_for_is_none(bars: int, known: set[str]) -> None:
    found = compute_seed_indicators(walk_bars(bars, 1) if bars else flat([]))

    assert {name for name, value in found.items() if value is not None} == known


def test_price_that_never_moved_has_averages_and_no_rsi() -> None:
    found = compute_seed_indicators(flat([7.0] * 60))

    assert found == {"sma_10": 7.0, "sma_50": 7.0, "rsi_14": None, "price_change_1m": 0.0}


def wilder_atr(bars: Bars, period: int) -> float:
    """Wilder's recursion again, over the true ranges: the candle's own range and the gap before it."""
    closes = bars.close.tolist()
    ranges = [
        max(high, before) - min(low, before)
        for high, low, before in zip(bars.high.tolist()[1:], bars.low.tolist()[1:], closes[:-1], strict=True)
    ]
    average = math.fsum(ranges[:period]) / period
    for one in ranges[period:]:
        average = (average * (period - 1) + one) / period
    return average


@given(bars=st.integers(15, 100), seed=st.integers(0, 2**16))
def test_true_range_and_volatility_are_those_of_the_textbook(bars: int, seed: int) -> None:
    walk = walk_bars(bars, seed)
    returns = [math.log(later / earlier) for earlier, later in pairwise(walk.close.tolist())]

    assert compute_atr(walk) == pytest.approx(wilder_atr(walk, 14), rel=1e-12)
    assert compute_volatility(walk) == pytest.approx(statistics.stdev(returns), rel=1e-9)


def test_true_range_and_volatility_need_fifteen_bars() -> None:
    assert (compute_atr(walk_bars(14, 1)), compute_volatility(walk_bars(14, 1))) == (None, None)
    assert (compute_atr(flat([7.0] * 15)), compute_volatility(flat([7.0] * 15))) == (0.0, 0.0)


def test_importing_them_loads_no_pandas_and_leaves_it_importable() -> None:
    script = (
        "import sys, ml.indicators; assert 'pandas' not in sys.modules and 'polars' not in sys.modules; "
        "import pandas; print(pandas.Series([1.0]).sum())"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.stdout == "1.0\n", ended.stderr
