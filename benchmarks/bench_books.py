"""What recording costs, how fast cycles are replayed, and the account with many fills: the books under load."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from pydantic import SecretStr

from app.bootstrap import Service, build_service
from app.domain.candle import Interval
from app.domain.ports import EVERYTHING
from app.engine.clocks import SimulatedClock
from app.research.replay import Replay
from app.setting_kinds import MarketSource
from app.settings import Settings, load_settings
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from benchmarks.bench_service import percentile, timed
from benchmarks.bench_trades import CASH, KEY

CYCLES = 1_000
WARM_UP = 50
PAGES = ("summary", "positions", "performance")

_START = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Recording:
    """Cycles with and without their records.

    The p50 of either in seconds, what a recorded one adds to the file, how many cycles a second replay, and how many
    of the recorded cycles traded.
    """

    recorded: float
    unrecorded: float
    bytes_a_cycle: float
    replays_a_second: float
    trades: int

    @property
    def ratio(self) -> float:
        """How many times as long a recorded cycle takes."""
        return self.recorded / self.unrecorded


def _settings(folder: Path, name: str) -> Settings:
    # A rule that trades often, so that what fills cost is in the figures.
    return load_settings(
        market_source=MarketSource.SIMULATED,
        database_url=SecretStr(f"sqlite:///{folder / name}.db"),
        model_path=folder / "models",
        event_log_file="",
        training_klines=2_000,
        model_horizon_bars=10,
        model_threshold_percent=0.01,
        min_confidence=0.3,
        require_positive_return=False,
        stop_rule="stop_loss",
        allow_short=True,
        max_trades_per_day=0,
        cooldown_losses=0,
        max_daily_loss=0,
        max_drawdown=0,
    )


@asynccontextmanager
async def _service(folder: Path, name: str) -> AsyncIterator[tuple[Service, SimulatedClock]]:
    clock = SimulatedClock(_START)
    service = build_service(_settings(folder, name), clock)
    try:
        await service.start(train=False)
        if service.strategy.bundle is None:
            await service.keeper.train(lambda _share, _words: None)
        yield service, clock
    finally:
        await service.stop()


async def _cycle(service: Service, clock: SimulatedClock) -> float:
    clock.advance(timedelta(minutes=1))
    begun = time.perf_counter()
    await service.engine.run_cycle(service.settings.default_symbol, Interval.M1)
    return time.perf_counter() - begun


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("recorded.db*"))


async def _measure_recording(folder: Path) -> Recording:
    seconds: dict[bool, list[float]] = {True: [], False: []}
    async with _service(folder, "recorded") as recorded, _service(folder, "unrecorded") as unrecorded:
        unrecorded[0].ledger.keeps_records = False
        for _ in range(WARM_UP):
            await _cycle(*recorded)
            await _cycle(*unrecorded)
    before = _size(folder)
    async with _service(folder, "recorded") as recorded, _service(folder, "unrecorded") as unrecorded:
        unrecorded[0].ledger.keeps_records = False
        for clock in (recorded[1], unrecorded[1]):
            clock.advance(timedelta(minutes=WARM_UP))
        for _ in range(CYCLES):
            seconds[True].append(await _cycle(*recorded))
            seconds[False].append(await _cycle(*unrecorded))
    growth = (_size(folder) - before) / CYCLES
    async with _service(folder, "recorded") as recorded:
        rate = await _measure_replay(recorded[0])
        trades = (await recorded[0].ledger.load_standing(recorded[0].key)).snapshot.trades_today
    return Recording(statistics.median(seconds[True]), statistics.median(seconds[False]), growth, rate, trades)


async def _measure_replay(service: Service) -> float:
    begun = time.perf_counter()
    count = 0
    async for found in service.replayer.replay_all(EVERYTHING, lambda _done, _total: None):
        assert isinstance(found, Replay), found
        assert found.equal, found
        count += 1
    return count / (time.perf_counter() - begun)


def measure_recording() -> Recording:
    """Cycles of two equal services in turns, in this process: one leaves records, the other does not."""
    with tempfile.TemporaryDirectory() as scratch:
        return asyncio.run(_measure_recording(Path(scratch)))


def measure_rebuild(database_path: Path) -> float:
    """The seconds that a start takes to compute the account from its fills and compare it with what is stored."""

    async def measure() -> float:
        async with Database(f"sqlite:///{database_path}") as database:
            ledger = SqlLedger(database, SimulatedClock(_START))
            begun = time.perf_counter()
            await ledger.open_account(KEY, CASH)
            return time.perf_counter() - begun

    return asyncio.run(measure())


def measure_pages(address: str, run: str, rounds: int = 200) -> dict[str, float]:
    """The p99 of each page of the account of `run`, in milliseconds, once it has been asked for."""
    found = {}
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        for page in PAGES:
            url = f"/portfolio/{page}?run={run}"
            timed(client, "GET", url)
            found[page] = percentile([timed(client, "GET", url) for _ in range(rounds)], 0.99) * 1e3
    return found
