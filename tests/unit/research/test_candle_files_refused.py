"""What is wrong with a file of candles is told, by row where it is a row, and refused unless that was allowed."""

from __future__ import annotations

import gzip
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.candle import Interval
from app.errors import InvalidInputError
from app.research import candle_tables
from app.research.candle_files import read_candles
from tests.support.candle_files import (
    COLUMNS,
    MINUTE_MS,
    NOW,
    Row,
    as_csv,
    as_dump,
    as_table,
    assert_same_bits,
    bars_of,
    made_bars,
    made_rows,
    write_table,
)

ROWS = made_rows(6)
CSV = as_csv(ROWS).encode()
CODES = {
    "file_kind_unknown", "file_unreadable", "file_too_large", "file_empty", "columns_unknown",
    "interval_unknown", "interval_mismatch", "candles_refused",
}  # fmt: skip


def write_rows(tmp_path: Path, rows: list[Row]) -> Path:
    path = tmp_path / "candles.csv"
    path.write_text(as_csv(rows), encoding="utf-8")
    return path


def refusal_of(path: Path, interval: Interval | None = None, **allowed: bool) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        read_candles(path, interval, NOW, **allowed)
    return caught.value


def problems_of(error: InvalidInputError) -> list[tuple[int, str]]:
    assert error.code == "candles_refused"
    problems: Any = error.context["problems"]
    return [(problem["row"], problem["code"]) for problem in problems]


def with_value(place: int, column: int, value: object) -> list[Row]:
    rows = list(ROWS)
    rows[place] = (*rows[place][:column], value, *rows[place][column + 1 :])
    return rows


@pytest.mark.parametrize(
    ("column", "value", "code", "words"),
    [
        (1, "", "candle_not_finite", "has a value that is not a number"),
        (2, "n/a", "candle_not_finite", "has a value that is not a number"),
        (3, "nan", "candle_not_finite", "has a value that is not a number"),
        (4, "-inf", "candle_not_finite", "has a value that is not a number"),
        (5, "1e999", "candle_not_finite", "has a value that is not a number"),
        (5, "1_000", "candle_not_finite", "has a value that is not a number"),
        (3, "0", "candle_not_positive", "has a price that is not above zero"),
        (3, "-99.7", "candle_not_positive", "has a price that is not above zero"),
        (5, "-0.1", "candle_volume_negative", "has a negative volume"),
        (2, "1000000000001", "candle_out_of_range", "has a value beyond anything that is traded"),
        (5, "1000000000000000001000", "candle_out_of_range", "has a value beyond anything that is traded"),
        (2, "101", "candle_impossible", "has prices outside its own high and low"),
        (3, "105", "candle_impossible", "has prices outside its own high and low"),
        (4, "90", "candle_impossible", "has prices outside its own high and low"),
        (1, "900", "candle_impossible", "has prices outside its own high and low"),
    ],
)
def test_row_with_an_impossible_value_is_named_and_can_be_dropped(
    tmp_path: Path, column: int, value: str, code: str, words: str
) -> None:
    path = write_rows(tmp_path, with_value(2, column, value))

    error = refusal_of(path)

    assert problems_of(error) == [(4, code)]
    assert error.message == (
        f"candles.csv has 1 problem: row 4: the candle of 2025-01-01T00:02:00Z {words}. "
        "Put the file right, or have bad rows dropped (--drop-bad-rows)."
    )
    assert problems_of(refusal_of(path, drop_bad_rows=True)) == [(4, code), (5, "candle_gap")]
    found = read_candles(path, None, NOW, allow_gaps=True, drop_bad_rows=True)
    assert_same_bits(found.bars, bars_of([*ROWS[:2], *ROWS[3:]]))
    assert (dict(found.counts), found.gaps, found.dropped_rows) == ({code: 1, "candle_gap": 1}, 1, 1)
    assert [(problem.row, problem.code) for problem in found.problems] == [(4, code), (5, "candle_gap")]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("2025-01-01T00:02:30", "candle_misaligned"),
        ("1735689720001", "candle_misaligned"),
        ("1735689720000001", "candle_misaligned"),
        ("9999999999999999999", "candle_without_time"),
        ("99999999999999", "candle_misaligned"),
        ("2200-01-01T00:00:00Z", "candle_in_future"),
        ("9999-01-01T00:00:00Z", "candle_without_time"),
        ("2026-01-01T00:00:00+00:00", "candle_in_future"),
        ("soon", "candle_without_time"),
        ("", "candle_without_time"),
        ("-5", "candle_without_time"),
        ("2025-13-01", "candle_without_time"),
        ("01/02/2025", "candle_without_time"),
    ],
)
def test_row_with_a_time_that_no_candle_has_is_named_and_can_be_dropped(tmp_path: Path, value: str, code: str) -> None:
    path = write_rows(tmp_path, with_value(2, 0, value))

    assert problems_of(refusal_of(path)) == [(4, code), (5, "candle_gap")]
    found = read_candles(path, None, NOW, allow_gaps=True, drop_bad_rows=True)
    assert_same_bits(found.bars, bars_of([*ROWS[:2], *ROWS[3:]]))


