"""Cycles of a real service on the simulated market, scored once their labels settle."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.bootstrap import Service, build_service
from app.domain.candle import Candle, Interval
from app.domain.cycle import CycleReport
from app.domain.signal import Signal
from app.engine.clocks import SimulatedClock
from app.errors import UpstreamTimeoutError
from app.exchanges.simulated import SimulatedMarketData
from app.research.history import HistoryKeeper
from app.research.scoring import LOOKBACK_BARS, Scorer, read_label_rule
from app.storage.candle_store import CandleStore
from ml.labels import LabelRule
from tests.support.edge import settings
from tests.support.models import stump, write_bundle

pytestmark = pytest.mark.anyio

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
HORIZON = 5
MINUTE = timedelta(minutes=1)


class WornMarket(SimulatedMarketData):
    """The simulated market with candles missing, and symbols whose candles cannot be had."""

    def __init__(self, clock: SimulatedClock, seed: int) -> None:
        super().__init__(clock, seed)
        self.missing: set[datetime] = set()
        self.silent: set[str] = set()
        self.calls: list[tuple[str, datetime]] = []

    async def fetch_range(
        self, symbol: str, interval: Interval, since: datetime, until: datetime, limit: int = 1_000
    ) -> list[Candle]:
        self.calls.append((symbol, since))
        if symbol in self.silent:
            raise UpstreamTimeoutError("The exchange did not answer.")
        candles = await super().fetch_range(symbol, interval, since, until, limit)
        return [candle for candle in candles if candle.open_time not in self.missing]


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START)


@pytest.fixture
def model(tmp_path: Path, clock: SimulatedClock) -> str:
    """The id of a model that leans to SELL after a fall and to BUY after a rise."""
    forest = stump((0.7, 0.2, 0.1), (0.15, 0.2, 0.65))
    rule = asdict(LabelRule(HORIZON, 0.05))
    return write_bundle(tmp_path / "models", forest, clock.now(), label_rule=rule).name


def make_service(tmp_path: Path, clock: SimulatedClock) -> Service:
    chosen = settings(
        database_url=f"sqlite:///{tmp_path / 'trading.db'}",
        model_path=tmp_path / "models",
        model_threshold_percent=0.05,
        model_horizon_bars=HORIZON,
        min_confidence=0.66,
    )
    return build_service(chosen, clock)


@pytest.fixture
async def service(tmp_path: Path, clock: SimulatedClock, model: str) -> AsyncIterator[Service]:
    built = make_service(tmp_path, clock)
    try:
        await built.start(train=False)
        assert built.strategy.model_id == model
        yield built
    finally:
        await built.stop()


@pytest.fixture
def market(service: Service, clock: SimulatedClock) -> WornMarket:
    """What the service's scorer asks instead of the market that its cycles see; it has the same candles."""
    worn = WornMarket(clock, service.settings.simulated_seed)
    folder = service.settings.model_path
    history = HistoryKeeper(worn, CandleStore(service.database), clock)
    service.scorer = Scorer(history, service.outcomes, clock, lambda model_id: read_label_rule(folder, model_id))
    return worn


async def run_cycles(service: Service, clock: SimulatedClock, count: int, symbol: str = "BTCUSDT") -> list[CycleReport]:
    """One cycle a minute, the clock standing at the last one's minute afterwards."""
    reports = []
    for place in range(count):
        clock.advance(MINUTE if place else timedelta(0))
        report, _ = await service.run_cycle(symbol, Interval.M1)
        reports.append(report)
    return reports


async def candles_of(service: Service, symbol: str = "BTCUSDT") -> dict[datetime, Candle]:
    now = service.clock.now()
    candles = await service.market.fetch_range(symbol, Interval.M1, now - 200 * MINUTE, now)
    return {candle.open_time: candle for candle in candles}


async def test_score_decisions_match_what_is_read_off_the_candles_by_hand(
    service: Service, clock: SimulatedClock, model: str
) -> None:
    reports = await run_cycles(service, clock, 20)
    clock.advance(timedelta(hours=1))
    candles = await candles_of(service)
    assert await service.scorer.score() == (20, None)

    scored = await service.outcomes.load_scored("simulated", model, 100)
    assert [row.decision.cycle_id for row in scored] == [report.id for report in reports]
    for row, report in zip(scored, reports, strict=True):
        assert report.market is not None
        assert report.decision is not None
        opened = report.market.candle_open_time
        moved = candles[opened + HORIZON * MINUTE].close / candles[opened + MINUTE].open - 1
        label = Signal.BUY if moved >= 0.0005 else Signal.SELL if moved <= -0.0005 else Signal.HOLD
        assert row.truth.label is label
        assert row.truth.forward_return == pytest.approx(float(moved), abs=1e-12)
        assert row.truth.log_loss == pytest.approx(-math.log(report.decision.probabilities[label]))
        assert row.settled_at == candles[opened + HORIZON * MINUTE].close_time
    assert len({row.truth.label for row in scored}) == 3, "the candles show each label"


