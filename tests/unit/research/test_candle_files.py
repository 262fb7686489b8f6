"""Files of candles in each accepted shape become the bars that are written in them."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.candle import Interval
from app.errors import InvalidInputError
from app.research.candle_files import FileCandles, read_candles
from ml.bars import Bars, compute_candle_hash
from tests.support.candle_files import (
    COLUMNS,
    FUTURES_HEADER,
    MINUTE_MS,
    NOW,
    START_MS,
    as_csv,
    as_dump,
    as_table,
    assert_same_bits,
    bars_of,
    made_bars,
    made_rows,
    write_table,
)

ROWS = made_rows(5)
BARS = made_bars(5)
RECORDED = Path(__file__).resolve().parents[4] / "shared" / "data"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_text(tmp_path: Path, text: str, name: str = "candles.csv") -> FileCandles:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return read_candles(path, None, NOW)


def assert_whole(found: FileCandles, shape: str, expected: Bars = BARS) -> None:
    assert (found.shape, found.interval, dict(found.counts), found.problems) == (shape, Interval.M1, {}, ())
    assert (found.gaps, found.dropped_rows) == (0, 0)
    assert_same_bits(found.bars, expected)


@pytest.mark.parametrize("per_millisecond", [1, 1_000])
def test_spot_dump_has_no_header_and_counts_milliseconds_or_microseconds(tmp_path: Path, per_millisecond: int) -> None:
    assert_whole(read_text(tmp_path, as_dump(ROWS, per_millisecond)), "Binance dump without header")


def test_mark_of_unicode_before_a_dump_is_passed_over(tmp_path: Path) -> None:
    assert_whole(read_text(tmp_path, "\ufeff" + as_dump(ROWS)), "Binance dump without header")


def test_dump_that_changes_to_microseconds_halfway_is_one_series(tmp_path: Path) -> None:
    text = as_dump(ROWS[:2]) + as_dump(ROWS[2:], 1_000)

    assert_whole(read_text(tmp_path, text), "Binance dump without header")


def test_futures_dump_has_a_header(tmp_path: Path) -> None:
    assert_whole(read_text(tmp_path, as_dump(ROWS, header=FUTURES_HEADER)), "Binance dump with header")


def test_dump_is_read_from_the_zip_it_comes_in(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m-2025-01.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("BTCUSDT-1m-2025-01.csv", as_dump(ROWS, 1_000))
        archive.writestr("__MACOSX/._BTCUSDT-1m-2025-01.csv", b"\0\5\26\7")

    assert_whole(read_candles(path, None, NOW), "Binance dump without header")


def test_csv_is_read_from_gzip(tmp_path: Path) -> None:
    path = tmp_path / "CANDLES.CSV.GZ"
    path.write_bytes(gzip.compress(as_csv(ROWS).encode()))

    assert_whole(read_candles(path, None, NOW), "CSV with header")


@pytest.mark.parametrize(
    "header",
    [
        "timestamp,open,high,low,close,volume",
        "Time,Open,High,Low,Close,Volume",
        "DATE,OPEN,HIGH,LOW,CLOSE,VOLUME",
        "\ufeffDateTime,open,high,low,close,volume",
        ' "Open Time" , "open", "high", "low", "close", "volume"',
    ],
)
def test_header_names_the_columns_in_any_spelling(tmp_path: Path, header: str) -> None:
    assert_whole(read_text(tmp_path, as_csv(ROWS, header)), "CSV with header")


def test_columns_stand_in_any_order_beside_others(tmp_path: Path) -> None:
    rows = [("BTC", volume, close, low, high, opened, "x", time) for time, opened, high, low, close, volume in ROWS]

    assert_whole(read_text(tmp_path, as_csv(rows, "symbol,volume,close,low,high,open,note,date")), "CSV with header")


def test_open_time_is_taken_before_other_times(tmp_path: Path) -> None:
    rows = [("never", *row) for row in ROWS]

    assert_whole(read_text(tmp_path, as_csv(rows, "date,open_time,open,high,low,close,volume")), "CSV with header")


WRITINGS: dict[str, Callable[[datetime], str]] = {
    "isoformat": lambda moment: moment.isoformat(),
    "with Z": lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "with a blank": lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S"),
    "without seconds": lambda moment: moment.strftime("%Y-%m-%d %H:%M"),
    "with nanoseconds": lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%S.000000000Z"),
    "of another zone": lambda moment: (moment + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S+02:00"),
    "s": lambda moment: f"{moment.timestamp():.0f}",
    "s as a float": lambda moment: f"{moment.timestamp():.1f}",
    "ms with an exponent": lambda moment: f"{moment.timestamp() * 1e3:.10E}",
    "ms": lambda moment: f"{moment.timestamp() * 1e3:.0f}",
    "us": lambda moment: f"{moment.timestamp() * 1e6:.0f}",
    "ns": lambda moment: f"{moment.timestamp() * 1e6:.0f}000",
    "padded": lambda moment: f" {moment.timestamp():.0f} ",
}


@pytest.mark.parametrize("write", WRITINGS.values(), ids=WRITINGS)
def test_time_is_read_however_it_is_written(tmp_path: Path, write: Callable[[datetime], str]) -> None:
    rows = [(write(EPOCH + timedelta(milliseconds=int(str(time)))), *values) for time, *values in ROWS]

    assert_whole(read_text(tmp_path, as_csv(rows)), "CSV with header")


def test_times_of_one_file_may_be_written_in_several_ways_beside_one_that_is_none(tmp_path: Path) -> None:
    times = ["1735689600000", "2025-01-01 00:01", "2025-01-01T00:02:00Z", "1735689780", "never"]
    path = tmp_path / "x.csv"
    path.write_text(as_csv([(time, *row[1:]) for time, row in zip(times, ROWS, strict=True)]), encoding="utf-8")

    found = read_candles(path, None, NOW, drop_bad_rows=True)

    assert_same_bits(found.bars, BARS[:4])
    assert dict(found.counts) == {"candle_without_time": 1}


def test_dates_are_the_days_of_daily_candles(tmp_path: Path) -> None:
    rows = [(f"2024-02-{28 + place}" if place < 2 else "2024-03-01", *ROWS[place][1:]) for place in range(3)]

    found = read_text(tmp_path, as_csv(rows, "date,open,high,low,close,volume"))

    assert found.interval is Interval.D1
    assert found.bars.open_time_ms.tolist() == [1_709_078_400_000, 1_709_164_800_000, 1_709_251_200_000]


def test_rows_are_read_with_quotes_padding_windows_line_ends_and_without_a_last_one(tmp_path: Path) -> None:
    text = as_csv([[f'"{value}"' if place % 2 else f" {value} " for place, value in enumerate(row)] for row in ROWS])

    assert_whole(read_text(tmp_path, text.replace('"""', '"').replace("\n", "\r\n").rstrip()), "CSV with header")


