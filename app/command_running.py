"""What every command needs: a service that is closed again whatever happens, and quiet logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer

from app.bootstrap import Service, build_service
from app.errors import InvalidInputError
from app.observability.logging import configure_logging
from app.setting_kinds import LogFormat, LogLevel
from app.settings import Settings

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of a table.")]


def run_with_service(settings: Settings, work: Callable[[Service], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with a service that trains and scores nothing by itself."""

    async def run() -> T:
        service = build_service(settings)
        try:
            await service.start(train=False)
            return await work(service)
        finally:
            await service.stop()

    with suppress(asyncio.CancelledError):
        return asyncio.run(run())
    raise typer.Abort


@asynccontextmanager
async def open_books(settings: Settings) -> AsyncIterator[Service]:
    """A service with its database open, and no market."""
    service = build_service(settings)
    async with service.database:
        yield service


def be_quiet(settings: Settings) -> None:
    """Commands print their own results; only what goes wrong is logged besides."""
    level = settings.log_level if settings.log_level is LogLevel.DEBUG else LogLevel.ERROR
    configure_logging(level.value, json_lines=settings.log_format is LogFormat.JSON)


def check_symbols(symbols: tuple[str, ...]) -> None:
    """Refuse what is no symbol; raises InvalidInputError (`invalid_symbol`)."""
    for symbol in symbols:
        if not (5 <= len(symbol) <= 20 and symbol.isascii() and symbol.isalnum() and symbol == symbol.upper()):
            raise InvalidInputError(
                f"{symbol[:40]!r} is no symbol: 5 to 20 capital letters and digits, such as BTCUSDT.",
                code="invalid_symbol",
            )


def parse_moment(text: str | None, option: str) -> datetime | None:
    """The moment, UTC, that an option names; raises InvalidInputError (`invalid_time`) where it names none."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidInputError(
            f"{option}: {text[:40]!r} is no date or time, such as 2026-01-31 or 2026-01-31T12:00:00Z.",
            code="invalid_time",
        ) from None
