"""Money and quantities as whole numbers: the broker's rules and the books count in 1e-8 of a quote or base unit."""

from __future__ import annotations

from decimal import Decimal

UNITS = 100_000_000
"""How many units one whole quote or base unit has."""

PPM = 1_000_000
"""Parts per million in one whole."""

LARGEST = 2**63 - 1
"""The most units that the books hold of anything: 92 billion whole ones."""

_WHOLE = Decimal("1E+8")
_UNIT = Decimal("1E-8")


def multiply_divide(first: int, second: int, divisor: int) -> int:
    """`first` times `second` over `divisor`, rounded down, exact however large the product is.

    `divisor` is above 0. What is to run compiled, too, multiplies and divides by this: a product of two amounts needs
    more than 64 bits.

    >>> multiply_divide(10**15, 10**15, 10**12), multiply_divide(-7, 1, 2)
    (1000000000000000000, -4)
    """
    return first * second // divisor


def multiply_divide_up(first: int, second: int, divisor: int) -> int:
    """`first` times `second` over `divisor`, rounded up; otherwise as `multiply_divide`.

    >>> multiply_divide_up(7, 1, 2), multiply_divide_up(-7, 1, 2)
    (4, -3)
    """
    return -multiply_divide(-first, second, divisor)


def is_product_greater(first: int, second: int, third: int, fourth: int) -> bool:
    """Whether `first` times `second` is more than `third` times `fourth`, exact however large the products are.

    >>> is_product_greater(10**15, 10**15, 10**15, 10**15 - 1)
    True
    """
    return first * second > third * fourth


def to_units(value: Decimal) -> int:
    """A decimal amount in whole 1e-8 units; exact for up to eight decimals, finer ones are cut off.

    >>> to_units(Decimal("1.5"))
    150000000
    """
    return int(value * _WHOLE)


def from_units(units: int) -> Decimal:
    """The decimal amount of `units` 1e-8 units, exact, always written with eight decimals.

    >>> from_units(150000000)
    Decimal('1.50000000')
    """
    return Decimal(units) * _UNIT


def plain(units: int) -> str:
    """An amount of `units` in words for people: exact, without trailing zeros.

    >>> plain(150000000), plain(-1), plain(0)
    ('1.5', '-0.00000001', '0')
    """
    whole, part = divmod(abs(units), UNITS)
    sign = "-" if units < 0 else ""
    return f"{sign}{whole}.{part:08d}".rstrip("0") if part else f"{sign}{whole}"
