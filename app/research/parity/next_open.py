"""The same stretches of life as a backtest has them: a cycle after every candle, filled at the open of the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

import numpy as np

from app.domain.cycle import Decision
from app.domain.instrument import Instrument
from app.domain.money import from_units
from app.domain.order import Side
from app.domain.record import microseconds
from app.domain.standing import Standing
from app.research.backtest.books import ORIGINS, Books
from app.research.backtest.engine_driver import run_engine
from app.research.backtest.plan import Plan, Series
from app.research.parity.live_stage import Joined, SeriesName, speak
from app.research.parity.report import StretchStart, TradeParity
from app.strategies.signals import SignalArrays
from ml.bars import Bars
from ml.bundle import Bundle
from ml.labels import HOLD

_BPS = 10_000

TradeName = tuple[SeriesName, int, Side, str]
"""A series, the open time of a candle in ms, a side and an origin: by it a trade is found again."""

ModelName = tuple[str, str]
"""The id and the hash of a model."""


@dataclass(frozen=True, slots=True)
class Look:
    """A live cycle, as far as a backtest at the next open must know of it."""

    cycle_id: str
    at: datetime
    series: SeriesName
    first: datetime
    newest: datetime
    model: ModelName
    is_doubted: bool
    quote: float
    instrument: Instrument
    decision: Decision | None


@dataclass(slots=True)
class LiveStretch:
    """Cycles in a row under one plan and without a person's doing, on the account that they began with."""

    start: StretchStart
    plan: Plan
    standing: Standing
    looks: list[Look] = field(default_factory=list)

    def by_series(self) -> dict[SeriesName, list[Look]]:
        """Its cycles by what they looked at."""
        found: dict[SeriesName, list[Look]] = defaultdict(list)
        for look in self.looks:
            found[look.series].append(look)
        return dict(found)


@dataclass(frozen=True, slots=True)
class Assumed:
    """What filling at the next open came to: the prices of its trades by their names, and the equity at the end.

    `unseen` are the names of those on candles that no live cycle has looked at.
    """

    prices: dict[TradeName, list[Decimal]]
    unseen: set[TradeName]
    equity: int


def assume_next_open(
    stretch: LiveStretch, joined: Mapping[SeriesName, Joined], bundles: Mapping[ModelName, Bundle | None]
) -> Assumed:
    """Run a stretch as a backtest.

    The last live quote of a series stands for the open of a candle that nobody has seen yet.

    Args:
        stretch: What is run.
        joined: The candles of its series, up to the one after the last cycle's where there is one.
        bundles: The models that spoke, None for one that is missing.

    Raises:
        InvalidInputError: `beyond_64_bits` or `candle_not_positive`, as `engine_driver.run_engine`.
    """
    series, looked = [], []
    for name, looks in stretch.by_series().items():
        bars = _add_quote(joined[name].bars, looks[-1], name)
        signals = _speak(bars, joined[name], looks, bundles)
        series.append(Series(*name, looks[0].instrument, bars, signals))
        looked.append({_milliseconds(look) for look in looks})
    books = run_engine(stretch.plan, series, standing=stretch.standing)
    return _read(books, series, looked, stretch)


def name_row(row: TradeParity) -> TradeName | None:
    """The name by which the same trade is found in a backtest; None where there is no candle to it."""
    told = row.live or row.backtest
    if row.interval is None or row.candle_open_time is None or told is None:
        return None
    opened = microseconds(row.candle_open_time) // 1_000
    return (row.symbol, row.interval), opened, told.side, row.origin.value


def match_row(row: TradeParity, prices: Mapping[TradeName, list[Decimal]]) -> TradeParity:
    """The row with the price of the same trade at the next open; each price is taken once."""
    name = name_row(row)
    if row.live is None or name is None or not prices.get(name):
        return row
    price = prices[name].pop(0)
    sign = 1 if row.live.side is Side.BUY else -1
    return replace(row, next_open_price=price, difference_bps=float(sign * (row.live.price - price) / price * _BPS))


def _read(books: Books, series: Sequence[Series], looked: Sequence[set[int]], stretch: LiveStretch) -> Assumed:
    prices: dict[TradeName, list[Decimal]] = defaultdict(list)
    unseen: set[TradeName] = set()
    fills = books.fills
    for fill in range(len(fills)):
        cycle = int(fills.cycle[fill])
        place = int(books.series[cycle])
        one = series[place]
        opened = int(one.bars.open_time_ms[int(books.bars[cycle])])
        side = Side.BUY if fills.side[fill] > 0 else Side.SELL
        name = ((one.symbol, one.interval), opened, side, ORIGINS[int(fills.origin[fill])])
        prices[name].append(from_units(int(fills.price[fill])))
        if opened not in looked[place]:
            unseen.add(name)
    equity = int(books.equity[-1]) if len(books) else stretch.standing.snapshot.equity
    return Assumed(dict(prices), unseen, equity)


def _speak(
    bars: Bars, joined: Joined, looks: Sequence[Look], bundles: Mapping[ModelName, Bundle | None]
) -> SignalArrays:
    """What the models in use said after each bar, nothing before the first cycle; in doubt they said HOLD."""
    places = [joined.places[_milliseconds(look)] for look in looks]
    names = list(dict.fromkeys(look.model for look in looks))
    interval = looks[0].series[1]
    spoken = [
        speak(
            bars,
            interval,
            bundles[name],
            {place: look.decision for place, look in zip(places, looks, strict=True) if look.model == name},
        )
        for name in names
    ]
    speaker = np.zeros(len(bars), dtype=np.int64)
    for place, look in zip(places, looks, strict=True):
        speaker[place:] = names.index(look.model)
    whole = _merge(spoken, speaker)
    whole.speakers[: places[0]] = -1
    doubted = [place for place, look in zip(places, looks, strict=True) if look.is_doubted]
    whole.signals[doubted] = HOLD
    return whole


def _merge(spoken: Sequence[SignalArrays], speaker: np.ndarray) -> SignalArrays:
    """The arrays of several models, each where it speaks."""
    rows = np.arange(len(speaker))

    def pick(name: str) -> np.ndarray:
        found: np.ndarray = np.stack([getattr(one, name) for one in spoken])[speaker, rows]
        return found

    silent = pick("speakers") < 0
    return SignalArrays(
        signals=pick("signals"),
        confidences=pick("confidences"),
        expected_returns=pick("expected_returns"),
        speakers=np.where(silent, -1, speaker),
        sources=tuple(one.sources[0] for one in spoken),
        probabilities=pick("probabilities"),
    )


def _add_quote(bars: Bars, last: Look, name: SeriesName) -> Bars:
    """The bars with one that opens at the last live quote, where the candle after the last cycle's is not known."""
    newest = int(bars.open_time_ms[-1])
    if newest > _milliseconds(last):
        return bars
    added = ((bars.open, last.quote), (bars.high, last.quote), (bars.low, last.quote), (bars.close, last.quote))
    times = np.append(bars.open_time_ms, newest + name[1].milliseconds)
    return Bars(times, *(np.append(values, value) for values, value in (*added, (bars.volume, 0.0))))


def _milliseconds(look: Look) -> int:
    return microseconds(look.newest) // 1_000
