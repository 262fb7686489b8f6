"""The arithmetic of a fill, on whole numbers only, so that every driver of it gives equal results.

Units: money and quantities in 1e-8 of a quote or base unit, rates in parts per million (1 bps = 100 ppm).
Every rounding goes against the account: what it pays is rounded up, what it gets is rounded down.
"""

from __future__ import annotations

from app.domain.money import LARGEST, PPM, UNITS, is_product_greater, multiply_divide, multiply_divide_up
from ml.paper import RANGE_PERCENT


def slippage_ratio(high: int, low: int, close: int, least_ppm: int) -> tuple[int, int]:
    """The slippage of a fill as a fraction (numerator, denominator).

    It is the larger of `least_ppm` and `RANGE_PERCENT` of the last closed candle's range over its close: a market that
    moves a lot within a candle moves between the decision and the fill, too.

    >>> slippage_ratio(high=101, low=99, close=100, least_ppm=300)
    (30, 10000)
    >>> slippage_ratio(high=100, low=100, close=100, least_ppm=300)
    (300, 1000000)
    """
    spread, base = RANGE_PERCENT * (high - low), 100 * close
    if is_product_greater(spread, PPM, least_ppm, base):
        return spread, base
    return least_ppm, PPM


def buy_price(quote: int, ratio: tuple[int, int], tick: int) -> int:
    """The price of a BUY: the quote raised by the slippage, up to the next tick.

    >>> buy_price(quote=10_000, ratio=(300, PPM), tick=10)
    10010
    """
    numerator, denominator = ratio
    return -(-(quote + multiply_divide_up(quote, numerator, denominator)) // tick) * tick


def sell_price(quote: int, ratio: tuple[int, int], tick: int) -> int:
    """The price of a SELL: the quote lowered by the slippage, down to the tick below; it may be zero or less.

    >>> sell_price(quote=10_000, ratio=(300, PPM), tick=10)
    9990
    """
    numerator, denominator = ratio
    return (quote - multiply_divide_up(quote, numerator, denominator)) // tick * tick


def buy_notional(price: int, quantity: int) -> int:
    """What a BUY pays before the fee.

    >>> buy_notional(price=3, quantity=50_000_000)
    2
    """
    return multiply_divide_up(price, quantity, UNITS)


def sell_notional(price: int, quantity: int) -> int:
    """What a SELL gets before the fee.

    >>> sell_notional(price=3, quantity=50_000_000)
    1
    """
    return multiply_divide(price, quantity, UNITS)


def fee(notional: int, fee_ppm: int) -> int:
    """The fee of a fill.

    >>> fee(notional=UNITS, fee_ppm=200)
    20000
    """
    return multiply_divide_up(notional, fee_ppm, PPM)


def affordable_quantity(budget: int, price: int, lot: int, fee_ppm: int) -> int:
    """The largest quantity, in whole lots, whose notional and fee fit `budget`; zero when none does.

    It is never more than the books hold (`LARGEST`).

    >>> affordable_quantity(budget=100 * UNITS, price=10 * UNITS, lot=UNITS, fee_ppm=0) // UNITS
    10
    >>> affordable_quantity(budget=100 * UNITS, price=10 * UNITS, lot=UNITS, fee_ppm=200) // UNITS
    9
    """
    largest_notional = multiply_divide(budget, PPM, PPM + fee_ppm)
    if is_product_greater(largest_notional, UNITS, LARGEST, price):
        return LARGEST // lot * lot
    return multiply_divide(largest_notional, UNITS, price) // lot * lot
