"""Binance's wire format is read exactly or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.candle import Candle, Interval
from app.domain.data_quality import check_history, in_order
from app.errors import DataQualityError, InvalidInputError, NotFoundError, ServiceError, UpstreamError
from app.exchanges.binance_wire import read_candles, read_error, read_price, read_time, read_trading_rules
from app.exchanges.http_source import Answer, quote
from tests.support.candles import EPOCH, MILLISECOND

PAYLOADS = Path(__file__).resolve().parents[4] / "shared" / "data" / "binance_payloads"
needs_payloads = pytest.mark.skipif(not PAYLOADS.is_dir(), reason="the recorded payloads are not here")

MINUTES_SINCE_2017 = st.integers(25_000_000, 40_000_000)
DECIMALS = st.decimals(0, 10**12, places=8, allow_nan=False, allow_infinity=False)


def answer(content: object, status: int = 200) -> Answer:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Answer(status, httpx.Headers({"Content-Type": "application/json"}), body)


def recorded(name: str) -> tuple[Answer, dict[str, Any]]:
    payload = json.loads((PAYLOADS / name).read_text("utf-8"))
    text = payload["body_text"].encode() if "body_text" in payload else payload["body"]
    return answer(text, payload["status"]), payload


def refusal_of(read: Callable[[], object]) -> str | None:
    try:
        read()
    except DataQualityError as error:
        return error.code
    return None


def rules_entry(**changes: object) -> dict[str, object]:
    entry: dict[str, object] = {
        "symbol": "BTCUSDT",
        "status": "TRADING",
        "baseAsset": "BTC",
        "quoteAsset": "USDT",
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
            {"filterType": "LOT_SIZE", "stepSize": "10.00000000"},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000"},
        ],
    }
    return {**entry, **changes}


def info(*entries: object, limits: object = ()) -> Answer:
    return answer({"rateLimits": limits, "symbols": list(entries)})


@given(MINUTES_SINCE_2017, st.integers(0, 59_999), st.tuples(*[DECIMALS] * 5))
def test_read_candles_round_trip_is_exact(minute: int, length: int, values: tuple[Decimal, ...]) -> None:
    opened = minute * 60_000
    row = [opened, *(f"{value:.8f}" for value in values), opened + length, "1", 2, "3", "4", "0"]

    (candle,) = read_candles(answer([row]), Interval.M1)

    start = EPOCH + opened * MILLISECOND
    assert candle == Candle(start, start + length * MILLISECOND, *values)
    assert f"{candle.close:f}" == row[4]


@given(MINUTES_SINCE_2017)
def test_read_candles_milliseconds_and_microseconds_open_alike(minute: int) -> None:
    def row(unit: int) -> list[object]:
        opened = minute * 60_000 * unit
        return [opened, "1", "1", "1", "1", "0", opened + 60_000 * unit - 1, "0", 0, "0", "0", "0"]

    (milliseconds,) = read_candles(answer([row(1)]), Interval.M1)
    (microseconds,) = read_candles(answer([row(1_000)]), Interval.M1)

    assert milliseconds.open_time == microseconds.open_time
    assert microseconds.close_time - milliseconds.close_time == timedelta(microseconds=999)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda one: st.lists(one) | st.dictionaries(st.text(), one),
        max_leaves=30,
    )
)
def test_readers_any_json_read_or_refused(content: object) -> None:
    for read in (
        lambda: read_candles(answer(content), Interval.M1),
        lambda: read_price(answer(content), "BTCUSDT"),
        lambda: read_time(answer(content)),
        lambda: read_trading_rules(answer(content), "BTCUSDT"),
    ):
        assert refusal_of(read) in {None, "upstream_bad_data"}


@given(st.binary(max_size=200))
def test_read_candles_any_bytes_read_or_refused(body: bytes) -> None:
    assert refusal_of(lambda: read_candles(answer(body), Interval.M1)) in {None, "upstream_bad_data"}
    assert quote(answer(body)).isprintable()


@pytest.mark.parametrize("opened", [True, 1.7e12, "1672531200000", None, 1_672_531_200, 0, -1, 10**14 - 1, 10**20])
def test_read_candles_strange_time_refused(opened: object) -> None:
    row = [opened, "1", "1", "1", "1", "0", opened, "0", 0, "0", "0", "0"]

    with pytest.raises(DataQualityError):
        read_candles(answer([row]), Interval.M1)


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "1 2", "+1", "1_0", ".5", "5.", "0x1", "1,5", "\u0661", "1e5", "nan", "--1"]
)
def test_read_candles_strange_number_refused_with_its_field(text: str) -> None:
    row = [1_672_531_200_000, "1", "1", text, "1", "0", 1_672_531_259_999, "0", 0, "0", "0", "0"]

    with pytest.raises(DataQualityError) as caught:
        read_candles(answer([row]), Interval.M1)

    assert caught.value.context["field"] == "low"


def test_read_time_gives_aware_utc() -> None:
    assert read_time(answer({"serverTime": 1_672_531_200_123})) == datetime(2023, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC)


def test_read_trading_rules_steps_lose_their_trailing_zeros() -> None:
    rules = read_trading_rules(info(rules_entry()), "BTCUSDT")

    assert (str(rules.instrument.tick_size), str(rules.instrument.lot_step)) == ("0.01", "10")
    assert rules.weight_limit is None


def test_read_trading_rules_without_notional_has_no_minimum() -> None:
    filters = [{"filterType": "PRICE_FILTER", "tickSize": "1"}, {"filterType": "LOT_SIZE", "stepSize": "1"}]

    assert read_trading_rules(info(rules_entry(filters=filters)), "BTCUSDT").instrument.minimum_notional == 0


@pytest.mark.parametrize(
    "entry",
    [
        rules_entry(symbol="ETHUSDT"),
        rules_entry(baseAsset=7),
        rules_entry(quoteAsset=""),
        rules_entry(status=None),
        rules_entry(filters=[]),
        rules_entry(filters="none"),
        rules_entry(filters=[{"filterType": "PRICE_FILTER", "tickSize": "0.00000000"}]),
        rules_entry(filters=[{"filterType": "PRICE_FILTER", "tickSize": "-0.01"}]),
        rules_entry(filters=[{"filterType": "PRICE_FILTER", "tickSize": "1" + "0" * 39}]),
        rules_entry(filters=[{"filterType": "PRICE_FILTER", "tickSize": 0.01}]),
        "BTCUSDT",
    ],
)
def test_read_trading_rules_defective_refused(entry: object) -> None:
    with pytest.raises(DataQualityError):
        read_trading_rules(info(entry), "BTCUSDT")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ({"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 1_200}, 1_200),
        ({"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 0}, None),
        ({"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": "6000"}, None),
        ({"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300_000}, None),
    ],
)
def test_read_trading_rules_weight_limit_only_of_the_minute(limit: object, expected: int | None) -> None:
    assert read_trading_rules(info(rules_entry(), limits=[limit]), "BTCUSDT").weight_limit == expected


@needs_payloads
@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("error_400_1100_illegal_chars.json", UpstreamError, "upstream_bad_data"),
        ("error_400_1102_missing_param.json", UpstreamError, "upstream_bad_data"),
        ("error_400_1104_unread_params.json", UpstreamError, "upstream_bad_data"),
        ("error_400_1120_invalid_interval.json", InvalidInputError, "invalid_interval"),
        ("error_400_1121_invalid_symbol.json", NotFoundError, "unknown_symbol"),
        ("error_500_1001_internal.json", UpstreamError, "upstream_unavailable"),
        ("error_502_nginx_html.json", UpstreamError, "upstream_unavailable"),
        ("error_503_1008_server_busy.json", UpstreamError, "upstream_unavailable"),
    ],
)
def test_read_error_recorded_errors_understood(name: str, kind: type[ServiceError], code: str) -> None:
    error = read_error(recorded(name)[0])

    assert isinstance(error, kind)
    assert error.code == code


@needs_payloads
@pytest.mark.parametrize("path", sorted(PAYLOADS.glob("klines_200_*.json")), ids=lambda path: path.stem)
def test_read_candles_recorded_klines_read_and_fit_for_training(path: Path) -> None:
    content, payload = recorded(path.name)

    candles = read_candles(content, Interval(payload["request"]["query"]["interval"]))

    check_history(candles)
    assert in_order(candles) == candles
    assert [str(candle.close) for candle in candles] == [row[4] for row in payload["body"]]
    assert [(candle.close_time - EPOCH) // MILLISECOND for candle in candles] == [row[6] for row in payload["body"]]


@needs_payloads
@pytest.mark.parametrize(
    ("name", "symbol", "expected"),
    [
        ("exchangeInfo_200_2026.json", "SOLUSDT", ("SOL", "0.01", "0.001", "5", True, 6_000)),
        ("exchangeInfo_200_2019_subset.json", "BTCUSDT", ("BTC", "0.01", "0.000001", "10", True, 1_200)),
        ("exchangeInfo_200_2019_subset.json", "VENUSDT", ("VEN", "0.0001", "0.01", "10", False, 1_200)),
    ],
)
def test_read_trading_rules_recorded_rules_read(
    name: str, symbol: str, expected: tuple[str, str, str, str, bool, int]
) -> None:
    rules = read_trading_rules(recorded(name)[0], symbol)

    found = rules.instrument
    steps = (str(found.tick_size), str(found.lot_step), str(found.minimum_notional))
    assert (found.base_asset, *steps, found.trading, rules.weight_limit) == expected


@needs_payloads
def test_read_price_and_time_recorded_answers_read() -> None:
    assert read_price(recorded("ticker_price_200_BTCUSDT.json")[0], "BTCUSDT") == Decimal("60740.00000000")
    assert read_time(recorded("time_200.json")[0]).year == 2021
