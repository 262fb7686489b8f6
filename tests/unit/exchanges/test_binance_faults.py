"""Each fault of an exchange (FAULTS.md, 3.A) ends as the named error, in bounded time, and heals by itself."""

from __future__ import annotations

import asyncio
import resource
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
import structlog

from app.domain.candle import Interval
from app.domain.data_quality import check_snapshot
from app.errors import (
    ConflictError,
    DataQualityError,
    InvalidInputError,
    NotFoundError,
    NotReadyError,
    ServiceError,
    UpstreamError,
    UpstreamRateLimitError,
    UpstreamRestrictedError,
    UpstreamTimeoutError,
)
from app.exchanges.binance import BinanceMarketDataClient
from tests.support.exchange_client import PATIENT, QUICK, Stopwatch
from tests.support.exchange_faults import status
from tests.support.exchange_server import ExchangeServer
from tests.unit.exchanges.conftest import MakeClient

pytestmark = pytest.mark.anyio

BARS = 100


async def cycle(client: BinanceMarketDataClient, symbol: str = "BTCUSDT") -> None:
    """What a cycle does with market data before it decides."""
    snapshot = await client.fetch_snapshot(symbol, Interval.M1, BARS)
    check_snapshot(snapshot, minimum_bars=61)


async def failure(client: BinanceMarketDataClient, symbol: str = "BTCUSDT") -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await cycle(client, symbol)
    return caught.value


UNAVAILABLE = (UpstreamError, "upstream_unavailable", 3)
LOST = (UpstreamError, "upstream_unreachable", 6)
"""Three attempts of ours, in each of which aiohttp asks a second time at once."""
TIMEOUT = (UpstreamTimeoutError, "upstream_timeout", 3)
BAD_DATA = (DataQualityError, "upstream_bad_data", 2)

ROWS_3A: list[tuple[int, str, str, tuple[type[ServiceError], str, int]]] = [
    # row, endpoint, fault, (class, code, most requests)
    (1, "klines", "rate_limited", (UpstreamRateLimitError, "upstream_rate_limited", 1)),
    (2, "klines", "rate_limited_without_header", (UpstreamRateLimitError, "upstream_rate_limited", 1)),
    (3, "klines", "banned", (UpstreamRateLimitError, "upstream_banned", 1)),
    (4, "klines", "restricted", (UpstreamRestrictedError, "upstream_restricted", 1)),
    (5, "klines", "forbidden", (UpstreamError, "upstream_forbidden", 1)),
    *((6, "klines", fault, UNAVAILABLE) for fault in ("internal_error", "bad_gateway", "busy", "gateway_timeout")),
    *((6, "klines", fault, UNAVAILABLE) for fault in ("unknown_error", "inner_timeout")),
    *((7, "klines", fault, LOST) for fault in ("reset", "disconnect")),
    (8, "klines", "no_answer", TIMEOUT),
    *(
        (9, endpoint, fault, TIMEOUT)
        for endpoint in ("klines", "ticker/price")
        for fault in ("slow_drip", "slow_headers")
    ),
    *((10, "klines", fault, BAD_DATA) for fault in ("cut_body", "bad_chunks", "bad_http", "gzip_noise", "gzip_cut")),
    *((10, "klines", fault, BAD_DATA) for fault in ("gzip_trailing", "unknown_encoding", "cut_json", "reset_in_body")),
    *((11, "klines", fault, BAD_DATA) for fault in ("html", "html_called_json", "empty", "null", "empty_object")),
    *((11, "klines", fault, BAD_DATA) for fault in ("text", "number", "error_object", "latin_1", "utf_16")),
    *((11, "ticker/price", fault, BAD_DATA) for fault in ("html", "null", "text", "no_rows", "empty_object")),
    *((11, "exchangeInfo", fault, BAD_DATA) for fault in ("html", "null", "empty_object", "no_rows", "cut_json")),
    *((11, "time", fault, BAD_DATA) for fault in ("html", "null", "empty_object", "number", "no_rows")),
    *((12, "klines", fault, BAD_DATA) for fault in ("huge_body", "gzip_bomb", "endless_body", "deep_nesting")),
    (13, "klines", "redirect", BAD_DATA),
    (13, "klines", "not_found", BAD_DATA),
    (13, "klines", "unread_parameter", BAD_DATA),
    *((15, "klines", fault, BAD_DATA) for fault in ("nan_token", "infinity_token", "nan_price", "infinite_price")),
    *((15, "klines", fault, BAD_DATA) for fault in ("null_price", "text_price", "empty_price", "exponent_price")),
    *((15, "klines", fault, BAD_DATA) for fault in ("wide_digits",)),
    (15, "ticker/price", "nan_ticker", BAD_DATA),
    (16, "klines", "zero_price", (DataQualityError, "candle_not_positive", 1)),
    (16, "ticker/price", "zero_ticker", (DataQualityError, "price_not_positive", 1)),
    (17, "klines", "negative_price", (DataQualityError, "candle_not_positive", 1)),
    (17, "klines", "huge_price", (DataQualityError, "candle_out_of_range", 1)),
    (17, "klines", "tiny_price", (DataQualityError, "candle_jump", 1)),
    (17, "klines", "spike", (DataQualityError, "candle_jump", 1)),
    (17, "klines", "negative_volume", (DataQualityError, "candle_volume_negative", 1)),
    (17, "klines", "high_below_low", (DataQualityError, "candle_impossible", 1)),
    (17, "klines", "close_above_high", (DataQualityError, "candle_impossible", 1)),
    (17, "ticker/price", "far_ticker", (DataQualityError, "price_far_from_close", 1)),
    (18, "klines", "differing_duplicate", (DataQualityError, "candle_duplicate", 2)),
    (20, "klines", "gap", (NotReadyError, "insufficient_history", 1)),
    (21, "klines", "stale", (NotReadyError, "stale_data", 1)),
    (22, "klines", "future", (DataQualityError, "candle_in_future", 1)),
    (23, "klines", "few_rows", (NotReadyError, "insufficient_history", 1)),
    (23, "klines", "no_rows", (NotReadyError, "insufficient_history", 1)),
    *((24, "klines", fault, BAD_DATA) for fault in ("eleven_fields", "row_objects", "number_prices", "text_times")),
    (24, "klines", "seconds", BAD_DATA),
    (24, "klines", "misaligned", (DataQualityError, "candle_misaligned", 2)),
    (25, "klines", "longer_interval", (DataQualityError, "candle_wrong_interval", 2)),
    (25, "ticker/price", "other_symbol", (DataQualityError, "wrong_symbol", 2)),
]


