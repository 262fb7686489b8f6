"""What the model sees of the market: one row of stationary numbers per closed candle.

The same function serves training, the live cycle and history, and gives *equal bits* in all three: a row
depends on its own last `LOOKBACK_BARS` candles only. That rules out running sums (pandas' rolling windows,
TA-Lib's SMA and STDDEV), whose last bits depend on where the series began, and numpy's vectorised
transcendental functions. Every step here is an addition, subtraction, multiplication, division, square root,
minimum or maximum, which IEEE 754 rounds in one way only, carried out in an order that the window fixes.

| feature | what it is | where undefined |
|---|---|---|
| return_1, _5, _15, _50 | close over the close so many bars ago, less 1 | |
| distance_from_mean_50 | close over the mean close of 50 bars, less 1 | |
| channel_position_50 | where the close stands between the lowest low (0) and highest high (1) of 50 bars | 0.5: flat |
| rsi_14 | gains as a share of all moves of 14 bars, 0 to 1 (Cutler's RSI: plain sums, finite memory) | 0.5: flat |
| volatility_15, _50 | root mean square of the one-bar returns | |
| range_ratio | mean high-low range of 5 bars over that of 50 | 1: flat |
| relative_volume | mean volume of 5 bars over that of 50 | 1: no trade |
| volume_balance_15 | volume of rising bars less that of falling bars, as a share of all, -1 to 1 | 0: no trade |
| time_sin, time_cos | time of day (UTC) of the candle's open, on a circle | |

Source for Cutler's RSI: C. B. Cutler's variant as described at https://en.wikipedia.org/wiki/Relative_strength_index.
"""

from __future__ import annotations

import functools
import hashlib
import math
from typing import Final

import numpy as np

from ml.bars import Bars, FloatArray

FEATURE_PHRASES: Final = {
    "return_1": "change of the close over 1 candle, as a fraction",
    "return_5": "change of the close over 5 candles, as a fraction",
    "return_15": "change of the close over 15 candles, as a fraction",
    "return_50": "change of the close over 50 candles, as a fraction",
    "distance_from_mean_50": "distance of the close from its mean over 50 candles, as a fraction",
    "channel_position_50": "place of the close between the low, 0, and the high, 1, of 50 candles",
    "rsi_14": "rises as a share of all moves of 14 candles",
    "volatility_15": "usual size of a candle's move over 15 candles, as a fraction",
    "volatility_50": "usual size of a candle's move over 50 candles, as a fraction",
    "range_ratio": "range of the last 5 candles as a multiple of that of 50",
    "relative_volume": "volume of the last 5 candles as a multiple of that of 50",
    "volume_balance_15": "volume of rising less that of falling candles as a share of all, over 15 candles",
    "time_sin": "time of day in UTC, 1 at 06:00 and -1 at 18:00",
    "time_cos": "time of day in UTC, 1 at midnight and -1 at noon",
}
"""What each column is, in words for a person; no part of `compute_features_hash`, so that wording ages no model."""

FEATURE_NAMES: Final = tuple(FEATURE_PHRASES)
"""The columns of a feature matrix, in order."""

LOOKBACK_BARS: Final = 51
"""How many candles one row needs: 50 returns have 51 closes."""

_SHORT, _MIDDLE, _LONG, _RSI = 5, 15, 50, 14
_CHUNK_ROWS = 4_096  # the temporary arrays of a chunk fit the processor's cache: four times as fast as all at once
_MINUTE_MS, _MINUTES_A_DAY = 60_000, 1_440
_ANGLES = [2 * math.pi * minute / _MINUTES_A_DAY for minute in range(_MINUTES_A_DAY)]
_SINES = np.array([math.sin(angle) for angle in _ANGLES])
_COSINES = np.array([math.cos(angle) for angle in _ANGLES])


def compute_features_hash() -> str:
    """A fingerprint of what the columns are and mean; a model belongs to one.

    >>> len(compute_features_hash())
    64
    """
    return hashlib.sha256(f"{__doc__}\n{FEATURE_NAMES}\n{LOOKBACK_BARS}".encode()).hexdigest()


def compute_features(bars: Bars) -> FloatArray:
    """Compute the feature matrix of contiguous candles, shape (n_bars, n_features), columns as `FEATURE_NAMES`.

    The first `LOOKBACK_BARS - 1` rows are NaN; every other row is finite for valid candles.

    >>> minutes = np.arange(60, dtype=np.int64)
    >>> flat = np.full(60, 100.0)
    >>> row = compute_features(Bars(minutes * 60_000, flat, flat, flat, flat, flat))[-1]
    >>> dict(zip(FEATURE_NAMES, row.tolist()))["channel_position_50"]
    0.5
    """
    matrix = np.empty((len(bars), len(FEATURE_NAMES)))
    matrix[: LOOKBACK_BARS - 1] = np.nan
    for end in range(LOOKBACK_BARS, len(bars) + 1, _CHUNK_ROWS):
        columns = _compute_columns(bars[end - LOOKBACK_BARS : end + _CHUNK_ROWS - 1])
        np.stack(columns, axis=1, out=matrix[end - 1 : end + _CHUNK_ROWS - 1])
    return matrix


