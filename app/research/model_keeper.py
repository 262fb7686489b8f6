"""Keeps a model at hand: loads the newest that fits, trains one when there is none, and swaps it in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog

from app.domain.candle import Interval
from app.domain.ports import Clock
from app.errors import ConflictError, ServiceError
from app.research.history import HistoryKeeper
from app.research.training import OnProgress, train_bundle
from app.strategies.forest import ForestStrategy
from ml.bundle import Bundle, BundleError, find_newest, load_bundle, set_aside

log = structlog.get_logger()

_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 300.0
_AGE_CHECK_SECONDS = 60.0
_FETCH_SHARE = 0.3
"""How much of a training's progress is the fetching of candles."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What the model must be: where bundles are, what they are trained on, and how old one may become.

    `threshold_percent` and `horizon_bars` are the label rule; `training_bars` is how many recent candles are used.
    """

    folder: Path
    symbol: str
    interval: Interval
    threshold_percent: float
    horizon_bars: int
    training_bars: int
    maximum_age: timedelta


class Phase(StrEnum):
    """What the keeper is doing."""

    IDLE = "idle"
    FETCHING = "fetching"
    TRAINING = "training"
    WAITING = "waiting"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """How far the model is: `progress` from 0 to 1, and the code of what went wrong last, if anything did."""

    phase: Phase
    progress: float
    message: str
    error_code: str | None = None


class ModelKeeper:
    """Loads and trains the model that `strategy` predicts with.

    Args:
        history: Where candles come from; its source is part of what a model must fit.
        strategy: Gets each new model.
        clock: Stamps models.
        spec: What the model must be.
        on_model: Hears of each model that is taken into use.
    """

    def __init__(
        self,
        history: HistoryKeeper,
        strategy: ForestStrategy,
        clock: Clock,
        spec: ModelSpec,
        on_model: Callable[[Bundle], None] = lambda _bundle: None,
    ) -> None:
        self._history = history
        self._strategy = strategy
        self._clock = clock
        self._spec = spec
        self._on_model = on_model
        self._training = False
        self.status = ModelStatus(Phase.IDLE, 0.0, "No model yet.")

    @property
    def is_training(self) -> bool:
        """Whether a training is under way."""
        return self._training

    @property
    def age(self) -> timedelta | None:
        """How long ago the model in use was trained; None while there is none."""
        bundle = self._strategy.bundle
        return self._clock.now() - bundle.trained_at if bundle else None

    @property
    def is_old(self) -> bool:
        """Whether the model in use is older than it may become."""
        return self.age is not None and self.age > self._spec.maximum_age

    async def load(self) -> bool:
        """Take the newest bundle that fits into use; False when there is none. Broken ones are set aside."""
        bundle = await asyncio.to_thread(find_newest, self._spec.folder, self._fits, self._reject)
        if bundle is None:
            return False
        self._use(bundle)
        log.info("model.loaded", model_id=bundle.model_id, trained_at=bundle.card["trained_at"])
        return True

    async def train(self, on_progress: OnProgress = lambda _share, _words: None) -> Bundle:
        """Fetch candles, train on them and take the new model into use; the old one serves until then.

        Raises:
            ConflictError: `training_in_progress`, or the candles cannot teach a model.
            ServiceError: The exchange or the training failed; the model in use stays.
        """
        if self._training:
            raise ConflictError(
                "A training is under way; wait for it to end.", code="training_in_progress", retry_after_seconds=10
            )
        self._training = True
        try:
            bundle = await self._train(on_progress)
        except ServiceError as error:
            log.warning("model.train_failed", code=error.code, detail=error.message)
            self._rest(f"The training failed: {error.message}", error.code)
            raise
        except asyncio.CancelledError:
            self._rest("The training was stopped.")
            raise
        finally:
            self._training = False
        self._use(bundle)
        log.info("model.trained", model_id=bundle.model_id, skill=round(bundle.card["metrics"]["skill"], 4))
        return bundle

    async def keep(self) -> None:
        """Train whenever there is no model or the one in use is too old, until cancelled."""
        while True:
            await self.ensure()
            await asyncio.sleep(_AGE_CHECK_SECONDS)

    async def ensure(self) -> None:
        """Train until there is a model that is not too old, waiting longer after each failure, up to five minutes.

        An old model serves until the new one is there.
        """
        wait = _FIRST_WAIT_SECONDS
        while self._strategy.bundle is None or self.is_old:
            if self._strategy.bundle is not None:
                log.warning("model.old", model_id=self._strategy.model_id, days=_days(self.age))
            try:
                await self.train()
            except ServiceError as error:
                pause = max(wait, error.retry_after_seconds or 0.0)
                if self._strategy.bundle is None and not self.is_training:
                    message = f"No model: {error.message} Trying again in {pause:.0f} s."
                    self.status = ModelStatus(Phase.WAITING, 0.0, message, error.code)
                await asyncio.sleep(pause)
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)

    async def _train(self, on_progress: OnProgress) -> Bundle:
        spec = self._spec

        def report(phase: Phase, progress: float, message: str) -> None:
            self.status = ModelStatus(phase, progress, message)
            log.debug("model.progress", progress=round(progress, 2), detail=message)
            on_progress(progress, message)

        def fetched(count: int, total: int) -> None:
            words = f"Fetching {spec.symbol} {spec.interval} candles: {count:,} of {total:,}."
            report(Phase.FETCHING, _FETCH_SHARE * count / total, words)

        def trained(progress: float, message: str) -> None:
            report(Phase.TRAINING, _FETCH_SHARE + (1 - _FETCH_SHARE) * progress, message)

        fetched(0, spec.training_bars)
        log.info("model.training", symbol=spec.symbol, interval=spec.interval.value, candles=spec.training_bars)
        bars = await self._history.load_newest(spec.symbol, spec.interval, spec.training_bars, fetched)
        path = await train_bundle(bars, self._request(), trained)
        try:
            return await asyncio.to_thread(load_bundle, path)
        except BundleError as error:
            raise ServiceError(f"The new model cannot be used: {error}.", code="training_failed") from error

    def _request(self) -> dict[str, Any]:
        spec = self._spec
        return {
            "folder": str(spec.folder.resolve()),
            "source": self._history.source,
            "symbol": spec.symbol,
            "interval": spec.interval.value,
            "interval_ms": spec.interval.milliseconds,
            "horizon_bars": spec.horizon_bars,
            "threshold_percent": spec.threshold_percent,
            "trained_at": self._clock.now().isoformat(),
            "fresh_seconds": 600,
        }

    def _fits(self, card: dict[str, Any]) -> bool:
        wanted = self._request()
        rule = {name: wanted[name] for name in ("horizon_bars", "threshold_percent")}
        same = all(card[name] == wanted[name] for name in ("source", "interval"))
        return same and bool(card["symbols"] == [wanted["symbol"]] and card["label_rule"] == rule)

    def _reject(self, path: Path, error: BundleError) -> None:
        try:
            kept = set_aside(path, self._clock.now()).name
        except OSError:  # a folder that must not be written to; the bundle is passed over all the same
            kept = path.name
        log.warning("model.rejected", bundle=path.name, reason_code=error.reason_code, detail=str(error), kept=kept)

    def _rest(self, message: str, error_code: str | None = None) -> None:
        """Say that nothing is under way any more; a model that is in use stays ready."""
        ready = self._strategy.bundle is not None
        self.status = ModelStatus(Phase.READY if ready else Phase.IDLE, 1.0 if ready else 0.0, message, error_code)

    def _use(self, bundle: Bundle) -> None:
        self._strategy.use(bundle)
        self.status = ModelStatus(Phase.READY, 1.0, f"Model {bundle.model_id}.")
        self._on_model(bundle)


def _days(age: timedelta | None) -> float:
    return round(age / timedelta(days=1), 1) if age else 0.0
