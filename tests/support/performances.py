"""How an account did, made up, and a keeper that says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from app.domain.standing import Run, RunKey
from app.errors import NotFoundError
from app.research.performance import Answer, PerformanceReport, ShadowResult, Verdict
from app.risk.comparison import Comparison
from app.risk.metrics import Performance
from tests.support.fakes import START

RUN = Run(RunKey("simulated"), 1, Decimal(10_000), START)
UNCLEAR = Comparison(0.001, -0.002, 0.004, better=None)
NUMBERS = Performance(
    days=12,
    total_return=0.05,
    cagr=3.41,
    volatility=0.3,
    sharpe=1.5,
    sortino=None,
    calmar=68.2,
    maximum_drawdown=0.05,
    drawdown_days=3,
    drawdown_start=1,
    drawdown_end=4,
    win_rate=0.5,
    profit_factor=1.25,
    expectancy=12.123456789,
    exposure=0.4,
    turnover=2.5,
    costs_paid=7.1,
    beta=0.5,
    alpha=0.1,
)


def make_shadow_books(*comparisons: Comparison | None) -> tuple[ShadowResult, ...]:
    """The three books, each held against the account with this outcome."""
    names = ("always_flat", "buy_and_hold", "random")
    return tuple(ShadowResult(name, 10_000.0, 0.0, found) for name, found in zip(names, comparisons, strict=True))


REPORT = PerformanceReport(
    run=RUN,
    as_of=START + timedelta(days=11),
    equity=Decimal("10500.00000001"),
    fills=8,
    closed_trades=4,
    numbers=NUMBERS,
    shadow_books=make_shadow_books(UNCLEAR, UNCLEAR, None),
    verdict=Verdict(Answer.UNKNOWN, "Not known yet."),
)


@dataclass
class FakePerformance:
    """Knows the performance of one run; `check` is called first."""

    check: Callable[[], None]

    async def measure(self, run_id: str | None) -> PerformanceReport:
        self.check()
        if run_id not in (None, REPORT.run.id):
            raise NotFoundError("There is no run with this id.", code="run_not_found")
        return REPORT
