"""`python -m app …`: everything the service does, from a terminal, with or without a running server."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from app import (
    __version__,
    account_commands,
    backtest_commands,
    book_commands,
    optimize_commands,
    parity_commands,
    terminal,
)
from app.bootstrap import Service
from app.command_running import AsJson, be_quiet, check_symbols, open_books, parse_moment, run_with_service
from app.demo import run_demo
from app.domain.candle import Interval
from app.domain.events import Event, EventFilter, EventType
from app.domain.ports import Selection
from app.engine.runner import run_every
from app.errors import ConfigurationError, InvalidInputError, NotFoundError, ServiceError
from app.settings import load_settings

app = typer.Typer(
    name="python -m app",
    help="Papertape: a prediction microservice for crypto that trades on paper. Not advice; no real order is sent.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SymbolOption = Annotated[str | None, typer.Option(help="The symbol, such as BTCUSDT; DEFAULT_SYMBOL when not given.")]

_FOLLOW_SECONDS = 1.0
_DOWNLOADED_BY_DEFAULT = timedelta(days=30)
_CALLER_IS_WRONG = (ConfigurationError, InvalidInputError, NotFoundError)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on; HOST when not given.")] = None,
    port: Annotated[
        int | None, typer.Option(help="The port to listen on, 0 for a free one; PORT when not given.")
    ] = None,
) -> None:
    """Run the service until it is told to stop (Ctrl-C or SIGTERM)."""
    from app.main import serve as serve_http  # noqa: PLC0415 - the other commands need not load the web framework

    given = {name: value for name, value in {"host": host, "port": port}.items() if value is not None}
    settings = load_settings(**given)
    serve_http(settings, partial(terminal.print_banner, Console(stderr=False)))


@app.command()
def demo(
    cycles: Annotated[int, typer.Option(min=1, max=10_000, help="How many one-minute cycles to run.")] = 1000,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="The market's seed.")] = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer makes options of defaults
) -> None:
    """Train and trade on the simulated market, without network, keys or traces; same seed, same result."""
    settings = load_settings(**({} if seed is None else {"simulated_seed": seed}))
    be_quiet(settings)
    with terminal.progress_bar() as on_progress:
        result = asyncio.run(run_demo(settings, cycles, on_progress))
    terminal.print_demo(result, as_json=as_json)


@app.command()
def cycle(
    symbol: SymbolOption = None,
    every_symbol: Annotated[bool, typer.Option("--all", help="Run a cycle of each of SYMBOLS.")] = False,  # noqa: FBT002
    interval: Annotated[Interval | None, typer.Option(help="The candle interval; DEFAULT_INTERVAL.")] = None,
    loop: Annotated[float | None, typer.Option(min=1, help="Go on, a round every so many seconds.")] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Run one cycle (or, with --loop, one after another) and print what came of it. Trains first without a model."""
    settings = load_settings()
    be_quiet(settings)
    symbols = settings.symbols if every_symbol else (symbol or settings.default_symbol,)
    check_symbols(symbols)
    chosen = interval or settings.default_interval
    run_with_service(settings, lambda service: _cycles(service, symbols, chosen, loop, as_json=as_json))


async def _cycles(
    service: Service, symbols: tuple[str, ...], interval: Interval, loop: float | None, *, as_json: bool
) -> None:
    await _need_model(service)

    async def one_round() -> None:
        failed: ServiceError | None = None
        for symbol in symbols:
            try:
                report, _ = await service.run_cycle(symbol, interval)
            except ServiceError as error:
                failed = error
                terminal.print_error(error, symbol)
            else:
                terminal.print_cycle(report, as_json=as_json)
        if failed is not None and loop is None:
            raise typer.Exit(_exit_code(failed))

    if loop is None:
        await one_round()
    else:
        await run_every(loop, one_round, on_missed=terminal.print_missed)


