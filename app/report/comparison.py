"""The page of several backtests side by side."""

from __future__ import annotations

from collections.abc import Sequence

from app.report import timelines
from app.report.backtest import name_runs, say_verdict
from app.report.page import Facts, Page, Section, Table, render_page
from app.report.wording import NOTHING, change, list_settings, money, percent, ratio
from app.research.backtest.result import BacktestResult, BacktestRun


def render_comparison(results: Sequence[BacktestResult]) -> str:
    """Write backtests side by side as a page of HTML that can be opened from disk and asks for nothing.

    Args:
        results: One or more.
    """
    named = dict(zip(name_runs([one.run for one in results]), results, strict=True))
    best = max(named, key=lambda name: _order(named[name]))
    page = Page(
        title=f"{len(named)} backtests side by side",
        subtitle="All times are UTC.",
        verdict=[
            f"{best} has the greatest Sharpe ratio, {ratio(named[best].run.performance.sharpe)}.",
            "The best of several was chosen with the past known; what it says of itself counts the trials.",
        ],
        caveats=_list_differences(results),
        sections=[
            Section(
                "What became of the money",
                [timelines.draw_growth({name: one for name, one in named.items() if len(one.books)})],
            ),
            Section("Numbers", [Table(_HEADS, [(name, *_list_numbers(one)) for name, one in named.items()])]),
            Section("Is it luck?", [Facts([(name, say_verdict(one.run.significance)) for name, one in named.items()])]),
            Section("Settings", _show_settings(list(named), results)),
        ],
    )
    return render_page(page)


_HEADS = ("run", "total return", "a year", "Sharpe", "max. drawdown", "closed trades", "gained", "in market", "costs")


def _list_numbers(result: BacktestResult) -> tuple[str, ...]:
    run, one = result.run, result.run.performance
    return (
        change(one.total_return),
        change(one.cagr),
        ratio(one.sharpe),
        percent(one.maximum_drawdown),
        f"{run.closed_trades:,}",
        percent(one.win_rate),
        percent(one.exposure),
        money(one.costs_paid, timelines.name_quote(result)),
    )


def _order(result: BacktestResult) -> float:
    sharpe = result.run.performance.sharpe
    return float("-inf") if sharpe is None else sharpe


def _list_differences(results: Sequence[BacktestResult]) -> list[str]:
    """What makes the runs less comparable than they look, and what each warns of."""
    said = []
    if len({_name_candles(one.run) for one in results}) > 1:
        said.append("The runs are on different candles; their returns are not of the same markets or times.")
    if len({one.run.code_version for one in results}) > 1:
        said.append("The runs were computed by different versions of the code.")
    return said + list(dict.fromkeys(caveat.message for one in results for caveat in one.run.caveats))


def _name_candles(run: BacktestRun) -> tuple[object, ...]:
    """What was traded; not the candle hash, as strategies look at more or fewer candles before the first of these."""
    return run.data.source, run.request.symbols, run.request.interval, run.request.since, run.request.until


def _show_settings(names: Sequence[str], results: Sequence[BacktestResult]) -> list[Table | Facts]:
    """What differs between the runs, and what is the same of all."""
    settings = [dict(list_settings(one.run.request)) for one in results]
    every = list(dict.fromkeys(name for one in settings for name in one))
    different = [name for name in every if len({one.get(name) for one in settings}) > 1]
    rows = [
        (name, *(one.get(other, NOTHING) for other in different)) for name, one in zip(names, settings, strict=True)
    ]
    table = [Table(("run", *different), rows)] if different else []
    return [*table, Facts([(name, settings[0][name]) for name in every if name not in different])]
