"""How backtests look in a terminal, or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Column, Table

from app.api import backtests
from app.report.wording import NOTHING, change, moment, percent, ratio
from app.research.backtest.result import BacktestRun
from app.risk.metrics import Performance
from app.strategies.registry import get_rule

_PIPE_WIDTH = 160
_SHOWN_OUTCOMES = 6
_COMPARED = ("return", "Sharpe", "max. drawdown", "closed trades", "won", "in market", "costs")
_HELD = "everything, held throughout"
_SUREST = 0.999
"""Nothing is ever quite certain, and 100.0 % would say so; as `Significance.verdict`."""


@dataclass(frozen=True, slots=True)
class Verified:
    """That both drivers ran; the first difference between their books, None where all numbers are equal."""

    difference: str | None


def print_backtest(run: BacktestRun, verified: Verified | None, *, as_json: bool) -> None:
    """What a backtest came to: `GET /backtest/runs/{backtest_id}`, or tables and what must be known of them."""
    if as_json:
        _print_json({**_to_document(run), **({"difference": verified.difference} if verified else {})})
        return
    for line in _introduce(run):
        _plain(line)
    _print(_tabulate_numbers(run))
    _print(_tabulate_costs(run))
    for line in _conclude(run):
        _plain(line)
    if verified is not None:
        _plain(_say_verified(run, verified))


def print_comparison(runs: Sequence[BacktestRun], *, as_json: bool) -> None:
    """Backtests side by side with buy-and-hold, or what `GET /backtest/runs/{backtest_id}` says of each."""
    if as_json:
        _print_json({"items": [_to_document(run) for run in runs]})
        return
    for line in _introduce_all(runs):
        _plain(line)
    names = _name_all(runs)
    table = Table(Column(no_wrap=True), *_COMPARED, "costs doubled", "more than luck")
    for name, run in zip(names, runs, strict=True):
        numbers = _list_numbers(run.performance, run.closed_trades)
        table.add_row(name, *(numbers[one] for one in _COMPARED), _say_doubled(run), _say_luck(run))
    held = _list_numbers(runs[0].benchmark, 0)
    table.add_row(_HELD, *(held[one] for one in _COMPARED), NOTHING, NOTHING)
    _print(table)
    for name, run in zip(names, runs, strict=True):
        _plain(f"{name}: {run.significance.verdict if run.significance else NOTHING}")
    for line in _note_all(names, runs):
        _plain(line)
    _plain(f"Again: python -m app compare {' '.join(run.id for run in runs)}")


def _list_numbers(one: Performance, closed_trades: int) -> dict[str, str]:
    return {
        "return": change(one.total_return),
        "a year": change(one.cagr),
        "volatility": percent(one.volatility),
        "Sharpe": ratio(one.sharpe),
        "Sortino": ratio(one.sortino),
        "max. drawdown": percent(one.maximum_drawdown),
        "days under water": NOTHING if one.drawdown_days is None else f"{one.drawdown_days:,}",
        "closed trades": f"{closed_trades:,}",
        "won": percent(one.win_rate),
        "profit factor": ratio(one.profit_factor),
        "in market": percent(one.exposure),
        "turnover": ratio(one.turnover),
        "costs": f"{one.costs_paid:,.2f}",
    }


def _tabulate_numbers(run: BacktestRun) -> Table:
    table = Table("number", "account", "buy-and-hold")
    held = _list_numbers(run.benchmark, 0)
    for name, text in _list_numbers(run.performance, run.closed_trades).items():
        table.add_row(name, text, held[name])
    return table


def _tabulate_costs(run: BacktestRun) -> Table:
    table = Table("fee and slippage", "return", "Sharpe", "fills")
    for case in run.costs:
        table.add_row(f"times {case.multiple}", change(case.total_return), ratio(case.sharpe), f"{case.fills:,}")
    return table


def _introduce(run: BacktestRun) -> list[str]:
    asked, data = run.request, run.data
    cycles = sum(run.outcomes.values())
    return [
        f"{_name(run)} on {', '.join(asked.symbols)}, {asked.interval} candles of {data.source}",
        f"{moment(asked.since)} to {moment(asked.until)}: {cycles:,} cycles, {run.fills:,} fills",
        f"{asked.initial_cash.normalize():f} became {run.final_equity.normalize():f}",
    ]


def _introduce_all(runs: Sequence[BacktestRun]) -> list[str]:
    places = {(", ".join(run.request.symbols), run.request.interval, run.data.source) for run in runs}
    spans = {(run.request.since, run.request.until) for run in runs}
    if len(places) > 1 or len(spans) > 1:
        return ["These ran on different candles, and buy-and-hold is that of the first: compare them with care."]
    symbols, interval, source = places.pop()
    since, until = spans.pop()
    return [f"{symbols}, {interval} candles of {source}, {moment(since)} to {moment(until)}"]


def _conclude(run: BacktestRun) -> list[str]:
    came = [f"{count:,} {code}" for code, count in list(run.outcomes.items())[:_SHOWN_OUTCOMES]]
    more = len(run.outcomes) - len(came)
    return [
        f"Cycles: {', '.join(came)}{f' and {more} other outcomes' if more else ''}",
        f"Luck? {run.significance.verdict if run.significance else NOTHING}",
        *(f"Note: {caveat.message}" for caveat in run.caveats),
        f"Run {run.id}, also at GET /backtest/runs/{run.id}",
    ]


def _say_doubled(run: BacktestRun) -> str:
    return next((change(case.total_return) for case in run.costs if case.multiple == 2), NOTHING)


def _say_luck(run: BacktestRun) -> str:
    """How likely it is more than luck, where there are days enough to say so."""
    found = run.significance
    if found is None or found.significant is None or found.deflated_sharpe is None:
        return NOTHING
    return percent(min(found.deflated_sharpe, _SUREST))


def _say_verified(run: BacktestRun, verified: Verified) -> str:
    if verified.difference is not None:
        return f"The drivers DIFFER (compiled, then engine): {verified.difference}"
    cycles = sum(run.outcomes.values())
    return f"Both drivers agree on all {cycles:,} cycles and {run.fills:,} fills, to the last 1e-8."


def _note_all(names: Sequence[str], runs: Sequence[BacktestRun]) -> list[str]:
    """What must be known of them, each once, with the names of those it is true of where that is not all."""
    whose: dict[str, list[str]] = {}
    for name, run in zip(names, runs, strict=True):
        for caveat in run.caveats:
            whose.setdefault(caveat.message, []).append(name)
    return [
        f"Note: {message}" if len(true_of) == len(runs) else f"Note on {' and '.join(true_of)}: {message}"
        for message, true_of in whose.items()
    ]


def _name_all(runs: Sequence[BacktestRun]) -> list[str]:
    """Their strategies, with parameters where a strategy is there twice, or has other ones than the usual."""
    names = [run.request.strategy for run in runs]
    return [
        run.request.strategy if names.count(run.request.strategy) == 1 and _is_usual(run) else _name(run)
        for run in runs
    ]


def _is_usual(run: BacktestRun) -> bool:
    usual = {one.name: one.default for one in get_rule(run.request.strategy).parameters}
    return usual == run.request.parameters


def _name(run: BacktestRun) -> str:
    told = ",".join(f"{name}={value:g}" for name, value in run.request.parameters.items())
    return f"{run.request.strategy}:{told}" if told else run.request.strategy


def _to_document(run: BacktestRun) -> dict[str, object]:
    return backtests.Backtest.model_validate(run).model_dump(mode="json")


def _print(table: Table) -> None:
    console = Console()
    (console if console.is_terminal else Console(width=_PIPE_WIDTH)).print(table)


def _plain(text: str) -> None:
    Console(soft_wrap=True).print(text, markup=False, highlight=False)


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False) + "\n")
