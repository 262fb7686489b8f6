"""What market data must be like before anything is decided on it. Nothing here repairs: it sorts or it refuses.

Bounds, and why they are where they are:

- Prices are above 0 and at most 1e12, volumes at most 1e18. The dearest pair on Binance trades near 1e6 and the
  largest daily volume is near 1e14, so what lies beyond is an error of the sender.
- A volume of 0 is real: a halted market sends flat candles without trades.
- From one close to the next, and from a candle's open to its extremes, a price may gain or lose a half
  (`candle_jump`); in candles longer than an hour it may grow or shrink fivefold. In eight years of five large
  pairs one single hour broke the first bound and nothing broke the second, while a shifted decimal point, the
  usual defect, breaks both.
- The quote may be 30 % away from the last close.
- The last closed candle may be two intervals old, the machine's clock 60 seconds off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from operator import attrgetter

from app.domain.candle import Candle, Interval
from app.domain.market import MarketSnapshot
from app.errors import ConflictError, DataQualityError, NotReadyError

MAXIMUM_PRICE = Decimal(10**12)
MAXIMUM_VOLUME = Decimal(10**18)
MAXIMUM_QUOTE_DISTANCE_FRACTION = Decimal("0.3")
MAXIMUM_CLOCK_SKEW_SECONDS = 60.0
MAXIMUM_AGE_INTERVALS = 2

FAULTS: Mapping[str, str] = {
    "candle_not_finite": "has a value that is not a number",
    "candle_not_positive": "has a price that is not above zero",
    "candle_volume_negative": "has a negative volume",
    "candle_out_of_range": "has a value beyond anything that is traded",
    "candle_impossible": "has prices outside its own high and low",
    "candle_misaligned": "does not fit the interval",
    "candle_in_future": "has not closed yet",
    "candle_duplicate": "came twice",
    "candle_out_of_order": "stands after a later one",
    "candle_jump": "moves further than a market does in one candle",
}
"""What can be wrong with a candle, by the code of it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO = Decimal(0)
_HOUR = timedelta(hours=1)
_JUMP_FACTORS = (Decimal("0.5"), Decimal("1.5"))
_JUMP_FACTORS_OF_LONG_CANDLES = (Decimal("0.2"), Decimal(5))


def in_order(candles: Iterable[Candle]) -> list[Candle]:
    """Sort candles by open time, oldest first, and keep one of each that came twice unchanged.

    Raises:
        DataQualityError: `candle_duplicate`, two candles of the same open time differ.
    """
    ordered = sorted(candles, key=attrgetter("open_time"))
    unique = ordered[:1]
    for candle in ordered[1:]:
        if candle.open_time != unique[-1].open_time:
            unique.append(candle)
        elif candle != unique[-1]:
            raise _refusal("candle_duplicate", candle, ", with different values")
    return unique


def check_snapshot(snapshot: MarketSnapshot, *, minimum_bars: int) -> None:
    """Refuse a snapshot that must not be traded on.

    Args:
        snapshot: What a market data source returned, of whichever source.
        minimum_bars: How many contiguous closed candles, counted back from the newest, a decision needs.

    Raises:
        ConflictError: `symbol_not_trading`, the exchange halts the symbol or has delisted it.
        DataQualityError: `candle_not_finite`, `candle_not_positive`, `candle_out_of_range`,
            `candle_volume_negative`, `candle_impossible`, `candle_misaligned`, `candle_duplicate`,
            `candle_out_of_order`, `candle_in_future`, `candle_jump`, `price_not_positive` or
            `price_far_from_close`.
        NotReadyError: `clock_skew`, `stale_data` or `insufficient_history`.
    """
    check_trading(trading=snapshot.instrument.trading, symbol=snapshot.symbol)
    _check_clock(snapshot.clock_skew_seconds)
    _check_price(snapshot.quote.price)
    if not snapshot.candles:
        raise _too_few(snapshot, have=0, need=minimum_bars)
    check_history(snapshot.candles)
    _check_times(snapshot)
    _check_jumps(snapshot)
    _check_freshness(snapshot)
    have = contiguous_bars(snapshot.candles, snapshot.interval)
    if have < minimum_bars:
        raise _too_few(snapshot, have=have, need=minimum_bars)


def check_trading(*, trading: bool, symbol: str) -> None:
    """Refuse a symbol that the exchange does not trade at present.

    Raises:
        ConflictError: `symbol_not_trading`.
    """
    if not trading:
        raise ConflictError(
            f"{symbol} is not trading: the exchange has halted or delisted it; choose another symbol or wait.",
            code="symbol_not_trading",
            context={"symbol": symbol},
        )


def check_history(candles: Sequence[Candle]) -> None:
    """Refuse candles, oldest first, that no market can have produced; gaps between them are allowed.

    Training uses this on candles of any age: halts leave gaps, and large moves are part of history.

    Raises:
        DataQualityError: `candle_not_finite`, `candle_not_positive`, `candle_out_of_range`,
            `candle_volume_negative`, `candle_impossible`, `candle_duplicate` or `candle_out_of_order`.
    """
    for candle in candles:
        _check_values(candle)
    for earlier, later in pairwise(candles):
        if later.open_time <= earlier.open_time:
            same = later.open_time == earlier.open_time
            raise _refusal("candle_duplicate" if same else "candle_out_of_order", later)


def jump_factors(interval: Interval) -> tuple[Decimal, Decimal]:
    """How far a price may shrink and grow within a candle, and from one close to the next."""
    return _JUMP_FACTORS_OF_LONG_CANDLES if interval.duration > _HOUR else _JUMP_FACTORS


