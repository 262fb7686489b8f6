"""Models are trained in a process of their own, kept, found again and replaced when they are broken."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from structlog.testing import capture_logs

from app.domain.candle import Candle, Interval
from app.domain.job import JobStatus
from app.domain.model import ActivationReason, ModelState
from app.engine.clocks import SimulatedClock, SystemClock
from app.errors import ConflictError, NotReadyError, UpstreamTimeoutError
from app.exchanges.simulated import SimulatedMarketData
from app.research.child import OnProgress
from app.research.history import HistoryKeeper
from app.research.jobs import JobRunner
from app.research.model_keeper import ModelKeeper, ModelSpec, Phase, is_no_worse
from app.storage.candle_store import CandleStore
from app.storage.database import Database
from app.storage.jobs import SqlJobs
from app.storage.models import SqlModels
from app.strategies.forest import ForestStrategy
from ml.bars import Bars
from ml.bundle import load_bundle
from ml.labels import LabelRule
from ml.training import train
from tests.support.models import write_bundle

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

CLOCK = SimulatedClock(datetime(2026, 1, 5, 10, tzinfo=UTC))
TRAIN_BUNDLE = "app.research.model_keeper.train_bundle"


async def train_here(history: Mapping[str, Bars], request: dict[str, Any], on_progress: OnProgress) -> Path:
    """What `train_bundle` does without a process, whose start takes five times as long as so small a training."""
    return await asyncio.to_thread(train, history, request, on_progress)


@pytest.fixture
def without_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings are real, but run in this process; what is tested is when they run and what comes of them."""
    monkeypatch.setattr(TRAIN_BUNDLE, train_here)


class FailingMarket(SimulatedMarketData):
    """The simulated market, whose first calls for candles fail."""

    failures = 0

    async def fetch_range(
        self, symbol: str, interval: Interval, since: datetime, until: datetime, limit: int = 1_000
    ) -> list[Candle]:
        if self.failures > 0:
            self.failures -= 1
            raise UpstreamTimeoutError("The exchange did not answer.")
        return await super().fetch_range(symbol, interval, since, until, limit)


class MakeKeeper(Protocol):
    """Makes a keeper of models, and the strategy it serves."""

    def __call__(
        self,
        *,
        failures: int = 0,
        threshold: float = 0.1,
        clock: SimulatedClock = CLOCK,
        symbols: tuple[str, ...] = ("BTCUSDT",),
    ) -> tuple[ModelKeeper, ForestStrategy]: ...


@pytest.fixture
async def made_keeper(tmp_path: Path, sqlite_database: Database) -> MakeKeeper:
    def make(
        *,
        failures: int = 0,
        threshold: float = 0.1,
        clock: SimulatedClock = CLOCK,
        symbols: tuple[str, ...] = ("BTCUSDT",),
    ) -> tuple[ModelKeeper, ForestStrategy]:
        market = FailingMarket(clock, seed=7)
        market.failures = failures
        strategy = ForestStrategy()
        spec = ModelSpec(
            folder=tmp_path,
            symbols=symbols,
            interval=Interval.M1,
            label_rule=asdict(LabelRule(10, threshold)),
            forest={"trees": 20},
            training_bars=1_500,
            gate={"min_confidence": 0.45, "fee_bps": 2.0, "slippage_bps": 3.0, "require_positive_return": False},
            backend="loky",
            maximum_age=timedelta(days=7),
            retrain_every=timedelta(days=1),
        )
        history = HistoryKeeper(market, CandleStore(sqlite_database), clock)
        models = SqlModels(sqlite_database, clock)
        return ModelKeeper(history, models, strategy, clock, spec), strategy

    return make


