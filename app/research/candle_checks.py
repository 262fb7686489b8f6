"""What is wrong with the candles of a file, row by row; the bounds are those of live candles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from app.domain.candle import Interval
from app.domain.data_quality import FAULTS, MAXIMUM_PRICE, MAXIMUM_VOLUME
from ml.bars import Bars, IntegerArray

BooleanArray = npt.NDArray[np.bool_]

NO_TIME = -1
"""The open time of a row whose time cannot be read."""

BROKEN, TIMELESS, OUT_OF_ORDER, GAP = "row_broken", "candle_without_time", "candle_out_of_order", "candle_gap"

_FINE = -1
_CODES = (TIMELESS, *FAULTS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, eq=False)
class CandleRows:
    """The rows of a file as they stand there, unchecked.

    `shape` says in words what kind of file it is, `numbers` of shape (n_bars,) which row of the file each bar stands
    in, and `broken` the rows that are too long or too short to be read. Rows count from 1, a header included; empty
    lines do not count. A price or volume that is no number is NaN, a time that is none is `NO_TIME`.
    """

    shape: str
    numbers: IntegerArray
    bars: Bars
    broken: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Something wrong with one row of a file: `row` counts from 1, a header included."""

    row: int
    code: str
    sentence: str


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What is wrong with the rows of a file.

    Args:
        rows: The rows.
        faults: For each bar the place of its fault in the list of codes; -1 where there is none.
        before_gap: Which bars, by place, are the first after missing ones.
        missing: How many candles are missing before each of those.
    """

    rows: CandleRows
    faults: IntegerArray
    before_gap: IntegerArray
    missing: IntegerArray

    @property
    def good(self) -> BooleanArray:
        """Whether nothing is wrong with a bar; of shape (n_bars,)."""
        return np.asarray(self.faults == _FINE)

    def count(self) -> dict[str, int]:
        """How many rows there are with each problem that there is."""
        places, counts = np.unique(self.faults[~self.good], return_counts=True)
        found = {_CODES[place]: int(count) for place, count in zip(places.tolist(), counts, strict=True)}
        return found | {
            code: count for code, count in ((BROKEN, len(self.rows.broken)), (GAP, len(self.missing))) if count
        }

    def first(self, limit: int) -> tuple[RowProblem, ...]:
        """The first `limit` problems, in the order of the file."""
        found = [*self._faults(limit), *self._gaps(limit), *self._broken(limit)]
        return tuple(sorted(found, key=lambda problem: problem.row)[:limit])

    def _faults(self, limit: int) -> Iterator[RowProblem]:
        for place in np.flatnonzero(~self.good)[:limit].tolist():
            code = _CODES[int(self.faults[place])]
            row = int(self.rows.numbers[place])
            told = f"the candle of {self._opened(place)} {FAULTS[code]}" if code != TIMELESS else "its time is no time"
            yield RowProblem(row, code, f"row {row}: {told}")

    def _gaps(self, limit: int) -> Iterator[RowProblem]:
        for place, missing in zip(self.before_gap[:limit].tolist(), self.missing[:limit].tolist(), strict=True):
            row = int(self.rows.numbers[place])
            noun = "candle is" if missing == 1 else "candles are"
            told = f"{missing} {noun} missing before the one of {self._opened(place)}"
            yield RowProblem(row, GAP, f"row {row}: {told}")

    def _broken(self, limit: int) -> Iterator[RowProblem]:
        for row in self.rows.broken[:limit]:
            yield RowProblem(row, BROKEN, f"row {row}: it does not have as many values as the others")

    def _opened(self, place: int) -> str:
        milliseconds = int(self.rows.bars.open_time_ms[place])
        return (_EPOCH + milliseconds * _MILLISECOND).isoformat().replace("+00:00", "Z")


def find_interval(open_time_ms: IntegerArray) -> int | None:
    """The most common distance of neighbouring candles in milliseconds; None where there are no two.

    >>> find_interval(np.array([0, 60_000, 120_000, 300_000]))
    60000
    """
    known = open_time_ms[open_time_ms != NO_TIME]
    distances, counts = np.unique(np.abs(np.diff(known)), return_counts=True)
    apart = distances > 0
    return int(distances[apart][np.argmax(counts[apart])]) if apart.any() else None


def check_rows(rows: CandleRows, interval: Interval, now: datetime, *, drop_bad_rows: bool) -> Findings:
    """Find what is wrong with the rows of a file, by the rules of `app.domain.data_quality`.

    Args:
        rows: What stands in the file.
        interval: How much time a candle spans.
        now: A candle that ends later has not closed yet.
        drop_bad_rows: Whether rows with a fault will be left out, so that they leave gaps.

    Returns:
        At most one fault of each row, and the gaps between them.
    """
    times = rows.bars.open_time_ms
    step = interval.milliseconds
    is_misplaced = {
        TIMELESS: times == NO_TIME,
        "candle_misaligned": times % step != 0,
        "candle_in_future": times + step > (now - _EPOCH) // _MILLISECOND,
    }
    faults = _name_first(is_misplaced | _judge_values(rows.bars))
    _mark_order(times, faults)
    stays = (faults == _FINE) | (faults == _CODES.index(OUT_OF_ORDER))
    present = np.flatnonzero(stays if drop_bad_rows else ~np.any(list(is_misplaced.values()), axis=0))
    opened, first = np.unique(times[present], return_index=True)
    missing = np.diff(opened) // step - 1
    is_gap = missing > 0
    return Findings(rows, faults, present[first[1:][is_gap]], missing[is_gap])


def _judge_values(bars: Bars) -> dict[str, BooleanArray]:
    """Which bars have each fault of price or volume, whatever else they have."""
    prices = (bars.open, bars.high, bars.low, bars.close)
    lowest, highest = np.minimum.reduce(prices), np.maximum.reduce(prices)  # NaN where one of them is
    return {
        "candle_not_finite": ~(np.isfinite(lowest) & np.isfinite(highest) & np.isfinite(bars.volume)),
        "candle_not_positive": lowest <= 0,
        "candle_volume_negative": bars.volume < 0,
        "candle_out_of_range": (highest > float(MAXIMUM_PRICE)) | (bars.volume > float(MAXIMUM_VOLUME)),
        "candle_impossible": (lowest != bars.low) | (highest != bars.high),
    }


def _name_first(has_fault: dict[str, BooleanArray]) -> IntegerArray:
    """The place in `_CODES` of the first fault of each bar; -1 where it has none."""
    places = [_CODES.index(code) for code in has_fault]
    return np.select(list(has_fault.values()), places, default=_FINE).astype(np.int64)


def _mark_order(times: IntegerArray, faults: IntegerArray) -> None:
    """Mark, of the bars without a fault, each that comes again and each that is older than one before it."""
    fine = np.flatnonzero(faults == _FINE)
    if (np.diff(times[fine]) > 0).all():
        return
    _, first = np.unique(times[fine], return_index=True)
    is_first = np.zeros(fine.size, dtype=np.bool_)
    is_first[first] = True
    faults[fine[~is_first]] = _CODES.index("candle_duplicate")
    once = fine[is_first]
    faults[once[times[once] < np.maximum.accumulate(times[once])]] = _CODES.index(OUT_OF_ORDER)
