"""Buy-and-hold, with the costs of a backtest and by its driver: what everything else is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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


def run_holding(
    plan: Plan, series: Sequence[Series], start_ms: int, books: Books
) -> tuple[IntegerArray, AccountHistory]:
    """What equal shares of all symbols, bought at the first open and kept, came to at each cycle of `books`.

    Args:
        plan: How the backtest trades: its cash is divided and its costs are paid, its limits are not kept to.
        series: The markets.
        start_ms: When trading begins, milliseconds since the epoch.
        books: The backtest, from its first cycle on that counts.

    Returns:
        The equity in 1e-8 quote units, shape (n_cycles,), and what `app.risk.metrics` measures.
    """
    whole = to_units(plan.initial_cash)
    shares = [whole // len(series)] * len(series)
    shares[0] += whole - sum(shares)
    equity = np.zeros(len(books), dtype=np.int64)
    holds = np.zeros(len(books), dtype=np.bool_)
    parts = []
    for place, (one, cash) in enumerate(zip(series, shares, strict=True)):
        kept = _keep_all_in(plan, cash)
        bought = replace(one, signals=silence(_buy(one.bars), one.bars, start_ms, latency_bars=0))
        own = drop_warm_up(run_compiled(kept, [bought]), start_ms)
        seen = np.cumsum(books.series == place)
        equity += np.append(cash, own.equity)[seen]
        holds |= np.append(False, own.held)[seen]
        parts.append(to_history(kept, own))
    return equity, AccountHistory(
        initial_cash=float(plan.initial_cash),
        times_ms=books.times_ms,
        equity=equity / UNITS,
        held=holds,
        notionals=np.concatenate([part.notionals for part in parts]),
        fees=np.concatenate([part.fees for part in parts]),
        slippages=np.concatenate([part.slippages for part in parts]),
        profits=np.concatenate([part.profits for part in parts]),
    )


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
