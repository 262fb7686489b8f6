"""What an account has done, in numbers. Each is defined here and nowhere else.

They are made of a daily curve and its returns (`app.risk.curves`). Crypto trades every day, so a year has 365 of them;
the day an account was opened and the one that is not over yet count as whole ones. The riskless rate is taken as 0,
and a standard deviation is that of a sample (n - 1). A number that is not defined is None, never NaN or infinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from app.risk.curves import compute_daily_curve, compute_daily_returns, find_utc_days
from ml.bars import FloatArray, IntegerArray

BoolArray = npt.NDArray[np.bool_]

DAYS_PER_YEAR: Final = 365

_LEAST_DEVIATION: Final = 1e-15
"""Returns that vary by less than this do so by rounding alone."""


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The deepest fall of a curve below an earlier peak; all indices are into the curve.

    Attributes:
        fraction: How deep it was as a fraction of the peak, 0 or more; above 1 where a curve fell below nothing.
        start: The last time the curve stood at the peak.
        trough: Where it was deepest.
        end: Where the peak was reached again, or the end of the curve where it was not.
        recovered: Whether it was.
    """

    fraction: float
    start: int
    trough: int
    end: int
    recovered: bool

    @property
    def periods(self) -> int:
        """How long it took from the peak to the recovery, or lasts by now; days on a curve of days."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, eq=False)
class AccountHistory:
    """What an account has done, as plain arrays, oldest first.

    Attributes:
        initial_cash: What it was opened with, quote units, above 0.
        times_ms: When each snapshot was taken, milliseconds since the epoch, never falling, shape (n_snapshots,).
        equity: What the account was worth then, quote units, shape (n_snapshots,).
        held: Whether it held a position from then on, shape (n_snapshots,).
        notionals: What each fill bought or sold, quote units, above 0, shape (n_fills,).
        fees: What the broker kept of each fill, quote units, shape (n_fills,).
        slippages: How much worse than at the quote each fill came out, quote units, shape (n_fills,).
        profits: The realised profit of each closed trade after its costs, quote units, shape (n_closed_trades,).
    """

    initial_cash: float
    times_ms: IntegerArray
    equity: FloatArray
    held: BoolArray
    notionals: FloatArray
    fees: FloatArray
    slippages: FloatArray
    profits: FloatArray


@dataclass(frozen=True, slots=True)
class Performance:
    """Every number of an account; the function of this module that bears a field's name defines it.

    `days` is how many there are returns of. `drawdown_start` and `drawdown_end` are the peak and the recovery (or
    the last day): 0 is the opening of the account, 1 the end of its first day, and `drawdown_days` lie between them.
    """

    days: int
    total_return: float | None
    cagr: float | None
    volatility: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    maximum_drawdown: float | None
    drawdown_days: int | None
    drawdown_start: int | None
    drawdown_end: int | None
    win_rate: float | None
    profit_factor: float | None
    expectancy: float | None
    exposure: float | None
    turnover: float | None
    costs_paid: float
    beta: float | None
    alpha: float | None


def compute_total_return(curve: FloatArray) -> float | None:
    """The end of the curve over its beginning, less 1, as a fraction; None without a day.

    Source: C. R. Bacon, Practical Portfolio Performance Measurement and Attribution, 2nd edition, 2008, chapter 2.

    >>> round(compute_total_return(np.array([100.0, 90.0, 120.0])), 6)
    0.2
    """
    return float(curve[-1] / curve[0] - 1.0) if curve.size > 1 else None


def compute_cagr(curve: FloatArray) -> float | None:
    """The compound annual growth rate, (end / beginning) ** (365 / days) - 1, as a fraction.

    A few days give a rate that no year will bear out: read it with `days`. None without a day, where the end is
    below nothing, and where the number is too large to write. Source: Bacon, 2008, chapter 2.

    >>> compute_cagr(np.array([100.0] * 365 + [150.0]))
    0.5
    """
    return _compound(float(curve[-1] / curve[0]), DAYS_PER_YEAR / (curve.size - 1)) if curve.size > 1 else None


def compute_volatility(returns: FloatArray) -> float | None:
    """The standard deviation of the daily returns times the square root of 365; None below two days.

    Source: J. P. Morgan and Reuters, RiskMetrics Technical Document, 4th edition, 1996.

    >>> round(compute_volatility(np.array([0.01, -0.01])), 6)
    0.270185
    """
    return float(returns.std(ddof=1) * math.sqrt(DAYS_PER_YEAR)) if returns.size > 1 else None


def compute_sharpe(returns: FloatArray) -> float | None:
    """The mean of the daily returns over their standard deviation, times the square root of 365.

    None below two days and where returns do not vary. Source: W. F. Sharpe, The Sharpe Ratio, Journal of Portfolio
    Management 21 (1994).

    >>> round(compute_sharpe(np.array([0.03, -0.01])), 6)
    6.754628
    """
    if returns.size < 2 or (deviation := returns.std(ddof=1)) < _LEAST_DEVIATION:
        return None
    return float(returns.mean() / deviation * math.sqrt(DAYS_PER_YEAR))


def compute_sortino(returns: FloatArray) -> float | None:
    """The mean of the daily returns over their downside deviation, times the square root of 365.

    The downside deviation is the root of the mean over all days of min(return, 0) squared. None below two days and
    where no day lost. Source: F. A. Sortino and L. N. Price, Performance Measurement in a Downside Risk Framework,
    Journal of Investing 3 (1994).

    >>> round(compute_sortino(np.array([0.03, -0.01])), 6)
    27.018512
    """
    if returns.size < 2:
        return None
    downside = math.sqrt(np.square(np.minimum(returns, 0.0)).mean())
    return float(returns.mean() / downside * math.sqrt(DAYS_PER_YEAR)) if downside >= _LEAST_DEVIATION else None


def compute_calmar(curve: FloatArray) -> float | None:
    """The compound annual growth rate over the maximum drawdown, both over the whole curve.

    None where either is not defined and where nothing ever fell. Source: T. W. Young, Calmar Ratio: A Smoother Tool,
    Futures 20 (1991), which takes the last 36 months.

    >>> compute_calmar(np.array([100.0] * 364 + [75.0, 150.0]))
    2.0
    """
    growth, drawdown = compute_cagr(curve), find_maximum_drawdown(curve)
    if growth is None or drawdown is None or drawdown.fraction == 0.0:
        return None
    return _finite(growth / drawdown.fraction)


def find_maximum_drawdown(curve: FloatArray) -> Drawdown | None:
    """The maximum drawdown: the greatest 1 - value / highest value so far, the first of equals; None of no curve.

    On a curve of days a fall that was made good by the end of its day is not seen. Any other curve of positive
    beginning can be measured, too. Source: M. Magdon-Ismail and A. Atiya, Maximum Drawdown, Risk 17 (2004).

    >>> find_maximum_drawdown(np.array([100.0, 120.0, 90.0, 110.0, 130.0]))
    Drawdown(fraction=0.25, start=1, trough=2, end=4, recovered=True)
    """
    if curve.size == 0:
        return None
    peaks = np.maximum.accumulate(curve)
    falls = 1.0 - curve / peaks
    trough = int(falls.argmax())
    start = int(np.flatnonzero(curve[: trough + 1] == peaks[trough])[-1])
    after = np.flatnonzero(curve[trough:] >= peaks[trough])
    end = trough + int(after[0]) if after.size else curve.size - 1
    return Drawdown(float(falls[trough]), start, trough, end, recovered=bool(after.size))


def compute_win_rate(profits: FloatArray) -> float | None:
    """The share of closed trades with a realised profit above 0, from 0 to 1; None without a closed trade.

    Source: V. K. Tharp, Trade Your Way to Financial Freedom, 2nd edition, 2006.

    >>> compute_win_rate(np.array([3.0, -1.0, 0.0, 2.0]))
    0.5
    """
    return float((profits > 0).mean()) if profits.size else None


def compute_profit_factor(profits: FloatArray) -> float | None:
    """The sum of what winning trades brought over the sum of what losing ones took, 0 or more.

    None where no trade lost. Source: R. Pardo, The Evaluation and Optimization of Trading Strategies, 2nd edition,
    2008.

    >>> compute_profit_factor(np.array([3.0, -1.0, -1.0]))
    1.5
    """
    lost = -float(profits[profits < 0].sum())
    return _finite(float(profits[profits > 0].sum()) / lost) if lost > 0 else None


def compute_expectancy(profits: FloatArray) -> float | None:
    """The mean realised profit of a closed trade, quote units; None without a closed trade.

    Source: Tharp, 2006, who counts it in units of the risk taken.

    >>> compute_expectancy(np.array([3.0, -1.0, -1.0, -1.0]))
    0.0
    """
    return float(profits.mean()) if profits.size else None


def compute_exposure(times_ms: IntegerArray, held: BoolArray) -> float | None:
    """The share of the time from the first snapshot to the last in which a position was held, from 0 to 1.

    What a snapshot says holds until the next. None where no time has passed. Source: Pardo, 2008 (time in the market).

    >>> compute_exposure(np.array([0, 10, 40]), np.array([False, True, True]))
    0.75
    """
    spans = np.diff(times_ms)
    total = int(spans.sum())
    return float(spans[held[:-1]].sum() / total) if total > 0 else None


def compute_turnover(notionals: FloatArray, curve: FloatArray) -> float | None:
    """How often the account was traded over: the notional of all fills over the mean of the curve.

    It is not per year. Bought and sold both count, unlike in what funds report (the lesser of the two: U.S. Securities
    and Exchange Commission, Form N-1A). None without a day, and where the mean is 0 or below.

    >>> compute_turnover(np.array([50.0, 55.0]), np.array([100.0, 110.0]))
    1.0
    """
    mean = float(curve.mean()) if curve.size > 1 else 0.0
    return _finite(float(notionals.sum()) / mean) if mean > 0 else None


def compute_costs_paid(fees: FloatArray, slippages: FloatArray) -> float:
    """All fees and all slippage, quote units; 0 without a fill.

    Source: A. F. Perold, The Implementation Shortfall, Journal of Portfolio Management 14 (1988): its execution cost.

    >>> compute_costs_paid(np.array([1.0, 0.5]), np.array([0.25, 0.25]))
    2.0
    """
    return float(fees.sum() + slippages.sum())


def compute_beta(returns: FloatArray, benchmark: FloatArray) -> float | None:
    """How much of a move of the benchmark the account makes: the slope of ordinary least squares.

    The covariance of the daily returns of both over the variance of the benchmark's. None below two days, and where
    the benchmark does not vary. Source: W. F. Sharpe, A Simplified Model for Portfolio Analysis, Management Science 9
    (1963).

    >>> round(compute_beta(np.array([0.02, -0.01, 0.005]), np.array([0.04, -0.02, 0.01])), 6)
    0.5
    """
    if returns.size < 2 or returns.size != benchmark.size or benchmark.std() < _LEAST_DEVIATION:
        return None
    away = benchmark - benchmark.mean()
    return float((away * returns).mean() / np.square(away).mean())


def compute_alpha(returns: FloatArray, benchmark: FloatArray) -> float | None:
    """What the account earned a year beyond its share of the benchmark: Jensen's alpha, annualised, as a fraction.

    (1 + mean return - beta * mean return of the benchmark) ** 365 - 1, of daily returns. None where beta is not
    defined, where the bracket is below nothing, and where the number is too large to write. Source: M. C. Jensen, The
    Performance of Mutual Funds in the Period 1945-1964, Journal of Finance 23 (1968).

    >>> round(compute_alpha(np.array([0.011, -0.009]), np.array([0.01, -0.01])), 6)
    0.440251
    """
    beta = compute_beta(returns, benchmark)
    return None if beta is None else _compound(float(1.0 + returns.mean() - beta * benchmark.mean()), DAYS_PER_YEAR)


def compute_performance(
    account: AccountHistory, benchmark_times_ms: IntegerArray, benchmark_equity: FloatArray
) -> Performance:
    """Every number at once.

    Args:
        account: What it has done.
        benchmark_times_ms: When the equity of buy-and-hold was known, milliseconds since the epoch, never falling.
        benchmark_equity: What buy-and-hold with the same initial cash was worth then, quote units. Only the days of
            the account count.

    >>> none = np.empty(0)
    >>> times_ms, equity = np.array([0, 86_400_000]), np.array([100.0, 105.0])
    >>> account = AccountHistory(100.0, times_ms, equity, np.array([False, True]), none, none, none, none)
    >>> found = compute_performance(account, times_ms, equity)
    >>> found.days, round(found.total_return, 6), round(found.beta, 6), found.profit_factor
    (2, 0.05, 1.0, None)
    """
    days = find_utc_days(account.times_ms)
    curve = compute_daily_curve(account.times_ms, account.equity, account.initial_cash, days)
    returns = compute_daily_returns(curve)
    benchmark = compute_daily_returns(
        compute_daily_curve(benchmark_times_ms, benchmark_equity, account.initial_cash, days)
    )
    drawdown = find_maximum_drawdown(curve) if days else None
    return Performance(
        days=len(days),
        total_return=compute_total_return(curve),
        cagr=compute_cagr(curve),
        volatility=compute_volatility(returns),
        sharpe=compute_sharpe(returns),
        sortino=compute_sortino(returns),
        calmar=compute_calmar(curve),
        maximum_drawdown=drawdown.fraction if drawdown else None,
        drawdown_days=drawdown.periods if drawdown else None,
        drawdown_start=drawdown.start if drawdown else None,
        drawdown_end=drawdown.end if drawdown else None,
        win_rate=compute_win_rate(account.profits),
        profit_factor=compute_profit_factor(account.profits),
        expectancy=compute_expectancy(account.profits),
        exposure=compute_exposure(account.times_ms, account.held),
        turnover=compute_turnover(account.notionals, curve),
        costs_paid=compute_costs_paid(account.fees, account.slippages),
        beta=compute_beta(returns, benchmark),
        alpha=compute_alpha(returns, benchmark),
    )


def _compound(growth: float, periods: float) -> float | None:
    """`growth`, so many periods long, less 1; None below nothing and where it is too large."""
    try:
        return growth**periods - 1.0 if growth >= 0 else None
    except OverflowError:
        return None


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
