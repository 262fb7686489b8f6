"""One turn of the engine: what was seen, decided and done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from app.domain.candle import Candle, Interval
from app.domain.market import Indicators
from app.domain.order import Fill, Side
from app.domain.signal import Edge, Signal


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

    `cash_after` and `position_after` are the account's cash and this symbol's position once it was booked. `edge` is
    what the model behind it had been shown to know, None for trades that are older than that.
    """

    id: int
    cycle_id: str
    symbol: str
    interval: Interval
    source: str
    side: Side
    quantity: Decimal
    price: Decimal
    notional: Decimal
    fee: Decimal
    slippage_bps: float
    confidence: float
    model_id: str
    candle_open_time: datetime
    executed_at: datetime
    reason: str
    cash_after: Decimal
    position_after: Decimal
    edge: Edge | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the execution agent wants booked: a fill, or the reason why there is none."""

    status: ExecutionStatus
    reason_code: str
    reason: str
    fill: Fill | None = None


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

    A REFUSED cycle has a `reason_code` and a `reason`, and no decision or execution.
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

    @property
    def duration_ms(self) -> float:
        """How long the cycle took, in milliseconds."""
        return (self.finished_at - self.started_at).total_seconds() * 1_000


@dataclass(frozen=True, slots=True)
class CycleDraft:
    """A cycle that has been decided and waits to be booked."""

    id: str
    source: str
    symbol: str
    interval: Interval
    started_at: datetime
    market: MarketView
    decision: Decision
    logs: tuple[LogLine, ...]

    def finish(self, execution: Execution, finished_at: datetime) -> CycleReport:
        """The report of this cycle once `execution` is booked; the execution agent has the last word in its log."""
        return CycleReport(
            id=self.id,
            source=self.source,
            symbol=self.symbol,
            interval=self.interval,
            status=CycleStatus.COMPLETED,
            started_at=self.started_at,
            finished_at=finished_at,
            logs=(*self.logs, LogLine(finished_at, "execution", execution.reason)),
            market=self.market,
            decision=self.decision,
            execution=execution,
        )
