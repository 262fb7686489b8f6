"""What the strategy of a backtest says after each candle, before anything is traded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from app.domain.record import microseconds
from app.errors import InvalidInputError, NotFoundError
from app.research.backtest.request import BacktestRequest, WalkForwardRule
from app.research.backtest.walk_forward import Schedule, Teaching, check_never_seen, walk_forward
from app.research.child import OnProgress
from app.strategies.forest import predict_bars, read_values
from app.strategies.registry import get_rule
from app.strategies.signals import SignalArrays
from ml.bars import Bars, find_segments
from ml.bundle import BundleError, load_bundle
from ml.labels import HOLD, UNSETTLED, LabelArray, LabelRule, compute_labels
from ml.paper import Costs


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """What is said of each symbol, and what it means by being right; a rule, which is never sure, means nothing."""

    signals: Mapping[str, SignalArrays]
    label_rule: LabelRule | None = None


def count_warm_up_bars(request: BacktestRequest) -> int:
    """How many candles before the first moment of trading a strategy needs, to see then what it would see live."""
    learnt = request.walk_forward.train_bars + 1 if request.walk_forward else 0
    lookback = get_rule(request.strategy).lookback(request.parameters)
    return max(request.window_bars, lookback, learnt) + request.latency_bars


def listen(request: BacktestRequest, history: Mapping[str, Bars], models: Path, on_progress: OnProgress) -> Speech:
    """Hear a strategy about all candles; what is said too early to be traded is taken away.

    Args:
        request: Whose strategy it is.
        history: Symbol to candles, those before the first moment of trading included.
        models: The folder of bundles.
        on_progress: Hears how far the work is.

    Raises:
        InvalidInputError: The strategy cannot speak of these candles; the code says why.
        NotFoundError: `model_not_found`.
    """
    if request.walk_forward is not None:
        speech = _walk(request, request.walk_forward, history, on_progress)
    elif request.model_id is not None:
        speech = _ask_bundle(request, request.model_id, history, models)
    else:
        rule = get_rule(request.strategy)
        values = rule.check_values(request.parameters)
        step = request.interval.milliseconds
        speech = Speech({symbol: rule.compute_signals(bars, step, values) for symbol, bars in history.items()})
    start, latency = microseconds(request.since) // 1_000, request.latency_bars
    heard = {symbol: silence(said, history[symbol], start, latency) for symbol, said in speech.signals.items()}
    return replace(speech, signals=heard)


def silence(said: SignalArrays, bars: Bars, start_ms: int, latency_bars: int) -> SignalArrays:
    """Take away what could be traded before `start_ms`, so that the account is untouched until then."""
    speakers = said.speakers.copy()
    speakers[: count_early_bars(bars, start_ms, latency_bars)] = -1
    return replace(said, speakers=speakers)


def count_early_bars(bars: Bars, start_ms: int, latency_bars: int) -> int:
    """After how many of the first candles what is said could be traded before `start_ms`."""
    cycles = bars.open_time_ms[1:]  # a candle is traded on at the open of the next
    return max(int(np.searchsorted(cycles, start_ms)) - latency_bars, 0)


def label_bars(bars: Bars, interval_ms: int, rule: LabelRule) -> LabelArray:
    """What came of each candle, never across a gap, shape (n_bars,); `UNSETTLED` where that is not known."""
    labels = np.full(len(bars), UNSETTLED, dtype=np.int8)
    for segment in find_segments(bars.open_time_ms, interval_ms):
        labels[segment] = compute_labels(bars[segment], rule).labels
    return labels


def _walk(
    request: BacktestRequest, rule: WalkForwardRule, history: Mapping[str, Bars], on_progress: OnProgress
) -> Speech:
    asked, forest = read_values(get_rule(request.strategy).check_values(request.parameters))
    label_rule = replace(asked, kind=rule.label_kind, volatility_multiple=rule.volatility_multiple)
    grown = {**forest, "class_weight": rule.class_weight, "calibration": rule.calibration}
    costs = Costs(float(request.terms.fee_bps), float(request.terms.slippage_bps))
    schedule = Schedule(rule.train_bars, rule.step_bars, rule.embargo_bars)
    teaching = Teaching(label_rule, costs, grown)
    # Nothing can be traded after the last candle, so that no model need be taught to speak of it.
    before_last = {symbol: bars[:-1] for symbol, bars in history.items()}
    walked = walk_forward(before_last, request.interval, schedule, teaching, on_progress)
    return Speech({symbol: _fall_silent(said) for symbol, said in walked.signals.items()}, label_rule)


def _fall_silent(said: SignalArrays) -> SignalArrays:
    """The same with one more bar, of which nothing is said."""
    shares = said.probabilities
    return SignalArrays(
        signals=np.append(said.signals, np.int8(HOLD)),
        confidences=np.append(said.confidences, 0.0),
        expected_returns=np.append(said.expected_returns, 0.0),
        speakers=np.append(said.speakers, -1),
        sources=said.sources,
        probabilities=None if shares is None else np.append(shares, np.zeros((1, shares.shape[1])), axis=0),
    )


def _ask_bundle(request: BacktestRequest, model_id: str, history: Mapping[str, Bars], models: Path) -> Speech:
    try:
        bundle = load_bundle(models / model_id)
    except BundleError as error:
        raise NotFoundError(f"The model {model_id} cannot be used: {error}.", code="model_not_found") from error
    if bundle.card["interval"] != request.interval.value:
        raise InvalidInputError(
            f"The model {model_id} was taught by candles of {bundle.card['interval']}; ask for these.",
            code="model_mismatched",
        )
    check_never_seen(bundle.card, microseconds(request.since) // 1_000)
    step = request.interval.milliseconds
    signals = {symbol: predict_bars(bundle, bars, step) for symbol, bars in history.items()}
    return Speech(signals, LabelRule(**bundle.card["label_rule"]))