@pytest.mark.parametrize(
    ("row", "endpoint", "fault", "expected"),
    ROWS_3A,
    ids=[f"{row}-{where}-{fault}" for row, where, fault, _ in ROWS_3A],
)
async def test_snapshot_exchange_at_fault_ends_as_named_and_heals(
    exchange: ExchangeServer,
    make_client: MakeClient,
    row: int,
    endpoint: str,
    fault: str,
    expected: tuple[type[ServiceError], str, int],
) -> None:
    del row
    kind, code, most_requests = expected
    client = make_client(timing=QUICK if kind is UpstreamTimeoutError else PATIENT)
    exchange.fail(endpoint, fault)
    started = time.monotonic()

    error = await failure(client)

    assert error.code == code
    assert isinstance(error, kind)
    assert time.monotonic() - started < 10.0
    assert 1 <= exchange.count(endpoint) <= most_requests
    assert "secret-page" not in error.message + str(error.context)
    assert error.message.endswith((".", "?"))

    exchange.heal()
    if not isinstance(error, UpstreamRateLimitError | UpstreamRestrictedError) and code != "upstream_forbidden":
        await cycle(client)


@pytest.mark.parametrize("fault", ["thirteen_fields", "microseconds", "duplicated", "reversed"])
async def test_snapshot_harmless_difference_gives_the_same_candles(
    exchange: ExchangeServer, client: BinanceMarketDataClient, fault: str
) -> None:
    usual = await client.fetch_snapshot("BTCUSDT", Interval.M1, BARS)
    exchange.fail("klines", fault)

    unusual = await client.fetch_snapshot("BTCUSDT", Interval.M1, BARS)

    check_snapshot(unusual, minimum_bars=99)
    assert [candle.open_time for candle in unusual.candles][-99:] == [c.open_time for c in usual.candles][-99:]
    assert [candle.close for candle in unusual.candles][-99:] == [c.close for c in usual.candles][-99:]


async def test_snapshot_microseconds_kept_exactly(exchange: ExchangeServer, client: BinanceMarketDataClient) -> None:
    exchange.fail("klines", "microseconds")

    newest = (await client.fetch_snapshot("BTCUSDT", Interval.M1, BARS)).candles[-1]

    assert newest.close_time - newest.open_time == timedelta(minutes=1) - timedelta(microseconds=1)


@pytest.mark.parametrize("fault", ["busy", "reset", "disconnect", "no_answer"])
async def test_snapshot_passing_failure_retried(exchange: ExchangeServer, make_client: MakeClient, fault: str) -> None:
    exchange.fail("klines", fault, times=2)

    await cycle(make_client(timing=replace(PATIENT, attempt=0.5)))

    assert exchange.count("klines") == 3


async def test_snapshot_bad_data_once_retried(exchange: ExchangeServer, client: BinanceMarketDataClient) -> None:
    exchange.fail("klines", "gzip_noise", times=1)

    await cycle(client)

    assert exchange.count("klines") == 2


