"""Watches how far the market has moved from what the model in use was trained on, and how its decisions come out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import structlog

from app.domain.candle import Interval
from app.domain.outcome import ScoredDecision
from app.domain.ports import Clock
from app.domain.signal import Doubt
from app.errors import ServiceError
from app.research.history import HistoryKeeper
from app.strategies.forest import ForestStrategy
from ml.bars import Bars, FloatArray, find_segments
from ml.bundle import Bundle
from ml.drift import LIMIT, measure_drift
from ml.features import LOOKBACK_BARS, compute_features
from ml.page_hinkley import page_hinkley
from ml.predictor import Predictor

log = structlog.get_logger()

PAGE_HINKLEY_DELTA = 0.1
PAGE_HINKLEY_LIMIT = 5.0
"""Log-losses vary by about 0.25: a rise by that much is heard after some 35 horizons (measured in the tests)."""

_PAUSE_SECONDS = 60.0
_NO_MODEL_SECONDS = 1.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORST = 3

LoadScored = Callable[[str], Awaitable[Sequence[ScoredDecision]]]
"""The decisions of a model that have settled, oldest first."""


@dataclass(frozen=True, slots=True)
class DriftReport:
    """How far the market is from what a model was trained on.

    Attributes:
        model_id: The model.
        measured_at: When, aware UTC.
        rows: How many of the newest candles were compared.
        scores: For each feature and each class's probability, its stability index over the greatest that any window
            had within the training; above `ml.drift.LIMIT` it has drifted.
        settled: How many of the model's decisions have settled.
        alarm_after: After how many horizons Page and Hinkley's test rang that they come out worse than before; None
            while it has not.
    """

    model_id: str
    measured_at: datetime
    rows: int
    scores: Mapping[str, float] = field(default_factory=dict)
    settled: int = 0
    alarm_after: int | None = None

    @property
    def score(self) -> float | None:
        """The largest score, None while there are too few candles."""
        return max(self.scores.values(), default=None)


class DriftMonitor:
    """Measures about once a minute and tells the strategy, which says it with every decision.

    Of a model of several symbols the candles of the first are compared.

    Args:
        history: Where candles come from.
        strategy: What decides.
        clock: Stamps reports, and tells how old the model is.
        interval: The interval of the candles.
        maximum_age: From when on a model is old; past twice that it is not traded on.
        load_scored: Where decisions that have settled come from.
    """

    def __init__(
        self,
        history: HistoryKeeper,
        strategy: ForestStrategy,
        clock: Clock,
        interval: Interval,
        maximum_age: timedelta,
        load_scored: LoadScored,
    ) -> None:
        self._history = history
        self._strategy = strategy
        self._clock = clock
        self._interval = interval
        self._maximum_age = maximum_age
        self._load_scored = load_scored
        self._doubt_code: str | None = None
        self.report: DriftReport | None = None

    async def keep(self, on_report: Callable[[DriftReport], None]) -> None:
        """Measure once there is a model, then about once a minute, until cancelled; `on_report` hears each report."""
        while True:
            pause = _PAUSE_SECONDS
            try:
                report = await self.measure()
                if report is None:
                    pause = _NO_MODEL_SECONDS
                else:
                    on_report(report)
            except ServiceError as error:
                log.warning("drift.failed", code=error.code, detail=error.message)
            await asyncio.sleep(pause)

    async def measure(self) -> DriftReport | None:
        """Compare the newest candles with those of the training; None while there is no model.

        Raises:
            ServiceError: The exchange or the database failed; what was known stays.
        """
        bundle = self._strategy.bundle
        if bundle is None:
            return None
        window = int(bundle.card["drift"]["window_rows"])
        bars = await self._history.load_newest(
            bundle.card["symbols"][0], self._interval, window + LOOKBACK_BARS - 1, lambda _done, _total: None
        )
        scored = await self._load_scored(bundle.model_id)
        report = await asyncio.to_thread(self._compare, bundle, bars, scored)
        doubt = self._find_doubt(bundle, report)
        if doubt is not None and doubt.code != self._doubt_code:
            log.warning("model.doubted", model_id=bundle.model_id, reason_code=doubt.code, detail=doubt.reason)
        self._doubt_code = doubt.code if doubt else None
        self.report = report
        self._strategy.watch(bundle.model_id, report.score, doubt)
        return report

    def _compare(self, bundle: Bundle, bars: Bars, scored: Sequence[ScoredDecision]) -> DriftReport:
        reference = bundle.card["drift"]
        rows = _finite_features(bars, self._interval)[-int(reference["window_rows"]) :]
        scores = {}
        if len(rows) == reference["window_rows"]:
            said = Predictor(bundle.forest, bundle.calibration).predict_batch(rows)
            scores = measure_drift(reference, rows, said)
        return DriftReport(
            model_id=bundle.model_id,
            measured_at=self._clock.now(),
            rows=len(rows),
            scores=scores,
            settled=len(scored),
            alarm_after=page_hinkley(
                mean_losses(scored, int(bundle.card["label_rule"]["horizon_bars"]) * self._interval.duration),
                PAGE_HINKLEY_DELTA,
                PAGE_HINKLEY_LIMIT,
            ),
        )

    def _find_doubt(self, bundle: Bundle, report: DriftReport) -> Doubt | None:
        age = self._clock.now() - bundle.trained_at
        if age > 2 * self._maximum_age:
            return Doubt("model_too_old", f"The model is {age.days} days old, past twice MODEL_MAXIMUM_AGE_DAYS.")
        if report.alarm_after is not None:
            return Doubt(
                "model_fails_live",
                f"The model's live decisions come out worse than before: heard after {report.alarm_after:,} horizons.",
            )
        if report.score is not None and report.score > LIMIT:
            worst = sorted(report.scores, key=lambda name: -report.scores[name])[:_WORST]
            moved = ", ".join(f"{name} {report.scores[name]:.1f}" for name in worst)
            return Doubt(
                "model_drifted",
                f"The market has moved away from what the model was trained on ({moved}; {LIMIT:.1f} is the limit).",
            )
        return None


def mean_losses(scored: Sequence[ScoredDecision], horizon: timedelta) -> list[float]:
    """The mean log-loss of the decisions within each horizon, oldest first: labels that overlap are no news twice."""
    groups: dict[int, list[float]] = {}
    for row in scored:
        groups.setdefault((row.decision.candle_open_time - _EPOCH) // horizon, []).append(row.truth.log_loss)
    return [sum(losses) / len(losses) for _, losses in sorted(groups.items())]


def _finite_features(bars: Bars, interval: Interval) -> FloatArray:
    """The feature rows of all runs of candles that are long enough, oldest first."""
    parts = [compute_features(bars[segment]) for segment in find_segments(bars.open_time_ms, interval.milliseconds)]
    matrix = np.concatenate(parts) if parts else np.empty((0, 0))
    return matrix[~np.isnan(matrix).any(axis=1)]
