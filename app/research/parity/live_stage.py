"""A stage on which the backtest's engine meets the moments and quotes of live cycles instead of next opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.agents.market_monitoring import Observation
from app.domain.candle import Candle, Interval
from app.domain.cycle import Decision
from app.domain.money import to_units
from app.domain.record import microseconds
from app.domain.signal import Edge, Prediction, Signal
from app.research.backtest.market import prepare
from app.research.backtest.plan import Plan, Series
from app.research.backtest.stage import Script, Stage, count_candles
from app.research.replay import RecordedCycle
from app.strategies.bars import bars_from_candles
from app.strategies.forest import predict_bars
from app.strategies.signals import SignalArrays, SignalSource
from ml.bars import Bars
from ml.bundle import Bundle
from ml.labels import BUY, HOLD, SELL

SeriesName = tuple[str, Interval]
"""A symbol and an interval."""

_TIES = ((Signal.HOLD, HOLD), (Signal.SELL, SELL), (Signal.BUY, BUY))
"""Which signal wins a tie, first first, as in `app.strategies.forest`."""

_COLUMNS = (Signal.SELL, Signal.HOLD, Signal.BUY)


@dataclass(frozen=True, slots=True)
class Joined:
    """The candles that cycles saw of one series, each once and as it was restated last, oldest first."""

    candles: Sequence[Candle]
    bars: Bars
    places: Mapping[int, int]

    @classmethod
    def of(cls, candles: Sequence[Candle]) -> Joined:
        """The same candles with their arrays, and where each is, by its open time in ms."""
        bars = bars_from_candles(candles)
        return cls(candles, bars, {opened: place for place, opened in enumerate(bars.open_time_ms.tolist())})

    def place(self, newest: Candle) -> int:
        """Where a candle is; raises KeyError where it is not kept."""
        return self.places[microseconds(newest.open_time) // 1_000]

    def window(self, cycle: RecordedCycle) -> Sequence[Candle]:
        """What a cycle would see of the candles now."""
        end = self.place(cycle.candles[-1]) + 1
        return self.candles[max(0, end - len(cycle.candles)) : end]


class LiveStage(Stage):
    """The market agent, the clock and the strategy of the live cycle that was entered last.

    Candles and predictions are the backtest's: from arrays of the joined candles, the model asked once for all bars.
    The quote, the instrument, the times and what spoke against the model then are the record's.

    Args:
        plan: How the cycles traded.
        script: The cycles, as `write_live_script` has them.
        cycles: The same, as they are recorded.
    """

    def __init__(self, plan: Plan, script: Script, cycles: Sequence[RecordedCycle]) -> None:
        super().__init__(plan, script)
        self._recorded = cycles
        self.live = cycles[0]

    def enter(self, cycle: int) -> None:
        """Go to a cycle."""
        super().enter(cycle)
        self.live = self._recorded[cycle]
        self._now = self.live.report.finished_at  # to the microsecond, which a script does not count
        self._window_bars = len(self.live.candles)

    async def observe(self, symbol: str, interval: Interval) -> Observation:
        """The market of the cycle; raises as `Stage.observe`."""
        observation, inputs = await super().observe(symbol, interval), self.live.inputs
        snapshot = replace(
            observation.snapshot,
            quote=inputs.quote,
            instrument=inputs.instrument,
            exchange_time=inputs.exchange_time,
            clock_skew_seconds=inputs.clock_skew_seconds,
        )
        return replace(observation, snapshot=snapshot)

    def predict(self, candles: Sequence[Candle]) -> Prediction:
        """What the strategy says, with what spoke against it at the time; raises as `Stage.predict`."""
        inputs = self.live.inputs
        return replace(super().predict(candles), drift=inputs.drift, doubt=inputs.doubt)


def write_live_script(
    plan: Plan, cycles: Sequence[RecordedCycle], joined: Mapping[SeriesName, Joined], bundle: Bundle | None
) -> Script:
    """Live cycles as the cycles of a backtest.

    They have passed every check of the market once, and are refused none; the gate is left to the engine.

    Args:
        plan: How they traded.
        cycles: Those of one model, in their order.
        joined: The candles of every series that they looked at.
        bundle: The model; without it the recorded decisions speak.
    """
    names = list(dict.fromkeys(name_series(cycle) for cycle in cycles))
    series = []
    for name in names:
        of_series = [cycle for cycle in cycles if name_series(cycle) == name]
        decided = {joined[name].place(one.candles[-1]): one.report.decision for one in of_series}
        signals = speak(joined[name].bars, name[1], bundle, decided)
        series.append(Series(*name, of_series[0].inputs.instrument, joined[name].bars, signals))
    prepared = prepare(plan, series)
    places = [names.index(name_series(cycle)) for cycle in cycles]
    bars = [
        int(prepared.ground.first_bars[place]) + joined[names[place]].place(cycle.candles[-1])
        for place, cycle in zip(places, cycles, strict=True)
    ]
    return Script(
        prepared,
        count_candles(prepared),
        places,
        bars,
        [microseconds(cycle.report.finished_at) // 1_000 for cycle in cycles],
        [to_units(cycle.inputs.quote.price) for cycle in cycles],
        verdicts=[0] * len(cycles),
        sides=[0] * len(cycles),
        busy=[*range(len(cycles) + 1)],
    )


def name_series(cycle: RecordedCycle) -> SeriesName:
    """What a cycle looked at."""
    return cycle.report.symbol, cycle.report.interval


def speak(
    bars: Bars, interval: Interval, bundle: Bundle | None, decided: Mapping[int, Decision | None]
) -> SignalArrays:
    """What a model says after each bar; without the model, what was recorded of it.

    Args:
        bars: The bars.
        interval: How long one lasts.
        bundle: The model, None where it is missing.
        decided: The recorded decisions, by the bar that they were made after.
    """
    if bundle is not None:
        said = predict_bars(bundle, bars, interval.milliseconds)
        trained_ms = microseconds(bundle.trained_at) // 1_000  # live, a model's age counts from its training
        return replace(said, sources=tuple(replace(one, taught_until_ms=trained_ms) for one in said.sources))
    first = next((one for one in decided.values() if one is not None), None)
    edge = first.edge if first is not None and first.edge is not None else Edge.NONE
    source = SignalSource("" if first is None else first.model_id, edge)
    shares = np.zeros((len(bars), len(_COLUMNS)))
    expected = np.zeros(len(bars))
    speakers = np.full(len(bars), -1, dtype=np.int64)
    signals = np.full(len(bars), HOLD, dtype=np.int8)
    for bar, decision in decided.items():
        if decision is not None:
            of_signal = decision.probabilities
            shares[bar] = [of_signal[signal] for signal in _COLUMNS]
            signals[bar] = max(_TIES, key=lambda one: of_signal[one[0]])[1]
            expected[bar], speakers[bar] = decision.expected_return or 0.0, 0
    return SignalArrays(signals, shares.max(axis=1), expected, speakers, (source,), shares)
