"""The real service over HTTP on the simulated market, with a clock that tests move and a model that always buys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from app.bootstrap import Service
from app.engine.clocks import SimulatedClock
from app.main import create_app
from app.settings import Settings
from ml.labels import LabelRule
from tests.support.edge import settings
from tests.support.http import running_server
from tests.support.models import stump, write_bundle

START = datetime(2026, 1, 5, 10, 0, 30, tzinfo=UTC)
"""BTCUSDT is at 89555.21 then, and ETHUSDT at 2272.54."""

_BUY = (0.1, 0.2, 0.7)


class IdleService(Service):
    """A service that works when it is asked to, and trains nothing."""

    async def start(self, *, train: bool = False) -> None:
        await super().start(train=train)


@dataclass
class Counter:
    """Its service, what it is reached by, and its clock."""

    service: Service
    client: httpx.Client
    clock: SimulatedClock

    def advance(self, minutes: float) -> None:
        """Let time pass."""
        self.clock.advance(timedelta(minutes=minutes))

    def get(self, path: str, **query: object) -> Any:
        """The JSON that is answered."""
        answer = self.client.get(path, params=_texts(query))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def order(self, side: str, quantity: str, **more: object) -> httpx.Response:
        """Ask for an order; of BTCUSDT at the market unless `more` says otherwise."""
        key = more.pop("key", None)
        headers = {"Idempotency-Key": str(key)} if key else {}
        body = {"symbol": "BTCUSDT", "side": side, "quantity": quantity, **more}
        return self.client.post("/portfolio/orders", json=body, headers=headers)

    def place(self, side: str, quantity: str, **more: object) -> Any:
        """As `order`, for one that is taken."""
        answer = self.order(side, quantity, **more)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def run_cycle(self, symbol: str = "BTCUSDT") -> Any:
        """One cycle; it ends, whatever comes of it."""
        answer = self.client.post("/trading/run-cycle", params={"symbol": symbol})
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def open_counter(database_url: str, folder: Path, *, start: datetime = START, **values: Any) -> Iterator[Counter]:
    """Serve until the block ends; `values` are settings. Decisions buy where `min_confidence` is at most 0.7."""
    clock, numbers = SimulatedClock(start), count(1)
    models = folder / "models"
    if not models.exists():
        rule = asdict(LabelRule(5, 0.05))
        write_bundle(models, stump(_BUY, _BUY), start, label_rule=rule)
    chosen = settings(
        **{
            "database_url": database_url,
            "model_path": models,
            "model_horizon_bars": 5,
            "model_threshold_percent": 0.05,
            "min_confidence": 0.99,
            "log_level": "ERROR",
            **values,
        }
    )

    def build(given: Settings) -> Service:
        return IdleService(given, clock, lambda: f"{clock.now():%d%H%M%S}-{next(numbers):04}")

    app = create_app(chosen, build=build)
    with running_server(app) as server, httpx.Client(base_url=server.url, trust_env=False, timeout=15) as client:
        yield Counter(app.state.service, client, clock)


def _texts(query: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items() if value is not None}