def test_candle_that_has_not_closed_is_refused_until_it_has(tmp_path: Path) -> None:
    start = int(NOW.timestamp() * 1_000) - 5 * MINUTE_MS
    path = write_rows(tmp_path, made_rows(6, start))

    assert problems_of(refusal_of(path)) == [(7, "candle_in_future")]
    assert len(read_candles(path, None, NOW, drop_bad_rows=True).bars) == 5
    assert len(read_candles(write_rows(tmp_path, made_rows(5, start)), None, NOW).bars) == 5


def test_gap_is_told_with_its_length_and_kept_as_a_gap_when_allowed(tmp_path: Path) -> None:
    rows = made_rows(12)
    rows = [*rows[:3], *rows[4:6], *rows[11:]]
    path = write_rows(tmp_path, rows)

    error = refusal_of(path, drop_bad_rows=True)

    assert problems_of(error) == [(5, "candle_gap"), (7, "candle_gap")]
    assert error.message == (
        "candles.csv has 2 problems: row 5: 1 candle is missing before the one of 2025-01-01T00:04:00Z; row 7: "
        "5 candles are missing before the one of 2025-01-01T00:11:00Z. Put the file right, or allow gaps, "
        "which stay gaps (--allow-gaps)."
    )
    found = read_candles(path, None, NOW, allow_gaps=True)
    assert_same_bits(found.bars, bars_of(rows))
    assert (found.gaps, found.dropped_rows) == (2, 0)


def test_row_that_comes_again_is_a_duplicate_and_the_first_one_stays(tmp_path: Path) -> None:
    again = (*ROWS[1][:5], "9.75")
    path = write_rows(tmp_path, [*ROWS[:2], again, *ROWS[2:]])

    assert problems_of(refusal_of(path, allow_gaps=True)) == [(4, "candle_duplicate")]
    assert_same_bits(read_candles(path, None, NOW, drop_bad_rows=True).bars, bars_of(ROWS))


def test_files_that_overlap_are_joined_by_dropping_what_came_before(tmp_path: Path) -> None:
    path = write_rows(tmp_path, [*ROWS[:4], *ROWS[2:]])

    assert problems_of(refusal_of(path)) == [(6, "candle_duplicate"), (7, "candle_duplicate")]
    assert_same_bits(read_candles(path, None, NOW, drop_bad_rows=True).bars, bars_of(ROWS))


def test_row_that_stands_after_a_later_one_is_refused_even_when_bad_rows_are_dropped(tmp_path: Path) -> None:
    path = write_rows(tmp_path, [*ROWS[:3], ROWS[4], ROWS[3], ROWS[5]])

    error = refusal_of(path, allow_gaps=True, drop_bad_rows=True)

    assert problems_of(error) == [(6, "candle_out_of_order")]
    assert error.message.endswith("Put the file right, or sort it by time.")


def test_file_with_the_newest_first_is_refused_without_a_gap(tmp_path: Path) -> None:
    error = refusal_of(write_rows(tmp_path, ROWS[::-1]))

    assert problems_of(error) == [(row, "candle_out_of_order") for row in range(3, 8)]
    assert error.context["counts"] == {"candle_out_of_order": 5}
    assert "and 2 more" in error.message


