"""The command that holds life against the backtest. It needs no market."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app import record_pages, terminal
from app.command_running import AsJson, be_quiet, open_books, parse_moment
from app.settings import load_settings

_UNEXPLAINED = 3


def parity(
    since: Annotated[str | None, typer.Option(help="Only cycles that ended at this UTC time or later.")] = None,
    run: Annotated[str | None, typer.Option(help="Such as binance.forest.main.1; all of them when not given.")] = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer makes options of defaults
) -> None:
    """Run every recorded live cycle again by the backtest, trade by trade. Exits 3 where one is unexplained."""
    settings = load_settings()
    be_quiet(settings)
    first = parse_moment(since, "--since")

    async def compare() -> bool:
        async with open_books(settings) as service:
            with terminal.progress_bar() as on_progress:
                report = await service.parity.run(lambda share, words: on_progress(words, share), first, run)
        record_pages.print_parity(report, as_json=as_json)
        return report.is_explained

    if not asyncio.run(compare()):
        raise typer.Exit(_UNEXPLAINED)
