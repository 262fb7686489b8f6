"""The arithmetic of the limits, on whole numbers only, so that every driver of it gives equal results.

Money and quantities are in 1e-8 of a quote or base unit, shares in parts per million (ppm).
"""

from __future__ import annotations

from app.domain.money import LARGEST, PPM, UNITS, is_product_greater, multiply_divide, multiply_divide_up
from app.domain.portfolio import worth


def loss_ppm(before: int, now: int) -> int:
    """What was lost of `before`, in ppm rounded down; all of it where there was nothing to lose.

    >>> loss_ppm(before=1_000, now=900), loss_ppm(before=0, now=0)
    (100000, 1000000)
    """
    return multiply_divide(max(before - now, 0), PPM, before) if before > 0 else PPM


def distance_ppm(price: int, close: int) -> int:
    """How far a price is from a close, in ppm of the close, rounded up.

    >>> distance_ppm(price=104, close=100)
    40000
    """
    return multiply_divide_up(abs(price - close), PPM, close)


def least_cost(lot: int, price: int) -> int:
    """What one lot costs, rounded up.

    >>> least_cost(lot=UNITS, price=100)
    100
    """
    return multiply_divide_up(lot, price, UNITS)


def share_of_equity(equity: int, limit_ppm: int) -> int:
    """The most that a share of the equity comes to; 0 where there is none.

    >>> share_of_equity(1_000, 500_000), share_of_equity(-1_000, 500_000)
    (500, 0)
    """
    return max(multiply_divide(equity, limit_ppm, PPM), 0)


def cut_to_exposure(budget: int, held: int, most: int) -> int:
    """What is left of a budget where `held` is held already, and `most` may be.

    >>> cut_to_exposure(budget=900, held=200, most=500), cut_to_exposure(budget=900, held=600, most=500)
    (300, 0)
    """
    return max(min(budget, most - held), 0)


def largest_of_volume(volume: int, limit_ppm: int) -> int:
    """The largest quantity that a share of a candle's volume is; of a volume, no more counts than the books hold.

    >>> largest_of_volume(volume=50, limit_ppm=100_000)
    5
    """
    return multiply_divide(min(volume, LARGEST), limit_ppm, PPM)


def cut_to_quantity(budget: int, most: int, price: int) -> int:
    """What is left of a budget where it may buy `most` at `price`.

    >>> cut_to_quantity(budget=100, most=5 * UNITS, price=10), cut_to_quantity(budget=40, most=5 * UNITS, price=10)
    (50, 40)
    """
    return budget if is_product_greater(most, price, budget, UNITS) else worth(most, price)
