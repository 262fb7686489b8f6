"""What every command needs: a service that is closed again whatever happens, and quiet logs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, get_type_hints

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


def with_options(kind: type[Any]) -> Callable[[Callable[[Any], None]], Callable[..., None]]:
    """Make each field of a dataclass an option of the command, its own first, which is called with the whole of it."""
    hints = get_type_hints(kind, include_extras=True)
    own_first = sorted(fields(kind), key=lambda one: one.name not in kind.__annotations__)
    options = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in own_first
    ]

    def decorate(command: Callable[[Any], None]) -> Callable[..., None]:
        def run(**values: object) -> None:
            command(kind(**values))

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        return run

    return decorate
