"""A backtest as text and bytes, and back, to the last digit."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from app.domain.ports import Page
from app.domain.record import canonical, from_plain, to_plain
from app.errors import StorageError
from app.research.backtest.books import Books, Fills
from app.research.backtest.result import BacktestResult, BacktestRun, Said
from ml.bars import IntegerArray

Run = TypeVar("Run")

_QUICKLY = 1
"""A million cycles are packed within a second, and a tenth larger than with the greatest effort."""

_CYCLES = ("times_ms", "series", "first_bars", "outcomes", "equity", "held")
_HALTED = "halted_cycle"
_BENCHMARK = "benchmark_equity"


@dataclass(frozen=True, slots=True)
class RunPage(Page[Run]):
    """A page of runs, and the ids of those that belong on it and cannot be read."""

    unreadable: tuple[str, ...]


def read_page(page: Page[tuple[str, str]], read: Callable[[str], Run]) -> RunPage[Run]:
    """The runs of a page of ids and documents; `read` raises StorageError for one that it cannot read."""
    runs, unreadable = [], []
    for run_id, document in page.items:
        try:
            runs.append(read(document))
        except StorageError:
            unreadable.append(run_id)
    return RunPage(tuple(runs), page.next_cursor, tuple(unreadable))


def write_run(run: BacktestRun) -> str:
    """A run as JSON."""
    return canonical(to_plain(run))


def read_run(document: str) -> BacktestRun:
    """The run of `write_run`; raises StorageError `backtest_unreadable` where this version cannot read it."""
    try:
        run: BacktestRun = from_plain(BacktestRun, json.loads(document))
        outcomes = dict(sorted(run.outcomes.items(), key=lambda one: -one[1]))  # JSON is kept by name
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _unreadable() from error
    return replace(run, outcomes=outcomes)


def pack_books(books: Books, benchmark_equity: IntegerArray, said: Said) -> bytes:
    """The arrays of a result as the bytes of a compressed `npz` file.

    Whole numbers are kept as the differences from one to the next, which are small or the same and take a third of the
    room; wrapping round at 64 bits does no harm, as adding them up again wraps back.
    """
    arrays: dict[str, Any] = {name: getattr(books, name) for name in _CYCLES} | {_BENCHMARK: benchmark_equity}
    arrays |= {f"fills/{one.name}": getattr(books.fills, one.name) for one in fields(Fills)}
    arrays |= {f"said/{one.name}": getattr(said, one.name) for one in fields(Said)}
    arrays = {name: _differ(values) for name, values in arrays.items()} | {_HALTED: np.array(books.halted_cycle)}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return zlib.compress(file.getbuffer(), _QUICKLY)


def unpack_books(packed: bytes) -> tuple[Books, IntegerArray, Said]:
    """The arrays of `pack_books`; raises StorageError `backtest_unreadable` where they are none."""
    try:
        with np.load(io.BytesIO(zlib.decompress(packed)), allow_pickle=False) as stored:
            arrays: dict[str, Any] = {name: _restore(stored[name]) for name in stored.files if name != _HALTED}
            halted = int(stored[_HALTED])
        fills = Fills(**{one.name: arrays[f"fills/{one.name}"] for one in fields(Fills)})
        said = Said(**{one.name: arrays[f"said/{one.name}"] for one in fields(Said)})
        books = Books(**{name: arrays[name] for name in _CYCLES}, fills=fills, halted_cycle=halted)
    except (zlib.error, zipfile.BadZipFile, EOFError, OSError, LookupError, TypeError, ValueError) as error:
        raise _unreadable() from error
    return books, arrays[_BENCHMARK], said


def read_result(document: str, arrays: bytes) -> BacktestResult:
    """The result of `write_run` and `pack_books`; raises as `read_run`."""
    return BacktestResult(read_run(document), *unpack_books(arrays))


def _differ(values: np.ndarray) -> np.ndarray:
    return np.diff(values, prepend=np.int64(0)) if values.dtype == np.int64 else values


def _restore(values: np.ndarray) -> np.ndarray:
    return np.cumsum(values) if values.dtype == np.int64 else values


def _unreadable() -> StorageError:
    return StorageError(
        "The backtest cannot be read: another version wrote it, or it is damaged; delete it and run it again.",
        code="backtest_unreadable",
    )
