"""A forest that is taught again and again by what came before, so that nothing it says has been seen in training.

The candles are cut into pieces. What teaches a piece ends before it: its candles are cut off there before anything is
computed of them, so nothing later can reach the model; of the labels that are settled by then, those within the
embargo are left out too. Source: M. Lopez de Prado, Advances in Financial Machine Learning, 2018, chapters 7 and 12.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from app.domain.candle import Interval
from app.domain.signal import Signal
from app.errors import InvalidInputError
from app.strategies.forest import compute_rows, say_by_forest
from app.strategies.signals import SignalArrays, SignalSource
from ml.bars import Bars, IntegerArray
from ml.labels import CLASSES, HOLD, LabelRule
from ml.paper import Costs
from ml.predictor import Predictor

OnProgress = Callable[[float, str], None]
"""Hears after each piece how far the work is, from 0 to 1, in words too; what it raises ends the work."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How candles are walked through, counted in moments at which any symbol has a candle.

    Attributes:
        train_bars: How many candles before a piece teach it.
        step_bars: How many candles a piece has.
        embargo_bars: How many candles lie at least between the last label that teaches and the first of the piece.
    """

    train_bars: int
    step_bars: int
    embargo_bars: int = 0

    def __post_init__(self) -> None:
        if self.train_bars < 1 or self.step_bars < 1 or self.embargo_bars < 0:
            raise InvalidInputError(
                "train_bars and step_bars must be at least 1 and embargo_bars at least 0.", code="schedule_invalid"
            )


@dataclass(frozen=True, slots=True)
class Piece:
    """Some candles and the model that spoke after each of them; times are milliseconds since the epoch.

    Attributes:
        first_open_ms: When its first candle opened.
        until_ms: Its candles opened before this.
        trained_from_ms: When the first candle opened that taught it.
        trained_rows: How many rows taught it; 0 where none did.
        model_id: What its decisions carry; None where it could not be taught and nothing is said.
        taught_until_ms: When the newest label that taught it was settled; None as above.
        refusal: Why it could not be taught, in a sentence; None where it was.
    """

    first_open_ms: int
    until_ms: int
    trained_from_ms: int
    trained_rows: int
    model_id: str | None
    taught_until_ms: int | None
    refusal: str | None


@dataclass(frozen=True, slots=True, eq=False)
class WalkForward:
    """What was said out of sample, of each symbol's bars; nothing before the first piece."""

    signals: dict[str, SignalArrays]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Teaching:
    """What is learnt, and how.

    Attributes:
        label_rule: What came of a candle.
        costs: What trading costs.
        forest: What differs from the defaults of `ml.forest.ForestRule`.
        backend: Where it is learnt, as `ml.backend.run_calls` takes it.
    """

    label_rule: LabelRule
    costs: Costs
    forest: Mapping[str, Any] = field(default_factory=dict)
    backend: str = "loky"


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """The candles that teach one piece, with none that comes later, and when the first of the piece closes."""

    history: dict[str, Bars]
    interval: Interval
    teaching: Teaching
    embargo_bars: int
    first_close_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """A model, who it is, and how many rows taught it."""

    predictor: Predictor
    source: SignalSource
    rows: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a lesson taught nothing: the code and the words of a `TrainingError`, which no process can hand over."""

    code: str
    reason: str


def walk_forward(
    history: Mapping[str, Bars], interval: Interval, schedule: Schedule, teaching: Teaching, on_progress: OnProgress
) -> WalkForward:
    """Teach a forest for each piece of `history` by the candles before it, and hear what it says of the piece.

    Args:
        history: Symbol to closed candles, oldest first; gaps are allowed. One forest learns from all symbols.
        interval: How long each candle is.
        schedule: How the candles are walked through.
        teaching: What is learnt, and how.
        on_progress: See `OnProgress`.

    Raises:
        InvalidInputError: `history_too_short` for one piece; or, where no piece could be taught, why the first could
            not (`too_few_rows`, `one_class`, `features_invalid`).
        BackendError: The backend cannot be used.
    """
    from ml.backend import run_calls  # noqa: PLC0415 - joblib, which only training needs

    moments = np.unique(np.concatenate([bars.open_time_ms for bars in history.values()]))
    places = range(schedule.train_bars, len(moments), schedule.step_bars)
    if not places:
        raise InvalidInputError(
            f"There are {len(moments):,} candles; the first piece needs {schedule.train_bars:,} before it. Give a "
            "longer span, or a smaller train_bars.",
            code="history_too_short",
            context={"have": len(moments), "need": schedule.train_bars + 1},
        )
    calls = [(_cut_lesson(history, interval, schedule, teaching, moments[: place + 1]),) for place in places]
    stitching = _Stitching(history, interval)
    rows = len(calls) * schedule.train_bars * len(history)
    with closing(run_calls(teach, calls, teaching.backend, rows)) as results:
        for number, (place, result) in enumerate(zip(places, results, strict=True), start=1):
            stop = place + schedule.step_bars
            until = int(moments[stop]) if stop < len(moments) else int(moments[-1]) + interval.milliseconds
            span = (int(moments[place]), until)
            stitching.add(span, int(moments[place - schedule.train_bars]), result)
            words = f"taught by {result.rows:,} rows" if isinstance(result, Taught) else "could not be taught"
            on_progress(number / len(calls), f"Piece {number} of {len(calls)}: {words}.")
    return stitching.finish()


def _cut_lesson(
    history: Mapping[str, Bars], interval: Interval, schedule: Schedule, teaching: Teaching, moments: IntegerArray
) -> Lesson:
    """What teaches the piece that begins at the last of `moments`."""
    first, opening = int(moments[-1 - schedule.train_bars]), int(moments[-1])
    taught = {symbol: _cut(bars, first, opening) for symbol, bars in history.items()}
    return Lesson(taught, interval, teaching, schedule.embargo_bars, opening + interval.milliseconds)


def _find_rows(bars: Bars, first_ms: int, until_ms: int) -> slice:
    start, stop = np.searchsorted(bars.open_time_ms, (first_ms, until_ms))
    return slice(int(start), int(stop))


def _cut(bars: Bars, first_ms: int, until_ms: int) -> Bars:
    return bars[_find_rows(bars, first_ms, until_ms)]


def teach(lesson: Lesson) -> Taught | Refusal:
    """Teach one model. This imports scikit-learn."""
    from ml.preparation import TrainingError  # noqa: PLC0415 - scikit-learn, which a service must not import

    try:
        return _teach(lesson)
    except TrainingError as error:
        return Refusal(error.code, str(error))


def _teach(lesson: Lesson) -> Taught:
    from ml.bundle import compute_digest  # noqa: PLC0415 - with the next
    from ml.forest import ForestRule, fit_calibrated  # noqa: PLC0415 - scikit-learn, which a service must not import
    from ml.preparation import LEAST_ROWS, TrainingError, prepare_rows  # noqa: PLC0415 - the same
    from ml.training import measure_returns  # noqa: PLC0415 - the same

    teaching, step = lesson.teaching, lesson.interval.milliseconds
    embargo = lesson.embargo_bars * step
    prepared = prepare_rows(lesson.history, step, teaching.label_rule, teaching.costs)
    kept = np.flatnonzero(prepared.rows.settled_at < lesson.first_close_ms - embargo)
    if len(kept) < LEAST_ROWS:
        raise TrainingError("too_few_rows", f"{len(kept)} rows are left to learn from; {LEAST_ROWS} are needed.")
    rows = prepared.rows.take(kept)
    try:
        forest, calibration = fit_calibrated(rows, ForestRule(**teaching.forest), embargo)
    except ValueError as error:
        raise TrainingError("too_few_rows", f"{len(kept)} rows cannot be taught: {error}.") from error
    class_returns, side_cost = measure_returns(prepared, kept)
    opening = datetime.fromtimestamp((lesson.first_close_ms - step) / 1_000, UTC)
    source = SignalSource(
        model_id=f"forest-wf-{lesson.interval}-{opening:%Y%m%dT%H%M%SZ}-{compute_digest(forest, calibration)[:8]}",
        class_returns={Signal(name): float(value) for name, value in zip(CLASSES, class_returns, strict=True)},
        round_trip_cost=2.0 * side_cost,
        taught_until_ms=int(rows.settled_at.max()),
    )
    return Taught(Predictor(forest, calibration), source, len(rows))


class _Stitching:
    """Puts together what the models of the pieces say."""

    def __init__(self, history: Mapping[str, Bars], interval: Interval) -> None:
        self._history = history
        self._rows = {symbol: compute_rows(bars, interval.milliseconds) for symbol, bars in history.items()}
        self._said = {symbol: _say_nothing(len(bars)) for symbol, bars in history.items()}
        self._sources: list[SignalSource] = []
        self._pieces: list[Piece] = []
        self._refusals: list[Refusal] = []

    def add(self, span: tuple[int, int], trained_from_ms: int, result: Taught | Refusal) -> None:
        """Hear the model of one piece about each symbol's bars of it."""
        if isinstance(result, Refusal):
            self._refusals.append(result)
            self._pieces.append(Piece(*span, trained_from_ms, 0, None, None, result.reason))
            return
        speaker = len(self._sources)
        self._sources.append(result.source)
        for symbol, bars in self._history.items():
            place = _find_rows(bars, *span)
            heard = say_by_forest(result.predictor, result.source, self._rows[symbol][place])
            _write(self._said[symbol], place, replace(heard, speakers=np.where(heard.speakers < 0, -1, speaker)))
        source = result.source
        self._pieces.append(
            Piece(*span, trained_from_ms, result.rows, source.model_id, source.taught_until_ms, refusal=None)
        )

    def finish(self) -> WalkForward:
        """All of it; raises `InvalidInputError` where no piece was taught."""
        if not self._sources:
            first = self._refusals[0]
            raise InvalidInputError(f"No piece could be taught. {first.reason}", code=first.code)
        sources = tuple(self._sources)
        return WalkForward(
            {symbol: replace(said, sources=sources) for symbol, said in self._said.items()}, tuple(self._pieces)
        )


