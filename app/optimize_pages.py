"""How an optimisation looks in a terminal, or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from app.api import optimizations
from app.report.wording import NOTHING, change, percent, ratio
from app.research.optimization.request import Objective
from app.research.optimization.result import Candidate, OptimizationRun
from app.research.optimization.wording import OBJECTIVES, say_plateau, say_values

_PIPE_WIDTH = 160
_SHOWN = 10


def print_optimization(run: OptimizationRun, *, as_json: bool) -> None:
    """What an optimisation came to: `GET /optimize/runs/{optimization_id}`, or tables and what it is worth."""
    if as_json:
        document = optimizations.Optimization.model_validate(run).model_dump(mode="json")
        sys.stdout.write(json.dumps(document, indent=1, allow_nan=False) + "\n")
        return
    for line in _introduce(run):
        _plain(line)
    candidates = run.front or run.top
    _print(_tabulate(run, candidates[:_SHOWN]))
    _print(_tabulate_choices(run))
    for line in _conclude(run):
        _plain(line)


def _introduce(run: OptimizationRun) -> list[str]:
    asked = run.request.backtest
    return [
        (
            f"{asked.strategy} on {', '.join(asked.symbols)}, {asked.interval} candles of {run.data.source}, "
            f"{asked.since:%Y-%m-%d} to {asked.until:%Y-%m-%d}"
        ),
        f"{run.trials:,} different trials by {run.request.method}, in {run.seconds:.1f} s",
    ]


def _tabulate(run: OptimizationRun, candidates: Sequence[Candidate]) -> Table:
    names = [one.name for one in run.request.axes]
    others = [one for one in run.request.objectives if one is Objective.CALMAR]
    heads = (OBJECTIVES[one] for one in others)
    table = Table("all days", *names, *heads, "Sharpe", "return", "max. drawdown", "fills")
    for place, one in enumerate(candidates, start=1):
        told = "best" if one.values == run.best.values else str(place)
        values = [f"{one.values[name]:g}" for name in names]
        worth = [ratio(one.objectives[run.request.objectives.index(other)]) for other in others]
        table.add_row(
            *(told, *values, *worth, ratio(one.sharpe), change(one.total_return)),
            *(percent(one.maximum_drawdown), f"{one.fills:,}"),
        )
    return table


def _tabulate_choices(run: OptimizationRun) -> Table:
    names = [one.name for one in run.request.axes]
    first = OBJECTIVES[run.request.objectives[0]]
    table = Table("chosen by", "judged on", *names, f"{first} chosen by", f"{first} judged on")
    for one in run.choices:
        table.add_row(
            f"{one.train_since:%Y-%m-%d} to {one.test_since:%Y-%m-%d}",
            f"{one.test_since:%Y-%m-%d} to {one.test_until:%Y-%m-%d}",
            *(f"{one.values[name]:g}" for name in names),
            ratio(one.in_sample),
            ratio(one.out_of_sample),
        )
    return table


def _conclude(run: OptimizationRun) -> list[str]:
    outside, overfitting, judgement = run.out_of_sample, run.overfitting, run.judgement
    kept = NOTHING if outside.ratio is None else f"{outside.ratio:.0%}"
    had = f"What you would have had from {outside.since:%Y-%m-%d} on: {change(outside.total_return)}"
    sharpe = f"Sharpe {ratio(outside.sharpe)}, {kept} of the {ratio(outside.in_sample_sharpe)} that was chosen by"
    lines = [
        f"{had}; buy-and-hold {change(outside.benchmark_return)}",
        f"{sharpe}; max. drawdown {percent(outside.maximum_drawdown)}",
        f"Probability of overfitting: {NOTHING if overfitting is None else percent(overfitting.probability)}",
        say_plateau(run.plateau),
    ]
    if judgement is not None:
        lines += [f"Recommended: {say_values(judgement.recommended)}", judgement.reason]
    again = f"Optimisation {run.id}, also at GET /optimize/runs/{run.id}"
    return [*lines, f"{again}; the backtest of the best is {run.best_run_id}"]


def _print(table: Table) -> None:
    console = Console()
    (console if console.is_terminal else Console(width=_PIPE_WIDTH)).print(table)


def _plain(text: str) -> None:
    Console(soft_wrap=True).print(text, markup=False, highlight=False)
