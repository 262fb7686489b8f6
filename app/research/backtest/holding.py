"""Buy-and-hold, with the costs of a backtest and by its driver: what everything else is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

import numpy as np

from app.agents.decision_making import Gate
from app.domain.money import UNITS, from_units, to_units
from app.research.backtest.books import Books
from app.research.backtest.compiled import run_compiled
from app.research.backtest.measuring import drop_warm_up, to_history
from app.research.backtest.plan import Plan, Series
from app.research.backtest.speaking import silence
from app.risk.limits import LimitRules
from app.risk.metrics import AccountHistory
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule
from app.strategies.signals import SignalArrays, SignalSource
from ml.bars import Bars, IntegerArray
from ml.labels import BUY

NO_LIMITS: Final = LimitRules(
    max_symbol_exposure=Decimal(0),
    max_gross_exposure=Decimal(0),
    max_volume_share=Decimal(0),
    max_daily_loss=Decimal(0),
    max_drawdown=Decimal(0),
    cooldown_losses=0,
    max_trades_per_day=0,
    max_open_positions=0,
    price_band_percent=Decimal(0),
)
"""Limits that nothing meets."""


@dataclass(frozen=True, slots=True, eq=False)
class Holding:
    """What became of equal shares of all symbols, each an account of its own that bought at the first open.

    Attributes:
        plans: How each share was traded.
        books: What it came to.
    """

    plans: Sequence[Plan]
    books: Sequence[Books]

    def measure(self, cycles: Books) -> tuple[IntegerArray, AccountHistory]:
        """What all were worth together at each cycle of another run of the same markets.

        Returns:
            The equity in 1e-8 quote units, shape (n_cycles,), and what `app.risk.metrics` measures.
        """
        equity = np.zeros(len(cycles), dtype=np.int64)
        holds = np.zeros(len(cycles), dtype=np.bool_)
        for place, (plan, own) in enumerate(zip(self.plans, self.books, strict=True)):
            seen = np.cumsum(cycles.series == place)
            equity += np.append(to_units(plan.initial_cash), own.equity)[seen]
            holds |= np.append(False, own.held)[seen]
        parts = [to_history(plan, own) for plan, own in zip(self.plans, self.books, strict=True)]
        return equity, AccountHistory(
            initial_cash=sum(part.initial_cash for part in parts),
            times_ms=cycles.times_ms,
            equity=equity / UNITS,
            held=holds,
            notionals=np.concatenate([part.notionals for part in parts]),
            fees=np.concatenate([part.fees for part in parts]),
            slippages=np.concatenate([part.slippages for part in parts]),
            profits=np.concatenate([part.profits for part in parts]),
        )


def run_holding(plan: Plan, series: Sequence[Series], start_ms: int) -> Holding:
    """Buy an equal share of every symbol at the first open, and keep it.

    Args:
        plan: How the backtest trades: its cash is divided and its costs are paid, its limits are not kept to.
        series: The markets.
        start_ms: When trading begins, milliseconds since the epoch.
    """
    whole = to_units(plan.initial_cash)
    shares = [whole // len(series)] * len(series)
    shares[0] += whole - sum(shares)
    plans = [_keep_all_in(plan, cash) for cash in shares]
    books = []
    for own, one in zip(plans, series, strict=True):
        bought = replace(one, signals=silence(_buy(one.bars), one.bars, start_ms, latency_bars=0))
        books.append(drop_warm_up(run_compiled(own, [bought]), start_ms))
    return Holding(plans, books)


def _keep_all_in(plan: Plan, cash: int) -> Plan:
    return replace(
        plan,
        initial_cash=from_units(cash),
        gate=Gate(0.0),
        terms=replace(plan.terms, volume_share=Decimal(0), allow_short=False),
        sizing=SizingRule(cash_fraction=Decimal(1)),
        limits=NO_LIMITS,
        protection=ProtectionRule(),
        minimum_bars=1,
        latency_bars=0,
    )


def _buy(bars: Bars) -> SignalArrays:
    count = len(bars)
    return SignalArrays(
        signals=np.full(count, BUY, dtype=np.int8),
        confidences=np.ones(count),
        expected_returns=np.zeros(count),
        speakers=np.zeros(count, dtype=np.int64),
        sources=(SignalSource("buy-and-hold"),),
    )
