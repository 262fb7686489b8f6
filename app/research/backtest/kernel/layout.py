"""What the compiled backtest keeps while it runs: arrays and records of whole numbers.

Compiled code is handed the address of a record, while every array costs it the counting of who holds it, several times
what the arithmetic of a fill does. So what runs once a fill has records only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.research.backtest.books import OUTCOMES
from ml.bars import FloatArray, IntegerArray

CONFIDENT = 0
"""The verdict on a bar whose signal passed the gate; any other is what came of it already."""

FILLED = OUTCOMES.index("filled")
ALREADY_IN_POSITION = OUTCOMES.index("already_in_position")
NO_POSITION = OUTCOMES.index("no_position")
HALTED = OUTCOMES.index("halted")
DAILY_LOSS = OUTCOMES.index("daily_loss")
MAX_DRAWDOWN = OUTCOMES.index("max_drawdown")
COOLDOWN = OUTCOMES.index("cooldown")
MAX_TRADES = OUTCOMES.index("max_trades_per_day")
MAX_POSITIONS = OUTCOMES.index("max_open_positions")
PRICE_BAND = OUTCOMES.index("price_band")
MODEL_TOO_OLD = OUTCOMES.index("model_too_old")
SIZE_UNKNOWN = OUTCOMES.index("size_unknown")
SIZE_ZERO = OUTCOMES.index("size_zero")
INSUFFICIENT_CASH = OUTCOMES.index("insufficient_cash")
MAX_SYMBOL = OUTCOMES.index("max_symbol_exposure")
MAX_GROSS = OUTCOMES.index("max_gross_exposure")
VOLUME_SHARE = OUTCOMES.index("volume_share")
BELOW_MINIMUM = OUTCOMES.index("below_minimum_notional")
STOP_UNKNOWN = OUTCOMES.index("stop_unknown")
NOT_POSITIVE = OUTCOMES.index("price_not_positive")
TO_DUST = OUTCOMES.index("moved_to_dust")

BY_SIGNAL, BY_PROTECTION, BY_LIQUIDATION = 0, 1, 2

LIQUIDATION, STOP, TARGET = range(3)
"""The places of a symbol's orders, the oldest first."""

OPEN, HIGH, LOW, CLOSE = range(4)
"""The rows of `Market.exact`."""

FIXED, AT_RISK, PER_BAR = range(3)
"""How an entry is sized: a share of the cash, by its stop, or the share of equity that `Market.shares` has."""


class Market(NamedTuple):
    """The bars of all series, one after another, every field of shape (n_bars,) unless it says otherwise.

    Prices are in quote units, times in milliseconds, volumes in 1e-8 base units.

    Attributes:
        exact: The prices in 1e-8 quote units, shape (4, n_bars), where some are beyond what floats tell apart; else
            of shape (4, 0), and each is rounded when it is looked at.
        volume: Of shape (0,) where no rule looks at volumes.
        verdicts: `CONFIDENT` or places in `books.OUTCOMES`.
        true_ranges: 0 where not known, in 1e-8 quote units; of shape (0,) where no rule looks at them.
        shares: In ppm of the equity, -1 where not known; of shape (0,) where no rule looks at them. It and
            `true_ranges` need to be right where the verdict is `CONFIDENT` only.
        too_old: Whether the model that speaks is; of shape (0,) where none may be.
    """

    open_time_ms: IntegerArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    exact: IntegerArray
    volume: IntegerArray
    verdicts: npt.NDArray[np.int8]
    true_ranges: IntegerArray
    shares: IntegerArray
    too_old: npt.NDArray[np.bool_]


class Facts:
    """What a series is: its instrument, its first bar and how long one lasts."""

    tick: int
    lot: int
    minimum_notional: int
    first_bar: int
    duration_ms: int


class Rules:
    """The settings in whole numbers; 0 switches a limit off, as it does live."""

    fee_ppm: int
    slippage_ppm: int
    volume_share_ppm: int
    sizing: int
    cash_ppm: int
    risk_ppm: int
    stop_hundredths: int
    target_hundredths: int
    max_symbol_ppm: int
    max_gross_ppm: int
    max_volume_ppm: int
    max_daily_loss_ppm: int
    max_drawdown_ppm: int
    cooldown_losses: int
    cooldown_ms: int
    max_trades: int
    max_positions: int
    price_band_ppm: int
    window_bars: int
    allow_short: bool
    has_stop: bool
    is_trailing: bool


class Account:
    """What the account has, and what happened to it."""

    cash: int
    equity: int
    peak: int
    day_equity: int
    trades: int
    losses: int
    last_loss_ms: int
    has_lost: bool
    halted_in: int
    fills: int
    positions: int


