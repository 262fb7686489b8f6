"""Both drivers of a backtest come to the same books, to the last 1e-8, whatever the market and the settings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from random import Random
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.agents.decision_making import CONFIDENT, DecisionMakingAgent
from app.agents.market_monitoring import Observation
from app.broker import fill_rules
from app.domain.candle import Candle, Interval
from app.domain.instrument import Instrument
from app.domain.money import LARGEST, UNITS, to_units
from app.domain.portfolio import worth
from app.domain.signal import Prediction, Signal
from app.errors import InvalidInputError, NotReadyError
from app.research.backtest.books import FIRST_REFUSAL, ORIGINS, OUTCOMES, Books, find_first_difference
from app.research.backtest.engine_driver import run_engine
from app.research.backtest.measuring import compute_daily
from app.research.backtest.plan import Series
from app.research.backtest.sweep import Sweep
from app.research.backtest.units import to_unit_array
from app.research.backtest.verdicts import find_verdicts
from app.risk.curves import find_utc_days
from app.risk.sizing import SizingRule
from app.strategies.signals import say_by_rule
from ml.bars import Bars
from ml.labels import BUY, HOLD
from tests.support.parity import ALL_IN, World, make_world, run_if_countable, until

pytestmark = pytest.mark.usefixtures("compiled_kernel")

UNREACHABLE = {"max_drawdown"}
"""The drawdown that this check would refuse has halted trading by then, and "halted" comes first."""

TELLING_SEEDS = (9, 12, 24, 29, 35, 51, 75, 89, 112, 115, 131, 376, 385, 451, 532, 572, 695, 753, 944)
"""Few worlds that together have every outcome and origin, and in which each rule that was broken by hand showed."""

_RANDOMS = st.randoms(use_true_random=False)
_SEEDS = st.integers(0, 10**9)
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def assert_drivers_agree(world: World) -> Books | None:
    """Run a backtest by both, by the engine in each of its two ways; the books, None where 64 bits do not hold them."""
    compiled = run_if_countable(world)
    if compiled is not None:
        assert find_first_difference(compiled, run_engine(world.plan, world.series)) is None
        assert find_first_difference(compiled, run_engine(world.plan, world.series, every_cycle=True)) is None
    return compiled


def assert_sound(world: World, books: Books) -> None:
    """Nothing in the books comes from nowhere: each amount follows from the fills and the quotes before it."""
    cash, positions, marks = to_units(world.plan.initial_cash), defaultdict[int, int](int), defaultdict[int, int](int)
    opens = [to_unit_array(one.bars.open).tolist() for one in world.series]
    fills, place = books.fills, 0
    for cycle in range(len(books)):
        series = int(books.series[cycle])
        if books.outcomes[cycle] < FIRST_REFUSAL:
            marks[series] = opens[series][books.bars[cycle] + 1]
        while place < len(fills) and fills.cycle[place] == cycle:
            side, quantity, price = (int(of[place]) for of in (fills.side, fills.quantity, fills.price))
            rule = fill_rules.buy_notional if side > 0 else fill_rules.sell_notional
            notional, fee = rule(price, quantity), fill_rules.fee(rule(price, quantity), world.plan.terms.fee_ppm)
            assert (notional, fee) == (fills.notional[place], fills.fee[place])
            assert notional > 0
            assert price % to_units(world.series[series].instrument.tick_size) == 0
            cash -= side * notional + fee
            positions[series] += side * quantity
            assert (cash, positions[series]) == (fills.cash_after[place], fills.position_after[place])
            assert cash >= 0
            place += 1
        assert books.equity[cycle] == cash + sum(worth(positions[one], marks[one]) for one in positions)
        assert not books.held[cycle] or any(positions.values())
    assert place == len(fills)


def assert_earlier_books_stand(world: World, books: Books, cycles: int) -> None:
    """Nothing that comes after a cycle changes what it came to: the books of the bars so far are the same."""
    short = run_if_countable(until(world, int(books.times_ms[cycles - 1])))
    assert short is not None
    count = len(short)
    assert count >= cycles
    booked = int(np.searchsorted(books.fills.cycle, count))
    for name in ("times_ms", "series", "bars", "outcomes", "equity", "held"):
        assert np.array_equal(getattr(short, name), getattr(books, name)[:count]), name
    for name in books.fills.__dataclass_fields__:
        assert np.array_equal(getattr(short.fills, name), getattr(books.fills, name)[:booked]), name
    assert short.halted_cycle == (books.halted_cycle if books.halted_cycle < count else -1)


class _Said:
    """A strategy that says what arrays say; it is asked with the place of a bar in place of candles."""

    model_id = "said"
    lookback_bars = 1

    def __init__(self, series: Series) -> None:
        self._signals = series.signals

    def predict(self, candles: Sequence[Candle]) -> Prediction:
        bar = cast("int", candles)
        said = self._signals.predict(bar) if bar >= 0 else None
        if said is None:
            raise NotReadyError("It says nothing.", code="insufficient_history")
        return said


def _judge(agent: DecisionMakingAgent, bar: int) -> tuple[str, Signal]:
    observation = cast("Observation", SimpleNamespace(snapshot=SimpleNamespace(candles=bar)))
    try:
        decision, _ = agent.decide(observation)
    except NotReadyError as error:
        return error.code, Signal.HOLD
    return decision.reason_code, decision.action


@settings(_PATIENT, max_examples=10)
@given(random=_RANDOMS)
def test_drivers_of_drawn_worlds_agree(random: Random) -> None:
    assert_drivers_agree(make_world(random, bars=(70, 150)))


@settings(_PATIENT, max_examples=25)
@given(seed=_SEEDS)
def test_drivers_of_worlds_by_number_agree(seed: int) -> None:
    assert_drivers_agree(make_world(Random(seed)))


@_PATIENT
@given(seed=_SEEDS)
@example(seed=944)
def test_sweep_of_any_world_has_the_days_and_fills_of_its_books(seed: int) -> None:
    world = make_world(Random(seed))
    said = [series.signals.signals for series in world.series]
    sure = [say_by_rule("rule", codes.copy(), np.array([0, len(codes)]), 1) for codes in said]
    series = [replace(one, signals=signals) for one, signals in zip(world.series, sure, strict=True)]
    books = run_if_countable(replace(world, series=tuple(series)))
    if books is None:
        with pytest.raises(InvalidInputError, match="64 bits"):
            Sweep(series).run(world.plan, said)
        return
    sweep = Sweep(series)
    outcome = sweep.run(world.plan, said)
    curve, _ = compute_daily(float(world.plan.initial_cash), books)
    assert (outcome.daily / UNITS).tolist() == curve[1:].tolist()
    assert (sweep.days, outcome.fills) == (find_utc_days(books.times_ms), len(books.fills))


@_PATIENT
@given(seed=_SEEDS, share=st.floats(0, 1))
def test_books_follow_from_what_came_before_them(seed: int, share: float) -> None:
    world = make_world(Random(seed))
    books = run_if_countable(world)
    if books is not None and len(books):
        assert_sound(world, books)
        assert_earlier_books_stand(world, books, cycles=1 + int(share * (len(books) - 1)))


@_PATIENT
@given(seed=_SEEDS)
def test_verdicts_of_any_signals_are_those_of_the_decision_agent(seed: int) -> None:
    world = make_world(Random(seed))
    gate, latency = world.plan.gate, world.plan.latency_bars
    for series in world.series:
        agent = DecisionMakingAgent(_Said(series), gate)
        found = find_verdicts(series.signals, gate, latency, np.zeros(len(series.bars) - 1, dtype=np.int8))
        for bar, (code, side) in enumerate(zip(found.codes.tolist(), found.sides.tolist(), strict=True)):
            reason_code, action = _judge(agent, bar - latency)
            assert (OUTCOMES[code] if code else CONFIDENT) == reason_code
            assert code or side == (1 if action is Signal.BUY else -1)


def test_account_too_large_for_quick_division_is_worth_the_same_while_nothing_happens() -> None:
    prices = np.round(97.0 + np.random.default_rng(5).random(400), 8)
    high, low = np.maximum(prices, np.roll(prices, -1)), np.minimum(prices, np.roll(prices, -1))
    bars = Bars(60_000 * np.arange(400), prices, high, low, np.roll(prices, -1), np.ones(400))
    codes = np.full(400, HOLD, dtype=np.int8)
    codes[100] = BUY
    instrument = Instrument("S", "S", "USDT", Decimal("1e-8"), Decimal("1e-8"), Decimal(0))
    said = say_by_rule("buys", codes, np.array([0, 400]), 1)
    world = World(
        replace(ALL_IN, initial_cash=Decimal(5 * 10**9)),
        (Series("SUSDT", Interval.M1, instrument, bars, said),),
    )
    books = assert_drivers_agree(world)
    assert books is not None
    assert (len(books.fills), int(books.equity[200:].min()) > 2**58) == (1, True)


def test_account_that_grows_beyond_64_bits_is_refused_by_both_drivers() -> None:
    prices = 100 * np.exp(np.linspace(0, np.log(13), 90))
    bars = Bars(60_000 * np.arange(90), prices, prices, prices, prices, np.ones(90))
    said = say_by_rule("buys", np.full(90, BUY, dtype=np.int8), np.array([0, 90]), 1)
    instrument = Instrument("S", "S", "USDT", Decimal("0.01"), Decimal("0.01"), Decimal(0))
    series = tuple(Series(f"S{place}USDT", Interval.M1, instrument, bars, said) for place in range(3))
    cash, sizing = Decimal(LARGEST // 8 // UNITS), SizingRule(cash_fraction=Decimal("0.3"))
    plan = replace(ALL_IN, initial_cash=cash, sizing=sizing)
    assert run_if_countable(World(plan, series)) is None
    with pytest.raises(InvalidInputError, match="beyond"):
        run_engine(plan, series)


@pytest.mark.parametrize("bars", [0, 1, 2, 3])
def test_drivers_of_few_bars_agree(bars: int) -> None:
    for seed in TELLING_SEEDS:
        world = make_world(Random(seed))
        moments = sorted({moment for one in world.series for moment in one.bars.open_time_ms.tolist()})
        books = assert_drivers_agree(until(world, [moments[0] - 1, *moments][bars]))
        assert books is not None
        assert len(books) <= (bars - 1) * len(world.series) if bars else len(books) == 0


def test_worlds_reach_every_outcome_and_every_origin_but_a_person() -> None:
    reached, origins, halts, uncountable = set[int](), set[int](), 0, 0
    for seed in TELLING_SEEDS:
        books = assert_drivers_agree(make_world(Random(seed)))
        if books is None:
            uncountable += 1
            continue
        reached |= set(books.outcomes.tolist())
        origins |= set(books.fills.origin.tolist())
        halts += books.halted_cycle >= 0
    assert {OUTCOMES[one] for one in reached} == set(OUTCOMES) - UNREACHABLE
    assert {ORIGINS[one] for one in origins} == set(ORIGINS) - {"person"}
    assert (halts > 0, uncountable) == (True, 0)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1_000, 2_500, 500))
def test_drivers_of_many_worlds_agree(first: int) -> None:
    uncountable = 0
    for seed in range(first, first + 500):
        world = make_world(Random(seed))
        books = assert_drivers_agree(world)
        if books is None:
            uncountable += 1
        elif len(books):
            assert_sound(world, books)
            assert_earlier_books_stand(world, books, cycles=1 + seed % len(books))
    assert uncountable < 10
