"""What goes over the wire. Money travels as exact decimal strings, times as RFC 3339 with `Z`."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from app.api import examples
from app.domain.candle import Interval
from app.domain.cycle import CycleStatus, ExecutionStatus
from app.domain.order import OrderKind, OrderStatus, Origin, Side
from app.domain.signal import Edge, Signal


def render_money(value: Decimal) -> str:
    """An exact decimal without exponent and without trailing zeros.

    >>> render_money(Decimal("64000.10000000")), render_money(Decimal("1E+3")), render_money(Decimal("0E-8"))
    ('64000.1', '1000', '0')
    """
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def render_time(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds.

    >>> render_time(datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC))
    '2026-11-21T01:02:03.000Z'
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


Money = Annotated[
    Decimal,
    PlainSerializer(render_money, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$", "examples": ["64000.1"]}, mode="serialization"
    ),
]
Moment = Annotated[
    datetime,
    PlainSerializer(render_time, return_type=str),
    WithJsonSchema(
        {"type": "string", "format": "date-time", "examples": ["2026-11-21T01:02:03.000Z"]}, mode="serialization"
    ),
]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Answer(BaseModel):
    """The base of what is answered: read from domain objects, never from a request."""

    model_config = ConfigDict(from_attributes=True, populate_by_name=True)


class Candle(Answer):
    """One closed candle; `close_time` is its last millisecond."""

    open_time: Moment
    close_time: Moment
    open: Money
    high: Money
    low: Money
    close: Money
    volume: Money


class Market(Answer):
    """What the market agent saw: the quote, the newest closed candle and its indicators."""

    price: Money = Field(description="The latest traded price, in quote units.")
    candle_open_time: Moment
    candle_close_time: Moment
    sma_10: float | None = Field(validation_alias=AliasPath("indicators", "sma_10"))
    sma_50: float | None = Field(validation_alias=AliasPath("indicators", "sma_50"))
    rsi_14: Annotated[float, Field(ge=0, le=100)] | None = Field(validation_alias=AliasPath("indicators", "rsi_14"))
    price_change_1m: float | None = Field(
        validation_alias=AliasPath("indicators", "price_change_1m"),
        description="The last close over the one before, less 1.",
    )
    candles: list[Candle] = Field(description="The last closed candles, oldest first.")


class LatestMarket(Answer):
    """The market now, as a cycle would see it."""

    symbol: str
    interval: Interval | None
    source: str
    market: Market


class Probabilities(Answer):
    """How likely the model finds each signal; they sum to 1."""

    BUY: Fraction
    SELL: Fraction
    HOLD: Fraction


class Decision(Answer):
    """What was decided, and why."""

    action: Signal = Field(description="HOLD also where the model's own signal must not be followed at present.")
    confidence: Fraction = Field(description="The probability of the model's signal.")
    probabilities: Probabilities
    reason_code: str
    reason: str
    model_id: str
    expected_return: float | None = Field(
        description="What following the signal is expected to bring after costs, a fraction; null in older decisions."
    )
    edge: Edge | None = Field(description="What the model has been shown to know out of sample.")
    drift: float | None = Field(
        description="How far the market has moved from the training; above 2 it has drifted. Null until it is measured."
    )


class Trade(Answer):
    """One simulated fill. No real order was sent."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.TRADE]})

    id: int = Field(ge=1)
    cycle_id: str | None = Field(description="The cycle that booked it; null where a person's order or closing did.")
    symbol: str
    interval: Interval | None = Field(description="That of the candle; null where there is none.")
    source: str = Field(description="`binance` or `simulated`.")
    side: Side
    quantity: Money = Field(description="In base units.")
    price: Money = Field(description="After slippage, in quote units.")
    notional: Money
    fee: Money
    slippage_bps: float = Field(ge=0, description="How far the price was moved against us, in basis points.")
    confidence: Fraction | None = Field(description="The decision's; null for a fill that no decision led to.")
    model_id: str | None = Field(description="The decision's model; null for a fill that no decision led to.")
    candle_open_time: Moment | None = Field(
        description="The candle decided on, or that reached a resting order; null for a person's market order."
    )
    executed_at: Moment
    reason: str
    cash_after: Money = Field(description="The account's cash once this was booked.")
    position_after: Money = Field(description="What was held of the symbol once this was booked.")
    edge: Edge | None = Field(
        description="What the model behind it had been shown to know; null in older trades and without a model."
    )
    run: str = Field(description="The account it was booked in, from its opening to its reset.")
    order_id: str | None = Field(description="The order it filled; null in trades older than orders.")
    origin: Origin
    realised_profit: Money | None = Field(
        description="What an exit brought less what its entry cost, before fees; null for an entry."
    )


