"""Whatever shape a candle comes in, it is the same candle."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from app.api.requests import CandleRow, Milliseconds, Time, to_candle
from app.domain.candle import Candle

ROW: TypeAdapter[Any] = TypeAdapter(CandleRow)
CANDLE = Candle(
    datetime(2026, 11, 21, 1, 1, tzinfo=UTC),
    datetime(2026, 11, 21, 1, 1, 59, 999_000, tzinfo=UTC),
    *map(Decimal, ("63958.2", "63985", "63951.1", "63978", "12.3456")),
)
OBJECT = {
    "open_time": "2026-11-21T01:01:00.000Z",
    "close_time": "2026-11-21T02:01:59.999+01:00",
    "open": "63958.2",
    "high": 63985,
    "low": 63951.1,
    "close": "63978",
    "volume": "12.3456",
}
SHORT = [1795222860000, "63958.2", "63985", 63951.1, "63978", "12.3456", 1795222919999]


@pytest.mark.parametrize(
    "row",
    [OBJECT, SHORT, [*SHORT, "789.1", 308, "1", "2", "0"], [float(SHORT[0]), *SHORT[1:]]],  # type: ignore[arg-type]
    ids=["object", "row", "binance", "whole float"],
)
def test_candle_of_any_shape_is_the_same(row: Any) -> None:
    assert to_candle(ROW.validate_python(row)) == CANDLE


@pytest.mark.parametrize("value", [1.5, True, "1", -1, 4_102_444_800_001, None, float("nan"), float("inf")])
def test_milliseconds_of_another_kind_are_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Milliseconds).validate_python(value)


@pytest.mark.parametrize(
    "value", ["2026-02-30T00:00:00Z", "2026-11-21", "20261121T010203Z", "1970-12-31T23:59:59Z", b"x"]
)
def test_time_of_another_kind_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Time).validate_python(value)