async def test_model_trained_once_is_found_at_the_next_start_and_a_broken_one_is_replaced(
    tmp_path: Path, made_keeper: MakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, strategy = made_keeper()
    assert not await keeper.load()
    with pytest.raises(NotReadyError):
        strategy.model_id  # noqa: B018 - asking is what is tested
    heard: list[float] = []
    bundle = await keeper.train(lambda share, _words: heard.append(share))
    assert strategy.model_id == bundle.model_id
    assert keeper.status.phase is Phase.READY
    assert heard == sorted(heard)
    assert heard[-1] == 1.0

    again, found = made_keeper()
    assert await again.load()
    assert found.model_id == bundle.model_id
    other, _ = made_keeper(threshold=0.2)
    assert not await other.load()
    assert bundle.path.exists()

    arrays = bundle.path / "forest.npz"
    arrays.write_bytes(arrays.read_bytes()[:-50])
    after, mended = made_keeper()
    assert not await after.load()
    assert [path.name.startswith(f"{bundle.model_id}.bad-") for path in tmp_path.glob("*.bad-*")] == [True]
    monkeypatch.setattr(TRAIN_BUNDLE, train_here)
    await after.ensure()
    start = CLOCK.now() - timedelta(minutes=100)
    candles = await SimulatedMarketData(CLOCK, 7).fetch_range("BTCUSDT", Interval.M1, start, CLOCK.now())
    assert mended.predict(candles) == strategy.predict(candles)


async def test_training_while_one_is_under_way_is_a_conflict_and_a_cancelled_one_leaves_nothing(
    tmp_path: Path, made_keeper: MakeKeeper
) -> None:
    keeper, strategy = made_keeper()
    task = asyncio.create_task(keeper.train())
    while keeper.status.phase is not Phase.TRAINING:
        await asyncio.sleep(0.01)
    with pytest.raises(ConflictError) as refused:
        await keeper.train()
    assert refused.value.code == "training_in_progress"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not keeper.is_training
    assert strategy.bundle is None
    assert list(tmp_path.glob("forest-*")) == []


@pytest.mark.usefixtures("without_process")
async def test_start_without_an_exchange_trains_once_it_is_back(made_keeper: MakeKeeper) -> None:
    keeper, strategy = made_keeper(failures=1)
    task = asyncio.create_task(keeper.ensure())
    while keeper.status.phase is not Phase.WAITING:
        await asyncio.sleep(0.01)
    assert keeper.status.error_code == "upstream_timeout"
    await task
    assert strategy.bundle is not None


@pytest.mark.usefixtures("without_process")
async def test_model_older_than_its_days_serves_until_a_new_one_is_trained(
    made_keeper: MakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimulatedClock(datetime(2026, 1, 5, 10, tzinfo=UTC))
    keeper, strategy = made_keeper(clock=clock)
    first = await keeper.train()
    await keeper.ensure()
    assert strategy.model_id == first.model_id, "a young model is kept"
    clock.advance(timedelta(days=7, seconds=1))
    assert keeper.age == timedelta(days=7, seconds=1)
    was_old = keeper.is_old
    served: list[str] = []

    async def train_and_look(history: Mapping[str, Bars], request: dict[str, Any], on_progress: OnProgress) -> Path:
        path = await train_here(history, request, on_progress)
        served.append(strategy.model_id)
        return path

    monkeypatch.setattr(TRAIN_BUNDLE, train_and_look)
    with capture_logs() as logs:
        await keeper.ensure()
    assert served == [first.model_id], "the old one serves meanwhile"
    assert strategy.model_id != first.model_id
    assert (was_old, keeper.is_old) == (True, False)
    assert [line["days"] for line in logs if line["event"] == "model.old"] == [7.0]


async def test_training_that_cannot_teach_says_why_and_keeps_the_model(made_keeper: MakeKeeper) -> None:
    keeper, strategy = made_keeper(threshold=40.0)
    with pytest.raises(ConflictError) as refused:
        await keeper.train()
    assert refused.value.code == "one_class"
    assert strategy.bundle is None
    assert (keeper.status.phase, keeper.status.error_code) == (Phase.IDLE, "one_class")
    assert "MODEL_THRESHOLD_PERCENT" in keeper.status.message
    assert not keeper.is_training


async def test_jobs_run_one_at_a_time_and_keep_what_came_of_them(tmp_path: Path) -> None:
    async with Database(f"sqlite:///{tmp_path / 'jobs.db'}") as database:
        jobs = SqlJobs(database, SystemClock())
        runner = JobRunner(jobs)
        gate = asyncio.Event()

        async def work(on_progress: OnProgress) -> dict[str, object]:
            on_progress(0.5, "Half way.")
            await gate.wait()
            return {"answer": 42}

        async def fail(_on_progress: OnProgress) -> dict[str, object]:
            raise ConflictError("It cannot be.", code="one_class")

        job, replayed = await runner.start("training", work, None)
        assert not replayed
        with pytest.raises(ConflictError):
            await runner.start("training", work, None)
        gate.set()
        while not (ended := await jobs.get(job.id)).status.is_final:
            await asyncio.sleep(0.01)
        assert ended.status is JobStatus.SUCCEEDED
        assert ended.result == {"answer": 42}
        await asyncio.sleep(0.01)
        job, _ = await runner.start("training", fail, None)
        while not (ended := await jobs.get(job.id)).status.is_final:
            await asyncio.sleep(0.01)
        assert (ended.status, ended.error_code) == (JobStatus.FAILED, "one_class")
        gate.clear()
        await asyncio.sleep(0.01)
        job, _ = await runner.start("training", work, None)
        await asyncio.sleep(0.05)
        await runner.stop()
        assert (await jobs.get(job.id)).status is JobStatus.CANCELED
        assert (await jobs.get(job.id)).message == "The service was stopped."
        job, _ = await runner.start("training", work, None)
        await asyncio.sleep(0.05)
        ended = await runner.cancel(job.id)
        assert (ended.status, ended.message) == (JobStatus.CANCELED, "It was cancelled on request.")
        with pytest.raises(ConflictError) as refused:
            await runner.cancel(job.id)
        assert refused.value.code == "job_ended"


@pytest.mark.usefixtures("without_process")
async def test_training_over_several_symbols_is_one_model_of_all(made_keeper: MakeKeeper) -> None:
    keeper, strategy = made_keeper(symbols=("BTCUSDT", "ETHUSDT"))
    bundle = await keeper.train()
    assert bundle.card["symbols"] == ["BTCUSDT", "ETHUSDT"]
    assert bundle.card["window"]["candles"] == 3_000
    alone, _ = made_keeper()
    assert not await alone.load(), "one symbol's settings ask for another model"
    assert strategy.model_id == bundle.model_id


async def add_model(keeper: ModelKeeper, folder: Path, trained_at: datetime, **card: object) -> str:
    """A model that another process trained and took into use; what it learnt does not matter here."""
    rule = asdict(LabelRule(10, 0.1))
    path = write_bundle(folder, None, trained_at, **{"label_rule": rule, "forest": {"trees": 20}} | card)
    await keeper.models.register(load_bundle(path).card, ActivationReason.TRAINED)
    return path.name


async def test_rollback_takes_the_former_model_and_a_restart_keeps_it(tmp_path: Path, made_keeper: MakeKeeper) -> None:
    keeper, strategy = made_keeper()
    first = await add_model(keeper, tmp_path, CLOCK.now())
    second = await add_model(keeper, tmp_path, CLOCK.now() + timedelta(hours=1))
    assert await keeper.load()
    assert strategy.model_id == second

    assert (await keeper.roll_back()).id == first
    assert strategy.model_id == first
    again, found = made_keeper()
    assert await again.load()
    assert found.model_id == first, "not the newest: the one that was in use"
    assert [(model.id, model.state) for model in await again.list_models(10)] == [
        (second, ModelState.FORMER),
        (first, ModelState.ACTIVE),
    ]


async def test_activate_model_of_other_settings_or_changed_since_is_refused(
    tmp_path: Path, made_keeper: MakeKeeper
) -> None:
    keeper, strategy = made_keeper()
    mismatched = await add_model(keeper, tmp_path, CLOCK.now(), label_rule=asdict(LabelRule(10, 0.2)))
    model = await add_model(keeper, tmp_path, CLOCK.now() + timedelta(hours=1))
    assert await keeper.load()
    with pytest.raises(ConflictError) as refused:
        await keeper.activate(mismatched, ActivationReason.REQUEST)
    assert refused.value.code == "model_mismatched"
    card = tmp_path / model / "card.json"
    card.write_text(card.read_text().replace('"beta": 1.0', '"beta": 1.5'))
    with pytest.raises(ConflictError) as refused:
        await keeper.activate(model, ActivationReason.REQUEST)
    assert refused.value.code == "model_unusable"
    assert strategy.model_id == model, "it goes on with what it has loaded"


async def test_model_that_another_process_took_into_use_is_followed(tmp_path: Path, made_keeper: MakeKeeper) -> None:
    keeper, strategy = made_keeper()
    await add_model(keeper, tmp_path, CLOCK.now())
    assert await keeper.load()
    newer = await add_model(keeper, tmp_path, CLOCK.now() + timedelta(hours=1))
    assert strategy.model_id != newer
    await keeper.follow()
    assert strategy.model_id == newer


@pytest.mark.parametrize(
    ("comparison", "takes_over"),
    [
        (None, True),
        ({"champion": "forest-1", "rows": 0}, False),
        ({"champion": "forest-1", "rows": 9, "champion_log_loss": 1.0, "log_loss": 1.0}, True),
        ({"champion": "forest-1", "rows": 9, "champion_log_loss": 1.0, "log_loss": 1.0001}, False),
    ],
)
def test_challenger_takes_over_only_where_it_is_no_worse(
    comparison: dict[str, object] | None, takes_over: bool
) -> None:
    assert is_no_worse({"comparison": comparison}) is takes_over


@pytest.mark.usefixtures("without_process")
async def test_challenger_is_trained_when_due_and_takes_over_only_where_it_is_no_worse(made_keeper: MakeKeeper) -> None:
    clock = SimulatedClock(datetime(2026, 1, 5, 10, tzinfo=UTC))
    keeper, strategy = made_keeper(clock=clock)
    champion = await keeper.train()
    await keeper.challenge()
    assert len(await keeper.list_models(10)) == 1, "not due yet"
    clock.advance(timedelta(days=1))
    await keeper.challenge()
    challenger, former = await keeper.list_models(10)
    comparison = challenger.card["comparison"]
    assert comparison["champion"] == champion.model_id
    assert comparison["rows"] > 100
    won = comparison["log_loss"] <= comparison["champion_log_loss"]
    states = (ModelState.ACTIVE, ModelState.FORMER) if won else (ModelState.CHALLENGER, ModelState.ACTIVE)
    assert (challenger.state, former.state) == states
    assert strategy.model_id == (challenger.id if won else champion.model_id)
