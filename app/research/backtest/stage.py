"""What the live engine sees in a backtest: the market, the clock and the strategy of each cycle, from arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import overload

import numpy as np

from app.agents.market_monitoring import Observation
from app.domain.candle import Candle, Interval
from app.domain.cycle import MarketView
from app.domain.market import Indicators, MarketSnapshot, Quote
from app.domain.money import from_units
from app.domain.signal import Prediction
from app.errors import NotReadyError, UpstreamError
from app.research.backtest.books import FIRST_REFUSAL, OUTCOMES
from app.research.backtest.market import Prepared, prepare
from app.research.backtest.plan import Plan, Series
from app.research.backtest.units import to_unit_array
from ml.bars import IntegerArray

SOURCE = "backtest"
"""The name of the market that a backtest trades on."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_KEPT_CANDLES = 4_096
_NOT_READY = ("insufficient_history", "stale_data")
_NOTHING_MEASURED = Indicators(None, None, None, None)


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """The cycles of a backtest in their order, as plain lists: what is looked at one by one is quicker so.

    `verdicts` are those of `kernel.layout.Market`, `bars` are counted in it, `quotes` in 1e-8 quote units. `sides` are
    1 where a BUY may be traded, -1 where a SELL may; `candles` are those of `count_candles`.
    `busy` are the cycles whose verdict is `CONFIDENT`, and the number of all of them at the end.
    """

    prepared: Prepared
    candles: IntegerArray
    series: list[int]
    bars: list[int]
    times_ms: list[int]
    quotes: list[int]
    verdicts: list[int]
    sides: list[int]
    busy: list[int]

    def __len__(self) -> int:
        return len(self.bars)


def write_script(plan: Plan, series: Sequence[Series]) -> Script:
    """The cycles of a backtest; raises as `market.prepare`."""
    prepared = prepare(plan, series)
    ground, market = prepared.ground, prepared.market
    bars, candles = ground.cycle_bars, count_candles(prepared)
    sides = np.zeros(len(bars), dtype=np.int8)
    sides[prepared.busy] = prepared.sides
    return Script(
        prepared,
        candles,
        ground.cycle_series.tolist(),
        bars.tolist(),
        ground.times_ms.tolist(),
        candles[0, bars + 1].tolist(),
        market.verdicts[bars].tolist(),
        sides.tolist(),
        [*prepared.busy.tolist(), len(bars)],
    )


def count_candles(prepared: Prepared) -> IntegerArray:
    """The open, high, low, close and volume of each bar in 1e-8 units, shape (5, n_bars)."""
    market = prepared.market
    prices = [to_unit_array(values) for values in (market.open, market.high, market.low, market.close)]
    return np.array([*(market.exact if market.exact.shape[1] else prices), prepared.ground.volume])