async def test_error_status_with_a_garbled_body_is_still_that_error(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    exchange.fail("klines", status(502, b"noise", content_encoding="gzip"))

    assert (await failure(client)).code == "upstream_unavailable"


@pytest.mark.parametrize("content", [b"[]", b"not json", b'{"code":"-1121","msg":7}'])
async def test_error_without_binances_code_is_bad_data(
    exchange: ExchangeServer, client: BinanceMarketDataClient, content: bytes
) -> None:
    exchange.fail("klines", status(400, content))

    assert (await failure(client)).code == "upstream_bad_data"


async def test_bomb_of_256_mebibytes_leaves_memory_small(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    await cycle(client)
    exchange.fail("klines", "gzip_bomb")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    error = await failure(client)

    assert "4 MiB" in error.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1_024


async def test_quote_of_a_text_body_is_short_and_printable(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    exchange.fail("klines", "control_characters")

    error = await failure(client)

    quote = str(error.context["quote"])
    assert len(quote) <= 80
    assert quote.isprintable()
    assert "red" in quote
    assert quote in error.message


async def test_rate_limit_obeyed_to_the_second(exchange: ExchangeServer, client: BinanceMarketDataClient) -> None:
    await cycle(client)
    exchange.fail("*", status(429, {"code": -1003, "msg": "slow down"}, retry_after="1"), times=1)
    await failure(client)
    asked = exchange.count()

    error = await failure(client)

    assert (error.code, exchange.count()) == ("upstream_rate_limited", asked)
    assert error.retry_after_seconds == pytest.approx(1, abs=0.2)
    await asyncio.sleep(1.02)
    await cycle(client)


async def test_rate_limit_heard_first_stops_all_other_calls(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    exchange.fail("*", "rate_limited")

    outcomes = await asyncio.gather(*(failure(client) for _ in range(10)))

    assert {error.code for error in outcomes} == {"upstream_rate_limited"}
    assert {round(error.retry_after_seconds or 0) for error in outcomes} == {35}
    assert exchange.count() == 1


async def test_unknown_symbol_answered_without_asking_again(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    error = await failure(client, "NOSUCHCOIN")
    asked = exchange.count()

    again = await failure(client, "NOSUCHCOIN")

    assert isinstance(error, NotFoundError)
    assert (error.code, again.code) == ("unknown_symbol", "unknown_symbol")
    assert error.context == {"symbol": "NOSUCHCOIN"}
    assert exchange.count() == asked


@pytest.mark.parametrize("symbol", ["btcusdt", "", "../time", "BTC USDT", "B" * 21, "BTC\x00", "БТЦУСДТ"])
async def test_illegal_symbol_refused_without_a_call(
    exchange: ExchangeServer, client: BinanceMarketDataClient, symbol: str
) -> None:
    error = await failure(client, symbol)

    assert isinstance(error, InvalidInputError)
    assert (error.code, exchange.count()) == ("invalid_symbol", 0)


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (-1120, "Invalid interval.", "invalid_interval"),
        (-1100, "Illegal characters found in parameter 'symbol'; legal range is 'x'.", "invalid_symbol"),
    ],
)
async def test_binance_refuses_the_request_invalid_input(
    exchange: ExchangeServer, client: BinanceMarketDataClient, code: int, message: str, expected: str
) -> None:
    exchange.fail("klines", status(400, {"code": code, "msg": message}))

    error = await failure(client)

    assert isinstance(error, InvalidInputError)
    assert (error.code, exchange.count("klines")) == (expected, 1)


@pytest.mark.parametrize("new_status", ["BREAK", "HALT"])
async def test_halted_symbol_conflicts_and_others_go_on(
    exchange: ExchangeServer, client: BinanceMarketDataClient, new_status: str
) -> None:
    exchange.set_status("BTCUSDT", new_status)

    error = await failure(client)

    assert isinstance(error, ConflictError)
    assert error.code == "symbol_not_trading"
    await cycle(client, "ETHUSDT")


async def test_symbol_halted_while_its_rules_are_cached_noticed_when_candles_stop(
    exchange: ExchangeServer, client: BinanceMarketDataClient, stopwatch: Stopwatch
) -> None:
    await cycle(client)
    exchange.set_status("BTCUSDT", "BREAK")
    stopwatch.passed += 301
    exchange.advance(timedelta(seconds=301))
    exchange.fail("klines", "stale")

    assert (await failure(client)).code == "symbol_not_trading"


async def test_cycle_costs_a_weight_of_four(exchange: ExchangeServer, client: BinanceMarketDataClient) -> None:
    await cycle(client)
    first = exchange.weight_used()

    for _ in range(10):
        await cycle(client)

    assert exchange.weight_used() - first == 40


async def test_refusal_of_data_logged_with_reason_and_field(
    exchange: ExchangeServer, client: BinanceMarketDataClient
) -> None:
    exchange.fail("klines", "nan_price")

    with structlog.testing.capture_logs() as lines:
        await failure(client)

    rejected = next(line for line in lines if line["event"] == "data.rejected")
    assert (rejected["reason"], rejected["field"], rejected["endpoint"]) == ("upstream_bad_data", "close", "klines")


async def test_prices_arrive_exactly(exchange: ExchangeServer, client: BinanceMarketDataClient) -> None:
    exchange.fail("ticker/price", status(200, {"symbol": "BTCUSDT", "price": "28000.10000001"}))

    snapshot = await client.fetch_snapshot("BTCUSDT", Interval.M1, 5)

    assert snapshot.quote.price == Decimal("28000.10000001")
