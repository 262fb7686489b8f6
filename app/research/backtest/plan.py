"""What a backtest runs on: the rules it trades by, and the markets with what a strategy says of them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from app.agents.decision_making import Gate
from app.broker.desk import Terms
from app.domain.candle import Interval
from app.domain.instrument import Instrument
from app.risk.limits import LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule
from app.strategies.signals import SignalArrays
from ml.bars import Bars


@dataclass(frozen=True, slots=True)
class Plan:
    """How a backtest trades: the rules of the live service, and what only a history has.

    Attributes:
        initial_cash: What the account is opened with, in quote units.
        gate: What a BUY or SELL must have to be traded.
        terms: What a fill costs, and what may be filled.
        sizing: How entries are sized.
        limits: What they must keep to.
        protection: How they are protected.
        window_bars: How many closed candles a cycle looks at, from 61 on.
        minimum_bars: How many of them there must be without a gap, at the end.
        latency_bars: How many bars late a signal is traded, beside the next open.
    """

    initial_cash: Decimal
    gate: Gate
    terms: Terms
    sizing: SizingRule
    limits: LimitRules
    protection: ProtectionRule
    window_bars: int = 100
    minimum_bars: int = 1
    latency_bars: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One market: its candles, oldest first, and what is said after each of them."""

    symbol: str
    interval: Interval
    instrument: Instrument
    bars: Bars
    signals: SignalArrays
