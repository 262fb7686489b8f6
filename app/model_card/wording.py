"""How the values of a card are written in Markdown: numbers with their intervals, tables, and text that stays text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NOTHING = "-"
"""What stands where there is no number."""

_STEERING = re.compile(r"([\\`*~\[\]<>|&!]|(?<![^\W_])_|_(?![^\W_]))")
_OPENING = re.compile(r"^(\d+(?=[.)](?: |$))|(?=[-+=#]))")


def plain(value: object) -> str:
    """Any value as one line of text, without what could steer a terminal or turn the direction of writing.

    >>> plain("one" + chr(27) + "[31m two")
    'one [31m two'
    """
    printable = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return " ".join(printable.split())


def text(value: object) -> str:
    r"""Any value as one line of Markdown that shows it letter by letter.

    >>> text("<b> of [a](b) | return_1 & _c_")
    '\\<b\\> of \\[a\\](b) \\| return_1 \\& \\_c\\_'
    """
    return _OPENING.sub(r"\1\\", _STEERING.sub(r"\\\1", plain(value)))


def number(value: float | None, form: str) -> str:
    """One number in the format `form`, or a dash."""
    return NOTHING if value is None else format(value, form)


def estimate(given: Mapping[str, float | None], form: str) -> str:
    """A number with its interval, each in the format `form`; alone where there is none, or it has no width.

    >>> estimate({"value": 0.5, "low": 0.25, "high": 0.75}, ".1%")
    '50.0% [25.0%, 75.0%]'
    >>> estimate({"value": 0.5, "low": None, "high": None}, ".1%")
    '50.0%'
    """
    value, low, high = given["value"], given["low"], given["high"]
    if value is None or low is None or high is None:
        return number(value, form)
    shown, least, most = (format(each, form) for each in (value, low, high))
    return shown if shown == least == most else f"{shown} [{least}, {most}]"


def p_value(value: float) -> str:
    """A probability of luck; what is below a thousandth is not told apart."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def moment(value: str) -> str:
    """A time of the card, with Z for UTC.

    >>> moment("2026-01-05T00:00:00+00:00")
    '2026-01-05T00:00:00Z'
    """
    return text(value.removesuffix("+00:00") + "Z" if value.endswith("+00:00") else value)


def counts(given: Mapping[str, int]) -> str:
    """How often each class came.

    >>> counts({"SELL": 1, "HOLD": 3})
    'SELL 1 (25.0%), HOLD 3 (75.0%)'
    """
    whole = sum(given.values())
    return ", ".join(f"{text(name)} {count:,} ({count / whole if whole else 0:.1%})" for name, count in given.items())


def pairs(given: Mapping[str, Any]) -> str:
    """Names and their values in one line."""
    return ", ".join(f"{text(name)} {text(value)}" for name, value in given.items()) or NOTHING


def paragraphs(*parts: str) -> str:
    """Parts of Markdown below each other, without those that are empty."""
    return "\n\n".join(part for part in parts if part)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already: the first column to the left, all others to the right.

    >>> print(table(("a", "b"), [("1", "2")]))
    | a | b |
    | --- | ---: |
    | 1 | 2 |
    """
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