def test_row_that_is_too_short_or_too_long_is_named_and_can_be_dropped(tmp_path: Path) -> None:
    lines = as_csv(ROWS).splitlines()
    path = tmp_path / "candles.csv"
    path.write_text("\n".join([*lines[:3], lines[3][:20], "", *lines[4:6], lines[6] + ",5"]), encoding="utf-8")

    error = refusal_of(path)

    assert problems_of(error) == [(4, "row_broken"), (5, "candle_gap"), (7, "row_broken")]
    found = read_candles(path, None, NOW, allow_gaps=True, drop_bad_rows=True)
    assert_same_bits(found.bars, bars_of([*ROWS[:2], *ROWS[3:5]]))
    assert (dict(found.counts), found.dropped_rows) == ({"row_broken": 2, "candle_gap": 1}, 2)


def test_rows_with_letters_that_nothing_is_written_in_are_named(tmp_path: Path) -> None:
    lines = CSV.splitlines()
    lines[2], lines[4] = b"\xff\xfe", lines[4].replace(b"103.10", b"\xff\xfe")
    path = write_bytes(tmp_path / "x.csv", b"\n".join(lines))

    error = refusal_of(path)

    assert problems_of(error) == [(3, "row_broken"), (4, "candle_gap"), (5, "candle_not_finite")]


def test_rows_of_a_dump_count_without_a_header_and_the_first_twenty_are_told(tmp_path: Path) -> None:
    path = tmp_path / "dump.csv"
    path.write_text(as_dump([(*row[:5], "-1") for row in made_rows(500)]), encoding="utf-8")

    error = refusal_of(path)

    assert problems_of(error) == [(row, "candle_volume_negative") for row in range(1, 21)]
    assert error.message.startswith("dump.csv has 500 problems: row 1: the candle of 2025-01-01T00:00:00Z has a neg")
    assert "; and 497 more. " in error.message


def test_rows_of_a_table_count_from_one(tmp_path: Path) -> None:
    bars = made_bars(6)
    bars.low[3] = np.nan
    table = as_table(bars).set_column(5, "volume", pa.array([1.0, None, 1.0, 1.0, 1.0, 1.0]))

    for name in ("x.parquet", "x.feather"):
        error = refusal_of(write_table(tmp_path / name, table))
        assert problems_of(error) == [(2, "candle_not_finite"), (4, "candle_not_finite")]


def test_file_of_bad_rows_only_is_refused_even_when_they_are_dropped(tmp_path: Path) -> None:
    path = write_rows(tmp_path, [(*row[:5], "-1") for row in ROWS])

    assert len(problems_of(refusal_of(path, allow_gaps=True, drop_bad_rows=True))) == 6


def test_interval_that_is_asked_for_is_the_one_of_the_file(tmp_path: Path) -> None:
    hours = write_rows(tmp_path, made_rows(5, step=3_600_000))

    assert read_candles(hours, Interval.H1, NOW).interval is Interval.H1
    error = refusal_of(hours, Interval.M1, allow_gaps=True)
    assert error.code == "interval_mismatch"
    assert error.message == "The candles of candles.csv are mostly 1h apart, not 1m; ask for what they are."


def test_interval_that_cannot_be_found_must_be_told(tmp_path: Path) -> None:
    single = write_rows(tmp_path, made_rows(1))
    assert refusal_of(single).code == "interval_unknown"
    assert len(read_candles(single, Interval.M1, NOW).bars) == 1

    error = refusal_of(write_rows(tmp_path, made_rows(5, step=1_000)))
    assert error.code == "interval_unknown"
    assert error.message.startswith(
        "The candles of candles.csv are mostly 1 seconds apart; say which interval it is: 1m"
    )


