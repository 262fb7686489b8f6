"""Reads the rows of candle files by pyarrow, which takes a second to import and is not needed without such files."""

from __future__ import annotations

import gzip
import lzma
import zipfile
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, ipc, parquet

from app.errors import InvalidInputError
from app.research.candle_checks import NO_TIME, CandleRows
from app.research.candle_values import is_read, read_numbers, read_times
from ml.bars import Bars

MAXIMUM_BYTES = 2**30
"""The largest file, and the most that a compressed text may unpack to: ten years of Binance's minutes take a half."""

MAXIMUM_ROWS = 20_000_000
"""Twice as many minutes as there have been since Bitcoin began."""

SHAPES = (
    "Read are CSV files (.csv, .csv.gz or in a .zip) as Binance gives them out, with or without a header, or with a "
    "header that names open_time (or timestamp, time, date, datetime), open, high, low, close and volume; and Parquet "
    "(.parquet) and Feather (.feather, as freqtrade keeps them) with columns of these names."
)

_TIME_NAMES = ("open_time", "timestamp", "time", "date", "datetime")
_PRICE_NAMES = ("open", "high", "low", "close", "volume")
_DUMP_COLUMNS = 12
_LONGEST_HEADER = 4_096
_BLOCK_BYTES = 4 * 2**20
_BATCH_ROWS = 100_000
_MOST_BROKEN_ROWS = 10_000
_ASCII = bytes(range(128)) + b"?" * 128
_PADDING = " \t\r\n\"'"
_DAMAGES = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
"""What pyarrow and the standard library raise where a file is not what its name says; their own errors are of these."""


def read_rows(path: Path) -> CandleRows:
    """Read the candles of a file as they stand there.

    Raises:
        InvalidInputError: `file_kind_unknown`, `file_unreadable`, `file_too_large`, `columns_unknown` or `file_empty`.
    """
    readers: dict[str, Callable[[Path], CandleRows]] = {
        ".csv": _read_text,
        ".gz": _read_text,
        ".zip": _read_text,
        ".parquet": _read_parquet,
        ".feather": _read_feather,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise _refusal("file_kind_unknown", f"{path.name} is of a kind that is not read.", path)
    try:
        if not path.is_file():
            raise InvalidInputError(
                f"{path.name} is not there, or is no file.", code="file_unreadable", context={"file": path.name}
            )
        if path.stat().st_size > MAXIMUM_BYTES:
            raise _too_large(path)
        rows = reader(path)
    except _DAMAGES as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise _refusal("file_unreadable", f"{path.name} cannot be read ({reason}).", path) from error
    if not len(rows.bars):
        raise _refusal("file_empty", f"{path.name} has no candles.", path)
    if (rows.bars.open_time_ms == NO_TIME).all():
        raise _refusal("columns_unknown", f"{path.name} has no time in ISO 8601 or in numbers since 1970.", path)
    return rows


class _Limited:
    """A file for pyarrow that ends with an error where it is too large, however small it is when compressed.

    Nothing that is read of candles has other letters than ASCII has, and pyarrow forgets a broken row with one.
    """

    closed = False

    def __init__(self, file: IO[bytes] | gzip.GzipFile, path: Path) -> None:
        self._file = file
        self._path = path
        self._left = MAXIMUM_BYTES

    def read(self, size: int) -> bytes:
        """Up to `size` bytes."""
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._path)
        return data if data.isascii() else data.translate(_ASCII)

    def close(self) -> None:
        """Whoever opened the file closes it."""


def _read_text(path: Path) -> CandleRows:
    broken: list[int] = []

    def leave_out(row: Any) -> str:  # noqa: ANN401 - pyarrow has no types
        broken.append(row.number)
        return "skip" if len(broken) <= _MOST_BROKEN_ROWS else "error"

    with _open_text(path) as file:
        header = file.readline(_LONGEST_HEADER)
        if b"\0" in header:
            raise ValueError("it is no text")
        names = [_plain(name) for name in header.decode("utf-8-sig", "replace").split(",")]
        has_header = not names[0].isdecimal()
        if not (file.read(1) if has_header else header):
            raise _refusal("file_empty", f"{path.name} has no candles.", path)
        places = _find_columns(names, path) if has_header else _find_dump_columns(names, path)
        file.seek(len(BOM_UTF8) if header.startswith(BOM_UTF8) else 0)
        reader = csv.open_csv(
            pa.PythonFile(_Limited(file, path), "r"),
            csv.ReadOptions(
                use_threads=False,  # else rows that are left out have no number
                block_size=_BLOCK_BYTES,
                skip_rows=int(has_header),
                column_names=[str(place) for place in range(len(names))],
            ),
            csv.ParseOptions(quote_char=False, invalid_row_handler=leave_out),
            csv.ConvertOptions(
                column_types={str(place): pa.string() for place in places},
                include_columns=[str(place) for place in places],
            ),
        )
        is_dump = len(names) == _DUMP_COLUMNS and places == [0, 1, 2, 3, 4, 5]
        shape = f"{'Binance dump' if is_dump else 'CSV'} {'with' if has_header else 'without'} header"
        return _collect(shape, (batch.columns for batch in reader), path, broken, first_number=1 + has_header)


