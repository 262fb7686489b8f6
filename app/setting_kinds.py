"""The kinds of values that settings take: names by their pattern, and choices."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

SYMBOL_PATTERN = r"^[A-Z0-9]{5,20}$"
"""What a symbol looks like."""

SymbolName = Annotated[str, Field(pattern=SYMBOL_PATTERN)]

Share = Annotated[Decimal, Field(ge=0, le=1, decimal_places=4)]

MINIMUM_KEY_CHARACTERS = 16
"""The shortest API key that is accepted."""

_HOST_NAME = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*")
_RUN_NAME = re.compile(r"[a-z0-9_-]{1,32}")


def _check_run_name(value: str) -> str:
    if not _RUN_NAME.fullmatch(value):
        raise ValueError("must be 1 to 32 small letters, digits, - and _")
    return value


def _check_key(value: SecretStr | None) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    key = value.get_secret_value()
    if len(key) < MINIMUM_KEY_CHARACTERS:
        raise ValueError(f"must have at least {MINIMUM_KEY_CHARACTERS} characters; try: openssl rand -hex 32")
    # Anything else cannot be sent in a header as it is.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("must consist of plain ASCII characters without spaces; try: openssl rand -hex 32")
    return value


def _check_address(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username):
        raise ValueError("must be an http:// or https:// address without a user name")
    return value.rstrip("/")


def _check_host_name(value: str) -> str:
    if not _HOST_NAME.fullmatch(value):
        raise ValueError(f"{value!r:.60} is not a name such as example.org, 192.0.2.7 or [::1]; leave out the port")
    return value


def _check_origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or value.count("/") != len("//"):
        raise ValueError(f"{value!r:.60} is not an origin such as https://example.org")
    return value


RunName = Annotated[str, AfterValidator(_check_run_name)]
ApiKey = Annotated[SecretStr | None, AfterValidator(_check_key)]
HttpAddress = Annotated[str, AfterValidator(_check_address)]
HostName = Annotated[str, AfterValidator(_check_host_name)]
Origin = Annotated[str, AfterValidator(_check_origin)]


class MarketSource(StrEnum):
    """Where market data comes from."""

    AUTO = "auto"
    BINANCE = "binance"
    SIMULATED = "simulated"


class LogFormat(StrEnum):
    """How log lines look."""

    CONSOLE = "console"
    JSON = "json"


class LabelKind(StrEnum):
    """What counts as BUY and SELL; the rules are those of `ml.labels.LabelRule`."""

    FIXED = "fixed"
    VOLATILITY = "volatility"
    TRIPLE_BARRIER = "triple_barrier"


class ClassWeight(StrEnum):
    """How much a class counts in training."""

    NONE = "none"
    BALANCED = "balanced"


class CalibrationMethod(StrEnum):
    """How stated probabilities are made to come true."""

    TEMPERATURE = "temperature"
    SIGMOID = "sigmoid"
    ISOTONIC = "isotonic"


class LogLevel(StrEnum):
    """The least severe log line that is written."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