def write_bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def zipped(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


UNREADABLE: dict[str, Callable[[Path], Path]] = {
    "missing": lambda folder: folder / "missing.csv",
    "a folder": lambda folder: (folder / "x.csv").mkdir() or folder / "x.csv",  # type: ignore[func-returns-value]
    "binary text": lambda folder: write_bytes(folder / "x.csv", bytes(range(256)) * 40),
    "text of 16 bits": lambda folder: write_bytes(folder / "x.csv", as_csv(ROWS).encode("utf-16")),
    "a row without end": lambda folder: write_bytes(folder / "x.csv", CSV + b"1" * 10_000_000),
    "gzip cut off": lambda folder: write_bytes(folder / "x.csv.gz", gzip.compress(CSV)[:-9]),
    "gzip damaged": lambda folder: write_bytes(folder / "x.csv.gz", gzip.compress(CSV)[:30] + b"xxxxxxxxxxxx"),
    "no gzip": lambda folder: write_bytes(folder / "x.csv.gz", CSV),
    "no zip": lambda folder: write_bytes(folder / "x.zip", CSV),
    "two in a zip": lambda folder: zipped(folder / "x.zip", {"a.csv": CSV, "b.csv": CSV}),
    "none in a zip": lambda folder: zipped(folder / "x.zip", {}),
    "a zip in a zip": lambda folder: zipped(folder / "x.zip", {"a.zip": b"PK\5\6" + bytes(18)}),
    "a damaged zip": lambda folder: write_bytes(
        folder / "x.zip", zipped(folder / "y.zip", {"a.csv": CSV * 50}).read_bytes().replace(b"PK\3\4", b"PK\3\5")
    ),
    "a zip with a password": lambda folder: locked(zipped(folder / "x.zip", {"a.csv": CSV})),
    "junk for parquet": lambda folder: write_bytes(folder / "x.parquet", b"PAR1" + bytes(range(256)) + b"PAR1"),
    "nothing for parquet": lambda folder: write_bytes(folder / "x.parquet", b""),
    "text for feather": lambda folder: write_bytes(folder / "x.feather", CSV),
    "junk for feather": lambda folder: write_bytes(folder / "x.feather", b"ARROW1\0\0" + bytes(900) + b"ARROW1"),
    "half a feather": lambda folder: write_bytes(
        folder / "x.feather", write_table(folder / "y.feather", as_table(made_bars(50))).read_bytes()[:-300]
    ),
}


def locked(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = content.index(signature) + offset
        content[place : place + 2] = struct.pack("<H", 1)
    return write_bytes(path, bytes(content))


@pytest.mark.parametrize("make", UNREADABLE.values(), ids=UNREADABLE)
def test_file_that_cannot_be_read_is_refused_with_what_can_be(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)

    error = refusal_of(path)

    assert (error.code, error.context) == ("file_unreadable", {"file": path.name})
    assert error.message.startswith(path.name)
    assert error.message.endswith(candle_tables.SHAPES) == path.is_file()


@pytest.mark.parametrize("name", ["x.xlsx", "x.json", "x.pickle", "x.h5", "x", "x.csv.bz2", "csv"])
def test_file_of_another_kind_is_refused_unopened(tmp_path: Path, name: str) -> None:
    assert refusal_of(write_bytes(tmp_path / name, CSV)).code == "file_kind_unknown"


@pytest.mark.parametrize(
    "text", ["", "open_time,open,high,low,close,volume", "open_time,open,high,low,close,volume\n", "time,open\n1,2\n"]
)
def test_file_without_candles_is_empty_or_has_no_such_columns(tmp_path: Path, text: str) -> None:
    code = "columns_unknown" if text.endswith("2\n") else "file_empty"

    assert refusal_of(write_bytes(tmp_path / "x.csv", text.encode())).code == code


def test_table_without_rows_is_empty(tmp_path: Path) -> None:
    for name in ("x.parquet", "x.feather"):
        assert refusal_of(write_table(tmp_path / name, as_table(made_bars(3)[:0]))).code == "file_empty"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,c\n1,2,3\n", "no column open_time, no column open, no column high"),
        (as_csv(ROWS, "time,open,high,low,close,close"), "two columns close, no column volume"),
        (as_csv(ROWS, "time,open,high,low,close,vol"), "has no column volume."),
        (as_csv(ROWS, "open_time;open;high;low;close;volume"), "no column open_time"),
        (as_csv(ROWS, None), "has no header, and 6 columns where Binance's dumps have 12"),
        ("\n" + as_csv(ROWS), "no column open_time"),
        (as_csv([("soon", *row[1:]) for row in ROWS]), "has no time in ISO 8601"),
    ],
)
def test_columns_that_are_not_known_are_told(tmp_path: Path, text: str, words: str) -> None:
    error = refusal_of(write_bytes(tmp_path / "x.csv", text.encode()))

    assert error.code == "columns_unknown"
    assert words in error.message
    assert error.message.endswith(candle_tables.SHAPES)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("close", pa.array([[1.0]] * 6)),
        ("close", pa.array([{"open": 1.0}] * 6)),
        ("close", pa.array([b"1.0"] * 6)),
        ("close", pa.array([True] * 6)),
        ("close", pa.array(["1.0"] * 6).dictionary_encode()),
        ("close", pa.array([1] * 6).cast(pa.timestamp("ms"))),
        ("open_time", pa.array([1] * 6).cast(pa.time64("us"))),
        ("open_time", pa.array([[1]] * 6)),
    ],
)
@pytest.mark.parametrize("ending", [".parquet", ".feather"])
def test_columns_of_objects_are_refused(tmp_path: Path, ending: str, name: str, values: pa.Array) -> None:
    table = as_table(made_bars(6))
    table = table.set_column(table.schema.names.index(name), name, values)

    error = refusal_of(write_table(tmp_path / f"x{ending}", table))

    assert error.code == "columns_unknown"
    assert f"The column {'time' if name == 'open_time' else name} of x{ending} holds " in error.message


