"""Candles from a user's file, checked like live ones: what is wrong is named by row, and refused unless allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from app.domain.candle import Interval
from app.errors import InvalidInputError
from app.research.candle_checks import GAP, OUT_OF_ORDER, Findings, RowProblem, check_rows, find_interval
from ml.bars import Bars

TOLD_PROBLEMS = 20
"""So many problems are told one by one; of more only the count is told."""

_PROBLEMS_IN_SENTENCE = 3


@dataclass(frozen=True, slots=True, eq=False)
class FileCandles:
    """The candles of a file that may be traded on.

    Args:
        bars: The candles, oldest first; they may have gaps where those were allowed.
        interval: How much time each spans.
        shape: What kind of file it was, in words.
        counts: How many rows had each problem that was allowed, by its code.
        problems: The first `TOLD_PROBLEMS` of those.
    """

    bars: Bars
    interval: Interval
    shape: str
    counts: Mapping[str, int]
    problems: tuple[RowProblem, ...]

    @property
    def gaps(self) -> int:
        """How many gaps there are between the candles."""
        return self.counts.get(GAP, 0)

    @property
    def dropped_rows(self) -> int:
        """How many rows of the file were left out."""
        return sum(self.counts.values()) - self.gaps


def read_candles(
    path: Path,
    interval: Interval | None,
    now: datetime,
    *,
    allow_gaps: bool = False,
    drop_bad_rows: bool = False,
) -> FileCandles:
    """Read the candles of a CSV, Parquet or Feather file and check each row.

    Args:
        path: The file; its name's ending says what it is.
        interval: How much time a candle spans; found from the distances between them when not given.
        now: A candle that ends later has not closed yet.
        allow_gaps: Keep gaps as they are; they are never filled.
        drop_bad_rows: Leave out rows that no market can have produced, that came before, that have not closed or that
            cannot be read. What a row leaves is a gap. Rows that stand after later ones are refused all the same.

    Raises:
        InvalidInputError: `file_kind_unknown`, `file_unreadable`, `file_too_large`, `columns_unknown`, `file_empty`,
            `interval_unknown`, `interval_mismatch`, or `candles_refused` with the rows and what is wrong with each.
    """
    from app.research.candle_tables import read_rows  # noqa: PLC0415 - pyarrow takes 50 MB

    rows = read_rows(path)
    interval = _choose_interval(path, interval, find_interval(rows.bars.open_time_ms))
    findings = check_rows(rows, interval, now, drop_bad_rows=drop_bad_rows)
    counts = findings.count()
    allowed = {code for code in counts if (allow_gaps if code == GAP else drop_bad_rows and code != OUT_OF_ORDER)}
    if counts.keys() - allowed or not findings.good.any():
        raise _refuse(path, findings, counts)
    bars = rows.bars
    if not findings.good.all():
        bars = Bars(*(getattr(bars, name)[findings.good] for name in Bars.__dataclass_fields__))
    return FileCandles(bars, interval, rows.shape, counts, findings.first(TOLD_PROBLEMS))


def _choose_interval(path: Path, asked: Interval | None, found_ms: int | None) -> Interval:
    by_length = {interval.milliseconds: interval for interval in Interval}
    found = by_length.get(found_ms or 0)
    apart = f"are mostly {found or f'{found_ms / 1_000:g} seconds'} apart" if found_ms else "are too few to tell"
    context = {"file": path.name, "distance_ms": found_ms, "interval": asked and asked.value}
    if asked is None and found is None:
        raise InvalidInputError(
            f"The candles of {path.name} {apart}; say which interval it is: {', '.join(Interval)}.",
            code="interval_unknown",
            context=context,
        )
    if asked is not None and found_ms and found is not asked:
        raise InvalidInputError(
            f"The candles of {path.name} {apart}, not {asked}; ask for what they are.",
            code="interval_mismatch",
            context=context,
        )
    return asked or by_length[found_ms or 0]


def _refuse(path: Path, findings: Findings, counts: Mapping[str, int]) -> InvalidInputError:
    problems = findings.first(TOLD_PROBLEMS)
    total = sum(counts.values())
    told = "; ".join(problem.sentence for problem in problems[:_PROBLEMS_IN_SENTENCE])
    more = total - _PROBLEMS_IN_SENTENCE
    advice = [
        words
        for words, applies in (
            ("sort it by time", OUT_OF_ORDER in counts),
            ("have bad rows dropped (--drop-bad-rows)", bool(counts.keys() - {GAP, OUT_OF_ORDER})),
            ("allow gaps, which stay gaps (--allow-gaps)", GAP in counts),
        )
        if applies
    ]
    return InvalidInputError(
        f"{path.name} has {total:,} {'problem' if total == 1 else 'problems'}: {told}"
        f"{f'; and {more:,} more' if more > 0 else ''}. Put the file right, or {' and '.join(advice)}.",
        code="candles_refused",
        context={
            "file": path.name,
            "counts": dict(counts),
            "problems": [
                {"row": problem.row, "code": problem.code, "sentence": problem.sentence} for problem in problems
            ],
        },
    )
