"""Every environment variable, once, typed, with its sentence. Only the edge reads this."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.domain.candle import Interval
from app.errors import ConfigurationError

SYMBOL_PATTERN = r"^[A-Z0-9]{5,20}$"
"""What a symbol looks like."""

MINIMUM_KEY_CHARACTERS = 16
"""The shortest API key that is accepted."""

_HOST_NAME = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*")
_SCHEDULER = re.compile(r"(tcp|tls)://[A-Za-z0-9.:\[\]_-]+:[0-9]{1,5}")
_SHOWN_CHARACTERS = 60
_WORDS = {
    "string_pattern_mismatch": "must be 5 to 20 capital letters and digits, such as BTCUSDT",
    "too_short": "must not be empty",
    "too_long": "has too many entries",
}
"""Our words for those of pydantic's messages that are written for programmers."""

SymbolName = Annotated[str, Field(pattern=SYMBOL_PATTERN)]


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


class Settings(BaseSettings):
    """All settings; each may be set in the environment or in `.env`, under its name in capitals."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True)

    market_source: MarketSource = Field(
        MarketSource.AUTO,
        description=(
            "auto (Binance, or the simulated market when no Binance host answers at start), binance or simulated."
        ),
    )
    binance_base_url: str = Field("https://api.binance.com", description="Where Binance's REST interface is.")
    binance_fallback_url: str = Field(
        "https://data-api.binance.vision",
        description="Tried when the first host is geo-blocked or unreachable; empty switches it off.",
    )
    simulated_seed: int = Field(
        7, ge=0, le=2**32 - 1, description="The simulated market's seed: the same seed gives the same candles."
    )
    default_symbol: SymbolName = Field(
        "BTCUSDT", description="The symbol a cycle uses when none is named, and the one the model is trained on."
    )
    symbols: Annotated[tuple[SymbolName, ...], NoDecode, Field(min_length=1, max_length=500)] = Field(
        ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "ADAUSDT"),
        description="The symbols that `python -m app cycle --all` goes through, separated by commas.",
    )
    default_interval: Interval = Field(Interval.M1, description="The candle interval: " + " ".join(Interval) + ".")
    default_klines_limit: int = Field(
        100, ge=61, le=999, description="How many closed candles a cycle looks at, 61 to 999."
    )
    model_path: Path = Field(Path("models"), description="The folder that holds the trained model bundles.")
    model_threshold_percent: float = Field(
        0.5,
        gt=0,
        le=50,
        description="How far the price must move within the horizon to count as BUY or SELL, in percent.",
    )
    model_horizon_bars: int = Field(60, ge=1, le=10_000, description="How many candles ahead the model looks.")
    model_label_rule: LabelKind = Field(
        LabelKind.FIXED,
        description=(
            "What counts as BUY and SELL: fixed (a return beyond MODEL_THRESHOLD_PERCENT), volatility (beyond "
            "MODEL_VOLATILITY_MULTIPLE times the usual move) or triple_barrier (which such barrier is met first)."
        ),
    )
    model_volatility_multiple: float = Field(
        1,
        gt=0,
        le=20,
        description="How many times the usual move over the horizon counts, for volatility and triple_barrier.",
    )
    model_class_weight: ClassWeight = Field(
        ClassWeight.NONE, description="none, or balanced: rare classes count as much in training as common ones."
    )
    model_calibration: CalibrationMethod = Field(
        CalibrationMethod.TEMPERATURE,
        description="temperature, sigmoid or isotonic (used from 5,000 independent labels on, temperature below).",
    )
    training_symbols: Annotated[tuple[SymbolName, ...], NoDecode, Field(max_length=50)] = Field(
        (), description="The symbols the model is trained on, separated by commas; DEFAULT_SYMBOL alone when empty."
    )
    training_klines: int = Field(
        10_000,
        ge=500,
        le=1_000_000,
        description="How many recent candles a training uses; fewer when the exchange has fewer.",
    )
    training_backend: str = Field(
        "loky",
        description=(
            "loky (this machine's cores), or the address of a Dask scheduler such as tcp://10.0.0.5:8786 "
            "(needs requirements-dask.txt)."
        ),
    )
    model_maximum_age_days: float = Field(
        7,
        gt=0,
        le=3_650,
        description=(
            "A model older than this is said to be old, and a running service trains a new one; past twice this age "
            "it is not traded on."
        ),
    )
    retrain_hours: float = Field(
        0,
        ge=0,
        le=8_760,
        description=(
            "How often a running service trains a challenger, which takes over where it is no worse on the newest "
            "candles; 0 is never."
        ),
    )
    min_confidence: float = Field(
        0.45, ge=0, le=1, description="The least probability a BUY or SELL needs to be traded, 0 to 1."
    )
    require_edge: bool = Field(
        default=False, description="true: a model that has shown no edge out of sample is not traded on."
    )
    require_positive_return: bool = Field(
        default=True, description="true: a trade needs an expected return above zero after costs, too."
    )
    initial_cash: Decimal = Field(
        Decimal(10_000), gt=0, le=10**9, decimal_places=8, description="What a new account starts with, in quote units."
    )
    order_cash_fraction: Decimal = Field(
        Decimal("0.25"), gt=0, le=1, decimal_places=4, description="The share of the cash that a BUY spends, 0 to 1."
    )
    slippage_bps: Decimal = Field(
        Decimal(3), ge=0, le=1_000, decimal_places=2, description="The least slippage of a fill, in basis points."
    )
    fee_bps: Decimal = Field(
        Decimal(2), ge=0, le=1_000, decimal_places=2, description="The fee of a fill, in basis points of its notional."
    )
    database_url: SecretStr = Field(
        SecretStr("sqlite:///./trading.db"), description="sqlite:///PATH, or postgresql://USER:PASSWORD@HOST/NAME."
    )
    event_log_file: Path | None = Field(
        Path("events.jsonl"),
        description="A file that every event is written to as well, a line of JSON each; empty switches it off.",
    )
    log_level: LogLevel = Field(LogLevel.INFO, description="DEBUG, INFO, WARNING or ERROR.")
    log_format: LogFormat = Field(LogFormat.CONSOLE, description="console (for people) or json (a line each).")
    host: str = Field("127.0.0.1", description="The address to listen on; any but a loopback one needs API_KEY.")
    port: int = Field(8000, ge=0, le=65_535, description="The port to listen on; 0 takes a free one.")
    api_key: SecretStr | None = Field(
        None, description="When set, calls that change anything need it in the X-API-Key header; 16 characters or more."
    )
    allow_keyless: bool = Field(
        default=False,
        description=(
            "true: listen beyond loopback without API_KEY, for a container whose port is published on 127.0.0.1 only."
        ),
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, Field(min_length=1)] = Field(
        ("127.0.0.1", "localhost", "[::1]"),
        description="The names, without a port, that the service answers to in the Host header, separated by commas.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Web origins that may call the service, separated by commas; none by default, * is refused."
    )

    @field_validator("symbols", "training_symbols", "allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("api_key", mode="before")
    @classmethod
    def _empty_key_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("api_key")
    @classmethod
    def _usable_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        key = value.get_secret_value()
        if len(key) < MINIMUM_KEY_CHARACTERS:
            raise ValueError(f"must have at least {MINIMUM_KEY_CHARACTERS} characters; try: openssl rand -hex 32")
        # Anything else cannot be sent in a header as it is.
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("must consist of plain ASCII characters without spaces; try: openssl rand -hex 32")
        return value

    @field_validator("binance_base_url", "binance_fallback_url")
    @classmethod
    def _http_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username):
            raise ValueError("must be an http:// or https:// address without a user name")
        return value.rstrip("/")

    @field_validator("binance_base_url", "host")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value:
            raise ValueError("must not be empty")
        return value

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, value: str) -> str:
        return value.removeprefix("[").removesuffix("]")

    @field_validator("model_path", mode="before")
    @classmethod
    def _named_folder(cls, value: object) -> object:
        if value == "":
            raise ValueError("must name a folder")
        return value

    @field_validator("event_log_file", mode="before")
    @classmethod
    def _empty_file_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("event_log_file")
    @classmethod
    def _named_file(cls, value: Path | None) -> Path | None:
        if value is not None and value.name in ("", ".."):
            raise ValueError("must name a file, such as events.jsonl")
        return value

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if not url.startswith(("sqlite:///", "postgresql://")):
            raise ValueError("must start with sqlite:/// or postgresql://")
        if url.removeprefix("sqlite:///") in ("", ":memory:"):
            raise ValueError("must name a file, such as sqlite:///./trading.db; books in memory would not last")
        return value

    @field_validator("training_backend")
    @classmethod
    def _known_backend(cls, value: str) -> str:
        if value != "loky" and not _SCHEDULER.fullmatch(value):
            raise ValueError("must be loky or the address of a Dask scheduler, such as tcp://10.0.0.5:8786")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _HOST_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r:.60} is not a name such as example.org, 192.0.2.7 or [::1]; leave out the port"
                )
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.hostname or origin.count("/") != len("//"):
                raise ValueError(f"{origin!r:.60} is not an origin such as https://example.org")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.default_symbol not in self.symbols:
            raise ValueError(f"DEFAULT_SYMBOL: {self.default_symbol} is not among SYMBOLS")
        if not self.is_loopback and self.api_key is None and not self.allow_keyless:
            raise ValueError(
                f"API_KEY: must be set to listen on {self.host}, which others can reach "
                "(or HOST=127.0.0.1; try: API_KEY=$(openssl rand -hex 32))"
            )
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def load_settings(**overrides: object) -> Settings:
    """Read the environment and `.env`; `overrides`, by field name, win over both.

    Raises:
        ConfigurationError: One readable line per wrong setting; values of secrets are not shown.
    """
    try:
        return Settings.model_validate(overrides)
    except ValidationError as error:
        lines: dict[object, str] = {}
        for problem in error.errors(include_url=False):
            lines.setdefault(problem["loc"][:1] or problem["msg"], _describe(problem))
        raise ConfigurationError("\n".join(lines.values()), code="configuration_invalid") from None
    except OSError as error:
        raise ConfigurationError(f".env: cannot be read ({error.strerror})", code="configuration_invalid") from None


def _describe(problem: ErrorDetails) -> str:
    """One line about one wrong setting; shows its value only where that can hold no secret."""
    message = _WORDS.get(problem["type"], problem["msg"].removeprefix("Value error, ").replace("Input should", "must"))
    if not problem["loc"]:
        is_unreadable = isinstance(problem.get("ctx", {}).get("error"), UnicodeDecodeError)
        return ".env: must be UTF-8 text" if is_unreadable else message
    name, value = str(problem["loc"][0]), problem["input"]
    is_secret = Settings.model_fields[name].annotation in (SecretStr, SecretStr | None) or "@" in str(value)
    if is_secret or not isinstance(value, str):
        return f"{name.upper()}: {message}"
    return f"{name.upper()}: {message} (it is {value[:_SHOWN_CHARACTERS]!r})"
