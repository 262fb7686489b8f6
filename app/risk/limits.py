"""The limits an order meets: one small pure rule each, which says its value, its limit and what came of it.

Money is in 1e-8 quote units, quantities in 1e-8 base units. A rule that is switched off (0) says nothing: None. The
caps make an order smaller and fail only where nothing is left of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from app.domain.money import PPM, UNITS, plain
from app.domain.order import Check, Side
from app.domain.portfolio import worth
from app.domain.standing import Halt, Snapshot
from app.risk.limit_rules import (
    cut_to_exposure,
    cut_to_quantity,
    distance_ppm,
    largest_of_volume,
    least_cost,
    loss_ppm,
    share_of_equity,
)
from app.risk.protection import are_placeable
from app.risk.sizing import to_ppm

UNLIMITED = 10**26
"""More than any candle's volume, in 1e-8 base units: the quantity cap where there is none."""

OLDEST_MODEL_AGES = 2
"""Past so many times MODEL_MAXIMUM_AGE_DAYS a model is not traded on."""

_PERCENT = 100
_UNITS_PER_PPM = UNITS // PPM
_MINUTE = timedelta(minutes=1)
_CENTIDAY = timedelta(days=1) / 100


@dataclass(frozen=True, slots=True)
class LimitRules:
    """Every limit; 0 switches one off.

    Attributes:
        max_symbol_exposure: How much of the equity one symbol may hold, a fraction.
        max_gross_exposure: How much of the equity all symbols together may hold, longs and shorts added, a fraction.
        max_volume_share: How much of the last closed candle's volume an order may be, a fraction.
        max_daily_loss: From which loss on, as a share of the day's opening equity, the day's entries end.
        max_drawdown: From which drawdown on, as a share of the peak equity, trading halts.
        cooldown_losses: After how many losses in a row entries pause.
        cooldown_minutes: For how long they pause.
        max_trades_per_day: How many fills of decisions a UTC day may have before its entries end.
        max_open_positions: How many symbols may be held at once.
        price_band_percent: How far the quote may be from the last close, in percent of it.
        model_maximum_age: From when on a model is old; past twice that nothing is opened on it.
    """

    max_symbol_exposure: Decimal = Decimal(1)
    max_gross_exposure: Decimal = Decimal(1)
    max_volume_share: Decimal = Decimal("0.1")
    max_daily_loss: Decimal = Decimal("0.05")
    max_drawdown: Decimal = Decimal("0.25")
    cooldown_losses: int = 3
    cooldown_minutes: int = 60
    max_trades_per_day: int = 200
    max_open_positions: int = 10
    price_band_percent: Decimal = Decimal(5)
    model_maximum_age: timedelta = timedelta(days=7)


def check_halt(halt: Halt | None) -> Check:
    """Nothing is traded on decisions while trading is halted.

    >>> check_halt(None).passed
    True
    """
    if halt is None:
        return Check("halted", passed=True, value="running", limit="running", detail="Trading is not halted.")
    words = (
        f"Trading is halted since {halt.at:%Y-%m-%d %H:%M} UTC ({halt.reason_code}); POST /trading/resume resumes it."
    )
    return Check("halted", passed=False, value=halt.reason_code, limit="running", detail=words)


def check_short(side: Side, *, allowed: bool) -> Check:
    """A SELL of what is not held is a short, which must be allowed.

    >>> check_short(Side.SELL, allowed=False).passed, check_short(Side.BUY, allowed=False).passed
    (False, True)
    """
    passed = allowed or side is Side.BUY
    words = "Short positions are allowed." if allowed else "Only long positions are opened (ALLOW_SHORT)."
    return Check("short_not_allowed", passed, side.value, "BUY or SELL" if allowed else "BUY", words)


def check_daily_loss(account: Snapshot, limit: Decimal) -> Check | None:
    """The loss since the UTC day began, as a share of the equity then, must stay below `limit`.

    >>> from app.domain.standing import open_snapshot
    >>> account = open_snapshot(cash=1_000, at=datetime.fromisoformat("2026-11-21T12:00Z"))
    >>> from dataclasses import replace
    >>> check_daily_loss(replace(account, equity=960), Decimal("0.05")).value
    '0.04'
    """
    if not limit:
        return None
    loss = loss_ppm(account.day_equity, account.equity)
    words = f"Today has lost {_percent(loss)} of the equity it began with; from {_percent(to_ppm(limit))} on nothing "
    return _below("daily_loss", loss, to_ppm(limit), words + "is opened until the next UTC day (MAX_DAILY_LOSS).")


