"""Candles as arrays: what every computation in `ml` takes in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntegerArray = npt.NDArray[np.int64]

_BLOCK = 2**15
"""So many bars at once fit the processor's cache."""


@dataclass(frozen=True, eq=False)
class Bars:
    """Closed candles, oldest first, each field of shape (n_bars,).

    `open_time_ms` is in milliseconds since the epoch (UTC) and strictly rising; prices are in quote units and
    positive; `volume` is in base units and not negative. Nothing here checks that: whoever fetches candles does.

    >>> bars = Bars.from_rows([(0, 10.0, 12.0, 9.0, 11.0, 5.0), (60_000, 11.0, 11.0, 11.0, 11.0, 0.0)])
    >>> len(bars), bars[-1:].close.tolist()
    (2, [11.0])
    """

    open_time_ms: IntegerArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    def __post_init__(self) -> None:
        prices = (self.open, self.high, self.low, self.close, self.volume)
        shape = self.open_time_ms.shape
        if len(shape) != 1 or any(values.shape != shape for values in prices):
            raise ValueError("the arrays of Bars must be one-dimensional and equally long")

    @classmethod
    def from_rows(cls, rows: list[tuple[int, float, float, float, float, float]]) -> Bars:
        """Build bars from (open_time_ms, open, high, low, close, volume) rows, oldest first."""
        columns = list(zip(*rows, strict=True)) if rows else [()] * 6
        return cls(
            np.array(columns[0], dtype=np.int64),
            *(np.array(column, dtype=np.float64) for column in columns[1:]),
        )

    def __len__(self) -> int:
        return len(self.open_time_ms)

    def find_segments(self, interval_ms: int) -> list[slice]:
        """As `find_segments`; the times are looked through once, however often it is asked."""
        if self._steps_ms == (interval_ms, interval_ms):
            return [slice(0, len(self))]
        return find_segments(self.open_time_ms, interval_ms)

    @cached_property
    def _steps_ms(self) -> tuple[int, int]:
        """The shortest and the longest time from one open to the next."""
        least, greatest = 2**63 - 1, -1
        for first in range(0, len(self) - 1, _BLOCK):
            steps = np.diff(self.open_time_ms[first : first + _BLOCK + 1])
            least, greatest = min(least, int(steps.min())), max(greatest, int(steps.max()))
        return least, greatest

    def __getitem__(self, rows: slice) -> Bars:
        """The bars of a slice; the arrays are views."""
        return Bars(
            self.open_time_ms[rows],
            self.open[rows],
            self.high[rows],
            self.low[rows],
            self.close[rows],
            self.volume[rows],
        )


def find_segments(open_time_ms: IntegerArray, interval_ms: int) -> list[slice]:
    """Split a series where candles are missing: the longest runs whose open times are `interval_ms` apart.

    >>> find_segments(np.array([0, 60_000, 180_000]), 60_000)
    [slice(0, 2, None), slice(2, 3, None)]
    """
    if open_time_ms.size == 0:
        return []
    edges = [0]
    for first in range(0, open_time_ms.size - 1, _BLOCK):
        steps = np.diff(open_time_ms[first : first + _BLOCK + 1])
        edges += (np.flatnonzero(steps != interval_ms) + first + 1).tolist()
    edges.append(open_time_ms.size)
    return [slice(start, end) for start, end in pairwise(edges)]


def compute_candle_hash(bars: Bars, symbol: str, interval: str) -> str:
    """The SHA-256 of a series, 64 hexadecimal digits: equal for equal candles to the last bit, and for no others.

    >>> bars = Bars.from_rows([(0, 10.0, 12.0, 9.0, 11.0, 5.0)])
    >>> compute_candle_hash(bars, "BTCUSDT", "1m")[:16], compute_candle_hash(bars, "BTCUSDT", "1h")[:16]
    ('149f01f16c135286', '1a51294ad2217ece')
    """
    digest = hashlib.sha256(f"{symbol} {interval} {len(bars)}\n".encode())
    for name in Bars.__dataclass_fields__:
        values = getattr(bars, name)
        digest.update(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def save_bars(path: Path, history: Mapping[str, Bars]) -> None:
    """Write the bars of each symbol into one file of plain arrays."""
    fields = Bars.__dataclass_fields__
    np.savez(path, **{f"{symbol}/{name}": getattr(bars, name) for symbol, bars in history.items() for name in fields})


def load_bars(path: Path) -> dict[str, Bars]:
    """Read what `save_bars` wrote, symbols in the same order."""
    with np.load(path, allow_pickle=False) as arrays:
        symbols = list(dict.fromkeys(name.split("/")[0] for name in arrays.files))
        return {
            symbol: Bars(**{name: arrays[f"{symbol}/{name}"] for name in Bars.__dataclass_fields__})
            for symbol in symbols
        }
