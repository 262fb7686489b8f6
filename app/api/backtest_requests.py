"""What callers ask of backtests: settings of the service, by their names in small letters, and what only they have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo

from app.api import backtest_examples
from app.api.requests import Amount, Number, Time, whole
from app.choices import BACKTEST_SETTINGS, ask_backtest
from app.domain.candle import Interval
from app.research.backtest import request
from app.research.backtest.request import BacktestRequest, Driver
from app.setting_kinds import SYMBOL_PATTERN
from app.settings import Settings
from app.strategies.registry import STRATEGIES

_MODEL_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"
_NOT_ASKED = {
    "default_klines_limit": "window_bars",
    "model_horizon_bars": "parameters.horizon_bars",
    "model_threshold_percent": "parameters.threshold_percent",
}
"""Settings that have another name here, and which."""

OWN_SETTINGS = tuple(name for name in BACKTEST_SETTINGS if name not in _NOT_ASKED)
"""The settings of the service that a backtest may have its own of."""


def _known_strategy(name: str) -> str:
    if name not in STRATEGIES:
        raise ValueError(f"must be one of {', '.join(STRATEGIES)}")
    return name


def kind_of(field: FieldInfo) -> Any:  # noqa: ANN401 - a type
    """What a setting takes in JSON: what it takes in the environment, and nothing that only resembles it."""
    kind = field.annotation
    if kind is Decimal:
        return Amount
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    return Annotated[kind, Field(strict=True), BeforeValidator(whole), *field.metadata]


StrategyName = Annotated[
    str,
    Field(strict=True),
    AfterValidator(_known_strategy),
    WithJsonSchema({"type": "string", "enum": list(STRATEGIES)}),
]
ParameterName = Annotated[str, Field(min_length=1, max_length=64)]
_Symbol = Annotated[str, Field(strict=True, pattern=SYMBOL_PATTERN)]
_SETTINGS: dict[str, Any] = {
    name: (
        kind_of(Settings.model_fields[name]) | None,
        Field(None, description=Settings.model_fields[name].description),
    )
    for name in OWN_SETTINGS
}


def integer(least: int, most: int) -> Any:  # noqa: ANN401 - a type
    """A whole number, as JSON has it."""
    return Annotated[int, Field(strict=True, ge=least, le=most), BeforeValidator(whole)]


class _Asked(BaseModel):
    """What no setting of the service names."""

    model_config = ConfigDict(extra="forbid")

    symbol: _Symbol | None = Field(None, description="DEFAULT_SYMBOL when left out, as `symbols` is.")
    symbols: Annotated[list[_Symbol], Field(min_length=1, max_length=request.MAXIMUM_SYMBOLS)] | None = Field(
        None,
        description="In place of `symbol`: several, which share one account, in the order of their cycles.",
        json_schema_extra={"uniqueItems": True},
    )
    interval: Interval | None = Field(None, description="DEFAULT_INTERVAL when left out.")
    since: Time | None = Field(
        None, description="The first moment of trading; 30 days before `until` when left out, or 1,000 candles."
    )
    until: Time | None = Field(None, description="The last candle opens before it; now when left out, or later.")
    strategy: StrategyName | None = Field(None, description="forest when left out; GET /backtest/strategies has all.")
    parameters: Annotated[dict[ParameterName, Number], Field(max_length=20)] | None = Field(
        None, description="Those of the strategy; each has its default."
    )
    model_id: Annotated[str, Field(strict=True, pattern=_MODEL_PATTERN)] | None = Field(
        None,
        description="forest: a model of GET /models, on candles after its training. Else it is trained on the way.",
    )
    step_bars: integer(1, request.MAXIMUM_BARS) | None = Field(  # type: ignore[valid-type]
        None, description="forest: after how many candles it is trained anew, on the newest `training_klines`."
    )
    window_bars: integer(request.LEAST_WINDOW, request.MAXIMUM_WINDOW) | None = Field(  # type: ignore[valid-type]
        None, description="How many closed candles a cycle looks at; DEFAULT_KLINES_LIMIT when left out."
    )
    latency_bars: integer(0, request.MAXIMUM_LATENCY) | None = Field(  # type: ignore[valid-type]
        None, description="How many candles late a signal is traded, beside the next open; 0 when left out."
    )
    seed: integer(0, 2**32 - 1) | None = Field(  # type: ignore[valid-type]
        None, description="Fixes everything that is drawn; 0 when left out."
    )
    driver: Driver | None = Field(
        None, description="compiled when left out; engine runs the live engine, much slower, to the same result."
    )

    @model_validator(mode="after")
    def _one_way_to_name_symbols(self) -> Self:
        if self.symbol is not None and self.symbols is not None:
            raise ValueError("give symbol or symbols, not both")
        return self


_WithSettings: Any = create_model("_WithSettings", __base__=_Asked, **_SETTINGS)


class NewBacktest(_WithSettings):
    """A backtest that is asked for; what is left out (or null) is as the service trades. `{}` asks for just that.

    Amounts are exact as text; a JSON number does where it is short.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [backtest_examples.NEW_BACKTEST]})

    def to_domain(self, settings: Settings, now: datetime) -> BacktestRequest:
        """The request; raises InvalidInputError where it makes no sense as a whole."""
        own, asked = self.split()
        return ask_backtest(settings, own, now, **asked)

    def split(self) -> tuple[Mapping[str, object], dict[str, Any]]:
        """The settings that are named, and everything else that is."""
        asked: dict[str, Any] = self.model_dump(exclude_none=True)
        own = {name: asked.pop(name) for name in OWN_SETTINGS if name in asked}
        if "symbol" in asked:
            asked["symbols"] = [asked.pop("symbol")]
        return own, asked