@app.command()
def trades(
    symbol: SymbolOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """List the newest trades of the database."""
    settings = load_settings()
    be_quiet(settings)
    if symbol is not None:
        check_symbols((symbol,))

    async def show() -> None:
        async with open_books(settings) as service:
            page = await service.ledger.list_trades(limit=limit, wanted=Selection(symbol))
        terminal.print_trades(page.items, as_json=as_json)

    asyncio.run(show())


@app.command()
def logs(
    kind: Annotated[EventType | None, typer.Option("--type", help="Only this type.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol, such as BTCUSDT.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what happened at this date or time, UTC, or later.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what happens, until Ctrl-C.")] = False,  # noqa: FBT002
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as JSON on a line.")] = False,  # noqa: FBT002
) -> None:
    """Print the newest events of the database, the oldest of them first, whether or not a server is running."""
    settings = load_settings()
    be_quiet(settings)
    if symbol is not None:
        check_symbols((symbol,))
    wanted = EventFilter(kind, symbol, parse_moment(since, "--since"))

    async def show() -> None:
        async with open_books(settings) as service:
            events: Sequence[Event] = (await service.event_log.list(wanted, limit=limit)).items[::-1]
            last = 0
            while True:
                for event in events:
                    terminal.print_event(event, as_json=as_json)
                    last = event.sequence
                if not follow:
                    return
                if not events:
                    await asyncio.sleep(_FOLLOW_SECONDS)
                events = await service.event_log.load_after(last, limit, wanted)

    asyncio.run(show())


@app.command()
def model(
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the card with pictures to this file, as one page for a browser."),
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show the card of the model that would be used: what it was trained on, and how it did out of sample."""
    if html is not None and as_json:
        raise InvalidInputError("Give --html or --json, not both.", code="options_conflict")
    settings = load_settings()
    be_quiet(settings)

    async def show(service: Service) -> None:
        card = dict(service.model_card())
        if html is None:
            terminal.print_card(card, as_json=as_json)
        else:
            from app.model_card.page import render_html  # noqa: PLC0415 - the other commands need not load a parser

            terminal.save_page(render_html(card), html)

    run_with_service(settings, show)


@app.command()
def train(as_json: AsJson = False) -> None:  # noqa: FBT002
    """Train a model on recent candles and keep it; a running service takes it at its next start."""
    settings = load_settings()
    be_quiet(settings)

    async def work(service: Service) -> None:
        with terminal.progress_bar() as on_progress:
            await service.keeper.train(lambda share, words: on_progress(words, share))
        terminal.print_card(dict(service.model_card()), as_json=as_json)

    run_with_service(settings, work)


@app.command("track-record")
def track_record(as_json: AsJson = False) -> None:  # noqa: FBT002
    """Score the decisions whose labels have settled, and show how each model's came out, the newest model first."""
    settings = load_settings()
    be_quiet(settings)

    async def show(service: Service) -> None:
        _, failure = await service.scorer.score()
        terminal.print_track_record(await service.track_record(), as_json=as_json)
        if failure is not None:
            terminal.print_error(failure)
            raise typer.Exit(_exit_code(failure))

    run_with_service(settings, show)


@app.command()
def download(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="Such as BTCUSDT.")],
    interval: Annotated[Interval | None, typer.Option(help="The candle interval; DEFAULT_INTERVAL.")] = None,
    since: Annotated[str | None, typer.Option(help="Date or time, UTC, of the first candle; 30 days ago.")] = None,
    until: Annotated[str | None, typer.Option(help="Date or time, UTC, that the last opens before; now.")] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Keep a span of candles in the database, for training; run again, it fetches only what is missing."""
    settings = load_settings()
    be_quiet(settings)
    check_symbols((symbol,))
    first, last = parse_moment(since, "--since"), parse_moment(until, "--until")

    async def work(service: Service) -> None:
        now = service.clock.now()
        start, end = first or now - _DOWNLOADED_BY_DEFAULT, min(last or now, now)
        if start >= end:
            raise InvalidInputError("--since must lie before --until, and in the past.", code="invalid_span")
        with terminal.progress_bar() as on_progress:

            def settled(done: int, total: int) -> None:
                on_progress(f"{symbol}: {done:,} of {total:,} candles", done / max(total, 1))

            report = await service.history.download(symbol, interval or settings.default_interval, start, end, settled)
        terminal.print_download(report, as_json=as_json)

    run_with_service(settings, work)


@app.command()
def doctor(as_json: AsJson = False) -> None:  # noqa: FBT002
    """Check the exchange, the clock, the database and the model, and say what to do about what is wrong."""
    settings = load_settings()
    be_quiet(settings)

    async def look(service: Service) -> None:
        checks = await service.checks()
        terminal.print_checks(service, checks, as_json=as_json)
        if not all(check.ok for check in checks if check.name != "model"):
            raise typer.Exit(3)

    run_with_service(settings, look)


for command in (
    *(account_commands.performance, book_commands.verify, book_commands.replay, book_commands.why),
    parity_commands.parity,
    *(backtest_commands.backtest, backtest_commands.walk_forward, backtest_commands.compare),
    optimize_commands.optimize,
):
    app.command()(command)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line; errors become one readable line and an exit code (2 input, 3 refused, 1 a fault)."""
    try:
        # What a command exits with comes back as a value; what it returns itself is nothing.
        sys.exit(app(standalone_mode=False))
    except ServiceError as error:
        terminal.print_error(error)
        sys.exit(_exit_code(error))
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
        show: Callable[[], Any] = getattr(error, "show", lambda: None)
        show()
        sys.exit(int(error.exit_code))


async def _need_model(service: Service) -> None:
    if service.strategy.bundle is None:
        with terminal.progress_bar() as on_progress:
            await service.keeper.train(lambda share, words: on_progress(words, share))


def _exit_code(error: ServiceError) -> int:
    return 2 if isinstance(error, _CALLER_IS_WRONG) else 3