def _say_nothing(bars: int) -> SignalArrays:
    return SignalArrays(
        signals=np.full(bars, HOLD, dtype=np.int8),
        confidences=np.zeros(bars),
        expected_returns=np.zeros(bars),
        speakers=np.full(bars, -1),
        sources=(),
        probabilities=np.zeros((bars, len(CLASSES))),
    )


def _write(said: SignalArrays, place: slice, heard: SignalArrays) -> None:
    for name in ("signals", "confidences", "expected_returns", "speakers", "probabilities"):
        getattr(said, name)[place] = getattr(heard, name)


def check_never_seen(card: Mapping[str, Any], since_ms: int) -> None:
    """Refuse candles that a bundle has seen: a test on them says nothing about what it knows.

    Args:
        card: The bundle's.
        since_ms: When the first candle opens that would be traded, milliseconds since the epoch.

    Raises:
        InvalidInputError: `model_saw_candles`, it opens before the newest label that taught was settled, which is a
            whole horizon after that label's own candle.
    """
    taught_until = int(card["window"]["taught_until_ms"])
    if since_ms >= taught_until:
        return
    allowed = _say_time(taught_until)
    raise InvalidInputError(
        f"The model {card['model_id']} was taught by what came until {allowed}, so a test from {_say_time(since_ms)} "
        f"on would be on candles it has seen. Start at {allowed} or later, or walk forward.",
        code="model_saw_candles",
        context={"model_id": card["model_id"], "first_allowed": allowed},
    )


def _say_time(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1_000, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
