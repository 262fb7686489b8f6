"""A service whose books hold every kind of booking: on the simulated market, with a small model, a minute at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

from app.bootstrap import Service, build_service
from app.domain.candle import Interval
from app.domain.order import OrderKind, Side
from app.engine.portfolio_desk import OrderRequest
from app.errors import NotReadyError
from app.settings import Settings
from ml.labels import LabelRule
from tests.support.edge import settings
from tests.support.models import stump, write_bundle

START = datetime(2026, 3, 2, 0, 0, 30, 123_457, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass
class TickingClock:
    """A clock that is moved by hand, and by a millisecond and a bit each time it is asked."""

    at: datetime = field(default=START)

    def now(self) -> datetime:
        self.at += timedelta(microseconds=1_003)
        return self.at

    def advance(self, step: timedelta) -> None:
        self.at += step


@dataclass
class Recorded:
    """A service with its clock and its folder."""

    service: Service
    clock: TickingClock
    settings: Settings

    async def run(self, cycles: int, symbol: str = "BTCUSDT") -> None:
        """So many cycles, a minute apart."""
        for _ in range(cycles):
            self.clock.advance(MINUTE)
            await self.service.run_cycle(symbol, Interval.M1)

    async def place(self, side: Side, kind: OrderKind, quantity: str, **more: Any) -> None:
        """A person's order."""
        self.clock.advance(timedelta(seconds=1))
        request = OrderRequest("BTCUSDT", side, kind, Decimal(quantity), **more)
        await self.service.portfolio.place(request, None)

    async def refuse(self) -> None:
        """A cycle that is refused, as there is no model."""
        model, self.service.strategy._model = self.service.strategy._model, None
        try:
            await self.service.run_cycle("BTCUSDT", Interval.M1)
        except NotReadyError:
            pass
        finally:
            self.service.strategy._model = model

    async def live(self, cycles: int = 20) -> None:
        """Every kind of booking: entries, exits, stops, a duplicate, a refusal, a person's orders, a halt, dust."""
        await self.run(cycles)
        await self.service.run_cycle("BTCUSDT", Interval.M1)
        await self.refuse()
        await self.run(2, "ETHUSDT")
        if "BTCUSDT" not in (await self.service.ledger.load_standing(self.service.key)).portfolio.positions:
            await self.place(Side.BUY, OrderKind.MARKET, "0.002")
        view, _, _ = await self.service.latest_market("BTCUSDT")
        below = (view.price * Decimal("0.999")).quantize(Decimal("0.01"))
        await self.place(Side.SELL, OrderKind.TRAILING_STOP, "0.001", trail_fraction=Decimal("0.0005"))
        await self.place(Side.BUY, OrderKind.LIMIT, "0.001", price=below)
        await self.run(cycles // 2)
        await self.service.portfolio.set_halt(is_halted=True, reason="A test.")
        await self.run(3)
        await self.service.portfolio.set_halt(is_halted=False, reason="It is over.")
        await self.run(cycles // 4)
        await self.service.portfolio.close(None, None)
        await self.place(Side.BUY, OrderKind.MARKET, "0.002")
        await self.place(Side.SELL, OrderKind.MARKET, "0.00195")  # the rest is dust
        await self.place(Side.BUY, OrderKind.MARKET, "0.001")
        await self.service.portfolio.close("BTCUSDT", None)


def make_settings(folder: Path, url: str | None = None, **more: Any) -> Settings:
    """Settings under which a stump trades most minutes, with a stop and a target that are met often."""
    chosen = {
        "database_url": url or f"sqlite:///{folder / 'trading.db'}",
        "model_path": folder / "models",
        "model_horizon_bars": 5,
        "model_threshold_percent": 0.1,
        "min_confidence": 0.5,
        "require_edge": False,
        "require_positive_return": False,
        "simulated_seed": 8,
        "stop_atr_multiple": 0.5,
        "take_profit_atr_multiple": 2,
        "cooldown_losses": 0,
        "max_trades_per_day": 0,
    }
    return settings(**chosen | more)


@asynccontextmanager
async def recorded_service(
    folder: Path, url: str | None = None, *, first_id: int = 1, **more: Any
) -> AsyncIterator[Recorded]:
    """A service with a stump of a model: it says BUY after a minute that rose, and SELL after one that fell.

    On books that are there already, its bookings are numbered from `first_id` on.
    """
    chosen = make_settings(folder, url, **more)
    rule = asdict(LabelRule(chosen.model_horizon_bars, chosen.model_threshold_percent))
    forest = {"class_weight": chosen.model_class_weight.value, "calibration": chosen.model_calibration.value}
    write_bundle(folder / "models", stump((0.7, 0.2, 0.1), (0.1, 0.2, 0.7)), label_rule=rule, forest=forest)
    clock, numbers = TickingClock(), count(first_id)
    service = build_service(chosen, clock, lambda: f"booking-{next(numbers)}")
    try:
        await service.start(train=False)
        yield Recorded(service, clock, chosen)
    finally:
        await service.stop()