def test_numbers_of_a_csv_are_the_nearest_floats(tmp_path: Path) -> None:
    written = ["0.1", "123456.123456789", "9007199254740993", "1e-7", "0.30000000000000004", "179769313.48623157", "5."]
    rows = [(START_MS + MINUTE_MS * place, *["0.5"] * 4, text) for place, text in enumerate(written)]

    assert read_text(tmp_path, as_csv(rows)).bars.volume.tolist() == [float(text) for text in written]


@pytest.mark.parametrize("ending", [".parquet", ".feather"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", None, "Europe/Berlin"])
def test_table_has_moments_of_any_unit(tmp_path: Path, ending: str, unit: str, zone: str | None) -> None:
    moments = (
        pa.array(BARS.open_time_ms).cast(pa.timestamp("ms")).cast(pa.timestamp(unit)).cast(pa.timestamp(unit, zone))
    )

    found = read_candles(write_table(tmp_path / f"x{ending}", as_table(BARS, "timestamp", moments)), None, NOW)

    assert_whole(found, ending[1:].capitalize())


@pytest.mark.parametrize("unit", ["ms", "ns"])
def test_feather_of_freqtrade_is_read(tmp_path: Path, unit: str) -> None:
    frame = pd.DataFrame(
        {
            "date": pd.to_datetime(BARS.open_time_ms, unit="ms", utc=True).astype(f"datetime64[{unit}, UTC]"),
            **{name: getattr(BARS, name) for name in COLUMNS},
        }
    )
    path = tmp_path / "BTC_USDT-1m.feather"
    frame.to_feather(path, compression="lz4", compression_level=9)

    assert_whole(read_candles(path, Interval.M1, NOW), "freqtrade's Feather")


def test_parquet_of_pandas_may_have_the_time_as_its_index(tmp_path: Path) -> None:
    frame = pd.DataFrame({name: getattr(BARS, name) for name in COLUMNS})
    frame.index = pd.to_datetime(BARS.open_time_ms, unit="ms", utc=True).rename("Date")
    path = tmp_path / "x.parquet"
    frame.to_parquet(path)

    assert_whole(read_candles(path, None, NOW), "Parquet")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.decimal128(28, 8)])
