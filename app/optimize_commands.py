"""The command that looks for parameters: optimize."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import typer

from app import optimize_pages, terminal
from app.backtest_options import Options, ask, parse_pairs, parse_parameters, read_file
from app.bootstrap import Service
from app.choices import TUNED, choose_axes, choose_days
from app.command_running import be_quiet, parse_moment, run_with_service, with_options
from app.engine.clocks import SystemClock
from app.errors import InvalidInputError
from app.research.optimization.request import Method, Objective, make_request
from app.research.optimization.space import TRADING, Range
from app.settings import load_settings
from app.strategies.registry import STRATEGIES

_NUMBER: Final = r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?"
_RANGE: Final = re.compile(rf"({_NUMBER}):({_NUMBER})(?::({_NUMBER}))?")


@dataclass(frozen=True, kw_only=True)
class OptimizeOptions(Options):
    """What `optimize` can be told besides."""

    strategy: Annotated[str, typer.Option(help=f"One of {', '.join(STRATEGIES)}.")] = TUNED
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOW:HIGH[:STEP]",
            help=f"What varies, fast_bars=5:50:5; also {', '.join(TRADING)}. Every parameter when not given.",
        ),
    ] = None
    parameter: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="A parameter that does not vary, fast_bars=10.")
    ] = None
    model: Annotated[
        str | None, typer.Option(metavar="MODEL_ID", help="forest: a trained model, on candles after its training.")
    ] = None
    method: Annotated[Method, typer.Option(help="How points are looked for.")] = Method.RANDOM
    objective: Annotated[
        list[Objective] | None,
        typer.Option(help="What is looked for; sharpe. nsga2 takes two: sharpe and maximum_drawdown."),
    ] = None
    trials: Annotated[int, typer.Option(help="random, tpe: how many points a search tries.")] = 200
    population: Annotated[int, typer.Option(help="genetic, nsga2: how many points a generation has.")] = 40
    generations: Annotated[int, typer.Option(help="genetic, nsga2: how many there are.")] = 8
    elite: Annotated[int, typer.Option(help="genetic: how many of the best go on as they are.")] = 2
    tournament: Annotated[int, typer.Option(help="genetic: of how many the best becomes a parent.")] = 3
    crossover: Annotated[float, typer.Option(help="genetic: how likely a child has two parents.")] = 0.9
    mutation: Annotated[float, typer.Option(help="genetic: how likely each value of a child changes.")] = 0.2
    folds: Annotated[int, typer.Option(help="How many choices are judged on the days after them.")] = 5
    train_share: Annotated[float, typer.Option(help="The share of the days that the first is made by.")] = 0.5
    rolling: Annotated[
        bool, typer.Option("--rolling", help="Choose by as many days as the first time, not by all before.")
    ] = False

    def find_search(self) -> dict[str, Any]:
        """How points are looked for, and what for."""
        own = ("method", "trials", "seed", "folds", "train_share", "rolling")
        evolution = ("population", "generations", "elite", "tournament", "crossover", "mutation")
        found = {name: getattr(self, name) for name in (*own, *evolution)}
        return found | ({"objectives": tuple(self.objective)} if self.objective else {})


@with_options(OptimizeOptions)
def optimize(options: OptimizeOptions) -> None:
    """Try parameters on past candles, and say whether the best can be believed. Begun again it goes on where it was."""
    settings = load_settings()
    be_quiet(settings)
    if options.html is not None:
        terminal.check_page(options.html)
    now = SystemClock().now()
    asked: dict[str, Any] = {"strategy": options.strategy}
    if options.model is not None:
        asked["model_id"] = options.model
    if options.parameter:
        asked["parameters"] = parse_parameters(options.parameter, "--parameter")
    axes, fields = choose_axes(settings, parse_ranges(options.vary or ()), asked)
    found = read_file(options, now)
    if found is None:
        ends = (parse_moment(options.since, "--since"), parse_moment(options.until, "--until"))
        since, until = choose_days(now, *ends)
        options = replace(options, since=since.isoformat(), until=until.isoformat())
    backtest, candles = ask(replace(options, seed=0), settings, now, found, **fields)
    request = make_request(backtest, axes, options.find_search())

    async def work(service: Service) -> None:
        with terminal.progress_bar() as on_progress:
            run = await service.optimizations.run(request, lambda share, words: on_progress(words, share), candles)
        optimize_pages.print_optimization(run, as_json=options.as_json)
        if options.html is not None:
            from app.report.optimization import render_optimization  # noqa: PLC0415 - only a page needs charts

            terminal.save_page(render_optimization(run), options.html, is_told=not options.as_json)

    run_with_service(settings, work)


def parse_ranges(texts: Sequence[str]) -> dict[str, Range]:
    """Ranges, each as `NAME=LOW:HIGH` or `NAME=LOW:HIGH:STEP`; raises InvalidInputError `invalid_option`.

    >>> parse_ranges(["fast_bars=5:50:5"])
    {'fast_bars': Range(low=5.0, high=50.0, step=5.0)}
    """
    ranges = {}
    for name, text in parse_pairs(texts, "--vary").items():
        match = _RANGE.fullmatch(text)
        if match is None:
            words = f"--vary: {name[:40]}={text[:40]!r} is not as fast_bars=5:50:5."
            raise InvalidInputError(words, code="invalid_option")
        ranges[name] = Range(*(None if one is None else float(one) for one in match.groups()))
    return ranges