def contiguous_bars(candles: Sequence[Candle], interval: Interval) -> int:
    """Count the candles, oldest first, that reach back from the newest without a gap."""
    count = 1 if candles else 0
    duration = interval.duration
    for index in range(len(candles) - 1, 0, -1):
        if candles[index].open_time - candles[index - 1].open_time != duration:
            break
        count += 1
    return count


def _check_clock(skew_seconds: float) -> None:
    # The comparison is turned round so that a NaN is refused, too.
    if not abs(skew_seconds) <= MAXIMUM_CLOCK_SKEW_SECONDS:
        side = "ahead of" if skew_seconds > 0 else "behind"
        raise NotReadyError(
            f"This machine's clock is {abs(skew_seconds):.0f} seconds {side} the exchange's; "
            "set it right by turning on NTP (on Linux: timedatectl set-ntp true).",
            code="clock_skew",
            retry_after_seconds=60,
            context={"clock_skew_seconds": round(skew_seconds, 3), "limit_seconds": MAXIMUM_CLOCK_SKEW_SECONDS},
        )


def _check_price(price: Decimal) -> None:
    if not price.is_finite() or not _ZERO < price <= MAXIMUM_PRICE:
        raise DataQualityError(
            f"The exchange quotes a price of {price!s:.40}, which nothing can be traded at.",
            code="price_not_positive",
            context={"price": f"{price!s:.40}"},
        )


def _check_values(candle: Candle) -> None:
    prices = (candle.open, candle.high, candle.low, candle.close)
    if not (all(price.is_finite() for price in prices) and candle.volume.is_finite()):
        raise _refusal("candle_not_finite", candle)
    lowest, highest = min(prices), max(prices)
    if lowest <= _ZERO:
        raise _refusal("candle_not_positive", candle)
    if candle.volume < _ZERO:
        raise _refusal("candle_volume_negative", candle)
    if highest > MAXIMUM_PRICE or candle.volume > MAXIMUM_VOLUME:
        raise _refusal("candle_out_of_range", candle)
    if lowest != candle.low or highest != candle.high:
        raise _refusal("candle_impossible", candle)


def _check_times(snapshot: MarketSnapshot) -> None:
    duration = snapshot.interval.duration
    for candle in snapshot.candles:
        if (candle.open_time - _EPOCH) % duration or not _ends_within(candle, duration):
            raise _refusal("candle_misaligned", candle, f" of {snapshot.interval}")
    newest = snapshot.candles[-1]
    if newest.close_time >= snapshot.exchange_time:
        raise _refusal("candle_in_future", newest, " by the exchange's own clock")


def _ends_within(candle: Candle, duration: timedelta) -> bool:
    # A halt closes a candle early; its close may even be its own open time.
    return candle.open_time <= candle.close_time < candle.open_time + duration


def _check_jumps(snapshot: MarketSnapshot) -> None:
    shrink, grow = jump_factors(snapshot.interval)
    previous_close = snapshot.candles[0].open
    for candle in snapshot.candles:
        within = candle.low < candle.open * shrink or candle.high > candle.open * grow
        if within or not previous_close * shrink <= candle.close <= previous_close * grow:
            raise _refusal("candle_jump", candle)
        previous_close = candle.close
    price = snapshot.quote.price
    if abs(price - previous_close) > previous_close * MAXIMUM_QUOTE_DISTANCE_FRACTION:
        raise DataQualityError(
            f"The quoted price {price} is more than 30 % away from the last close {previous_close}.",
            code="price_far_from_close",
            context={"price": str(price), "close": str(previous_close)},
        )


def _check_freshness(snapshot: MarketSnapshot) -> None:
    newest = snapshot.candles[-1]
    duration = snapshot.interval.duration
    age = snapshot.exchange_time - newest.close_time
    if age > MAXIMUM_AGE_INTERVALS * duration:
        raise NotReadyError(
            f"The newest closed candle of {snapshot.symbol} ended {age.total_seconds():.0f} seconds ago, more than "
            f"two intervals of {snapshot.interval}; wait until the market moves again.",
            code="stale_data",
            retry_after_seconds=min(60.0, duration.total_seconds()),
            context={
                "symbol": snapshot.symbol,
                "candle_close_time": newest.close_time.isoformat(),
                "age_seconds": age.total_seconds(),
                "limit_seconds": MAXIMUM_AGE_INTERVALS * duration.total_seconds(),
            },
        )


def _too_few(snapshot: MarketSnapshot, *, have: int, need: int) -> NotReadyError:
    has_gap = have < len(snapshot.candles)
    why = "there is a gap before them" if has_gap else "the exchange has no more"
    return NotReadyError(
        f"{snapshot.symbol} has {have} contiguous closed candles of {snapshot.interval} and {need} are needed; "
        f"{why}; wait until enough have closed.",
        code="insufficient_history",
        retry_after_seconds=min(3_600.0, (need - have) * snapshot.interval.duration.total_seconds()),
        context={"symbol": snapshot.symbol, "have": have, "need": need, "gap": has_gap},
    )


def _refusal(code: str, candle: Candle, more: str = "") -> DataQualityError:
    opened = candle.open_time.isoformat()
    return DataQualityError(
        f"The candle that opened at {opened} {FAULTS[code]}{more}; the exchange's data is not fit to trade on.",
        code=code,
        context={"candle_open_time": opened},
    )