def test_numbers_of_a_table_may_be_texts_or_decimals(tmp_path: Path, kind: pa.DataType) -> None:
    columns = {name: pa.array([str(row[place]) for row in ROWS]) for place, name in enumerate(COLUMNS, start=1)}
    table = pa.table({"time": BARS.open_time_ms, **{name: texts.cast(kind) for name, texts in columns.items()}})

    assert_whole(read_candles(write_table(tmp_path / "x.parquet", table), None, NOW), "Parquet")


def test_whole_numbers_and_epoch_seconds_of_a_table_are_read(tmp_path: Path) -> None:
    table = pa.table(
        {"time": BARS.open_time_ms / 1_000, **{name: np.arange(5, 10, dtype=np.int32) for name in COLUMNS}}
    )

    found = read_candles(write_table(tmp_path / "x.parquet", table), None, NOW)

    assert found.bars.open_time_ms.tolist() == BARS.open_time_ms.tolist()
    assert found.bars.close.tolist() == [5.0, 6.0, 7.0, 8.0, 9.0]


PRICES = st.floats(1e-8, 1e12)


@st.composite
def markets(draw: st.DrawFn) -> Bars:
    candles = draw(st.lists(st.tuples(PRICES, PRICES, PRICES, PRICES, st.floats(0, 1e18)), min_size=2, max_size=30))
    return Bars.from_rows(
        [
            (START_MS + MINUTE_MS * place, first, max(prices), min(prices), last, abs(volume))
            for place, (*prices, volume) in enumerate(candles)
            for first, last in [(prices[0], prices[-1])]
        ]
    )


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.parquet", "x.feather"])
@given(bars=markets())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bars_written_in_any_format_come_back_with_the_same_bits(tmp_path: Path, name: str, bars: Bars) -> None:
    path = tmp_path / name
    if ".csv" in name:
        columns = zip(bars.open_time_ms, *(getattr(bars, column) for column in COLUMNS), strict=True)
        text = as_csv([(int(time), *map(repr, map(float, values))) for time, *values in columns]).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    else:
        write_table(path, as_table(bars))

    found = read_candles(path, Interval.M1, NOW)

    assert_same_bits(found.bars, bars)
    assert compute_candle_hash(found.bars, "X", "1m") == compute_candle_hash(bars, "X", "1m")


def test_hash_of_candles_is_of_their_bytes_their_symbol_and_their_interval() -> None:
    content = b"".join(getattr(BARS, name).tobytes() for name in ("open_time_ms", *COLUMNS))
    moved = bars_of([*ROWS[:4], (*ROWS[4][:5], "7.500000000000001")])

    assert compute_candle_hash(BARS, "BTCUSDT", Interval.M1) == hashlib.sha256(b"BTCUSDT 1m 5\n" + content).hexdigest()
    hashes = {
        compute_candle_hash(*series)
        for series in (
            (BARS, "BTCUSDT", "1m"),
            (BARS, "ETHUSDT", "1m"),
            (BARS, "BTCUSDT", "1h"),
            (BARS[:4], "BTCUSDT", "1m"),
            (moved, "BTCUSDT", "1m"),
        )
    }
    assert len(hashes) == 5


def test_reader_is_imported_without_pyarrow_and_pandas() -> None:
    code = "import sys, app.research.candle_files; print({'pyarrow', 'pandas'} & set(sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded candles are not here")
@pytest.mark.parametrize("name", ["BTCUSDT-1h", "ETHUSDT-1m", "SOLUSDT-15m", "BNBUSDT-4h", "ADAUSDT-1d", "BTCUSDT-5m"])
def test_recorded_candles_have_the_gaps_that_their_manifest_tells(name: str) -> None:
    (told,) = [
        entry for entry in json.loads((RECORDED / "manifest.json").read_text()) if entry["file"].startswith(name)
    ]
    path = RECORDED / told["file"]

    found = read_candles(path, None, NOW, allow_gaps=True)

    gaps = told["gaps_inside_windows"] + len(told["windows"]) - 1
    assert (found.interval, len(found.bars), found.gaps) == (told["interval"], told["rows"], gaps)
    assert found.dropped_rows == 0
    assert int((found.bars.volume == 0).sum()) == told["zero_volume_rows"]
    assert (found.bars.low.min(), found.bars.high.max()) == (told["price_min"], told["price_max"])
    opened = [EPOCH + timedelta(milliseconds=int(time)) for time in found.bars.open_time_ms[[0, -1]]]
    assert [f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in opened] == [told["first"], told["last"]]
    if gaps:
        with pytest.raises(InvalidInputError) as caught:
            read_candles(path, None, NOW)
        assert caught.value.context["counts"] == {"candle_gap": gaps}
