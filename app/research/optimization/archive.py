"""Every trial that was run, in a file that outlives a crash: an optimisation that is begun again knows them already.

All searches draw by their seed and learn by what points come to, so one that is told the same again asks for the same
again: from the archive it is back in a moment where it was killed, and ends where it would have. (Optuna's own storage
keeps what its samplers learnt but not where their random numbers were, so a study that goes on from it ends elsewhere.)
"""

from __future__ import annotations

import fcntl
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from app.errors import ConflictError
from app.research.optimization.space import Point
from ml.bars import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What a point came to: the curve of its days (`app.risk.curves`), shape (n_days + 1,), and how many fills."""

    curve: FloatArray
    fills: int


class Archive:
    """The trials of one optimisation; a context that holds its file for itself.

    Args:
        path: The file; what is whole in it is read, and what a crash has torn is cut off.
        axes: How many there are.
        days: How many the curves are of.

    Raises:
        ConflictError: `optimization_in_progress`, another process has it.
    """

    def __init__(self, path: Path, axes: int, days: int) -> None:
        self._kind = np.dtype(
            [("point", "<i8", (axes,)), ("fills", "<i8"), ("curve", "<f8", (days + 1,)), ("check", "<u4")]
        )
        self._trials: dict[Point, Trial] = {}
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise ConflictError(
                "The same optimisation is under way in another process; wait for it to end.",
                code="optimization_in_progress",
                retry_after_seconds=10,
            ) from error
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._trials)

    def __contains__(self, point: Point) -> bool:
        return point in self._trials

    def __getitem__(self, point: Point) -> Trial:
        return self._trials[point]

    def __iter__(self) -> Iterator[Point]:
        return iter(self._trials)

    def add(self, point: Point, trial: Trial) -> None:
        """Keep what a point came to."""
        row = np.zeros(1, dtype=self._kind)[0]
        row["point"], row["fills"], row["curve"] = point, trial.fills, trial.curve
        row["check"] = _check(row)
        self._file.write(row.tobytes())
        self._file.flush()
        self._trials[point] = trial

    def _read(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        rows = np.frombuffer(content, dtype=self._kind, count=len(content) // self._kind.itemsize)
        whole = 0
        for row in rows:
            if row["check"] != _check(row):
                break
            whole += 1
            self._trials[tuple(row["point"].tolist())] = Trial(row["curve"], int(row["fills"]))
        self._file.truncate(whole * self._kind.itemsize)


def _check(row: np.void) -> int:
    return zlib.crc32(row.tobytes()[:-4])
