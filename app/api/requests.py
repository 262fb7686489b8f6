"""What callers send: strict types, bounded sizes, nothing unknown."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)

from app.api import examples
from app.domain.candle import Candle

MAXIMUM_ROWS = 500
MAXIMUM_FEATURES = 200

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_2100_MILLISECONDS = 4_102_444_800_000
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)\Z")


def text_schema(**keywords: object) -> WithJsonSchema:
    """Documents a parameter that may be left out as text with `keywords`, since a query can not say null."""
    return WithJsonSchema({"type": "string", **keywords})


class EmptyBody(BaseModel):
    """An empty object."""

    model_config = ConfigDict(extra="forbid")


def _only_rfc_3339(value: object) -> object:
    if not isinstance(value, str) or not _RFC_3339.match(value):
        raise ValueError("must be a time such as 2026-11-21T01:02:03Z")
    return value


def _in_this_age(moment: datetime) -> datetime:
    if not 1970 < moment.year < 2100:
        raise ValueError("must lie between the years 1971 and 2099")
    return moment.astimezone(UTC)


Time = Annotated[
    AwareDatetime,
    BeforeValidator(_only_rfc_3339),
    AfterValidator(_in_this_age),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


def whole(value: object) -> object:
    """The value, a whole number as an integer: JSON knows one kind of number, 60000.0 is an integer there."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Milliseconds = Annotated[int, Field(strict=True, ge=0, le=_YEAR_2100_MILLISECONDS), BeforeValidator(whole)]
DecimalText = Annotated[str, Field(strict=True, pattern=r"^[0-9]{1,12}(\.[0-9]{1,12})?$")]
Number = Annotated[float, Field(strict=True, ge=-1e15, le=1e15, allow_inf_nan=False)]
Amount = DecimalText | Annotated[float, Field(strict=True, ge=0, le=1e12, allow_inf_nan=False)]


def _decimal(amount: str | float) -> Decimal:
    return Decimal(str(amount))


class CandleObject(BaseModel):
    """A candle as this service shows it."""

    model_config = ConfigDict(extra="forbid")

    open_time: Time
    close_time: Time
    open: Amount
    high: Amount
    low: Amount
    close: Amount
    volume: Amount

    def to_domain(self) -> Candle:
        """The candle as the service knows it."""
        prices = (self.open, self.high, self.low, self.close, self.volume)
        return Candle(self.open_time, self.close_time, *map(_decimal, prices))


ShortRow = tuple[Milliseconds, Amount, Amount, Amount, Amount, Amount, Milliseconds]
"""Open time, open, high, low, close, volume, close time; times in milliseconds since 1970."""

BinanceRow = tuple[
    Milliseconds, Amount, Amount, Amount, Amount, Amount, Milliseconds, Amount, Number, Amount, Amount, Amount
]
"""A row of Binance's klines; what stands after the close time is not used."""


def _shape(row: object) -> str:
    if isinstance(row, CandleObject | dict):
        return "object"
    return "binance" if isinstance(row, list | tuple) and len(row) > 7 else "row"


CandleRow = Annotated[
    Annotated[CandleObject, Tag("object")] | Annotated[ShortRow, Tag("row")] | Annotated[BinanceRow, Tag("binance")],
    Discriminator(_shape),
]


def to_candle(row: CandleObject | tuple[Any, ...]) -> Candle:
    """The domain's candle for any shape a caller may send."""
    if isinstance(row, CandleObject):
        return row.to_domain()
    open_time, *prices = row[:6]
    return Candle(_moment(open_time), _moment(row[6]), *map(_decimal, prices))


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


class CandlesRequest(BaseModel):
    """Closed candles of one symbol, oldest first, without a gap."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"candles": [examples.CANDLE_ROW]}]})

    candles: list[CandleRow] = Field(min_length=1, max_length=MAXIMUM_ROWS)


FeatureArray = Annotated[list[Number], Field(min_length=1, max_length=MAXIMUM_FEATURES)]
FeatureName = Annotated[str, Field(max_length=64)]
FeatureObject = Annotated[dict[FeatureName, Number], Field(min_length=1, max_length=MAXIMUM_FEATURES)]


def _feature_shape(row: object) -> str:
    return "object" if isinstance(row, dict) else "array"


FeatureRow = Annotated[
    Annotated[FeatureArray, Tag("array")] | Annotated[FeatureObject, Tag("object")], Discriminator(_feature_shape)
]


class FeaturesRequest(BaseModel):
    """Rows of the model's inputs: in the order of the card's `features`, or by name."""

    model_config = ConfigDict(extra="forbid")

    feature_rows: list[FeatureRow] = Field(min_length=1, max_length=MAXIMUM_ROWS)


def _kind(body: object) -> str:
    names = body if isinstance(body, dict) else vars(body) if isinstance(body, BaseModel) else ()
    return "features" if "feature_rows" in names else "candles"


PredictRequest = Annotated[
    Annotated[CandlesRequest, Tag("candles")] | Annotated[FeaturesRequest, Tag("features")], Discriminator(_kind)
]
"""Candles or feature rows, not both."""