class Stage:
    """The market agent, the clock and the strategy of the cycle that was entered last.

    It refuses what `check_snapshot` would refuse; `checked_bars.CheckedBars` has looked at all candles beforehand.

    Args:
        plan: How the backtest trades.
        script: Its cycles.
    """

    def __init__(self, plan: Plan, script: Script) -> None:
        self._plan = plan
        self._script = script
        self._candles = _Candles(script.prepared.ground.open_time_ms, script.candles)
        self._first_bars = script.prepared.ground.first_bars.tolist()
        self._verdict = 0
        self._now = _EPOCH
        self._quote = 0
        self._bar = 0
        self._first_bar = 0
        self._window_bars = plan.window_bars
        self._series = script.prepared.ground.series[0]
        self.lookback_bars = plan.minimum_bars

    def enter(self, cycle: int) -> None:
        """Go to a cycle."""
        script = self._script
        place = script.series[cycle]
        self._series = script.prepared.ground.series[place]
        self._first_bar = self._first_bars[place]
        self._bar, self._quote = script.bars[cycle], script.quotes[cycle]
        self._now = _EPOCH + script.times_ms[cycle] * _MILLISECOND
        self._verdict = script.verdicts[cycle]

    @property
    def symbol(self) -> str:
        """The symbol of the cycle."""
        return self._series.symbol

    @property
    def interval(self) -> Interval:
        """The interval of the cycle."""
        return self._series.interval

    @property
    def model_age(self) -> timedelta | None:
        """How old the model is that speaks; None for a rule."""
        said_at = self._said_at
        if said_at < 0 or (speaker := int(self._series.signals.speakers[said_at])) < 0:
            return None
        taught = self._series.signals.sources[speaker].taught_until_ms
        return None if taught is None else self._now - (_EPOCH + taught * _MILLISECOND)

    def now(self) -> datetime:
        """The open time of the bar after the cycle's."""
        return self._now

    async def observe(self, symbol: str, interval: Interval) -> Observation:
        """The market of the cycle.

        Raises:
            NotReadyError, UpstreamError: The cycle is refused.
        """
        if self._verdict >= FIRST_REFUSAL:
            code = OUTCOMES[self._verdict]
            kind = NotReadyError if code in _NOT_READY else UpstreamError
            raise kind("The candles are not fit to trade on.", code=code)
        first = max(self._first_bar, self._bar - self._window_bars + 1)
        candles = CandleWindow(self._candles, interval.duration, first, self._bar + 1)
        price, newest = from_units(self._quote), self._candles.get(self._bar, interval.duration)
        snapshot = MarketSnapshot(
            source=SOURCE,
            symbol=symbol,
            interval=interval,
            candles=candles,
            quote=Quote(price, self._now),
            instrument=self._series.instrument,
            exchange_time=self._now,
            clock_skew_seconds=0.0,
        )
        view = MarketView(price, newest.open_time, newest.close_time, _NOTHING_MEASURED, (newest,))
        return Observation(snapshot, view)

    @property
    def model_id(self) -> str:
        """The name that decisions carry."""
        return self._series.signals.sources[0].model_id

    def predict(self, candles: Sequence[Candle]) -> Prediction:  # noqa: ARG002 - it was computed for all at once
        """What the strategy says; raises NotReadyError where it says nothing."""
        said_at = self._said_at
        prediction = self._series.signals.predict(said_at) if said_at >= 0 else None
        if prediction is None:
            raise NotReadyError("There are too few candles for a prediction.", code="insufficient_history")
        return prediction

    @property
    def _said_at(self) -> int:
        return self._bar - self._first_bar - self._plan.latency_bars


class _Candles:
    """Candles of the domain, made of arrays when they are asked for."""

    def __init__(self, open_time_ms: IntegerArray, candles: IntegerArray) -> None:
        self._open_time_ms = open_time_ms
        self._candles = candles
        self._made: dict[int, Candle] = {}

    def get(self, bar: int, duration: timedelta) -> Candle:
        found = self._made.get(bar)
        if found is None:
            if len(self._made) >= _KEPT_CANDLES:
                self._made.clear()
            found = self._made[bar] = self._make(bar, duration)
        return found

    def _make(self, bar: int, duration: timedelta) -> Candle:
        opened = _EPOCH + int(self._open_time_ms[bar]) * _MILLISECOND
        return Candle(opened, opened + duration - _MILLISECOND, *map(from_units, self._candles[:, bar].tolist()))


class CandleWindow(Sequence[Candle]):
    """Neighbouring candles, oldest first; each is made when it is looked at.

    Args:
        candles: Where they are made.
        duration: How long one lasts.
        first: The bar of the first.
        end: The bar after the last.
    """

    def __init__(self, candles: _Candles, duration: timedelta, first: int, end: int) -> None:
        self._candles = candles
        self._duration = duration
        self._first = first
        self._end = end

    def __len__(self) -> int:
        return self._end - self._first

    @overload
    def __getitem__(self, index: int) -> Candle: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Candle]: ...

    def __getitem__(self, index: int | slice) -> Candle | Sequence[Candle]:
        bars = range(self._first, self._end)[index]
        if isinstance(bars, int):
            return self._candles.get(bars, self._duration)
        return [self._candles.get(bar, self._duration) for bar in bars]