def compute_newest_features(bars: Bars) -> FloatArray:
    """Compute the row of the last candle alone, shape (n_features,): the same bits as in the whole matrix.

    Raises:
        ValueError: There are fewer than `LOOKBACK_BARS` candles.
    """
    if len(bars) < LOOKBACK_BARS:
        raise ValueError(f"{LOOKBACK_BARS} candles are needed, there are {len(bars)}")
    return np.concatenate(_compute_columns(bars[len(bars) - LOOKBACK_BARS :]))


def _compute_columns(bars: Bars) -> tuple[FloatArray, ...]:
    """The columns of all rows with a full lookback, each of shape (n_bars - LOOKBACK_BARS + 1,)."""
    rows = len(bars) - LOOKBACK_BARS + 1
    before, close, volume = bars.close[:-1], bars.close[1:], bars.volume[1:]
    spread = bars.high[1:] - bars.low[1:]
    moves = close - before
    returns = moves / before
    # In this order each window needs neighbouring series only.
    series = np.stack(
        (np.abs(moves), np.maximum(moves, 0.0), np.sign(moves) * volume, returns * returns, volume, spread, close)
    )
    sums = _double(np.add, series, wide=slice(3, 7))
    all_moves, gains = _window(np.add, sums, _RSI, slice(0, 2), rows)
    balance, middle_square, middle_volume = _window(np.add, sums, _MIDDLE, slice(2, 5), rows)
    short_volume, short_spread = _window(np.add, sums, _SHORT, slice(4, 6), rows) / _SHORT
    long_means = _window(np.add, sums, _LONG, slice(3, 7), rows) / _LONG
    mean_square, mean_volume, mean_spread, mean_close = long_means
    extremes = _double(np.maximum, np.stack((bars.high[1:], -bars.low[1:])), wide=slice(0, 2))
    highest, lowest_negated = _window(np.maximum, extremes, _LONG, slice(0, 2), rows)
    newest = close[-rows:]
    minutes = bars.open_time_ms[-rows:] // _MINUTE_MS % _MINUTES_A_DAY
    return (
        returns[-rows:],
        newest / bars.close[-rows - _SHORT : -_SHORT] - 1.0,
        newest / bars.close[-rows - _MIDDLE : -_MIDDLE] - 1.0,
        newest / bars.close[-rows - _LONG : -_LONG] - 1.0,
        newest / mean_close - 1.0,
        _divide(newest + lowest_negated, highest + lowest_negated, 0.5),
        _divide(gains, all_moves, 0.5),
        np.sqrt(middle_square / _MIDDLE),
        np.sqrt(mean_square),
        _divide(short_spread, mean_spread, 1.0),
        _divide(short_volume, mean_volume, 1.0),
        _divide(balance, middle_volume, 0.0),
        _SINES[minutes],
        _COSINES[minutes],
    )


def _double(combine: np.ufunc, series: FloatArray, wide: slice) -> list[FloatArray]:
    """Combine each value with those before it in blocks of 1, 2, 4 ... 32, each block from two halves.

    Blocks of 16 and 32 are made for the `wide` series only and keep the others' lines empty.
    """
    blocks = [series]
    for width in (1, 2, 4, 8, 16):
        halves = blocks[-1]
        block = np.empty((series.shape[0], halves.shape[1] - width))
        lines = wide if width >= 8 else slice(None)
        combine(halves[lines, :-width], halves[lines, width:], out=block[lines])
        blocks.append(block)
    return blocks


def _window(combine: np.ufunc, blocks: list[FloatArray], window: int, lines: slice, rows: int) -> FloatArray:
    """Combine the last `window` values up to each of the last `rows` ends, shape (n_lines, rows).

    The window's binary digits name the blocks it is made of: the order of the additions never depends on
    where the series began.
    """
    offset, pieces = 0, []
    for exponent, block in enumerate(blocks):
        if window >> exponent & 1:
            end = block.shape[1] - offset
            pieces.append(block[lines, end - rows : end])
            offset += 1 << exponent
    return functools.reduce(combine, pieces)


def _divide(numerator: FloatArray, denominator: FloatArray, otherwise: float) -> FloatArray:
    """Divide, giving `otherwise` where the denominator is zero."""
    result = np.full(numerator.shape, otherwise)
    np.divide(numerator, denominator, out=result, where=denominator != 0.0)
    return result
