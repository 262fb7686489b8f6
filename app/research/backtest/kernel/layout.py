"""What the compiled backtest keeps while it runs: arrays of whole numbers with named columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.research.backtest.books import OUTCOMES
from ml.bars import IntegerArray

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

# The account.
CASH, PEAK, DAY_END, DAY_EQUITY, TRADES, LOSSES, LAST_LOSS, HAS_LOST, HALTED_IN, EQUITY, FILLS, OPEN = range(12)
# A holding.
QUANTITY, COST, FEES, DUST, DUST_COST, DUST_FEES, MARK, RESTING = range(8)
# The places of a symbol's orders, the oldest first, and what an order is.
LIQUIDATION, STOP, TARGET = range(3)
KIND, SIDE, PRICE, OPEN_QUANTITY, TRAIL, ACTIVE_FROM = range(6)
# The cycle under way.
CYCLE, SERIES, BAR, NOW, QUOTE = range(5)

DAY_MS = 86_400_000

FIXED, AT_RISK, PER_BAR = range(3)
"""How an entry is sized: a share of the cash, by its stop, or the share of equity that `Market.shares` has."""


class Market(NamedTuple):
    """The bars of all series, one after another, every field of shape (n_bars,).

    Prices and volumes are in 1e-8 units, times in milliseconds. `verdicts` are `CONFIDENT` or places in
    `books.OUTCOMES`, `sides` 1 for BUY and -1 for SELL. `true_ranges` (0 where not known) and `shares` (ppm of the
    equity, -1 where not known) need to be right where the verdict is `CONFIDENT` only.
    """

    open_time_ms: IntegerArray
    opening: IntegerArray
    high: IntegerArray
    low: IntegerArray
    close: IntegerArray
    volume: IntegerArray
    verdicts: npt.NDArray[np.int8]
    sides: npt.NDArray[np.int8]
    true_ranges: IntegerArray
    shares: IntegerArray
    too_old: npt.NDArray[np.bool_]


class Facts(NamedTuple):
    """What each series is, every field of shape (n_series,): its instrument, its first bar and how long one lasts."""

    tick: IntegerArray
    lot: IntegerArray
    minimum_notional: IntegerArray
    first_bar: IntegerArray
    duration_ms: IntegerArray


class Rules(NamedTuple):
    """The settings in whole numbers; 0 switches a limit off, as it does live."""

    fee_ppm: int
    slippage_ppm: int
    volume_share_ppm: int
    allow_short: bool
    sizing: int
    cash_ppm: int
    risk_ppm: int
    has_stop: bool
    is_trailing: bool
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


class State(NamedTuple):
    """The account under way; all arrays of int64, their columns as named above.

    `holdings` is of shape (n_series, 8), `orders` of shape (n_series, 3, 6), `fills` of shape (capacity, 12) with the
    columns of `books.Fills`.
    """

    account: IntegerArray
    holdings: IntegerArray
    orders: IntegerArray
    fills: IntegerArray
    at: IntegerArray


class Cycles(NamedTuple):
    """The cycles in their order, and what comes of them; all of shape (n_cycles,)."""

    series: IntegerArray
    bars: IntegerArray
    outcomes: npt.NDArray[np.int8]
    equity: IntegerArray
    held: npt.NDArray[np.bool_]
