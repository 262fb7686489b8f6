"""Structured logs: one event a line, in which nothing a user sent can forge a line or show a secret."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

VALUE_LIMIT = 200
"""How many characters of any one value are written."""

_EVENT_LIMIT = 1_000
_TRACEBACK_LINE_LIMIT = 500
_TRACEBACK_LINES = 60
_TRACEBACK_KEYS = frozenset({"exception", "stack"})
_SECRET_KEYS = frozenset(
    {"api_key", "authorization", "cookie", "database_url", "password", "secret", "token", "x-api-key", "x_api_key"}
)
_MASK = "***"
_QUIET_LOGGERS = ("uvicorn", "uvicorn.error", "httpx", "aiohttp", "asyncio", "stamina", "alembic")


def printable(text: str, limit: int = VALUE_LIMIT) -> str:
    r"""Cut `text` to `limit` characters and escape whatever is not printable.

    Control characters, ANSI sequences, line and paragraph separators, direction marks and lone surrogates
    all become backslash escapes, so that the result is one line of valid UTF-8.

    >>> printable("up\n2026 forged line")
    'up\\n2026 forged line'
    >>> printable("abcdef", limit=3)
    'abc…'
    """
    cut = text if len(text) <= limit else text[:limit] + "…"
    if cut.isprintable():
        return cut
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in cut
    )


class Sanitizer:
    """A structlog processor that masks secrets, cuts long values and escapes control characters.

    Args:
        secrets: The exact texts that must never be written, such as the API key.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = tuple(sorted({secret for secret in secrets if secret}, key=len, reverse=True))

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Return the event with every value made safe to write."""
        for key, value in event.items():
            event[key] = self._clean(key, value)
        return event

    def _clean(self, key: str, value: object) -> object:
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return value if abs(value) < 2**63 else _MASK
        if key.lower() in _SECRET_KEYS:
            return _MASK
        text = self._mask(str(value))
        if key in _TRACEBACK_KEYS:
            return _indented(text)
        return printable(text, _EVENT_LIMIT if key == "event" else VALUE_LIMIT)

    def _mask(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text


def _indented(text: str) -> str:
    """A traceback whose continuation lines all start with blanks, so that none can pass for an event."""
    lines = [printable(line, _TRACEBACK_LINE_LIMIT) for line in text.splitlines()]
    return "\n    ".join(lines[-_TRACEBACK_LINES:])


class _OurHandler(logging.StreamHandler[TextIO]):
    """Told apart from handlers that others installed."""


def configure_logging(
    level: str = "INFO", *, json_lines: bool = False, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Send the logs of the whole process, those of libraries included, through one chain to `stream`.

    Calling it again replaces the former configuration.

    Args:
        level: The least severe level that is written: DEBUG, INFO, WARNING or ERROR.
        json_lines: One JSON object a line; otherwise lines for people.
        secrets: Texts that are masked wherever they appear.
        stream: Where lines go; standard error when not given, so that standard output stays free for results.
    """
    target = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _OurHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                Sanitizer(secrets),
                _renderer(json_lines=json_lines, colors=target.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    for former in [former for former in root.handlers if isinstance(former, _OurHandler)]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))


def _renderer(*, json_lines: bool, colors: bool) -> Processor:
    if json_lines:
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