class Order(Answer):
    """One paper order; all statuses but NEW are final."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.ORDER]})

    id: str
    symbol: str
    side: Side
    kind: OrderKind
    quantity: Money = Field(description="In base units.")
    filled_quantity: Money
    price: Money | None = Field(description="The limit, the target or the trigger; null for MARKET.")
    trail_fraction: Money | None = Field(description="How far a TRAILING_STOP stays from the best price; else null.")
    reduce_only: bool = Field(description="Whether it can make a position smaller and nothing else.")
    origin: Origin
    status: OrderStatus
    reason_code: str | None = Field(description="Why it ended; null while it rests.")
    reason: str | None
    cycle_id: str | None = Field(description="The cycle that placed it; null where none did.")
    created_at: Moment
    active_from: Moment = Field(description="Candles that open from here on are still to be judged.")
    expires_at: Moment | None
    closed_at: Moment | None = Field(description="When it ended; null while it rests.")


class OrderCheck(Answer):
    """One limit that an order met, as it was measured."""

    code: str
    passed: bool
    value: str
    limit: str
    detail: str


class Execution(Answer):
    """What was booked.

    With `duplicate`, this closed candle had been traded before, and `trade` is that earlier fill.
    """

    status: ExecutionStatus
    reason_code: str
    reason: str
    trade: Trade | None
    duplicate: bool


class LogLine(Answer):
    """What an agent said while the cycle ran."""

    time: Moment
    agent: str
    message: str


class Cycle(Answer):
    """One cycle. A REFUSED one has a `reason_code` and a `reason`, and nothing was decided or booked."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.CYCLE]})

    cycle_id: str = Field(validation_alias="id")
    symbol: str
    interval: Interval | None
    source: str
    status: CycleStatus
    started_at: Moment
    finished_at: Moment
    duration_ms: float
    market: Market | None
    decision: Decision | None
    execution: Execution | None
    logs: list[LogLine]
    reason_code: str | None
    reason: str | None
    run: str = Field(description="The account it was booked in; a reset starts a new one.")
    checks: list[OrderCheck] = Field(description="Every limit that the decision's order met, in their order.")
    orders: list[Order] = Field(description="The orders that were placed, filled or ended.")
    fills: list[Trade] = Field(description="Everything booked: the decision's fill and those of resting orders.")


class CycleSummary(Answer):
    """One cycle in a line."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.CYCLE_SUMMARY]})

    cycle_id: str = Field(validation_alias="id")
    symbol: str
    interval: Interval | None
    source: str
    status: CycleStatus
    started_at: Moment
    finished_at: Moment
    duration_ms: float
    price: Money | None = Field(None, validation_alias=AliasPath("market", "price"))
    candle_open_time: Moment | None = Field(None, validation_alias=AliasPath("market", "candle_open_time"))
    action: Signal | None = Field(None, validation_alias=AliasPath("decision", "action"))
    confidence: Fraction | None = Field(None, validation_alias=AliasPath("decision", "confidence"))
    execution_status: ExecutionStatus | None = Field(None, validation_alias=AliasPath("execution", "status"))
    trade_id: int | None = Field(None, validation_alias=AliasPath("execution", "trade", "id"))
    reason_code: str | None = Field(
        None,
        validation_alias=AliasChoices(AliasPath("execution", "reason_code"), "reason_code"),
        description="Why it was refused, or why it was or was not traded.",
    )
    reason: str | None = Field(None, validation_alias=AliasChoices(AliasPath("execution", "reason"), "reason"))


class TradeDetail(Trade):
    """One simulated fill with the decision and the cycle behind it."""

    decision: Decision | None = Field(description="That of the cycle that booked it; null where none did.")
    cycle: CycleSummary | None


class TradePage(Answer):
    """Trades, newest first."""

    items: list[Trade]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")


class CyclePage(Answer):
    """Cycles, newest first."""

    items: list[CycleSummary]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")


class Job(Answer):
    """Work that runs beside requests."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.JOB]})

    id: str
    kind: str
    status: Literal["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "INTERRUPTED", "CANCELED"]
    progress: Fraction
    message: str
    error_code: str | None
    error_message: str | None
    result: dict[str, Any] | None
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None


class JobList(Answer):
    """Jobs, newest first."""

    items: list[Job]


class ModelCard(Answer):
    """What the model in use is, what it was trained on, and how it did; more members may be there."""

    model_config = ConfigDict(extra="allow")

    model_id: str
    trained_at: Moment
    source: str
    symbols: list[str]
    interval: Interval | None
    features: list[str] = Field(description="The model's inputs, in the order that `feature_rows` take.")
    classes: list[str]
    label_rule: dict[str, Any] = Field(description="What counted as BUY and SELL in training.")
    window: dict[str, Any] = Field(description="The candles it was trained and judged on.")
    hyperparameters: dict[str, Any]
    libraries: dict[str, Any] = Field(description="The versions it was trained with.")
    metrics: dict[str, Any] = Field(description="How it did on candles it had not seen.")
    warnings: list[str]
    sha256: str = Field(description="Of the arrays that hold the forest, and of its calibration.")
    live: dict[str, Any] = Field(description="Its age, why it is doubted, and how far the market has drifted from it.")


class Prediction(Answer):
    """What the model says."""

    signal: Signal
    confidence: Fraction
    probabilities: Probabilities
    model_id: str
    expected_return: float = Field(description="What following it is expected to bring after costs, a fraction.")
    edge: Edge


class RowError(Answer):
    """Why the model says nothing about a row."""

    code: str
    message: str


class RowResult(Answer):
    """One row's prediction or error; exactly one of them is there."""

    row: int = Field(ge=0, description="The row's place in the request, from 0.")
    prediction: Prediction | None = None
    error: RowError | None = None


class Predictions(Answer):
    """One result for each row, in the order of the request."""

    items: list[RowResult]


class Liveness(Answer):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Check(Answer):
    """One readiness check."""

    name: str
    ok: bool
    detail: str


class Readiness(Answer):
    """Every check passes."""

    status: Literal["ready"] = "ready"
    checks: list[Check]


class Health(Answer):
    """The state of things for people; more members may be there."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [examples.HEALTH]})

    version: str
    source: str | None = Field(None, description="`binance` or `simulated`; null until it is chosen.")
