"""One turn of the engine: what was seen, decided and done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from app.domain.candle import Candle, Interval
from app.domain.market import Indicators, MarketSnapshot
from app.domain.order import Check, Fill, Order, Origin, Side
from app.domain.portfolio import Exit
from app.domain.signal import Edge, Prediction, Signal
from app.domain.standing import Halt, RunKey, Snapshot


class CycleStatus(StrEnum):
    """How a cycle ended."""

    COMPLETED = "COMPLETED"
    REFUSED = "REFUSED"


class ExecutionStatus(StrEnum):
    """Whether a decision became a fill."""

    FILLED = "FILLED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One thing an agent said while the cycle ran."""

    time: datetime
    agent: str
    message: str


@dataclass(frozen=True, slots=True)
class MarketView:
    """What the market agent reports: the quote, the newest closed candle and its indicators.

    `candles` are the last closed candles, oldest first.
    """

    price: Decimal
    candle_open_time: datetime
    candle_close_time: datetime
    indicators: Indicators
    candles: tuple[Candle, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the decision agent concluded; `confidence` and the probabilities run from 0 to 1.

    `confidence` is that of the model's signal, also where the agent turned it into HOLD. `expected_return`, `edge` and
    `drift` are those of the prediction; None in decisions that are older than they are.
    """

    action: Signal
    confidence: float
    probabilities: dict[Signal, float]
    reason_code: str
    reason: str
    model_id: str
    expected_return: float | None = None
    edge: Edge | None = None
    drift: float | None = None


@dataclass(frozen=True, slots=True)
class Trade:
    """One recorded fill, as `GET /trading/trades` shows it.

    `cash_after` and `position_after` are the account's cash and what it holds of this symbol, dust included, once it
    was booked. `realised_profit` is that of a fill that made a position smaller, before fees. A fill of a decision has
    its confidence, model and candle; that of a resting order has the candle it was judged on; a person's market order
    has none of them. `edge` is what the model behind it had been shown to know.
    """

    id: int
    cycle_id: str | None
    symbol: str
    interval: Interval | None
    source: str
    side: Side
    quantity: Decimal
    price: Decimal
    notional: Decimal
    fee: Decimal
    slippage_bps: float
    confidence: float | None
    model_id: str | None
    candle_open_time: datetime | None
    executed_at: datetime
    reason: str
    cash_after: Decimal
    position_after: Decimal
    edge: Edge | None = None
    run: str = ""
    order_id: str | None = None
    origin: Origin = Origin.SIGNAL
    realised_profit: Decimal | None = None


@dataclass(frozen=True, slots=True)
class BookedFill:
    """A fill as it is to be booked: whose it is, and what the account holds after it (1e-8 units, dust included).

    `decided` is True for the fill of a cycle's decision, of which a candle has one at most. `reference` is the price
    before slippage (1e-8 quote units).
    """

    order_id: str
    origin: Origin
    symbol: str
    fill: Fill
    reason: str
    cash_after: int
    position_after: int
    decided: bool = False
    interval: Interval | None = None
    candle_open_time: datetime | None = None
    exit: Exit | None = None
    reference: int = 0


@dataclass(frozen=True, slots=True)
class DustTransfer:
    """What went from a position to the dust of its symbol (1e-8 units); negative where it came back to be sold."""

    symbol: str
    quantity: int
    cost: int
    entry_fees: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is to be booked: fills and dust in their order, the orders they changed, and where the account stands then.

    `status`, `reason_code` and `reason` are those of the decision or of the person's order. `price` is the quote that
    everything was judged by (1e-8 quote units), `side_cost_ppm` what one side of a trade cost there. `orders` are new
    or were filled or ended; of those in `moved` no more changed than what they are judged by next.
    """

    status: ExecutionStatus
    reason_code: str
    reason: str
    symbol: str
    price: int
    snapshot: Snapshot
    side_cost_ppm: int = 0
    entries: tuple[BookedFill | DustTransfer, ...] = ()
    orders: tuple[Order, ...] = ()
    moved: tuple[Order, ...] = ()
    checks: tuple[Check, ...] = ()
    logs: tuple[tuple[str, str], ...] = ()
    halt: Halt | None = None

    @property
    def fills(self) -> tuple[BookedFill, ...]:
        """The fills, in their order."""
        return tuple([entry for entry in self.entries if isinstance(entry, BookedFill)])


@dataclass(frozen=True, slots=True)
class Execution:
    """What was booked.

    `trade` is the fill of this cycle or, where `duplicate` is True, the earlier one of the same closed
    candle; None when there is neither.
    """

    status: ExecutionStatus
    reason_code: str
    reason: str
    trade: Trade | None = None
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class CycleReport:
    """A finished cycle, as it is recorded and as it is answered.

    A REFUSED cycle has a `reason_code` and a `reason`, and no decision or execution. `checks` are those that stood
    before the order, `orders` the ones that were placed or changed, `fills` everything booked: the decision's and
    those of resting orders.
    """

    id: str
    source: str
    symbol: str
    interval: Interval
    status: CycleStatus
    started_at: datetime
    finished_at: datetime
    logs: tuple[LogLine, ...]
    market: MarketView | None = None
    decision: Decision | None = None
    execution: Execution | None = None
    reason_code: str | None = None
    reason: str | None = None
    run: str = ""
    checks: tuple[Check, ...] = ()
    orders: tuple[Order, ...] = ()
    fills: tuple[Trade, ...] = ()

    @property
    def duration_ms(self) -> float:
        """How long the cycle took, in milliseconds."""
        return (self.finished_at - self.started_at).total_seconds() * 1_000


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a cycle depends on beside the market and the account: model, settings, code and seed.

    `model_sha256` and `settings_digest` name the model's arrays and the settings, `model_age` is None where it is not
    known. Nothing in a cycle is random; `seed` is that of the simulated market.
    """

    model_sha256: str
    settings_digest: str
    code_version: str
    seed: int
    model_age: timedelta | None = None


@dataclass(frozen=True, slots=True)
class CycleDraft:
    """A cycle that has been decided and waits to be booked, with everything that its decision came from."""

    id: str
    key: RunKey
    symbol: str
    interval: Interval
    started_at: datetime
    market: MarketView
    decision: Decision
    prediction: Prediction
    snapshot: MarketSnapshot
    circumstances: Circumstances
    logs: tuple[LogLine, ...]

    def finish(
        self,
        execution: Execution,
        settlement: Settlement | None,
        run: str,
        finished_at: datetime,
        fills: tuple[Trade, ...] = (),
    ) -> CycleReport:
        """The report of this cycle once `execution` is booked; the execution agent has the last word in its log."""
        said = settlement.logs if settlement else ()
        last = ("execution", execution.reason)
        return CycleReport(
            id=self.id,
            source=self.key.source,
            symbol=self.symbol,
            interval=self.interval,
            status=CycleStatus.COMPLETED,
            started_at=self.started_at,
            finished_at=finished_at,
            logs=(*self.logs, *[LogLine(finished_at, agent, message) for agent, message in (*said, last)]),
            market=self.market,
            decision=self.decision,
            execution=execution,
            run=run,
            checks=settlement.checks if settlement else (),
            orders=settlement.orders if settlement else (),
            fills=fills,
        )
