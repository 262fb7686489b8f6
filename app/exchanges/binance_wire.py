"""Binance's wire format, read strictly: what is not exactly as documented is refused, never guessed at.

Documented in binance/binance-spot-api-docs, `rest-api.md` and `errors.md` (2026-07).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NoReturn

from app.domain.candle import Candle, Interval
from app.domain.instrument import Instrument
from app.errors import DataQualityError, InvalidInputError, NotFoundError, ServiceError, UpstreamError
from app.exchanges.http_source import Answer, bad_data, parse_json

SYMBOL = re.compile(r"[A-Z0-9_.-]{1,20}", re.ASCII)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ROW_FIELDS = (12, 13)
_FIELD_NAMES = ("open", "high", "low", "close", "volume")
_NUMBER = r"-?[0-9]{1,40}(?:\.[0-9]{1,12})?"
_DECIMAL = re.compile(_NUMBER, re.ASCII)
_FIVE_DECIMALS = re.compile(rf"{_NUMBER}(?: {_NUMBER}){{4}}", re.ASCII)
# Binance opened in 2017; a time in seconds would read as January 1970.
_EARLIEST_MILLISECONDS = 1_262_304_000_000
_FIRST_MICROSECONDS = 100_000_000_000_000
_LATEST_MICROSECONDS = 100_000_000_000_000_000
_BUSY_CODES = {-1000, -1001, -1006, -1007, -1008, -1016}
_BANNED_UNTIL = re.compile(r"banned until (\d{13})", re.ASCII)
_LIMITS = range(100, 10**9)
_LARGEST_STEP = 10**12
_ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class TradingRules:
    """An instrument, and the weight a minute allows where the exchange says it."""

    instrument: Instrument
    weight_limit: int | None


def read_candles(answer: Answer, interval: Interval) -> list[Candle]:
    """Read the rows of `klines`, in the order sent, the open last one included.

    Raises:
        DataQualityError: `candle_misaligned`, `candle_wrong_interval` or, for all other defects,
            `upstream_bad_data`.
    """
    rows = parse_json(answer)
    if not isinstance(rows, list):
        raise bad_data("sent candles that are not a list", answer)
    duration = interval.milliseconds * 1_000
    return [_read_row(row, duration) for row in rows]


def read_price(answer: Answer, symbol: str) -> Decimal:
    """Read `ticker/price` of one symbol.

    Raises:
        DataQualityError: `wrong_symbol` or `upstream_bad_data`.
    """
    ticker = _mapping(parse_json(answer), "a ticker", answer)
    price = _decimal(ticker.get("price"), "price")
    if ticker.get("symbol") != symbol:
        raise bad_data(f"sent another symbol's price than {symbol}'s", answer, code="wrong_symbol")
    return price


def read_time(answer: Answer) -> datetime:
    """Read `time`, the exchange's clock.

    Raises:
        DataQualityError: `upstream_bad_data`.
    """
    return _EPOCH + _microseconds(_mapping(parse_json(answer), "a time", answer).get("serverTime")) * _MICROSECOND


def read_trading_rules(answer: Answer, symbol: str) -> TradingRules:
    """Read `exchangeInfo` of one symbol, with the filters of 2026 or those of 2019.

    Raises:
        DataQualityError: `upstream_bad_data`.
    """
    info = _mapping(parse_json(answer), "an exchangeInfo", answer)
    for entry in _entries(info.get("symbols")):
        if entry.get("symbol") == symbol:
            return TradingRules(_instrument(symbol, entry), _weight_limit(info))
    raise bad_data(f"sent trading rules without {symbol}", answer)


def read_error(answer: Answer) -> ServiceError:
    """What an answer of status 300 or more means, waits (429, 418) and refusals (403, 451) left aside."""
    if answer.status < 400:
        return bad_data("answered with a redirect, which is not followed; check BINANCE_BASE_URL")
    code, message = _code_and_message(answer)
    if answer.status >= 500 or code in _BUSY_CODES:
        return UpstreamError(
            f"The exchange failed (HTTP {answer.status}); nothing was done, try again later.",
            code="upstream_unavailable",
            context={"status": answer.status},
        )
    if code == -1121:
        return unknown_symbol("this symbol")
    if code == -1120:
        return InvalidInputError("The exchange does not know this candle interval; try 1m.", code="invalid_interval")
    if code == -1100 and "'symbol'" in message:
        return invalid_symbol()
    return bad_data(f"refused the request (HTTP {answer.status})", answer)


def invalid_symbol() -> InvalidInputError:
    """The error for a symbol with characters that no symbol has."""
    return InvalidInputError("A symbol has 1 to 20 capital letters and digits, such as BTCUSDT.", code="invalid_symbol")


def unknown_symbol(symbol: str) -> NotFoundError:
    """The error for a symbol that the exchange has never heard of."""
    return NotFoundError(
        f"The exchange does not know {symbol}; try one such as BTCUSDT.",
        code="unknown_symbol",
        context={"symbol": symbol},
    )


def read_wait_seconds(answer: Answer, now: datetime) -> float | None:
    """How long a 429 or 418 asks us to wait: `Retry-After` (seconds or a date), or the ban's end in its text.

    Returns None where neither can be read; never less than a second.
    """
    header = answer.headers.get("retry-after", "").strip()
    if header.isascii() and header.isdigit() and len(header) < 12:
        return max(1.0, float(header))
    until = _http_date(header)
    if until is not None:
        # The date is by the sender's clock, and so is the Date header beside it.
        said = _http_date(answer.headers.get("date", "")) or now
        return max(1.0, (until - said).total_seconds())
    banned = _BANNED_UNTIL.search(_code_and_message(answer)[1])
    if banned:
        return max(1.0, (_EPOCH + timedelta(milliseconds=int(banned[1])) - now).total_seconds())
    return None


def _read_row(row: object, duration: int) -> Candle:
    if not isinstance(row, list) or len(row) not in _ROW_FIELDS:
        raise bad_data("sent a candle that has not 12 fields")
    try:
        return _read_values(duration, row[0], row[6], *row[1:6])
    except TypeError:
        # What can be looked up is a number or a text; a list or an object is neither.
        raise bad_data("sent a candle with a value that is neither number nor text") from None


# Of the rows of a cycle all but the newest came with the cycle before it, too.
@lru_cache(maxsize=8_192, typed=True)
def _read_values(duration: int, open_time: object, close_time: object, *values: object) -> Candle:
    opened, closed = _microseconds(open_time), _microseconds(close_time)
    if opened % duration:
        raise bad_data("sent a candle that starts off the grid of its interval", code="candle_misaligned")
    # A halt closes a candle early, and its close may even be its own open time.
    if not 0 <= closed - opened < duration:
        raise bad_data("sent candles of another interval", code="candle_wrong_interval")
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values) or not _FIVE_DECIMALS.fullmatch(" ".join(texts)):
        _raise_for_number(values)
    first, high, low, last, volume = map(Decimal, texts)
    return Candle(_EPOCH + opened * _MICROSECOND, _EPOCH + closed * _MICROSECOND, first, high, low, last, volume)


def _raise_for_number(values: Sequence[object]) -> NoReturn:
    for name, value in zip(_FIELD_NAMES, values, strict=True):
        _decimal(value, name)
    raise bad_data("sent a candle with a number in an unknown spelling")


def _decimal(value: object, field: str) -> Decimal:
    # A JSON number may have lost digits on its way; Binance always sends text.
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        error = bad_data(f"sent a {field} that is not a decimal number in text")
        error.context["field"] = field
        raise error
    return Decimal(value)


def _microseconds(value: object) -> int:
    """A time in milliseconds, or in the microseconds of the header `X-MBX-TIME-UNIT`, as microseconds."""
    if type(value) is int:
        if _EARLIEST_MILLISECONDS <= value < _FIRST_MICROSECONDS:
            return value * 1_000
        if _EARLIEST_MILLISECONDS * 1_000 <= value < _LATEST_MICROSECONDS:
            return value
    raise bad_data("sent a time that is not in milliseconds since 1970")


def _mapping(content: object, what: str, answer: Answer) -> Mapping[str, object]:
    if not isinstance(content, dict):
        raise bad_data(f"sent {what} that is not a JSON object", answer)
    return content


def _entries(content: object) -> Iterator[Mapping[str, object]]:
    """The JSON objects in a list; nothing else is any of our business."""
    if isinstance(content, list):
        yield from (entry for entry in content if isinstance(entry, dict))


def _instrument(symbol: str, entry: Mapping[str, object]) -> Instrument:
    filters = {str(rule.get("filterType")): rule for rule in _entries(entry.get("filters"))}
    notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or {"minNotional": "0"}
    return Instrument(
        symbol=symbol,
        base_asset=_name(entry, "baseAsset"),
        quote_asset=_name(entry, "quoteAsset"),
        tick_size=_step(filters, "PRICE_FILTER", "tickSize"),
        lot_step=_step(filters, "LOT_SIZE", "stepSize"),
        minimum_notional=_plain(_step_or_zero(notional.get("minNotional"), "minNotional")),
        trading=_name(entry, "status") == "TRADING",
    )


def _name(entry: Mapping[str, object], field: str) -> str:
    value = entry.get(field)
    if not isinstance(value, str) or not 1 <= len(value) <= 40:
        raise bad_data(f"sent trading rules without {field}")
    return value


def _step(filters: Mapping[str, Mapping[str, object]], filter_type: str, field: str) -> Decimal:
    step = _step_or_zero(filters.get(filter_type, {}).get(field), field)
    if not step:
        raise bad_data(f"sent trading rules with a {field} of zero")
    return _plain(step)


def _step_or_zero(value: object, field: str) -> Decimal:
    number = _decimal(value, field)
    if not 0 <= number <= _LARGEST_STEP:
        raise bad_data(f"sent trading rules with a {field} that no pair has")
    return number


def _plain(number: Decimal) -> Decimal:
    """Drop trailing zeros: a step's exponent is how many places its multiples have."""
    short = number.normalize()
    return short.quantize(_ONE) if short == short.to_integral_value() else short


def _weight_limit(info: Mapping[str, object]) -> int | None:
    for rule in _entries(info.get("rateLimits")):
        kind = (rule.get("rateLimitType"), rule.get("interval"), rule.get("intervalNum"))
        limit = rule.get("limit")
        if kind == ("REQUEST_WEIGHT", "MINUTE", 1) and type(limit) is int and limit in _LIMITS:
            return limit
    return None


def _code_and_message(answer: Answer) -> tuple[int, str]:
    """Binance's own error code and text; 0 and nothing where there is none."""
    try:
        content = parse_json(answer)
    except DataQualityError:
        return 0, ""
    if not isinstance(content, dict):
        return 0, ""
    code, message = content.get("code"), content.get("msg")
    return (code if type(code) is int else 0), (message if isinstance(message, str) else "")


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
