"""How numbers, settings and runs are written on a page; plain text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from app.risk.intervals import Bounds

NOTHING: Final = "-"
"""What stands where there is no number."""


def percent(value: float | None) -> str:
    """A fraction in percent.

    >>> percent(0.1234), percent(None)
    ('12.3 %', '-')
    """
    return NOTHING if value is None else f"{100.0 * value:,.1f} %"


def change(value: float | None) -> str:
    """A return, a fraction, in percent with its sign.

    >>> change(0.1234), change(-0.0001)
    ('+12.34 %', '-0.01 %')
    """
    return NOTHING if value is None else f"{100.0 * value:+z,.2f} %"


def ratio(value: float | None) -> str:
    """A number with two decimals."""
    return NOTHING if value is None else f"{value:z,.2f}"


def between(bounds: Bounds | None, write: Callable[[float], str]) -> str:
    """An interval, its ends written by `write`.

    >>> between(Bounds(-0.5, 1.0), ratio)
    '-0.50 to 1.00'
    """
    return NOTHING if bounds is None else f"{write(bounds.low)} to {write(bounds.high)}"


def money(value: float | Decimal, asset: str) -> str:
    """An amount with two decimals, rounded for the eye."""
    return f"{value:z,.2f} {asset}"


def moment(value: datetime) -> str:
    """A time to the second.

    >>> moment(datetime(2026, 1, 5, tzinfo=UTC))
    '2026-01-05 00:00:00Z'
    """
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def setting(value: Any) -> str:  # noqa: ANN401 - any setting
    """One setting as text.

    >>> setting(True), setting(Decimal("2.50")), setting(("BTCUSDT", "ETHUSDT"))
    ('yes', '2.50', 'BTCUSDT, ETHUSDT')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, tuple | list):
        return ", ".join(map(setting, value))
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def list_settings(value: Any, name: str = "") -> list[tuple[str, str]]:  # noqa: ANN401 - any dataclass of settings
    """Every setting of a dataclass by its name, those within it as `outer.inner`; those that are None are left out."""
    if is_dataclass(value):
        parts = [(one.name, getattr(value, one.name)) for one in fields(value)]
    elif isinstance(value, Mapping):
        parts = list(value.items())
    else:
        return [] if value is None else [(name, setting(value))]
    return [row for inner, part in parts for row in list_settings(part, f"{name}.{inner}" if name else str(inner))]
