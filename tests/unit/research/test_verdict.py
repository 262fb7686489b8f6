"""Whether an account is any good: yes, no, or that it is not known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.standing import RunKey
from app.research.performance import Answer, judge
from app.risk.comparison import Comparison
from tests.support.performances import RUN, UNCLEAR, make_shadow_books

BETTER = Comparison(0.002, 0.001, 0.003, better=True)
MUCH_BETTER = Comparison(0.02, 0.01, 0.03, better=True)
WORSE = Comparison(-0.002, -0.003, -0.001, better=False)
MUCH_WORSE = Comparison(-0.02, -0.03, -0.01, better=False)
REAL = replace(RUN, key=RunKey("binance"))


@pytest.mark.parametrize(
    ("days", "fills", "comparisons", "answer", "reason"),
    [
        (40, 0, (UNCLEAR, BETTER, UNCLEAR), Answer.UNKNOWN, "Not known yet: nothing was traded so far."),
        (3, 9, (None, None, None), Answer.UNKNOWN, "Not known yet: 3 of at least 10 days."),
        (40, 9, (None, None, None), Answer.NO, "No: it was worth nothing at the end of a day."),
        (
            *(40, 9, (MUCH_BETTER, BETTER, MUCH_BETTER), Answer.YES),
            "Yes, by +0.200% [+0.100%, +0.300%] a day over buy-and-hold, in 40 days.",
        ),
        (
            *(40, 9, (WORSE, MUCH_BETTER, MUCH_WORSE), Answer.NO),
            "No: by -2.000% [-3.000%, -1.000%] a day against random trades, in 40 days.",
        ),
        (
            *(40, 9, (UNCLEAR, MUCH_BETTER, BETTER), Answer.UNKNOWN),
            "Not known yet: +0.100% [-0.200%, +0.400%] a day against always flat in 40 days may be luck alone.",
        ),
    ],
)
def test_verdict_says_what_the_shadow_books_allow(
    days: int, fills: int, comparisons: tuple[Comparison | None, ...], answer: Answer, reason: str
) -> None:
    verdict = judge(REAL, days, fills, make_shadow_books(*comparisons))

    assert (verdict.answer, verdict.reason) == (answer, reason)


def test_verdict_on_a_simulated_market_says_so() -> None:
    verdict = judge(RUN, 40, 9, make_shadow_books(BETTER, BETTER, BETTER))

    assert verdict.answer is Answer.YES
    assert verdict.reason.endswith("The market was simulated, so it says nothing about a real one.")