async def test_track_record_is_of_the_scored_decisions(service: Service, clock: SimulatedClock, model: str) -> None:
    assert await service.track_record() == []
    reports = await run_cycles(service, clock, 20)
    clock.advance(timedelta(hours=1))
    await service.scorer.score()

    (record,) = await service.track_record()
    scored = await service.outcomes.load_scored("simulated", None, 100)
    assert (record.model_id, record.count) == (model, 20)
    assert record.log_loss == pytest.approx(sum(row.truth.log_loss for row in scored) / 20)
    confident = [report.decision for report in reports if report.decision and report.decision.confidence >= 0.66]
    assert 0 < record.gate.count == len(confident) < 20
    assert await service.track_record(model) == [record]
    assert await service.track_record("forest-other") == []


async def test_score_before_the_label_has_settled_waits(service: Service, clock: SimulatedClock) -> None:
    await run_cycles(service, clock, 1)
    clock.advance(HORIZON * MINUTE - timedelta(milliseconds=1))
    assert await service.scorer.score() == (0, None)
    clock.advance(timedelta(milliseconds=1))
    assert await service.scorer.score() == (1, None)


async def test_score_twice_changes_nothing_and_asks_for_no_candles(
    service: Service, clock: SimulatedClock, market: WornMarket
) -> None:
    await run_cycles(service, clock, 3)
    await service.run_cycle("BTCUSDT", Interval.M1)
    clock.advance(timedelta(hours=1))
    assert await service.scorer.score() == (3, None), "the last candle was asked about twice and counts once"
    record = await service.track_record()
    assert market.calls
    market.calls.clear()
    assert await service.scorer.score() == (0, None)
    assert await service.track_record() == record
    assert market.calls == []


async def test_score_by_two_at_once_counts_each_decision_once(
    tmp_path: Path, service: Service, clock: SimulatedClock
) -> None:
    await run_cycles(service, clock, 10)
    clock.advance(timedelta(hours=1))
    other = make_service(tmp_path, clock)
    try:
        await other.start(train=False)
        counts = await asyncio.gather(*(one.scorer.score() for one in (service, other, service, other)))
    finally:
        await other.stop()
    assert sum(scored for scored, _ in counts) == 10
    assert len(await service.outcomes.load_scored("simulated", None, 100)) == 10


async def test_score_across_a_gap_is_given_up_and_not_asked_for_again(
    service: Service, clock: SimulatedClock, market: WornMarket
) -> None:
    reports = await run_cycles(service, clock, 10)
    assert reports[0].market is not None
    market.missing = {reports[0].market.candle_open_time + HORIZON * MINUTE}
    clock.advance(timedelta(hours=1))
    assert await service.scorer.score() == (4, None), "the windows of six hold the missing candle"
    market.calls.clear()
    assert await service.scorer.score() == (0, None)
    assert market.calls == []
    scored = await service.outcomes.load_scored("simulated", None, 100)
    assert [row.decision.cycle_id for row in scored] == [report.id for report in reports[6:]]


async def test_score_market_that_fails_is_left_for_later_and_keeps_no_other_waiting(
    service: Service, clock: SimulatedClock, market: WornMarket
) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        await service.run_cycle(symbol, Interval.M1)
    market.silent = {"BTCUSDT"}
    clock.advance(timedelta(hours=1))
    scored, failure = await service.scorer.score()
    assert scored == 1
    assert failure is not None
    assert failure.code == "upstream_timeout"
    market.silent = set()
    assert await service.scorer.score() == (1, None)


async def test_score_decision_of_an_unknown_model_waits_for_its_card(
    service: Service, clock: SimulatedClock, model: str
) -> None:
    await run_cycles(service, clock, 2)
    clock.advance(timedelta(hours=1))
    folder = service.settings.model_path / model
    away = folder.rename(folder.with_name("away"))
    assert await service.scorer.score() == (0, None)
    away.rename(folder)
    assert await service.scorer.score() == (2, None)


async def test_score_decisions_older_than_the_lookback_are_left(service: Service, clock: SimulatedClock) -> None:
    await run_cycles(service, clock, 3)
    clock.advance((LOOKBACK_BARS - 1) * MINUTE)
    assert await service.scorer.score() == (1, None), "of the newest"


async def test_keep_scores_at_the_start_and_shows_it(tmp_path: Path, service: Service, clock: SimulatedClock) -> None:
    await run_cycles(service, clock, 5)
    clock.advance(timedelta(hours=1))
    other = make_service(tmp_path, clock)
    try:
        await other.start()
        async with asyncio.timeout(20):
            while b"papertape_scored_decisions_total 5.0" not in other.metrics.render():
                await asyncio.sleep(0.01)
    finally:
        await other.stop()
    (record,) = await service.track_record()
    shown = f'papertape_live_log_loss{{model_id="{record.model_id}"}} {record.log_loss!r}\n'
    assert shown in other.metrics.render().decode()


async def test_keep_failure_of_the_exchange_is_logged_and_the_rest_is_reported(
    service: Service, clock: SimulatedClock, market: WornMarket
) -> None:
    await run_cycles(service, clock, 2)
    clock.advance(timedelta(hours=1))
    market.silent = {"BTCUSDT"}
    heard: asyncio.Queue[int] = asyncio.Queue()
    with capture_logs() as logs:
        task = asyncio.create_task(service.scorer.keep(heard.put))
        assert await asyncio.wait_for(heard.get(), 20) == 0
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [(line["event"], line["code"]) for line in logs] == [("scoring.failed", "upstream_timeout")]
