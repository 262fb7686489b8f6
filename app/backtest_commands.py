"""The commands that trade the past: backtest, walk-forward and compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer

from app import backtest_pages, terminal
from app.backtest_options import Options, ask, parse_parameters, parse_strategy, read_file
from app.bootstrap import Service
from app.command_running import be_quiet, run_with_service, with_options
from app.engine.clocks import SystemClock
from app.errors import InvalidInputError
from app.research.backtest.keeper import Candles
from app.research.backtest.request import BacktestRequest
from app.research.child import OnProgress
from app.settings import Settings, load_settings
from app.strategies.forest import FOREST
from app.strategies.registry import STRATEGIES

_NOT_EQUAL = 3
_Asked = tuple[BacktestRequest, Candles | None]


@dataclass(frozen=True, kw_only=True)
class BacktestOptions(Options):
    """What `backtest` can be told besides."""

    strategy: Annotated[str, typer.Option(help=f"One of {', '.join(STRATEGIES)}.")] = "forest"
    parameter: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="A parameter of the strategy, fast_bars=10.")
    ] = None
    model: Annotated[
        str | None, typer.Option(metavar="MODEL_ID", help="forest: a trained model, on candles after its training.")
    ] = None
    verify: Annotated[
        bool, typer.Option("--verify", help="Run both drivers; exits 3 at the first number that differs.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class WalkForwardOptions(Options):
    """What `walk-forward` can be told besides."""

    train_bars: Annotated[
        str | None, typer.Option(help="On how many candles the forest is trained; TRAINING_KLINES.")
    ] = None
    step_bars: Annotated[
        int | None, typer.Option(min=1, help="After how many it is trained anew; as often as the service would.")
    ] = None
    parameter: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="A parameter of the forest, horizon_bars=20.")
    ] = None

    def find_settings(self) -> dict[str, object]:
        """As `Options`, and how many candles train."""
        own = super().find_settings()
        return own if self.train_bars is None else own | {"training_klines": self.train_bars}


@dataclass(frozen=True, kw_only=True)
class CompareOptions(Options):
    """What `compare` can be told besides."""

    run: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Backtests that are kept, in place of new ones.")
    ] = None
    strategy: Annotated[
        list[str] | None, typer.Option(help="NAME, or NAME:fast_bars=5,slow_bars=20; every strategy when not given.")
    ] = None


@with_options(BacktestOptions)
def backtest(options: BacktestOptions) -> None:
    """Trade a strategy on past candles, by the rules of the live service, and say what came of it."""
    asked: dict[str, Any] = {"strategy": options.strategy}
    if options.parameter:
        asked["parameters"] = parse_parameters(options.parameter, "--parameter")
    if options.model is not None:
        asked["model_id"] = options.model
    _run_one(options, asked, verify=options.verify)


@with_options(WalkForwardOptions)
def walk_forward(options: WalkForwardOptions) -> None:
    """Trade the forest, trained on the way on what came before each piece, so that no model sees what it trades."""
    parameters = parse_parameters(options.parameter or (), "--parameter")
    _run_one(options, {"strategy": FOREST.name, "parameters": parameters, "step_bars": options.step_bars})


@with_options(CompareOptions)
def compare(options: CompareOptions) -> None:
    """Put strategies, or backtests that are kept, side by side with buy-and-hold."""
    if options.run and (options.strategy or options.file):
        raise InvalidInputError("Give RUNs, or what is to be run.", code="options_conflict")
    settings = _begin(options)
    named = [parse_strategy(text) for text in options.strategy or STRATEGIES]
    asked = [] if options.run else _ask_each(options, settings, named)

    async def work(service: Service) -> None:
        run_ids = list(options.run or await _run_each(service, asked))
        results = [await service.backtests.load(run_id) for run_id in run_ids]
        backtest_pages.print_comparison([one.run for one in results], as_json=options.as_json)
        if options.html is not None:
            from app.report.comparison import render_comparison  # noqa: PLC0415 - only a page needs charts

            terminal.save_page(render_comparison(results), options.html, is_told=not options.as_json)

    run_with_service(settings, work)


def _begin(options: Options) -> Settings:
    settings = load_settings()
    be_quiet(settings)
    if options.html is not None:
        terminal.check_page(options.html)
    return settings


def _run_one(options: Options, asked: Mapping[str, Any], *, verify: bool = False) -> None:
    settings, now = _begin(options), SystemClock().now()
    request, candles = ask(options, settings, now, read_file(options, now), **asked)

    async def work(service: Service) -> bool:
        difference = None
        with terminal.progress_bar() as on_progress:
            found = candles or await service.backtests.fetch_candles(request, _swap(on_progress))
            if verify:
                result, difference = await service.backtests.verify(request, _swap(on_progress), found)
            else:
                result = await service.backtests.run(request, _swap(on_progress), found)
        verified = backtest_pages.Verified(difference) if verify else None
        backtest_pages.print_backtest(result.run, verified, as_json=options.as_json)
        if options.html is not None:
            from app.report.backtest import render_backtest  # noqa: PLC0415 - only a page needs charts

            terminal.save_page(render_backtest(result, found.history), options.html, is_told=not options.as_json)
        return difference is None

    if not run_with_service(settings, work):
        raise typer.Exit(_NOT_EQUAL)


def _ask_each(options: Options, settings: Settings, named: Sequence[tuple[str, Mapping[str, float]]]) -> list[_Asked]:
    now = SystemClock().now()
    found = read_file(options, now)
    asked = [
        ask(options, settings, now, found, strategy=strategy, parameters=parameters) for strategy, parameters in named
    ]
    latest = max(request.since for request, _ in asked)  # the one that must have seen the most of a file
    return [(replace(request, since=latest), candles) for request, candles in asked]


async def _run_each(service: Service, asked: Sequence[_Asked]) -> list[str]:
    """Run one after another; returns their ids."""
    run_ids = []
    with terminal.progress_bar() as on_progress:
        for place, (request, candles) in enumerate(asked):

            def tell(share: float, words: str, place: int = place, name: str = request.strategy) -> None:
                on_progress(f"{name}: {words}", (place + share) / len(asked))

            run_ids.append((await service.backtests.run(request, tell, candles)).run.id)
    return run_ids


def _swap(on_progress: Callable[[str, float], None]) -> OnProgress:
    return lambda share, words: on_progress(words, share)
