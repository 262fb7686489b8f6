"""The market moves away from what the model was trained on: that is measured, said, and not traded on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from app.bootstrap import Service, build_service
from app.choices import make_spec
from app.domain.candle import Interval
from app.domain.outcome import ScoredDecision, StatedDecision, Truth
from app.domain.signal import Signal
from app.engine.clocks import SimulatedClock
from app.research.drift_monitor import mean_losses
from ml.drift import LIMIT, make_reference
from ml.features import LOOKBACK_BARS, compute_features
from tests.support.edge import settings
from tests.support.models import stump, walk_bars, write_bundle

pytestmark = pytest.mark.anyio

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
SURE = stump((0.1, 0.1, 0.8), (0.1, 0.1, 0.8))
"""Always BUY."""


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START)


@pytest.fixture
async def service(tmp_path: Path, clock: SimulatedClock) -> AsyncIterator[Service]:
    chosen = settings(
        database_url=f"sqlite:///{tmp_path / 'trading.db'}",
        model_path=tmp_path / "models",
        model_threshold_percent=0.1,
        model_horizon_bars=5,
    )
    built = build_service(chosen, clock)
    try:
        await built.start(train=False)
        yield built
    finally:
        await built.stop()


async def market_reference(service: Service, volatility: float = 1.0) -> dict[str, object]:
    """What the simulated market looked like, its returns made larger by `volatility`."""
    bars = await service.history.load_newest("BTCUSDT", Interval.M1, 5_000, lambda _done, _total: None)
    features = compute_features(bars)[LOOKBACK_BARS - 1 :] * volatility
    return make_reference(features, np.tile((0.1, 0.1, 0.8), (len(features), 1)))


async def use_model(service: Service, clock: SimulatedClock, **card: object) -> str:
    path = write_bundle(service.settings.model_path, SURE, clock.now(), **card)
    assert await service.keeper.load()
    return path.name


async def test_market_as_in_training_is_quiet_and_measured_on_each_decision(
    service: Service, clock: SimulatedClock
) -> None:
    model = await use_model(service, clock, drift=await market_reference(service))
    before, _ = await service.run_cycle("BTCUSDT", Interval.M1)
    assert before.decision is not None
    assert before.decision.drift is None, "not measured yet"

    report = await service.drift.measure()
    clock.advance(timedelta(minutes=1))
    after, _ = await service.run_cycle("BTCUSDT", Interval.M1)

    assert report is not None
    assert (report.model_id, report.rows, report.alarm_after) == (model, 500, None)
    assert report.score is not None
    assert 0 < report.score <= 1, "no window was further away than those of the training"
    assert after.decision is not None
    assert (after.decision.action, after.decision.reason_code) == (Signal.BUY, "confident")
    assert after.decision.drift == report.score
    assert service.model_card()["live"]["drift"]["scores"] == report.scores
    assert service.model_card()["live"]["doubt"] is None


async def test_market_that_has_moved_away_is_not_traded_on(service: Service, clock: SimulatedClock) -> None:
    walk = walk_bars(2_000)
    calm = compute_features(walk)[LOOKBACK_BARS - 1 :] / 20
    reference = make_reference(calm, np.tile((0.1, 0.1, 0.8), (len(calm), 1)))
    model = await use_model(service, clock, drift=reference)
    with capture_logs() as logs:
        report = await service.drift.measure()
        await service.drift.measure()
    decided, _ = await service.run_cycle("BTCUSDT", Interval.M1)

    assert report is not None
    assert report.score is not None
    assert report.score > LIMIT
    assert decided.decision is not None
    assert (decided.decision.action, decided.decision.reason_code) == (Signal.HOLD, "model_drifted")
    assert decided.decision.confidence == 0.8
    assert decided.execution is not None
    assert decided.execution.reason_code == "model_drifted"
    assert [line["model_id"] for line in logs if line["event"] == "model.doubted"] == [model], "said once"
    service.metrics.set_drift(report.scores, doubted=service.strategy.doubt is not None)
    shown = service.metrics.render().decode()
    assert "papertape_model_doubted 1.0" in shown
    assert 'papertape_drift_score{value="volatility_50"}' in shown


async def test_model_past_twice_its_days_is_not_traded_on(service: Service, clock: SimulatedClock) -> None:
    await use_model(service, clock, drift=await market_reference(service))
    clock.advance(timedelta(days=14))
    await service.drift.measure()
    assert service.strategy.doubt is None
    clock.advance(timedelta(seconds=1))
    await service.drift.measure()
    decided, _ = await service.run_cycle("BTCUSDT", Interval.M1)
    assert decided.decision is not None
    assert decided.decision.reason_code == "model_too_old"


async def test_new_model_starts_without_the_doubts_about_the_old_one(service: Service, clock: SimulatedClock) -> None:
    await use_model(service, clock, drift=await market_reference(service))
    clock.advance(timedelta(days=15))
    await service.drift.measure()
    assert service.strategy.doubt is not None
    old = service.strategy.model_id
    service.strategy.watch("forest-other", 9.0, None)
    assert service.strategy.doubt is not None, "a word about another model is dropped"
    bundle = service.strategy.bundle
    assert bundle is not None
    service.strategy.use(bundle)
    assert service.strategy.model_id == old
    assert not service.strategy.doubt


def scored(minute: int, loss: float) -> ScoredDecision:
    opened = START + timedelta(minutes=minute)
    shares = {Signal.BUY: 0.4, Signal.SELL: 0.3, Signal.HOLD: 0.3}
    decision = StatedDecision(f"cycle-{minute}", "forest-1", "BTCUSDT", Interval.M1, opened, Signal.BUY, 0.4, shares)
    return ScoredDecision(decision, Truth(Signal.BUY, 0.01, loss), opened + timedelta(minutes=6))


def test_mean_losses_count_a_horizon_once() -> None:
    rows = [scored(0, 1.0), scored(4, 2.0), scored(5, 4.0), scored(20, 8.0)]
    assert mean_losses(rows, timedelta(minutes=5)) == [1.5, 4.0, 8.0]
    assert mean_losses([], timedelta(minutes=5)) == []


@pytest.mark.parametrize(
    ("changes", "card", "action", "code"),
    [
        ({}, {}, Signal.BUY, "confident"),
        ({"require_edge": True}, {}, Signal.HOLD, "no_edge"),
        ({"require_edge": True}, {"metrics": {"edge": "statistical"}}, Signal.BUY, "confident"),
        ({}, {"side_cost": 0.01}, Signal.BUY, "expected_return_not_positive"),
        ({"require_positive_return": False}, {"side_cost": 0.01}, Signal.BUY, "confident"),
    ],
)
async def test_settings_of_the_gate_reach_the_decisions(
    tmp_path: Path,
    clock: SimulatedClock,
    changes: dict[str, bool],
    card: dict[str, object],
    action: Signal,
    code: str,
) -> None:
    own = {
        "database_url": f"sqlite:///{tmp_path / 'gate.db'}",
        "model_path": tmp_path / "gated",
        "model_threshold_percent": 0.1,
        "model_horizon_bars": 5,
    }
    write_bundle(tmp_path / "gated", SURE, clock.now(), **card)
    built = build_service(settings(**own, **changes), clock)
    try:
        await built.start(train=False)
        report, _ = await built.run_cycle("BTCUSDT", Interval.M1)
    finally:
        await built.stop()
    assert report.decision is not None
    assert (report.decision.action, report.decision.reason_code) == (action, code)
    cost = 0.01 if "side_cost" in card else 0.0005
    assert report.decision.expected_return == pytest.approx(0.8 * 0.002 - 0.1 * 0.002 - 2 * cost)


def test_what_the_settings_ask_of_a_model_reaches_its_training() -> None:
    spec = make_spec(
        settings(
            model_label_rule="triple_barrier",
            model_volatility_multiple=1.5,
            model_horizon_bars=7,
            model_class_weight="balanced",
            model_calibration="sigmoid",
            training_symbols="BTCUSDT,ETHUSDT",
            training_backend="tcp://127.0.0.1:8786",
            retrain_hours=6,
            min_confidence=0.5,
        )
    )
    assert spec.label_rule["kind"] == "triple_barrier"
    assert (spec.label_rule["volatility_multiple"], spec.label_rule["horizon_bars"]) == (1.5, 7)
    assert spec.forest == {"class_weight": "balanced", "calibration": "sigmoid"}
    assert spec.symbols == ("BTCUSDT", "ETHUSDT")
    assert (spec.backend, spec.retrain_every) == ("tcp://127.0.0.1:8786", timedelta(hours=6))
    assert spec.gate == {"min_confidence": 0.5, "require_positive_return": True, "fee_bps": 2.0, "slippage_bps": 3.0}
    assert make_spec(settings()).retrain_every is None
    assert make_spec(settings()).symbols == ("BTCUSDT",)
