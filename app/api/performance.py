"""How an account did, as it goes over the wire; docs/performance.md has the formulas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from app.api import examples
from app.api.schemas import Answer, Fraction, Moment, Money
from app.research import performance


def _to_eight_decimals(value: object) -> object:
    return Decimal(f"{value:.8f}") if isinstance(value, float) else value


Estimate = Annotated[Money, BeforeValidator(_to_eight_decimals)]
"""Money that was computed with floating point numbers, to eight decimals."""

Count = Annotated[int, Field(ge=0)]
NotNegative = Annotated[float, Field(ge=0)]


class ShadowComparison(Answer):
    """The account's mean daily return less that of a shadow book, a fraction, with its 95 % interval."""

    difference: float
    low: float
    high: float
    better: bool | None = Field(
        description="True where the whole interval is above 0, false where it is below, null where it holds 0."
    )


class ShadowBook(Answer):
    """A book beside the account that the same cycles and costs were fed to."""

    equity: Estimate
    total_return: float
    comparison: ShadowComparison | None = Field(description="Null below 10 days.")


class ShadowBooks(Answer):
    """The three books beside the account."""

    always_flat: ShadowBook = Field(description="The initial cash for ever.")
    buy_and_hold: ShadowBook = Field(description="An equal share of every symbol the account has looked at.")
    random: ShadowBook = Field(description="As many fills of the same sizes, at times and on sides that mean nothing.")


class Verdict(Answer):
    """The answer to "is it any good?"."""

    answer: performance.Answer = Field(
        description="yes: better than every shadow book. no: worse than one of them. unknown: neither is sure."
    )
    reason: str


class Numbers(Answer):
    """What an account has done, in numbers; a year has 365 days, days are those of UTC."""

    days: Count = Field(description="Whole UTC days with the first and the last; the numbers below are of these.")
    total_return: float | None = Field(description="A fraction of the initial cash; null without a day.")
    cagr: float | None = Field(description="Compound growth a year; null without a day. Of a few days it says little.")
    volatility: NotNegative | None = Field(description="Of the daily returns, a year; null below 2 days.")
    sharpe: float | None = Field(description="A year; null below 2 days, and where returns do not vary.")
    sortino: float | None = Field(description="A year; null below 2 days, and where no day lost.")
    calmar: float | None = Field(description="cagr over maximum_drawdown; null where nothing ever fell.")
    maximum_drawdown: NotNegative | None = Field(description="A fraction of the peak; null without a day.")
    drawdown_days: Count | None = Field(description="From the peak to the recovery, or until now; null without a day.")
    drawdown_start: Count | None = Field(description="The peak: 0 is the opening, 1 the end of the first day.")
    drawdown_end: Count | None = Field(description="The recovery, or the last day, counted in the same way.")
    win_rate: Fraction | None = Field(description="Closed trades that won; null without a closed trade.")
    profit_factor: NotNegative | None = Field(description="What was won over what was lost; null where no trade lost.")
    expectancy: Estimate | None = Field(description="Mean net profit of a closed trade; null without one.")
    exposure: Fraction | None = Field(description="Share of the time with a position; null before time has passed.")
    turnover: NotNegative | None = Field(description="Traded over the mean equity, not a year's; null without a day.")
    costs_paid: Estimate = Field(description="Fees and slippage.")
    beta: float | None = Field(description="Against buy-and-hold; null below 2 days, and where that does not vary.")
    alpha: float | None = Field(description="Jensen's, a year, against buy-and-hold; null where beta is.")


class Account(Answer):
    """Which account, and how far it has come."""

    run: str
    source: str
    opened_at: Moment
    as_of: Moment = Field(description="When the newest snapshot was taken; the numbers are up to there.")
    initial_cash: Money
    equity: Money
    fills: Count
    closed_trades: Count


class Performance(Numbers, Account):  # the fields of the last come first
    """What an account has done up to its newest snapshot; a year has 365 days, days are those of UTC."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.PERFORMANCE]})

    shadow_books: ShadowBooks
    verdict: Verdict


def describe(report: performance.PerformanceReport) -> Performance:
    """The answer for `report`."""
    return Performance.model_validate(
        {
            **asdict(report.numbers),
            "run": report.run.id,
            "source": report.run.key.source,
            "opened_at": report.run.opened_at,
            "as_of": report.as_of,
            "initial_cash": report.run.initial_cash,
            "equity": report.equity,
            "fills": report.fills,
            "closed_trades": report.closed_trades,
            "shadow_books": {book.name: book for book in report.shadow_books},
            "verdict": report.verdict,
        }
    )


def write_csv(answer: Performance) -> str:
    """The answer as lines of name and value; what is not defined has no value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(("name", "value"))
    writer.writerows(flatten(answer.model_dump(mode="json")))
    return text.getvalue()


def flatten(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of `document` with its name; names within names have a dot.

    >>> list(flatten({"a": 1, "b": {"c": None}}))
    [('a', 1), ('b.c', None)]
    """
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