class Order:
    """An order that rests; none where nothing of it is open. `raw_price` is where it is to fill on the bar, else 0."""

    kind: int
    side: int
    price: int
    open_quantity: int
    trail_ppm: int
    active_from_ms: int
    raw_price: int


class Holding:
    """What is held of a series, and the orders that guard it: `LIQUIDATION`, `STOP` and `TARGET`."""

    quantity: int
    cost: int
    fees: int
    dust: int
    dust_cost: int
    dust_fees: int
    mark: int
    worth: int
    resting: int
    orders: tuple[Order, Order, Order]


class Candle:
    """The bar that is looked at, in 1e-8 units."""

    opened_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int


class Moment:
    """The cycle under way, and what is known in it of the account and of the entry that may come.

    `free_cash` and `gross_exposure` are those of before the entry; the latter is 0 where no rule looks at it.
    """

    cycle: int
    now_ms: int
    quote: int
    side: int
    true_range: int
    share: int
    is_too_old: bool
    free_cash: int
    gross_exposure: int


class Fill:
    """The fill that was booked last: a row of `books.Fills`."""

    cycle: int
    side: int
    origin: int
    quantity: int
    price: int
    reference: int
    notional: int
    fee: int
    profit: int
    entry_fees: int
    cash_after: int
    position_after: int


class Progress:
    """How far the pass is.

    Attributes:
        cycle: The next one to run.
        count: How many there are.
        day: Its UTC day, counted from that of the first cycle.
        day_end: The cycle after the last of that day.
        place: Where in `Cycles.busy` the next signal is that passed the gate.
        next_busy: Its cycle; `count` where there is none.
        safe: An equity that no smaller one than is known not to be due a halt; less than any where none can come.
        first_look: Where in `Cycles.busy` the bars begin that were looked at.
        looks_end: Where they end.
    """

    cycle: int
    count: int
    day: int
    day_end: int
    place: int
    next_busy: int
    safe: int
    first_look: int
    looks_end: int


class Desk(NamedTuple):
    """What is at hand where something may be traded: records of one series, and of the account."""

    rules: Rules
    facts: Facts
    account: Account
    holding: Holding
    candle: Candle
    moment: Moment
    fill: Fill


class State(NamedTuple):
    """The account under way, and what it is held to, in records.

    `holdings` and `facts` have one a series, `fills` as many as there is room for, `looks` as many as bars are looked
    at together, the others one.
    """

    rules: np.ndarray
    facts: np.ndarray
    account: np.ndarray
    holdings: np.ndarray
    progress: np.ndarray
    moment: np.ndarray
    candle: np.ndarray
    looks: np.ndarray
    fill: np.ndarray
    fills: np.ndarray


class Cycles(NamedTuple):
    """The cycles in their order, and what comes of them.

    Attributes:
        series: Which series each is about, shape (n_cycles,); (0,) where there is one only.
        bars: After which bar of the market, shape (n_cycles,); (0,) where they are those of the market.
        busy: The cycles whose verdict is `CONFIDENT`, rising, shape (n_busy,).
        sides: What they ask for, 1 to buy and -1 to sell, shape (n_busy,).
        day_ends: The cycle after the last of each UTC day, shape (n_days,).
        daily: Is written: the equity at the end of each UTC day in 1e-8 quote units, shape (n_days,).
        outcomes: The verdicts; is written over with what came of `busy`, shape (n_cycles,); (0,) where no one asks.
        equity: Is written: after each cycle, in 1e-8 quote units, shape (n_cycles,); (0,) where no one asks.
        held: Is written: whether anything was held then, shape (n_cycles,); (0,) where no one asks.
    """

    series: IntegerArray
    bars: IntegerArray
    busy: IntegerArray
    sides: npt.NDArray[np.int8]
    day_ends: IntegerArray
    daily: IntegerArray
    outcomes: npt.NDArray[np.int8]
    equity: IntegerArray
    held: npt.NDArray[np.bool_]


def _to_type(record: type, **others: object) -> np.dtype[np.void]:
    """The numpy type of a record that is described by a class."""
    types = {"int": np.int64, "bool": np.bool_}
    names = record.__annotations__.items()
    return np.dtype([(name, others.get(name) or types[kind]) for name, kind in names], align=True)


FACTS, RULES, ACCOUNT, PROGRESS = (_to_type(record) for record in (Facts, Rules, Account, Progress))
CANDLE, MOMENT, FILL = (_to_type(record) for record in (Candle, Moment, Fill))
HOLDING = _to_type(Holding, orders=(_to_type(Order), (3,)))


def make_record(kind: np.dtype[np.void], **values: int) -> np.ndarray:
    """One record with these values, 0 where there is none, shape (1,)."""
    record = np.zeros(1, dtype=kind)
    for name, value in values.items():
        record[name] = value
    return record
