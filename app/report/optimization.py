"""The page of an optimisation: what was found, what you would have had, and whether it can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from app.report.drawing import FLOWING, OTHER, OWN, TIME_AXIS, make_figure
from app.report.heatmaps import draw_plateau
from app.report.page import Chart, Facts, Page, Section, Table, Tile, Words, render_page
from app.report.wording import NOTHING, change, list_settings, percent, ratio
from app.research.backtest.request import BacktestRequest
from app.research.optimization.result import Candidate, OptimizationRun, OutOfSample
from app.research.optimization.wording import OBJECTIVES, say_plateau, say_values


def render_optimization(run: OptimizationRun) -> str:
    """Write an optimisation as a page of HTML that can be opened from disk and asks for nothing."""
    asked, judgement = run.request.backtest, run.judgement
    recommended = None if judgement is None else judgement.recommended
    page = Page(
        title=f"Parameters of {asked.strategy} on {', '.join(asked.symbols)}, {asked.interval} candles",
        subtitle=f"{run.trials:,} different trials by {run.request.method} from {asked.since:%Y-%m-%d} to "
        f"{asked.until:%Y-%m-%d}, candles from {run.data.source}. All times are UTC.",
        tone="bad" if recommended is None else "good",
        verdict=[f"Recommended: {say_values(recommended)}.", "" if judgement is None else judgement.reason],
        tiles=_list_tiles(run),
        sections=[
            Section("What you would have had", [_draw_growth(run.out_of_sample), Words(_EXPLANATION)]),
            Section("Choices", [_list_choices(run)]),
            Section("Plateau or spike?", [Words(say_plateau(run.plateau)), _draw_map(run)]),
            Section("The best by all days", [_list_candidates(run, run.front or run.top)]),
            Section("Settings", [Facts(_list_facts(run)), Facts(list_settings(_leave_out_varied(run)))]),
        ],
    )
    return render_page(page)


_EXPLANATION = (
    "Every choice was made by days before those it is shown on; one that differs from the one before pays a round trip."
)


def _list_tiles(run: OptimizationRun) -> list[Tile]:
    outside, overfitting, judgement = run.out_of_sample, run.overfitting, run.judgement
    deflated = None if judgement is None else judgement.significance.deflated_sharpe
    return [
        Tile("Out of sample", change(outside.total_return), f"buy-and-hold {change(outside.benchmark_return)}"),
        Tile("Sharpe out of sample", ratio(outside.sharpe), f"in sample {ratio(outside.in_sample_sharpe)}"),
        Tile("Overfitting", percent(None if overfitting is None else overfitting.probability), "above 50 % is refused"),
        Tile("More than luck", percent(deflated), "above 95 % is asked"),
    ]


def _draw_growth(outside: OutOfSample) -> Chart:
    days = [f"{outside.since + timedelta(days=number - 1):%Y-%m-%d}" for number in range(len(outside.curve))]
    lines = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": days,
            "y": [100.0 * (one / curve[0] - 1.0) for one in curve],
            "line": {"color": colour},
        }
        for name, curve, colour in (("choices", outside.curve, OWN), ("buy-and-hold", outside.benchmark, OTHER))
    ]
    figure = make_figure(
        lines, 320, xaxis=dict(TIME_AXIS), yaxis={"title": {"text": "return, in %"}}, legend=dict(FLOWING)
    )
    return Chart("Return out of sample, in %", figure)


def _draw_map(run: OptimizationRun) -> Chart:
    plateau, measure = run.plateau, OBJECTIVES[run.request.objectives[0]]
    names = (plateau.names[0], plateau.names[1] if len(plateau.names) > 1 else "")
    upwards: Sequence[object] = [f"{one:g}" for one in plateau.upwards] if len(plateau.names) > 1 else [""]
    return draw_plateau(names, ([f"{one:g}" for one in plateau.across], upwards), plateau.cells, measure)


def _list_choices(run: OptimizationRun) -> Table:
    names = [one.name for one in run.request.axes]
    rows = [
        (
            f"{one.train_since:%Y-%m-%d} to {one.test_since:%Y-%m-%d}",
            f"{one.test_since:%Y-%m-%d} to {one.test_until:%Y-%m-%d}",
            *(f"{one.values[name]:g}" for name in names),
            ratio(one.in_sample),
            ratio(one.out_of_sample),
        )
        for one in run.choices
    ]
    first = OBJECTIVES[run.request.objectives[0]]
    return Table(("chosen by", "judged on", *names, f"{first} chosen by", f"{first} judged on"), rows)


def _list_candidates(run: OptimizationRun, candidates: Sequence[Candidate]) -> Table:
    names = [one.name for one in run.request.axes]
    rows = [
        (
            *(f"{one.values[name]:g}" for name in names),
            ratio(one.sharpe),
            change(one.total_return),
            percent(one.maximum_drawdown),
            f"{one.fills:,}",
        )
        for one in candidates
    ]
    return Table((*names, "Sharpe", "return", "max. drawdown", "fills"), rows)


def _leave_out_varied(run: OptimizationRun) -> BacktestRequest:
    """What every trial is; a parameter that varies has a value there that means nothing."""
    varied, asked = {one.name for one in run.request.axes}, run.request.backtest
    return replace(asked, parameters={name: one for name, one in asked.parameters.items() if name not in varied})


def _list_facts(run: OptimizationRun) -> list[tuple[str, str]]:
    asked = run.request
    ranges = [(one.name, f"{one.low:g} to {one.high:g} by {one.step:g}") for one in asked.axes]
    return [
        *ranges,
        ("method", asked.method.value),
        ("looked for", " and ".join(OBJECTIVES[one] for one in asked.objectives)),
        ("folds", f"{asked.folds.folds}{', rolling' if asked.folds.rolling else ''}"),
        ("share of the days of the first choice", f"{asked.folds.train_share:g}"),
        ("seed", str(asked.seed)),
        ("backtest of the best", run.best_run_id or NOTHING),
        ("optimisation", run.id),
        ("version", run.code_version),
    ]