def check_drawdown(account: Snapshot, limit: Decimal) -> Check | None:
    """The loss since the highest equity of the run, as a share of that, must stay below `limit`.

    >>> from app.domain.standing import open_snapshot
    >>> account = open_snapshot(cash=1_000, at=datetime.fromisoformat("2026-11-21T12:00Z"))
    >>> from dataclasses import replace
    >>> check_drawdown(replace(account, equity=700), Decimal("0.25")).passed
    False
    """
    if not limit:
        return None
    loss = loss_ppm(account.peak_equity, account.equity)
    words = f"Equity is {_percent(loss)} below its peak; from {_percent(to_ppm(limit))} on trading halts "
    return _below("max_drawdown", loss, to_ppm(limit), words + "(MAX_DRAWDOWN).")


def check_cooldown(account: Snapshot, losses: int, pause: timedelta, now: datetime) -> Check | None:
    """After `losses` losses in a row nothing is opened for `pause`.

    >>> from app.domain.standing import open_snapshot
    >>> account = open_snapshot(cash=1_000, at=datetime.fromisoformat("2026-11-21T12:00Z"))
    >>> from dataclasses import replace
    >>> lost = replace(account, losses_in_a_row=3, last_loss_at=account.at)
    >>> check_cooldown(lost, 3, timedelta(hours=1), account.at).passed
    False
    >>> check_cooldown(lost, 3, timedelta(hours=1), account.at + timedelta(hours=1)).passed
    True
    """
    if not losses or not pause:
        return None
    row, last = account.losses_in_a_row, account.last_loss_at
    passed = last is None or row < losses or now >= last + pause
    words = (
        f"{row} of the newest exits in a row lost; from {losses} on nothing is opened for {pause // _MINUTE} minutes"
    )
    until = "" if passed or last is None else f", until {last + pause:%Y-%m-%d %H:%M:%S} UTC"
    return Check("cooldown", passed, str(row), str(losses), f"{words}{until} (COOLDOWN_LOSSES).")


def check_trades(account: Snapshot, limit: int) -> Check | None:
    """A UTC day has at most `limit` fills of decisions before its entries end.

    >>> from app.domain.standing import open_snapshot
    >>> account = open_snapshot(cash=1_000, at=datetime.fromisoformat("2026-11-21T12:00Z"))
    >>> from dataclasses import replace
    >>> check_trades(replace(account, trades_today=5), 5).passed
    False
    """
    if not limit:
        return None
    count = account.trades_today
    words = f"Decisions were filled {count} times today; after {limit} nothing is opened until the next UTC day "
    return Check("max_trades_per_day", count < limit, str(count), str(limit), words + "(MAX_TRADES_PER_DAY).")


def check_positions(account: Snapshot, symbol: str, limit: int) -> Check | None:
    """At most `limit` positions are open at once, that of `symbol` included.

    >>> from app.domain.standing import open_snapshot
    >>> account = open_snapshot(cash=1_000, at=datetime.fromisoformat("2026-11-21T12:00Z"))
    >>> check_positions(account, "BTCUSDT", 1).value
    '1'
    """
    if not limit:
        return None
    count = len({*account.portfolio.positions, symbol})
    words = f"Open positions with this one: {count}; at most {limit} may be (MAX_OPEN_POSITIONS)."
    return Check("max_open_positions", count <= limit, str(count), str(limit), words)


def check_price_band(price: int, close: int, limit_percent: Decimal) -> Check | None:
    """The quote must be within `limit_percent` of the last close.

    >>> check_price_band(104, 100, Decimal(5)).value
    '4'
    """
    if not limit_percent:
        return None
    distance, limit = distance_ppm(price, close), to_ppm(limit_percent / _PERCENT)
    words = (
        f"The quote is {_percent(distance)} from the last close; {_percent(limit)} are allowed (PRICE_BAND_PERCENT)."
    )
    passed = distance <= limit
    return Check("price_band", passed, _decimal(distance * _PERCENT), _decimal(limit * _PERCENT), words)


def check_model_age(age: timedelta | None, maximum_age: timedelta) -> Check | None:
    """A model must not be older than twice `maximum_age`; None says nothing, too: its age is not known.

    >>> check_model_age(timedelta(days=15), timedelta(days=7)).passed
    False
    """
    if age is None:
        return None
    limit = OLDEST_MODEL_AGES * maximum_age
    words = f"The model is {_days(age)} days old; past {_days(limit)} it is not traded on (MODEL_MAXIMUM_AGE_DAYS)."
    return Check("model_too_old", age <= limit, _days(age), _days(limit), words)


def check_stop(distances: Sequence[int], price: int) -> Check:
    """Protective orders must be away from the entry price, and above zero.

    >>> check_stop([4], price=100).passed, check_stop([0], price=100).passed
    (True, False)
    """
    if passed := are_placeable(min(distances), max(distances), price):
        words = f"The protective orders are {' and '.join(map(plain, distances))} from the quote."
    else:
        words = (
            "A protective order cannot be placed: it needs 15 candles without a gap whose average true range is above "
            "zero and leaves a price above zero (STOP_RULE, STOP_ATR_MULTIPLE, TAKE_PROFIT_ATR_MULTIPLE)."
        )
    return Check("stop_unknown", passed, plain(max(distances)), plain(price), words)


