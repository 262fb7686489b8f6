"""Every environment variable, once, typed, with its sentence. Only the edge reads this."""

from __future__ import annotations

import re
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.domain.candle import Interval
from app.domain.risk import SizingMethod, StopRule
from app.errors import ConfigurationError
from app.setting_kinds import (
    ApiKey,
    CalibrationMethod,
    ClassWeight,
    HostName,
    HttpAddress,
    LabelKind,
    LogFormat,
    LogLevel,
    MarketSource,
    Origin,
    RunName,
    Share,
    SymbolName,
)

_SCHEDULER = re.compile(r"(tcp|tls)://[A-Za-z0-9.:\[\]_-]+:[0-9]{1,5}")
_SHOWN_CHARACTERS = 60
_WORDS = {
    "string_pattern_mismatch": "must be 5 to 20 capital letters and digits, such as BTCUSDT",
    "too_short": "must not be empty",
    "too_long": "has too many entries",
}
"""Our words for those of pydantic's messages that are written for programmers."""


class Settings(BaseSettings):
    """All settings; each may be set in the environment or in `.env`, under its name in capitals."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True)

    market_source: MarketSource = Field(
        MarketSource.AUTO,
        description=(
            "auto (Binance, or the simulated market when no Binance host answers at start), binance or simulated."
        ),
    )
    binance_base_url: HttpAddress = Field("https://api.binance.com", description="Where Binance's REST interface is.")
    binance_fallback_url: HttpAddress = Field(
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
    run_name: RunName = Field(
        "main", description="The name of the account, so that one market can have several: small letters, digits, - _."
    )
    sizing: SizingMethod = Field(
        SizingMethod.FIXED_FRACTION,
        description=(
            "What an entry spends (docs/risk.md): fixed_fraction, risk_per_trade, volatility_target or kelly."
        ),
    )
    order_cash_fraction: Decimal = Field(
        Decimal("0.25"),
        gt=0,
        le=1,
        decimal_places=4,
        description="fixed_fraction: the share of the available cash that an entry spends, fee included, 0 to 1.",
    )
    risk_per_trade: Decimal = Field(
        Decimal("0.005"),
        gt=0,
        le=1,
        decimal_places=6,
        description="risk_per_trade: the share of equity that an entry loses when it meets its stop, 0 to 1.",
    )
    volatility_target: Decimal = Field(
        Decimal("0.2"),
        gt=0,
        le=10,
        decimal_places=4,
        description="volatility_target: the yearly volatility that an entry may bring to the account, 0.2 is 20 %.",
    )
    kelly_cap: Decimal = Field(
        Decimal("0.25"),
        gt=0,
        le=1,
        decimal_places=4,
        description="kelly: the largest share of equity that an entry spends, 0 to 1.",
    )
    stop_rule: StopRule = Field(
        StopRule.NONE,
        description=(
            "The order that takes a losing entry out: none, stop_loss or trailing_stop; risk_per_trade makes none "
            "stop_loss."
        ),
    )
    stop_atr_multiple: Decimal = Field(
        Decimal(2), gt=0, le=100, decimal_places=2, description="How many ATR(14) the stop is away from the entry."
    )
    take_profit_atr_multiple: Decimal = Field(
        Decimal(0), ge=0, le=100, decimal_places=2, description="How many ATR(14) away profit is taken; 0 is never."
    )
    allow_short: bool = Field(
        default=False, description="true: a SELL of what is not held opens a short position, with margin held."
    )
    max_symbol_exposure: Share = Field(
        Decimal(1),
        description="The share of equity that one symbol may hold, larger entries are cut; 0 is no limit.",
    )
    max_gross_exposure: Share = Field(
        Decimal(1),
        description="The share of equity that all symbols together may hold, larger entries are cut; 0 is no limit.",
    )
    max_volume_share: Share = Field(
        Decimal("0.1"),
        description="The share of the last candle's volume that an entry may be, larger ones are cut; 0 is no limit.",
    )
    max_daily_loss: Share = Field(
        Decimal("0.05"),
        description="The loss of a UTC day, as a share of equity, from which on it has no more entries; 0 is no limit.",
    )
    max_drawdown: Share = Field(
        Decimal("0.25"),
        description="The loss since the highest equity, as a share of it, that halts trading; 0 is no limit.",
    )
    cooldown_losses: int = Field(
        3, ge=0, le=1_000, description="After how many losses in a row entries pause; 0 is never."
    )
    cooldown_minutes: int = Field(60, ge=0, le=525_600, description="For how many minutes entries pause; 0 is not.")
    max_trades_per_day: int = Field(
        200, ge=0, le=1_000_000, description="How many fills of decisions a UTC day may have; 0 is no limit."
    )
    max_open_positions: int = Field(
        10, ge=0, le=500, description="How many symbols may be held at once; 0 is no limit."
    )
    price_band_percent: Decimal = Field(
        Decimal(5),
        ge=0,
        le=100,
        decimal_places=2,
        description="How far the quote may be from the last close for an order, in percent; 0 is no limit.",
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
    api_key: ApiKey = Field(
        None, description="When set, calls that change anything need it in the X-API-Key header; 16 characters or more."
    )
    allow_keyless: bool = Field(
        default=False,
        description=(
            "true: listen beyond loopback without API_KEY, for a container whose port is published on 127.0.0.1 only."
        ),
    )
    allowed_hosts: Annotated[tuple[HostName, ...], NoDecode, Field(min_length=1)] = Field(
        ("127.0.0.1", "localhost", "[::1]"),
        description="The names, without a port, that the service answers to in the Host header, separated by commas.",
    )
    cors_origins: Annotated[tuple[Origin, ...], NoDecode] = Field(
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