def test_metadata_of_a_table_runs_no_code(tmp_path: Path) -> None:
    kind = pa.field("open", pa.float64(), metadata={
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": b"cos\nsystem\n(S'touch " + os.fsencode(tmp_path / "ran") + b"'\ntR.",
    })  # fmt: skip
    table = as_table(made_bars(6))
    table = table.cast(pa.schema([kind if field.name == "open" else field for field in table.schema]))

    for name in ("x.parquet", "x.feather"):
        assert_same_bits(read_candles(write_table(tmp_path / name, table), None, NOW).bars, made_bars(6))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.zip"])
def test_text_larger_than_the_limit_once_unpacked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(candle_tables, "MAXIMUM_BYTES", 1_000_000)
    path = tmp_path / name
    content = as_csv(made_rows(30_000)).encode()
    if name == "x.zip":
        zipped(path, {"x.csv": content})
    else:
        path.write_bytes(gzip.compress(content) if name == "x.csv.gz" else content)

    error = refusal_of(path)

    assert error.code == "file_too_large"
    assert error.message == (f"{name} is too large: at most 20 million candles and 0 MB are read, unpacked; split it.")


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.feather"])
def test_more_candles_than_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(candle_tables, "MAXIMUM_ROWS", 100)
    path = tmp_path / name
    if name == "x.csv":
        path.write_text(as_csv(made_rows(101)), encoding="utf-8")
    else:
        write_table(path, as_table(made_bars(101)))

    assert refusal_of(path).code == "file_too_large"


def test_file_of_broken_rows_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candle_tables, "_MOST_BROKEN_ROWS", 10)

    assert refusal_of(write_bytes(tmp_path / "x.csv", CSV + b"1,2\n" * 11)).code == "file_unreadable"


def damaged(content: bytes, flips: list[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for place, mask in flips:
        changed[place % len(changed)] ^= mask
    return bytes(changed)


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.zip", "x.parquet", "x.feather"])
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_damaged_file_gives_candles_or_one_clear_error(tmp_path: Path, name: str, flips: list[tuple[int, int]]) -> None:
    path = tmp_path / name
    if name in {"x.parquet", "x.feather"}:
        write_table(path, as_table(made_bars(40)))
    elif name == "x.zip":
        zipped(path, {"x.csv": CSV})
    else:
        path.write_bytes(gzip.compress(CSV) if name == "x.csv.gz" else CSV)
    path.write_bytes(damaged(path.read_bytes(), flips))

    try:
        bars = read_candles(path, Interval.M1, NOW, allow_gaps=True, drop_bad_rows=True).bars
        code = None
    except InvalidInputError as error:
        bars, code = made_bars(1), error.code
    assert code is None or code in CODES
    assert (np.diff(bars.open_time_ms) > 0).all()
    assert all(np.isfinite(getattr(bars, column)).all() for column in COLUMNS)
