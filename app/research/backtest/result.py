"""What a backtest has to say: a few numbers that are kept as JSON, and the books they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from app.domain.candle import Interval
from app.domain.instrument import Instrument
from app.domain.record import digest
from app.research.backtest.books import Books, BoolArray, CodeArray
from app.research.backtest.request import BacktestRequest
from app.risk.metrics import Performance
from app.risk.significance import Significance
from ml.bars import FloatArray, IntegerArray


@dataclass(frozen=True, slots=True)
class SeriesData:
    """The candles of one symbol that a backtest ran on, those before its first cycle included.

    Attributes:
        symbol: Whose they are.
        first: When the first opened.
        last: When the last opened.
        bars: How many there are.
        missing: How many are missing between the first and the last.
        refused_rows: How many rows of a file were left out; 0 from the store.
        candle_hash: What tells these candles from all others, `ml.bars.compute_candle_hash`.
        instrument: The exchange's rules that were traded by.
    """

    symbol: str
    first: datetime
    last: datetime
    bars: int
    missing: int
    refused_rows: int
    candle_hash: str
    instrument: Instrument


@dataclass(frozen=True, slots=True)
class BacktestData:
    """What a backtest ran on; `source` is the name of the market's candles, or "file"."""

    source: str
    interval: Interval
    series: tuple[SeriesData, ...]

    @property
    def bars(self) -> int:
        """How many candles there are of all symbols."""
        return sum(one.bars for one in self.series)

    @property
    def candle_hash(self) -> str:
        """What tells these candles from all others: the hash of the one symbol, or of the hashes of all."""
        hashes = [one.candle_hash for one in self.series]
        return hashes[0] if len(hashes) == 1 else digest("\n".join(hashes))


@dataclass(frozen=True, slots=True)
class CostCase:
    """The same run with fee and slippage times `multiple`; returns are fractions."""

    multiple: int
    total_return: float | None
    sharpe: float | None
    fills: int


@dataclass(frozen=True, slots=True)
class MonthlyReturn:
    """What a UTC month brought, a fraction, and what buy-and-hold brought; None where nothing was left before it."""

    year: int
    month: int
    account: float | None
    benchmark: float | None


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Predictions whose confidence was from `low` to below `high` (the last: 1 included), and what came of them.

    Attributes:
        low: Its lower end, 0 to 1.
        high: Its upper end.
        count: How many predictions, one after each bar whose outcome is known.
        stated: Their mean confidence; None without one.
        came_true: The share of them that was right; None without one.
    """

    low: float
    high: float
    count: int
    stated: float | None
    came_true: float | None


@dataclass(frozen=True, slots=True)
class Caveat:
    """What the reader of a result must know: a code in snake_case, and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestRun:
    """A run without its books; small, and kept as JSON.

    Attributes:
        id: Its name.
        created_at: When it was computed.
        request: What was asked for.
        data: What it ran on.
        code_version: The version that computed it.
        model_ids: The models that spoke, oldest first; empty for a rule.
        seconds: How long signals and driver took.
        bars_per_second: How many bars the driver went through in a second.
        final_equity: What the account was worth at the end, quote units, exact.
        fills: How many there were.
        closed_trades: How many of these closed a position or a part of one.
        performance: The numbers of `app.risk.metrics`.
        benchmark: Those of buy-and-hold with the same costs.
        significance: Whether that may be luck, by the trials that were counted when it was judged; None before that.
        costs: The run at 0, 1, 2 and 5 times its costs.
        monthly: What each month brought, oldest first.
        outcomes: How many cycles came to what, by their reason code, the most frequent first.
        calibration: The forest's stated confidence against what came true; empty for a rule.
        caveats: What its reader must know.
    """

    id: str
    created_at: datetime
    request: BacktestRequest
    data: BacktestData
    code_version: str
    model_ids: tuple[str, ...]
    seconds: float
    bars_per_second: float
    final_equity: Decimal
    fills: int
    closed_trades: int
    performance: Performance
    benchmark: Performance
    significance: Significance | None
    costs: tuple[CostCase, ...]
    monthly: tuple[MonthlyReturn, ...]
    outcomes: Mapping[str, int]
    calibration: tuple[CalibrationBin, ...]
    caveats: tuple[Caveat, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What the strategy said that each cycle traded on; of shape (n_cycles,).

    Attributes:
        signals: A class of `ml.labels`; -1 where nothing was said.
        confidences: How sure it was, 0 to 1, to seven digits; 1 of a rule, 0 where nothing was said.
    """

    signals: CodeArray
    confidences: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class BacktestResult:
    """A run with its books.

    Attributes:
        run: Everything small.
        books: Every cycle and every fill.
        benchmark_equity: What buy-and-hold was worth at each cycle, 1e-8 quote units, shape (n_cycles,).
        said: What the strategy said.
    """

    run: BacktestRun
    books: Books
    benchmark_equity: IntegerArray
    said: Said


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What can be drawn over time, all of shape (n_points,), oldest first.

    Attributes:
        times_ms: Milliseconds since the epoch.
        equity: 1e-8 quote units.
        benchmark: The same of buy-and-hold.
        drawdown: How far equity is below its highest value so far (the initial cash counts), a fraction from 0 on.
        held: Whether a position was held from then on.
    """

    times_ms: IntegerArray
    equity: IntegerArray
    benchmark: IntegerArray
    drawdown: FloatArray
    held: BoolArray

    def __len__(self) -> int:
        return len(self.times_ms)


@dataclass(frozen=True, slots=True, eq=False)
class ClosedTrades:
    """Every exit held against its average entry, in the order of exits; all of shape (n_trades,).

    Amounts are in 1e-8 of a quote or base unit, times in milliseconds since the epoch.

    Attributes:
        series: Which symbol of the request.
        is_long: Whether it was a long position.
        entry_fill: The place of the newest entry in `Books.fills`.
        exit_fill: The place of the exit.
        opened_ms: When the newest entry was filled.
        closed_ms: When the exit was.
        quantity: How much was closed.
        entry_price: The average price it was entered at, rounded down.
        exit_price: The price it was left at.
        fees: Those of the exit and the entry's share.
        net_profit: What it realised after these fees.
        net_returns: That over what the entry was worth, a fraction.
        bars_held: How many bars lie between the two.
    """

    series: IntegerArray
    is_long: BoolArray
    entry_fill: IntegerArray
    exit_fill: IntegerArray
    opened_ms: IntegerArray
    closed_ms: IntegerArray
    quantity: IntegerArray
    entry_price: IntegerArray
    exit_price: IntegerArray
    fees: IntegerArray
    net_profit: IntegerArray
    net_returns: FloatArray
    bars_held: IntegerArray

    def __len__(self) -> int:
        return len(self.series)
