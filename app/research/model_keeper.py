"""Keeps a model at hand: loads the newest that fits, trains one when there is none, and swaps it in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog

from app.domain.candle import Interval
from app.domain.model import ActivationReason, Model
from app.domain.ports import Clock
from app.errors import ConflictError, ServiceError
from app.research.child import OnProgress
from app.research.history import HistoryKeeper
from app.research.training import train_bundle
from app.storage.models import SqlModels
from app.strategies.forest import ForestStrategy
from ml.bundle import Bundle, BundleError, find_newest, fits_request, load_bundle, set_aside

log = structlog.get_logger()

_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 300.0
_AGE_CHECK_SECONDS = 60.0
_CHALLENGE_PAUSE = timedelta(minutes=15)
"""How long after a challenger's training began the next may, so that one that fails is not tried each minute."""

_FETCH_SHARE = 0.3
"""How much of a training's progress is the fetching of candles."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What the model must be: where bundles are, what they are trained on, and how old one may become.

    Attributes:
        folder: Where bundles are.
        symbols: What it is trained on.
        interval: The candles' interval.
        label_rule: The fields of `ml.labels.LabelRule`.
        forest: The fields of `ml.forest.ForestRule` that are not left as they are.
        training_bars: How many recent candles of each symbol are used.
        gate: min_confidence, require_positive_return, fee_bps and slippage_bps, by which the model is judged.
        backend: Where it is trained, as `ml.backend.run_calls` takes it.
        maximum_age: From when on a model is old.
        retrain_every: How often a challenger is trained; None for never.
    """

    folder: Path
    symbols: tuple[str, ...]
    interval: Interval
    label_rule: Mapping[str, Any]
    forest: Mapping[str, Any]
    training_bars: int
    gate: Mapping[str, float]
    backend: str
    maximum_age: timedelta
    retrain_every: timedelta | None = None


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
        models: The registry.
        strategy: Gets each new model.
        clock: Stamps models.
        spec: What the model must be.
        on_model: Hears of each model that is taken into use.
    """

    def __init__(
        self,
        history: HistoryKeeper,
        models: SqlModels,
        strategy: ForestStrategy,
        clock: Clock,
        spec: ModelSpec,
        on_model: Callable[[Bundle], None] = lambda _bundle: None,
    ) -> None:
        self._history = history
        self.models = models
        self._strategy = strategy
        self._clock = clock
        self._spec = spec
        self._on_model = on_model
        self._training = False
        self._next_challenge = clock.now()
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
        """Take the model that was in use last into use, or else the newest bundle that fits; False without one.

        Broken bundles are set aside.
        """
        bundle = await self._load_active()
        if bundle is None:
            bundle = await asyncio.to_thread(find_newest, self._spec.folder, self._fits, self._reject)
            if bundle is None:
                return False
            await self.models.register(bundle.card, ActivationReason.FOUND)
        self._use(bundle)
        log.info("model.loaded", model_id=bundle.model_id, trained_at=bundle.card["trained_at"])
        return True

    async def activate(self, model_id: str, reason: ActivationReason) -> Model:
        """Take a registered model into use.

        Raises:
            NotFoundError: `model_not_found`.
            ConflictError: `model_mismatched`, it is not what the settings ask for, or `model_unusable`.
        """
        model = await self.models.get(model_id)
        if not self._fits(dict(model.card)):
            raise ConflictError(
                "The model was trained on another market or by other rules than the settings ask for; set "
                "DEFAULT_INTERVAL, TRAINING_SYMBOLS and MODEL_* as on its card first.",
                code="model_mismatched",
            )
        try:
            bundle = await asyncio.to_thread(self._load_registered, model)
        except BundleError as error:
            raise ConflictError(f"The model cannot be used: {error}.", code="model_unusable") from error
        await self.models.register(bundle.card, reason)
        self._use(bundle)
        log.info("model.activated", model_id=model_id, reason=reason.value)
        return await self.models.get(model_id)

    async def roll_back(self) -> Model:
        """Take the model into use again that was before the present one.

        Raises:
            ConflictError: `no_former_model`, or as `activate`.
        """
        former = await self.models.find_former(self._history.source, self._spec.interval.value)
        return await self.activate(former, ActivationReason.ROLLBACK)

    async def list_models(self, limit: int) -> list[Model]:
        """The models of this market, newest first."""
        return await self.models.list(self._history.source, self._spec.interval.value, limit)

    async def train(self, on_progress: OnProgress = lambda _share, _words: None, *, challenge: bool = False) -> Bundle:
        """Fetch candles, train on them and take the new model into use; the old one serves until then.

        Args:
            on_progress: Hears how far the work is, and what it does.
            challenge: Whether the new model takes over only where it is no worse on the newest candles.

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
            takes_over = not challenge or is_no_worse(bundle.card)
            reason = ActivationReason.CHALLENGE if challenge else ActivationReason.TRAINED
            await self.models.register(bundle.card, reason if takes_over else None)
        except ServiceError as error:
            log.warning("model.train_failed", code=error.code, detail=error.message)
            self._rest(f"The training failed: {error.message}", error.code)
            raise
        except asyncio.CancelledError:
            self._rest("The training was stopped.")
            raise
        finally:
            self._training = False
        metrics = bundle.card["metrics"]
        log.info("model.trained", model_id=bundle.model_id, skill=metrics["skill"]["value"], edge=metrics["edge"])
        if takes_over:
            self._use(bundle)
        else:
            log.info("model.challenge_lost", model_id=bundle.model_id, comparison=bundle.card["comparison"])
            self._rest(f"Model {self._strategy.model_id}; its challenger {bundle.model_id} was worse.")
        return bundle

    async def keep(self) -> None:
        """Train whenever there is no model, the one in use is too old or a challenger is due, until cancelled.

        A model that another process of this database took into use is taken up here, too.
        """
        while True:
            try:
                await self.follow()
                await self.ensure()
                await self.challenge()
            except ServiceError as error:
                log.warning("model.keeping_failed", code=error.code, detail=error.message)
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

    async def challenge(self) -> None:
        """Train a challenger once the newest model of all is `retrain_every` old."""
        if self._spec.retrain_every is None or self._training:
            return
        newest = (await self.list_models(1))[0]
        now = self._clock.now()
        if now - newest.registered_at >= self._spec.retrain_every and now >= self._next_challenge:
            self._next_challenge = now + _CHALLENGE_PAUSE
            await self.train(challenge=True)

    async def follow(self) -> None:
        """Take up the model that another process of this database took into use."""
        active = await self.models.find_active(self._history.source, self._spec.interval.value)
        current = self._strategy.bundle
        if active is None or current is None or active.id == current.model_id or self._training:
            return
        bundle = await self._load_active()
        if bundle is not None:
            log.info("model.followed", model_id=bundle.model_id)
            self._use(bundle)

    async def _load_active(self) -> Bundle | None:
        """The bundle of the model in use, None where there is none that fits and can be read."""
        model = await self.models.find_active(self._history.source, self._spec.interval.value)
        if model is None or not self._fits(dict(model.card)):
            return None
        try:
            return await asyncio.to_thread(self._load_registered, model)
        except BundleError as error:
            path = self._spec.folder / model.id
            if path.exists():
                self._reject(path, error)
            return None

    def _load_registered(self, model: Model) -> Bundle:
        bundle = load_bundle(self._spec.folder / model.id)
        if bundle.card["sha256"] != model.sha256:
            raise BundleError("altered", "it is not the model that was registered under its name")
        return bundle

    async def _train(self, on_progress: OnProgress) -> Bundle:
        spec = self._spec

        def report(phase: Phase, progress: float, message: str) -> None:
            self.status = ModelStatus(phase, progress, message)
            log.debug("model.progress", progress=round(progress, 2), detail=message)
            on_progress(progress, message)

        def trained(progress: float, message: str) -> None:
            report(Phase.TRAINING, _FETCH_SHARE + (1 - _FETCH_SHARE) * progress, message)

        log.info("model.training", symbols=list(spec.symbols), interval=spec.interval.value, candles=spec.training_bars)
        history = {}
        for place, symbol in enumerate(spec.symbols):

            def fetched(count: int, total: int, symbol: str = symbol, place: int = place) -> None:
                words = f"Fetching {symbol} {spec.interval} candles: {count:,} of {total:,}."
                report(Phase.FETCHING, _FETCH_SHARE * (place + count / total) / len(spec.symbols), words)

            fetched(0, spec.training_bars)
            history[symbol] = await self._history.load_newest(symbol, spec.interval, spec.training_bars, fetched)
        path = await train_bundle(history, await self._training_request(), trained)
        try:
            return await asyncio.to_thread(load_bundle, path)
        except BundleError as error:
            raise ServiceError(f"The new model cannot be used: {error}.", code="training_failed") from error

    async def _training_request(self) -> dict[str, Any]:
        spec, champion = self._spec, self._strategy.bundle
        wanted = self._wanted()
        return {
            **wanted,
            **spec.gate,
            "folder": str(spec.folder.resolve()),
            "interval_ms": spec.interval.milliseconds,
            "trained_at": self._clock.now().isoformat(),
            "fresh_seconds": 600,
            "backend": spec.backend,
            "candidates": await self.models.count_candidates(self._history.source, spec.interval.value, wanted),
            "champion": str(champion.path.resolve()) if champion else None,
        }

    def _wanted(self) -> dict[str, Any]:
        spec = self._spec
        return {
            "source": self._history.source,
            "symbols": list(spec.symbols),
            "interval": spec.interval.value,
            "label_rule": dict(spec.label_rule),
            "forest": dict(spec.forest),
        }

    def _fits(self, card: dict[str, Any]) -> bool:
        return fits_request(card, self._wanted())

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


def is_no_worse(card: Mapping[str, Any]) -> bool:
    """Whether a challenger's log-loss is no higher than the champion's on newest rows that taught neither.

    Without such rows the champion stays, unless there was none to compare with.
    """
    comparison = card["comparison"]
    if comparison is None:
        return True
    return "log_loss" in comparison and bool(comparison["log_loss"] <= comparison["champion_log_loss"])


def _days(age: timedelta | None) -> float:
    return round(age / timedelta(days=1), 1) if age else 0.0
