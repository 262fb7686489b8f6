"""Random backtests: markets, what is said of them, and every setting by which they are traded.

A `World` is a pure function of the `Random` that it is drawn from: one with a seed is the same each time, and that of
`hypothesis.strategies.randoms` finds and shrinks what breaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Final, NamedTuple, TypeVar

import numpy as np

from app.agents.decision_making import Gate
from app.broker.desk import Terms
from app.domain.candle import Interval
from app.domain.instrument import Instrument
from app.domain.money import LARGEST, UNITS, from_units, to_units
from app.domain.risk import SizingMethod, StopRule
from app.domain.signal import Edge, Signal
from app.errors import InvalidInputError
from app.research.backtest.books import Books
from app.research.backtest.checked_bars import LARGEST_PRICE
from app.research.backtest.compiled import run_compiled
from app.research.backtest.plan import Plan, Series
from app.risk.limits import LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule
from app.strategies.signals import SignalArrays, SignalSource
from ml.bars import Bars, FloatArray, IntegerArray
from ml.labels import BUY, HOLD, SELL

T = TypeVar("T")

_DAY_MS: Final = 86_400_000
_FIRST_DAY: Final = 20_000
_NONE: Final = Decimal(0)
_ONE: Final = Decimal(1)
_ANY: Final = 10**9

_USUAL_LEVELS: Final = ("100", "30000", "1.5")
_LEVELS: Final = ("0.00001234", "0.0000004", "0.00000003", "5000000", "40000000", "300000000")
_CASH: Final = ("6", "1000000000", "0.5", "0.00004321", "0.00000007")
_INTERVALS: Final = (
    *(Interval.M1, Interval.M5, Interval.M15, Interval.M30),
    *(Interval.H1, Interval.H2, Interval.H4, Interval.H12, Interval.D1),
)


@dataclass(frozen=True, slots=True)
class World:
    """One backtest."""

    plan: Plan
    series: tuple[Series, ...]


ALL_IN = Plan(
    initial_cash=Decimal(10_000),
    gate=Gate(0.0),
    terms=Terms(Decimal(2), Decimal(3), _NONE),
    sizing=SizingRule(cash_fraction=_ONE),
    limits=LimitRules(_NONE, _NONE, _NONE, _NONE, _NONE, 0, 0, 0, 0, _NONE),
    protection=ProtectionRule(),
)
"""Long with all the cash, and nothing in the way."""


def _mostly(random: Random, usual: Sequence[T], rare: Sequence[T], rarity: float = 0.25) -> T:
    """One of the usual values, or at times one of the rare ones."""
    return random.choice(rare if random.random() < rarity else usual)


def run_if_countable(world: World) -> Books | None:
    """The books of the compiled pass, None where it says that an amount is beyond 64 bits."""
    try:
        return run_compiled(world.plan, world.series)
    except InvalidInputError as error:
        if error.code != "beyond_64_bits":
            raise
        return None


def make_world(random: Random, bars: tuple[int, int] = (90, 270)) -> World:
    """A backtest of so many bars, the fewest and the most, of all its symbols together."""
    interval = random.choice(_INTERVALS)
    cash = Decimal(_mostly(random, ("10000", "250000.12345678"), _CASH))
    count = _mostly(random, (1,), (2, 3), 0.4)
    plan = _press(random, make_plan(random, interval, cash), interval)
    length = random.randint(*bars) // count
    return World(plan, tuple(_make_series(random, plan, interval, f"S{place}USDT", length) for place in range(count)))


def make_plan(random: Random, interval: Interval, cash: Decimal) -> Plan:
    """How a backtest trades; every setting is away from its default at times, most of them seldom all at once."""
    sizing = _make_sizing(random)
    terms = Terms(
        fee_bps=Decimal(_mostly(random, ("2", "10", "7.53"), ("0", "0.01", "100", "1000"))),
        slippage_bps=Decimal(_mostly(random, ("3", "0", "25"), ("0.01", "100", "1000"))),
        volume_share=Decimal(_mostly(random, ("0", "0.1", "0.01"), ("0.25", "1", "0.000001"))),
        allow_short=random.random() < 0.6,
    )
    gate = Gate(
        _mostly(random, (0.0, 0.1), (0.34, 0.7)),
        require_edge=random.random() < 0.1,
        require_positive_return=random.random() < 0.1,
    )
    protection = ProtectionRule(
        stop=random.choice(list(StopRule)),
        stop_atr_multiple=Decimal(_mostly(random, ("2", "1", "0.5", "3.33"), ("0.01", "20", "100"))),
        target_atr_multiple=Decimal(_mostly(random, ("0", "1.5", "0.25", "4"), ("0.01", "20", "100"))),
    )
    return Plan(
        initial_cash=cash,
        gate=gate,
        terms=terms,
        sizing=sizing,
        limits=_make_limits(random, interval),
        protection=protection,
        window_bars=random.choice((61, 61, 62, 75, 100, 120)),
        minimum_bars=_mostly(random, (1, 2), (15, 61)),
        latency_bars=_mostly(random, (0,), (1, 2, 5)),
    )


def _press(random: Random, plan: Plan, interval: Interval) -> Plan:
    """At times, settings that bring about together what they seldom do one by one."""
    what = _mostly(random, ("nothing",), ("short", "crowd", "little", "dust", "dust", "free"), 0.35)
    terms, limits = plan.terms, plan.limits
    if what == "short":
        return replace(plan, terms=replace(terms, allow_short=True), protection=ProtectionRule())
    if what == "crowd":
        return replace(plan, limits=replace(limits, max_gross_exposure=Decimal("0.1")))
    if what == "little":
        limits = replace(limits, max_symbol_exposure=Decimal("0.000001"))
        return replace(plan, initial_cash=Decimal("0.00054321"), sizing=SizingRule(cash_fraction=_ONE), limits=limits)
    if what == "dust":
        terms = replace(terms, volume_share=Decimal("0.1"), fee_bps=Decimal(2))
        protection = replace(plan.protection, target_atr_multiple=Decimal("0.5"))
        limits = LimitRules(max_daily_loss=_NONE, max_volume_share=_NONE, price_band_percent=_NONE)
        return replace(plan, terms=terms, sizing=SizingRule(), limits=limits, protection=protection, latency_bars=0)
    if what == "free":
        terms = replace(terms, fee_bps=_NONE, slippage_bps=_NONE)
        minutes = 5 * interval.milliseconds // 60_000
        limits = LimitRules(max_volume_share=_NONE, cooldown_losses=1, cooldown_minutes=minutes)
        return replace(plan, terms=terms, sizing=SizingRule(), limits=limits, protection=ProtectionRule())
    return plan


def _make_sizing(random: Random) -> SizingRule:
    return SizingRule(
        method=_mostly(random, (SizingMethod.FIXED_FRACTION,), list(SizingMethod), 0.35),
        cash_fraction=Decimal(_mostly(random, ("1", "0.25", "0.5"), ("0.3333", "0.0001"))),
        risk_fraction=Decimal(_mostly(random, ("0.005", "0.02"), ("0.1", "1", "0.000001"))),
        volatility_target=Decimal(_mostly(random, ("0.2", "1", "3"), ("0.01",))),
        kelly_cap=Decimal(_mostly(random, ("0.25", "1"), ("0.01", "0"))),
    )


def _make_limits(random: Random, interval: Interval) -> LimitRules:
    """Mostly a few that bite; all together would let nothing be traded."""
    share = _mostly(random, (0.0, 0.15, 0.3), (0.6,))

    def pick(off: T, *on: T) -> T:
        return random.choice(on) if random.random() < share else off

    minutes = interval.milliseconds // 60_000
    return LimitRules(
        max_symbol_exposure=pick(_NONE, Decimal(1), Decimal("0.5"), Decimal("0.1"), Decimal("0.000001")),
        max_gross_exposure=pick(_NONE, Decimal(1), Decimal("0.4"), Decimal("0.05")),
        max_volume_share=pick(_NONE, Decimal("0.1"), Decimal("0.001"), Decimal("0.000001")),
        max_daily_loss=pick(_NONE, Decimal("0.05"), Decimal("0.01"), Decimal("0.001"), Decimal("0.000001")),
        max_drawdown=pick(_NONE, Decimal("0.25"), Decimal("0.05"), Decimal("0.01"), Decimal("0.0001")),
        cooldown_losses=pick(0, 1, 2, 3),
        cooldown_minutes=random.choice((minutes, 3 * minutes, 20 * minutes, 7, 0)),
        max_trades_per_day=pick(0, 200, 5, 2, 1),
        max_open_positions=pick(0, 10, 2, 1),
        price_band_percent=pick(_NONE, Decimal(5), Decimal("0.5"), Decimal("0.01")),
        model_maximum_age=random.choice((timedelta(days=7), timedelta(days=36.5), timedelta(days=0.0321))),
    )


def _make_series(random: Random, plan: Plan, interval: Interval, symbol: str, length: int) -> Series:
    level = to_units(Decimal(_mostly(random, _USUAL_LEVELS, _LEVELS)))
    instrument = _make_instrument(random, symbol, level, plan)
    bars = make_bars(random, interval, length, instrument, plan, level)
    return Series(symbol, interval, instrument, bars, make_signals(random, bars))


def _make_instrument(random: Random, symbol: str, level: int, plan: Plan) -> Instrument:
    """Odd ticks, lots and least values, in proportion to the price and to the cash, so that they matter at times."""
    cash = to_units(plan.initial_cash)
    spent = int(cash * plan.sizing.cash_fraction)
    most = min(cash * UNITS // level, LARGEST)
    tick = max(1, _mostly(random, (level // 1_000_000, level // 3_000), (1, level // 70, level // 7, level * 5 // 4)))
    lot = max(1, _mostly(random, (most // 1_000_000, most // 777), (1, most // 9, most * 3 // 4 + 1)))
    is_split = plan.terms.volume_share > 0 and plan.protection.target_atr_multiple > 0  # so that some is left as dust
    above = (spent // 3, spent * 6 // 10, spent * 8 // 10, spent * 97 // 100, cash)
    least = _mostly(random, (0, cash // 10_000), above[: 3 if is_split else 5], 0.7 if is_split else 0.2)
    return Instrument(symbol, symbol.removesuffix("USDT"), "USDT", from_units(tick), from_units(lot), from_units(least))


def make_bars(random: Random, interval: Interval, length: int, instrument: Instrument, plan: Plan, level: int) -> Bars:
    """Candles of a market that wanders, with gaps, halts, wicks and jumps at times, about a day's end.

    Args:
        random: Where chance comes from.
        interval: How long a candle lasts.
        length: How many there are.
        instrument: Whose tick prices are on, mostly.
        plan: How it is traded; volumes are in proportion to its cash.
        level: The first price, in 1e-8 quote units.
    """
    noise = np.random.default_rng(random.randint(0, _ANY))
    course = _make_course(random, noise, length)
    for _ in range(random.choice((0, 1, 2, 4))):
        _let_happen(random, course)
    closes = np.exp(np.clip(np.cumsum(course.moves + course.openings), -40, 40))
    opens = closes / np.exp(course.moves)
    size = random.choice((0.0, 0.001, 0.01))
    highs = np.maximum(opens, closes) * np.exp(noise.exponential(size, length)) * course.above
    lows = np.minimum(opens, closes) * np.exp(-noise.exponential(size, length)) * course.below
    tick = to_units(instrument.tick_size)
    grid = tick if tick * 20 < level else 1
    worth = to_units(plan.initial_cash) / level * 10.0 ** random.choice((1, -3, -1, 3, 12))
    first = (_FIRST_DAY * _DAY_MS) // interval.milliseconds - random.randint(0, min(length, 40))
    return Bars(
        open_time_ms=(first + np.cumsum(course.steps)) * interval.milliseconds,
        open=_on_grid(opens * level, grid),
        high=_on_grid(highs * level, grid),
        low=_on_grid(lows * level, grid),
        close=_on_grid(closes * level, grid),
        volume=np.rint(np.minimum(course.volumes * worth, 1e17) * UNITS) / UNITS,
    )


class _Course(NamedTuple):
    """How a market goes, each field of shape (n_bars,).

    `moves` are the logarithms of each close over its open, `openings` of each open over the close before; `above` and
    `below` are factors of the highs and the lows; `steps` says how many intervals after the one before a bar opens.
    """

    moves: FloatArray
    openings: FloatArray
    above: FloatArray
    below: FloatArray
    volumes: FloatArray
    steps: IntegerArray


def _make_course(random: Random, noise: np.random.Generator, length: int) -> _Course:
    strays = noise.random(length) < random.choice((0.0, 0.3))
    return _Course(
        moves=_make_moves(random, noise, length),
        openings=np.where(strays, noise.normal(0, 0.002, length), 0.0),
        above=np.ones(length),
        below=np.ones(length),
        volumes=noise.exponential(1.0, length),
        steps=np.ones(length, dtype=np.int64),
    )


def _make_moves(random: Random, noise: np.random.Generator, length: int) -> FloatArray:
    """The logarithm of each close over its open: stretches of walks, trends and flat markets."""
    moves = np.empty(length)
    ends = sorted(random.randint(0, length) for _ in range(random.choice((0, 1, 3))))
    for start, end in zip((0, *ends), (*ends, length), strict=True):
        spread = _mostly(random, (0.003, 0.0005, 0.01), (0.03, 0.0))
        drift = spread * random.choice((0, 0, 0.3, -0.3, 1, -1))
        moves[start:end] = noise.normal(drift, spread, end - start)
    return moves


def _let_happen(random: Random, course: _Course) -> None:
    """Something that markets do seldom: a jump, a run, an open away from the last close, a wick, a halt."""
    bar = random.randint(1, len(course.moves) - 1)
    what = _mostly(random, ("open", "wick", "halt", "no volume", "still", "move", "run"), ("jump",), 0.1)
    far, sign = random.choice((0.04, 0.1, 0.25, 0.35)), random.choice((-1, 1))
    if what == "open":
        course.openings[bar] = sign * far
    elif what == "wick":
        course.above[bar], course.below[bar] = random.choice(((1 + far, 1.0), (1.0, 1 - far), (1 + far, 1 - far)))
    elif what == "halt":
        course.steps[bar] += random.choice((1, 2, 3, 30, 2_000))
    elif what == "no volume":
        course.volumes[bar : bar + 20] = 0.0
    elif what == "still":
        course.moves[bar : bar + 30] = course.openings[bar : bar + 30] = 0.0
    elif what == "run":
        course.moves[bar : bar + 12] = sign * 0.1
    elif what == "move":
        course.moves[bar] = sign * far
    else:
        course.moves[bar] = random.choice((-0.7, 0.41, -1.7, 1.7))


def _on_grid(values: FloatArray, grid: int) -> FloatArray:
    """Prices in quote units, each a multiple of `grid` 1e-8 ones where a float can tell."""
    whole = np.maximum(np.rint(values / grid), 1) * grid
    prices: FloatArray = np.minimum(whole, LARGEST_PRICE // grid * grid) / UNITS
    return prices


def make_signals(random: Random, bars: Bars) -> SignalArrays:
    """What is said of a market: by a rule, or by models that know probabilities; not after every bar."""
    length = len(bars)
    noise = np.random.default_rng(random.randint(0, _ANY))
    codes = _make_codes(random, noise, bars)
    speakers = np.zeros(length, dtype=np.int64)
    first = _mostly(random, (0, 1), (20,))
    if random.random() < 0.4:
        return _blank(SignalArrays(codes, np.ones(length), np.zeros(length), speakers, (SignalSource("rule"),)), first)
    ages = [random.randint(0, length - 1) for _ in range(random.choice((1, 2)))]
    sources = tuple(_make_source(random, place, bars, age) for place, age in enumerate(ages))
    speakers[length // 2 :] = len(sources) - 1
    speakers[noise.random(length) < random.choice((0.0, 0.0, 0.05))] = -1
    shares = noise.dirichlet((1.0, 1.0, 1.0), length)
    confidences = shares[np.arange(length), codes]
    returns = np.where(noise.random(length) < 0.05, 0.0, noise.normal(0.001, 0.002, length))
    return _blank(SignalArrays(codes, confidences, returns, speakers, sources, shares), first)


def _blank(signals: SignalArrays, first: int) -> SignalArrays:
    """Nothing is said before the first bar, and no number is right where nothing is said."""
    signals.speakers[:first] = -1
    nothing = signals.speakers < 0
    signals.confidences[nothing] = signals.expected_returns[nothing] = np.nan
    return signals


def _make_codes(random: Random, noise: np.random.Generator, bars: Bars) -> np.ndarray:
    length = len(bars)
    style = random.choice(("turns", "any", "sparse", "trend", "against", "buys", "sells"))
    codes = np.full(length, HOLD, dtype=np.int8)
    if style == "turns":
        every = random.choice((1, 3, 11))
        codes[::every] = np.resize([BUY, SELL], len(codes[::every]))
    elif style in {"any", "sparse"}:
        spoken = noise.random(length) < (0.06 if style == "sparse" else 0.8)
        codes[spoken] = noise.choice([SELL, BUY], int(spoken.sum()))
    elif style in {"buys", "sells"}:
        codes[:] = BUY if style == "buys" else SELL
    else:
        risen = np.sign(np.diff(bars.close, prepend=bars.close[0])).astype(np.int64)
        codes[:] = np.array([SELL, HOLD, BUY])[1 + (risen if style == "trend" else -risen)]
    return codes


def _make_source(random: Random, place: int, bars: Bars, age: int) -> SignalSource:
    taught: IntegerArray = bars.open_time_ms - random.choice(
        (0, 2 * 36_500 * _DAY_MS // 1_000, 14 * _DAY_MS, 5_546_880)
    )
    far = random.choice((0.02, 0.002))
    returns = {Signal.BUY: far, Signal.HOLD: 0.0, Signal.SELL: -far}
    return SignalSource(
        f"forest-{place}",
        edge=random.choice(list(Edge)),
        class_returns=None if random.random() < 0.2 else returns,
        round_trip_cost=random.choice((0.0005, 0.005)),
        taught_until_ms=_mostly(random, (None,), (int(taught[age]),), 0.35),
    )


def until(world: World, last_ms: int) -> World:
    """The same backtest on the bars alone that opened by a moment, milliseconds since the epoch."""
    return replace(world, series=tuple(_cut(one, last_ms) for one in world.series))


def _cut(series: Series, last_ms: int) -> Series:
    rows = slice(0, int(np.searchsorted(series.bars.open_time_ms, last_ms, side="right")))
    return replace(series, bars=series.bars[rows], signals=series.signals[rows])
