"""The default strategy: a forest's BUY, SELL or HOLD after the newest closed candle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.domain.candle import Candle
from app.domain.signal import Doubt, Edge, Prediction, Signal
from app.errors import DataQualityError, InvalidInputError, NotReadyError, ServiceError
from app.strategies.bars import bars_from_candles
from app.strategies.rules import Parameter, Rule, Values
from app.strategies.signals import SignalArrays, SignalSource
from ml.bars import Bars, FloatArray, find_segments
from ml.bundle import Bundle
from ml.features import FEATURE_NAMES, LOOKBACK_BARS, compute_features, compute_newest_features
from ml.labels import BUY, CLASSES, HOLD, SELL, LabelRule
from ml.paper import expect_returns
from ml.predictor import Predictor

FeatureRow = Sequence[float] | Mapping[str, float]
"""One row of features: in the order of the card, or by name."""

_COLUMNS = {Signal.BUY: BUY, Signal.SELL: SELL, Signal.HOLD: HOLD}
_TIES = (Signal.HOLD, Signal.SELL, Signal.BUY)
"""Which signal wins a tie, first first: where the model cannot tell, the cheaper mistake."""

_TIED_COLUMNS = np.array([_COLUMNS[signal] for signal in _TIES], dtype=np.int8)

FOREST = Rule(
    name="forest",
    summary="Says what a forest taught by earlier candles finds likeliest to come: a rise, a fall, or neither.",
    parameters=(
        Parameter("horizon_bars", "integer", 1, 1_000, 60, 5, "How many candles ahead the forest looks."),
        Parameter("threshold_percent", "number", 0.01, 20.0, 0.5, 0.05, "How far a price must move to count as moved."),
        Parameter("depth", "integer", 1, 16, 5, 1, "The most questions that a tree asks."),
        Parameter("leaf_fraction", "number", 0.001, 0.25, 0.02, 0.005, "The least share of its rows in a leaf."),
    ),
    lookback=lambda _values: LOOKBACK_BARS,
)
"""Its parameters teach it: they are for walking forward. A bundle has its own, on its card."""


class _Model:
    """A bundle ready to predict; swapped as a whole, so that a prediction never mixes two."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.predictor = Predictor(bundle.forest, bundle.calibration)
        self._edge = _read_edge(bundle)
        self._class_returns, self._round_trip_cost = _read_economics(bundle)
        self._returns = _in_order(self._class_returns)
        self.drift: float | None = None
        self.doubt: Doubt | None = None

    def predict(self, row: FloatArray) -> Prediction:
        if not np.isfinite(row).all():
            names = [name for name, value in zip(FEATURE_NAMES, row, strict=True) if not np.isfinite(value)]
            raise DataQualityError(
                f"The features {', '.join(names)} are not finite; nothing can be predicted from them.",
                code="features_invalid",
                context={"features": names},
            )
        try:
            shares = self.predictor.predict(row)
        except ValueError as error:
            raise DataQualityError(f"Nothing can be predicted: {error}.", code="features_invalid") from error
        probabilities = {signal: float(shares[column]) for signal, column in _COLUMNS.items()}
        signal = max(_TIES, key=lambda one: probabilities[one])
        return Prediction(
            signal,
            probabilities,
            self.bundle.model_id,
            0.0 if signal is Signal.HOLD else self._expect(shares),
            self._edge,
            self.drift,
            self.doubt,
            tuple(row.tolist()),
            self._class_returns,
            self._round_trip_cost,
        )

    def _expect(self, shares: FloatArray) -> float:
        return float(expect_returns(shares[None, :], self._returns, self._round_trip_cost / 2.0)[0])


class ForestStrategy:
    """Satisfies `ports.Strategy` with whatever bundle it was given last."""

    lookback_bars = LOOKBACK_BARS

    def __init__(self) -> None:
        self._model: _Model | None = None

    def use(self, bundle: Bundle) -> None:
        """Predict with `bundle` from now on; a prediction under way ends with the one it began with."""
        self._model = _Model(bundle)

    def watch(self, model_id: str, drift: float | None, doubt: Doubt | None) -> None:
        """Say with every prediction of a model, from now on, how far the market has drifted and what speaks against it.

        A word about a model that is no longer in use is dropped.
        """
        if self._model is not None and self._model.bundle.model_id == model_id:
            self._model.drift, self._model.doubt = drift, doubt

    @property
    def doubt(self) -> Doubt | None:
        """Why the model in use is not to be traded on at present, None while it is."""
        return self._model.doubt if self._model else None

    @property
    def bundle(self) -> Bundle | None:
        """The bundle in use, None before there is one."""
        return self._model.bundle if self._model else None

    @property
    def model_id(self) -> str:
        """The id of the bundle in use; raises `NotReadyError` (`model_not_ready`) while there is none."""
        return self._ready().bundle.model_id

    @property
    def card(self) -> dict[str, Any]:
        """The card of the bundle in use; raises `NotReadyError` (`model_not_ready`) while there is none."""
        return self._ready().bundle.card

    def predict(self, candles: Sequence[Candle]) -> Prediction:
        """What to do after the last of `candles` (oldest first, contiguous).

        Raises:
            NotReadyError: `model_not_ready`, or `insufficient_history` with fewer than `lookback_bars` candles.
            DataQualityError: `features_invalid`, a feature is not finite.
        """
        model = self._ready()
        if len(candles) < LOOKBACK_BARS:
            raise _too_few(len(candles))
        return model.predict(compute_newest_features(bars_from_candles(candles[-LOOKBACK_BARS:])))

    def predict_candles(self, candles: Sequence[Candle]) -> list[Prediction | ServiceError]:
        """A prediction after each of `candles` (oldest first), or why there is none; raises `NotReadyError`."""
        model = self._ready()
        rows = compute_features(bars_from_candles(candles))
        return [
            _too_few(number) if number < LOOKBACK_BARS else _attempt(model, row)
            for number, row in enumerate(rows, start=1)
        ]

    def predict_features(self, rows: Sequence[FeatureRow]) -> list[Prediction | ServiceError]:
        """A prediction for each row of features, or why there is none; raises `NotReadyError`."""
        model = self._ready()
        results: list[Prediction | ServiceError] = []
        for row in rows:
            try:
                results.append(_attempt(model, _vector(row)))
            except InvalidInputError as error:
                results.append(error)
        return results

    def _ready(self) -> _Model:
        if self._model is None:
            raise NotReadyError(
                "The model is still being trained; ask again in a few seconds (GET /readyz shows how far it is).",
                code="model_not_ready",
                retry_after_seconds=5,
            )
        return self._model