@contextmanager
def _open_text(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """The text of a file, unpacked."""
    match path.suffix.lower():
        case ".zip":
            with zipfile.ZipFile(path) as archive:
                entries = [entry for entry in archive.infolist() if not entry.filename.startswith("__MACOSX/")]
                if len(entries) != 1 or not entries[0].filename.lower().endswith(".csv"):
                    raise ValueError("it must hold one .csv file and nothing else")
                with archive.open(entries[0]) as file:
                    yield file
        case ".gz":
            with gzip.open(path) as file:
                yield file
        case _:
            with path.open("rb") as file:
                yield file


def _read_parquet(path: Path) -> CandleRows:
    with parquet.ParquetFile(path) as file:
        if file.metadata.num_rows > MAXIMUM_ROWS:
            raise _too_large(path)
        names = file.schema_arrow.names
        columns = [names[place] for place in _find_columns([_plain(name) for name in names], path)]
        batches = file.iter_batches(_BATCH_ROWS, columns=columns)
        return _collect("Parquet", (batch.select(columns).columns for batch in batches), path)


def _read_feather(path: Path) -> CandleRows:
    with pa.OSFile(str(path)) as source, ipc.open_file(source) as file:
        if file.count_rows() > MAXIMUM_ROWS:
            raise _too_large(path)
        names = [_plain(name) for name in file.schema.names]
        places = _find_columns(names, path)
        shape = "freqtrade's Feather" if names == ["date", *_PRICE_NAMES] else "Feather"
        batches = (file.get_batch(number) for number in range(file.num_record_batches))
        return _collect(shape, ([_validated(batch.column(place)) for place in places] for batch in batches), path)


def _validated(column: Any) -> Any:  # noqa: ANN401
    column.validate(full=True)  # a damaged text would be read from beyond its buffer
    return column


def _plain(name: str) -> str:
    return name.strip(_PADDING).lower().replace(" ", "_")


def _find_dump_columns(values: Sequence[str], path: Path) -> list[int]:
    """Where the time, prices and volume stand in a file whose first row has these values instead of names."""
    if len(values) != _DUMP_COLUMNS:
        raise _refusal(
            "columns_unknown",
            f"{path.name} has no header, and {len(values)} columns where Binance's dumps have {_DUMP_COLUMNS}.",
            path,
        )
    return [0, 1, 2, 3, 4, 5]


def _find_columns(names: Sequence[str], path: Path) -> list[int]:
    """Where the time, prices and volume stand among columns of these names."""
    time = next((name for name in _TIME_NAMES if name in names), "open_time")
    wanted = (time, *_PRICE_NAMES)
    unclear = [f"{'two columns' if name in names else 'no column'} {name}" for name in wanted if names.count(name) != 1]
    if unclear:
        raise _refusal("columns_unknown", f"{path.name} has {', '.join(unclear)}.", path)
    return [names.index(name) for name in wanted]


def _collect(
    shape: str, batches: Iterable[Sequence[Any]], path: Path, broken: Sequence[int] = (), *, first_number: int = 1
) -> CandleRows:
    """Join batches of the six columns; `broken` is complete once the last batch has been read."""
    chunks = [Bars.from_rows([])]
    count = 0
    for columns in batches:
        count += len(columns[0])
        if count > MAXIMUM_ROWS:
            raise _too_large(path)
        _check_kinds(columns, path)
        chunks.append(Bars(read_times(columns[0]), *(read_numbers(column) for column in columns[1:])))
    bars = Bars(*(np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in Bars.__dataclass_fields__))
    numbers = np.arange(first_number, first_number + count + len(broken), dtype=np.int64)
    left_out = np.array(broken, dtype=np.int64) - first_number
    return CandleRows(shape, np.delete(numbers, left_out), bars, tuple(broken))


def _check_kinds(columns: Sequence[Any], path: Path) -> None:
    for place, (name, column) in enumerate(zip(("time", *_PRICE_NAMES), columns, strict=True)):
        if not is_read(column.type, is_time=place == 0):
            raise _refusal("columns_unknown", f"The column {name} of {path.name} holds {str(column.type)[:60]}.", path)


def _too_large(path: Path) -> InvalidInputError:
    return InvalidInputError(
        f"{path.name} is too large: at most {MAXIMUM_ROWS // 1_000_000} million candles and "
        f"{MAXIMUM_BYTES // 2**20:,} MB are read, unpacked; split it.",
        code="file_too_large",
        context={"file": path.name},
    )


def _refusal(code: str, sentence: str, path: Path) -> InvalidInputError:
    return InvalidInputError(f"{sentence} {SHAPES}", code=code, context={"file": path.name})
