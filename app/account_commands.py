"""The commands that tell of the account."""

from __future__ import annotations

from typing import Annotated

import typer

from app import terminal
from app.bootstrap import Service
from app.command_running import AsJson, be_quiet, run_with_service
from app.settings import load_settings


def performance(
    run: Annotated[str | None, typer.Option(help="Such as binance.forest.main.1; the newest when not given.")] = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer makes options of defaults
) -> None:
    """Show how the account did: return, risk, trades, costs, and whether that is any good."""
    settings = load_settings()
    be_quiet(settings)

    async def show(service: Service) -> None:
        terminal.print_performance(await service.performance.measure(run), as_json=as_json)

    run_with_service(settings, show)