def predict_bars(bundle: Bundle, bars: Bars, interval_ms: int) -> SignalArrays:
    """What `ForestStrategy` says with `bundle` after each of `bars`, the same bits, in one pass.

    Nothing is said after the first `LOOKBACK_BARS` - 1 bars of each run without a gap.
    """
    class_returns, round_trip_cost = _read_economics(bundle)
    source = SignalSource(
        bundle.model_id,
        _read_edge(bundle),
        class_returns,
        round_trip_cost,
        int(bundle.card["window"]["taught_until_ms"]),
    )
    return say_by_forest(Predictor(bundle.forest, bundle.calibration), source, compute_rows(bars, interval_ms))


def compute_rows(bars: Bars, interval_ms: int) -> FloatArray:
    """The features of each run of bars without a gap by itself, shape (n_bars, n_features)."""
    rows = np.empty((len(bars), len(FEATURE_NAMES)))
    for segment in find_segments(bars.open_time_ms, interval_ms):
        rows[segment] = compute_features(bars[segment])
    return rows


def say_by_forest(predictor: Predictor, source: SignalSource, rows: FloatArray) -> SignalArrays:
    """What one model says of each row of features; nothing where one is not finite, or too large for 32 bits.

    Args:
        predictor: The model.
        source: Who it is, with its returns and costs; nothing is expected to bring anything without them.
        rows: Shape (n_bars, n_features).
    """
    with np.errstate(over="ignore"):
        usable = np.isfinite(rows.astype(np.float32)).all(axis=1)
    probabilities = np.zeros((len(rows), len(CLASSES)))
    probabilities[usable] = predictor.predict_batch(rows if usable.all() else rows[usable])
    signals = _TIED_COLUMNS[probabilities[:, _TIED_COLUMNS].argmax(axis=1)]
    returns = source.class_returns or dict.fromkeys(Signal, 0.0)
    expected = expect_returns(probabilities, _in_order(returns), (source.round_trip_cost or 0.0) / 2.0)
    return SignalArrays(
        signals=signals,
        confidences=probabilities.max(axis=1),
        expected_returns=np.where(signals == HOLD, 0.0, expected),
        speakers=np.where(usable, 0, -1),
        sources=(source,),
        probabilities=probabilities,
    )


def read_values(values: Values) -> tuple[LabelRule, dict[str, Any]]:
    """The label rule, and what differs from the defaults of `ml.forest.ForestRule`, by parameters of `FOREST`."""
    rule = LabelRule(int(values["horizon_bars"]), float(values["threshold_percent"]))
    return rule, {"depth": int(values["depth"]), "leaf_fraction": float(values["leaf_fraction"])}


def _read_edge(bundle: Bundle) -> Edge:
    return Edge(bundle.card["metrics"]["edge"])


def _read_economics(bundle: Bundle) -> tuple[dict[Signal, float], float]:
    """The mean forward return of each signal, and what a round trip costs."""
    returns = bundle.card["class_returns"]
    return {signal: float(returns[signal]) for signal in _COLUMNS}, 2.0 * float(bundle.card["side_cost"])


def _in_order(class_returns: Mapping[Signal, float]) -> FloatArray:
    return np.array([class_returns[Signal(name)] for name in CLASSES])


def _attempt(model: _Model, row: FloatArray) -> Prediction | ServiceError:
    try:
        return model.predict(row)
    except DataQualityError as error:
        return InvalidInputError(error.message, code=error.code, context=error.context)


def _vector(row: FeatureRow) -> FloatArray:
    if isinstance(row, Mapping):
        if set(row) != set(FEATURE_NAMES):
            wrong = sorted(set(row) ^ set(FEATURE_NAMES))[:5]
            raise InvalidInputError(
                f"The row must name each feature of the model once; missing or unknown: {', '.join(wrong)[:200]}.",
                code="features_mismatched",
            )
        row = [row[name] for name in FEATURE_NAMES]
    if len(row) != len(FEATURE_NAMES):
        raise InvalidInputError(
            f"The row has {len(row)} values; the model takes {len(FEATURE_NAMES)}.", code="features_mismatched"
        )
    return np.array(row, dtype=np.float64)


def _too_few(have: int) -> NotReadyError:
    return NotReadyError(
        f"A prediction needs {LOOKBACK_BARS} closed candles; there are {have}.",
        code="insufficient_history",
        context={"have": have, "need": LOOKBACK_BARS},
    )