def check_cash(budget: int, lot: int, price: int) -> Check:
    """What the order may spend must buy one lot at the quote.

    >>> check_cash(budget=99, lot=UNITS, price=100).passed
    False
    """
    least = least_cost(lot, price)
    words = f"The order may spend {plain(budget)}; one lot of {plain(lot)} costs {plain(least)}."
    return Check("insufficient_cash", budget >= least, plain(budget), plain(least), words)


def cap_symbol_exposure(budget: int, account: Snapshot, symbol: str, limit: Decimal) -> tuple[Check | None, int]:
    """The position of one symbol is worth at most `limit` of the equity; returns what is left of `budget`, too.

    >>> from app.domain.standing import open_snapshot
    >>> account = open_snapshot(cash=1_000, at=datetime.fromisoformat("2026-11-21T12:00Z"))
    >>> cap_symbol_exposure(900, account, "BTCUSDT", Decimal("0.5"))[1]
    500
    """
    held = abs(_exposure(account, symbol))
    return _cap_exposure("max_symbol_exposure", f"of {symbol}", budget, held, account.equity, limit)


def cap_gross_exposure(budget: int, account: Snapshot, limit: Decimal) -> tuple[Check | None, int]:
    """All positions together are worth at most `limit` of the equity; returns what is left of `budget`, too.

    >>> from app.domain.standing import open_snapshot
    >>> account = open_snapshot(cash=1_000, at=datetime.fromisoformat("2026-11-21T12:00Z"))
    >>> cap_gross_exposure(900, account, Decimal("0.5"))[1]
    500
    """
    held = sum(abs(_exposure(account, symbol)) for symbol in account.portfolio.symbols())
    return _cap_exposure("max_gross_exposure", "of all symbols", budget, held, account.equity, limit)


def cap_volume(budget: int, price: int, volume: int, limit: Decimal) -> tuple[Check | None, int, int]:
    """An order is at most `limit` of the last candle's volume.

    Returns the check, what is left of `budget`, and the largest quantity.

    >>> cap_volume(budget=100 * UNITS, price=10 * UNITS, volume=50 * UNITS, limit=Decimal("0.1"))[1:]
    (5000000000, 500000000)
    """
    if not limit:
        return None, budget, UNLIMITED
    cap = largest_of_volume(volume, to_ppm(limit))
    wanted, left = budget * UNITS // price, cut_to_quantity(budget, cap, price)
    words = f"The order is {plain(wanted)}, the last candle's volume {plain(volume)}, and {_percent(to_ppm(limit))} of "
    words += f"that may be taken (MAX_VOLUME_SHARE){_cut(budget, left)}"
    return Check("volume_share", left > 0, plain(wanted), plain(cap), words), left, cap


def check_notional(budget: int, minimum: int) -> Check:
    """What is left of the order must be worth the least that the exchange takes.

    >>> check_notional(budget=4, minimum=5).passed
    False
    """
    words = f"The order is worth {plain(budget)} at most; the exchange asks for {plain(minimum)}."
    return Check("below_minimum_notional", budget >= minimum, plain(budget), plain(minimum), words)


def _cap_exposure(
    code: str, whose: str, budget: int, held: int, equity: int, limit: Decimal
) -> tuple[Check | None, int]:
    if not limit:
        return None, budget
    most = share_of_equity(equity, to_ppm(limit))
    left = cut_to_exposure(budget, held, most)
    words = f"What is held {whose} would be worth {plain(held + budget)} with the order; at most "
    words += f"{_percent(to_ppm(limit))} of the equity, {plain(most)}, may be ({code.upper()}){_cut(budget, left)}"
    return Check(code, left > 0, plain(held + budget), plain(most), words), left


def _exposure(account: Snapshot, symbol: str) -> int:
    held = account.portfolio.holding(symbol)
    return worth(held, account.marks[symbol]) if held else 0


def _below(code: str, value: int, limit: int, words: str) -> Check:
    return Check(code, value < limit, _decimal(value), _decimal(limit), words)


def _cut(before: int, left: int) -> str:
    return "." if left == before else f": cut from {plain(before)} to {plain(left)}."


def _decimal(ppm: int) -> str:
    return plain(ppm * _UNITS_PER_PPM)


def _percent(ppm: int) -> str:
    return f"{_decimal(ppm * _PERCENT)} %"


def _days(age: timedelta) -> str:
    return plain(age // _CENTIDAY * (UNITS // 100))
