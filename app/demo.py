"""A demonstration: the real engine on the simulated market and a scratch database. Same seed, same result."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from app.bootstrap import Service, build_service
from app.domain.candle import Interval
from app.domain.cycle import Trade
from app.domain.money import from_units
from app.engine.clocks import SimulatedClock
from app.setting_kinds import MarketSource
from app.settings import Settings

START = datetime(2026, 1, 5, tzinfo=UTC)
"""Where the demonstration's clock starts."""

TRAINING_CANDLES = 40_000
"""Four weeks, unless TRAINING_KLINES is set: in one, luck outweighs the pattern that the simulated market has."""

Progress = Callable[[str, float], None]
"""Hears what is being done, and how far it is from 0 to 1."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What a demonstration came to; money in quote units, trades oldest first."""

    seed: int
    symbol: str
    card: dict[str, Any]
    cycles: int
    trades: tuple[Trade, ...]
    initial_cash: Decimal
    cash: Decimal
    position: Decimal
    price: Decimal

    @property
    def equity(self) -> Decimal:
        """Cash and the position at the last price."""
        return self.cash + self.position * self.price

    @property
    def fees(self) -> Decimal:
        """All fees paid."""
        return sum((trade.fee for trade in self.trades), Decimal(0))

    @property
    def round_trips(self) -> int:
        """How many fills closed a position, or a part of one."""
        return sum(trade.realised_profit is not None for trade in self.trades)


async def run_demo(settings: Settings, cycles: int, on_progress: Progress) -> DemoResult:
    """Train on the simulated market, then run `cycles` one-minute cycles of the default symbol through the engine.

    Nothing of it is kept: database and model live in a folder that is removed at the end.
    """
    with tempfile.TemporaryDirectory(prefix="papertape-demo-") as scratch:
        clock = SimulatedClock(START)
        numbers = itertools.count(1)
        is_set = "training_klines" in settings.model_fields_set
        own = settings.model_copy(
            update={
                "market_source": MarketSource.SIMULATED,
                "database_url": SecretStr(f"sqlite:///{Path(scratch, 'demo.db')}"),
                "model_path": Path(scratch, "models"),
                "default_interval": Interval.M1,
                "training_klines": settings.training_klines if is_set else TRAINING_CANDLES,
            }
        )
        service = build_service(own, clock, lambda: f"demo-{next(numbers)}")
        try:
            await service.start(train=False)
            on_progress("Training", 0.0)
            bundle = await service.keeper.train(lambda share, _words: on_progress("Training", share))
            for done in range(cycles):
                on_progress("Trading", done / cycles)
                clock.advance(Interval.M1.duration)
                await service.run_cycle(own.default_symbol, Interval.M1)
            on_progress("Trading", 1.0)
            return await _summarise(service, bundle.card, cycles)
        finally:
            await service.stop()


async def _summarise(service: Service, card: dict[str, Any], cycles: int) -> DemoResult:
    symbol = service.settings.default_symbol
    trades: list[Trade] = []
    cursor: str | None = None
    while True:
        page = await service.ledger.list_trades(limit=1000, cursor=cursor)
        trades += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    portfolio = (await service.ledger.load_standing(service.key)).portfolio
    view, _, _ = await service.latest_market(symbol)
    return DemoResult(
        seed=service.settings.simulated_seed,
        symbol=symbol,
        card=card,
        cycles=cycles,
        trades=tuple(reversed(trades)),
        initial_cash=service.settings.initial_cash,
        cash=from_units(portfolio.cash),
        position=from_units(portfolio.holding(symbol)),
        price=view.price,
    )
