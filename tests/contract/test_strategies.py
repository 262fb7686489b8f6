"""What every strategy of the registry owes its callers; one that is added is tested here by itself.

A rule is asked with values from its whole space; a strategy that must be taught has a line in `TEACHERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.candle import Candle
from app.domain.ports import Strategy
from app.domain.signal import Prediction, Signal
from app.errors import InvalidInputError, NotFoundError, NotReadyError
from app.strategies.forest import ForestStrategy, predict_bars
from app.strategies.registry import STRATEGIES, get_rule
from app.strategies.rules import Parameter, Rule, RuleStrategy
from app.strategies.signals import SignalArrays
from ml.bars import Bars, find_segments
from ml.bundle import load_bundle
from ml.features import LOOKBACK_BARS, compute_features
from ml.forest import ForestRule, fit_forest, forest_arrays
from ml.labels import CLASSES, HOLD
from tests.support.models import MINUTE_MS, walk_bars, write_bundle

RECORDED = Path(__file__).parents[2].parent / "shared" / "data" / "BTCUSDT-1h.parquet"
UNITS = 100_000_000
FIELDS = ("signals", "confidences", "expected_returns", "speakers", "probabilities")
Values = Mapping[str, int | float]


@dataclass(frozen=True)
class Speaker:
    """One strategy with its values, in both forms."""

    say: Callable[[Bars], SignalArrays]
    live: Strategy


Make = Callable[[Values], Speaker]


def teach_forest(folder: Path) -> Make:
    """A forest that tells rows apart; what it was taught is of no matter here."""
    rows = compute_features(walk_bars(600, seed=5))[LOOKBACK_BARS:]
    labels = np.random.default_rng(5).integers(0, 3, len(rows)).astype(np.int8)
    fitted = fit_forest(rows, labels, ForestRule(trees=12, depth=6, leaf_fraction=0.005, sample_fraction=0.9))
    bundle = load_bundle(write_bundle(folder, forest_arrays(fitted)))
    live = ForestStrategy()
    live.use(bundle)
    return lambda _values: Speaker(lambda bars: predict_bars(bundle, bars, MINUTE_MS), live)


TEACHERS: dict[str, Callable[[Path], Make]] = {"forest": teach_forest}


@pytest.fixture(scope="module", params=list(STRATEGIES))
def named(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Rule, Make]:
    """A strategy, and what makes it speak by some values."""
    name = request.param
    rule = STRATEGIES[name]
    if name in TEACHERS:
        return rule, TEACHERS[name](tmp_path_factory.mktemp("models"))
    return rule, lambda values: Speaker(
        lambda bars: rule.compute_signals(bars, MINUTE_MS, rule.check_values(values)), RuleStrategy(rule, values)
    )


@pytest.fixture
def speaker(named: tuple[Rule, Make]) -> Speaker:
    """The strategy by its defaults."""
    return named[1]({})


def rounded(bars: Bars) -> Bars:
    """The same with prices of eight decimals, which a candle can hold."""
    prices = {name: np.rint(getattr(bars, name) * UNITS) / UNITS for name in ("open", "high", "low", "close")}
    return replace(bars, **prices)


def made_market(seed: int, bars: int, *, price: float = 100.0, jump: float = 0.01, gaps: int = 0) -> Bars:
    """A random market whose candles jump by up to `jump` and are flat now and then, with `gaps`."""
    random = np.random.default_rng(seed)
    moves = random.uniform(-jump, jump, bars + 1) * (random.random(bars + 1) < 0.8)
    path = np.maximum(np.rint(price * np.exp(np.cumsum(moves)) * UNITS), 1.0) / UNITS
    opened, close = path[:-1], path[1:]
    times = np.arange(bars, dtype=np.int64)
    for place in random.integers(0, bars + 1, gaps):
        times[place:] += random.integers(1, 4)
    high, low = np.maximum(opened, close), np.minimum(opened, close)
    return Bars(MINUTE_MS * times, opened, high, low, close, random.integers(0, 5, bars).astype(float))


MARKETS: dict[str, Bars] = {
    "walk": rounded(walk_bars(260)),
    "gaps": made_market(1, 300, gaps=3),
    "flat": made_market(2, 130, jump=0.0),
    "tiny": made_market(3, 130, price=2e-8, jump=1.0),
    "huge": made_market(4, 130, price=1e7, jump=0.5),
    "short": made_market(5, 3),
    "single": made_market(6, 1),
    "empty": made_market(7, 0),
}


@pytest.fixture(params=list(MARKETS))
def market(request: pytest.FixtureRequest) -> Bars:
    """One of the markets."""
    return MARKETS[request.param]


def candles_of(bars: Bars) -> list[Candle]:
    """The same bars as the domain has them."""
    columns = (getattr(bars, name).tolist() for name in ("open", "high", "low", "close", "volume"))
    return [
        Candle(
            datetime.fromtimestamp(opened / 1_000, UTC),
            datetime.fromtimestamp((opened + MINUTE_MS - 1) / 1_000, UTC),
            *(Decimal(f"{value:.8f}") for value in values),
        )
        for opened, *values in zip(bars.open_time_ms.tolist(), *columns, strict=True)
    ]


def assert_equal(first: SignalArrays, second: SignalArrays) -> None:
    """Both say the same, to the last bit."""
    assert first.sources == second.sources
    for name in FIELDS:
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other, err_msg=name, strict=True)


def ask_live(live: Strategy, candles: list[Candle]) -> Prediction | None:
    """What a live cycle hears, None where there are too few candles."""
    if len(candles) >= live.lookback_bars:
        return replace(live.predict(candles), features=())
    with pytest.raises(NotReadyError) as refused:
        live.predict(candles)
    assert refused.value.code == "insufficient_history"
    assert refused.value.context == {"have": len(candles), "need": live.lookback_bars}
    return None


def assert_array_is_live(speaker: Speaker, bars: Bars) -> None:
    """After each bar both forms say the same."""
    said = speaker.say(bars)
    assert len(said) == len(bars)
    for segment in find_segments(bars.open_time_ms, MINUTE_MS):
        candles = candles_of(bars[segment])
        for place in range(len(candles)):
            first = max(0, place + 1 - speaker.live.lookback_bars)
            heard = ask_live(speaker.live, candles[first : place + 1])
            assert said.predict(segment.start + place) == heard, place


def test_array_and_live_say_the_same_after_each_bar(speaker: Speaker, market: Bars) -> None:
    assert_array_is_live(speaker, market)


def test_more_candles_than_needed_change_nothing(speaker: Speaker) -> None:
    candles = candles_of(MARKETS["walk"])
    assert speaker.live.predict(candles) == speaker.live.predict(candles[-speaker.live.lookback_bars :])


@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1), bars=st.integers(0, 90), gaps=st.integers(0, 3))
def test_array_and_live_say_the_same_by_any_values(
    named: tuple[Rule, Make], data: st.DataObject, seed: int, bars: int, gaps: int
) -> None:
    rule, make = named
    values = data.draw(some_values(rule))
    price = data.draw(st.sampled_from([1e-8, 1.0, 1e5, 1e7]))
    assert_array_is_live(make(values), made_market(seed, bars, price=price, jump=0.05, gaps=gaps))


def some_values(rule: Rule) -> st.SearchStrategy[dict[str, int | float]]:
    """Values near the low end of the space, whose lookback a short market satisfies."""
    drawn = st.fixed_dictionaries({one.name: some_value(one) for one in rule.parameters})
    return drawn.filter(lambda values: rule.find_conflict(values) is None)


def some_value(one: Parameter) -> st.SearchStrategy[int | float]:
    high = min(one.high, one.low + 30 * one.step)
    return st.integers(int(one.low), int(high)) if one.kind == "integer" else st.floats(one.low, high)


def test_later_bars_change_nothing_said_before(speaker: Speaker, market: Bars) -> None:
    whole = speaker.say(market)
    other = np.random.default_rng(0).permutation(len(market))
    for cut in {len(market) * share // 10 for share in range(11)}:
        assert_equal(speaker.say(market[:cut]), whole[:cut])
        shuffled = {name: getattr(market, name).copy() for name in ("open", "high", "low", "close", "volume")}
        for values in shuffled.values():
            values[cut:] = 2.0 * values[other[other >= cut]]
        assert_equal(speaker.say(replace(market, **shuffled))[:cut], whole[:cut])


def test_bars_before_the_lookback_change_nothing(speaker: Speaker) -> None:
    market, needed = MARKETS["walk"], speaker.live.lookback_bars - 1
    whole = speaker.say(market)
    for start in (1, 17, 100):
        assert_equal(speaker.say(market[start:])[needed:], whole[start + needed :])


def test_nothing_is_said_before_the_lookback_of_each_run(speaker: Speaker, market: Bars) -> None:
    said, needed = speaker.say(market), speaker.live.lookback_bars
    expected = np.full(len(market), -1)
    for segment in find_segments(market.open_time_ms, MINUTE_MS):
        expected[segment.start + needed - 1 : segment.stop] = 0
    np.testing.assert_array_equal(said.speakers, expected)
    assert (said.signals[expected < 0] == HOLD).all()


def test_what_is_said_is_a_signal_with_its_probability(speaker: Speaker, market: Bars) -> None:
    said = speaker.say(market)
    told = said.speakers >= 0
    assert (said.signals.dtype.name, said.speakers.dtype.kind) == ("int8", "i")
    assert np.isin(said.signals, range(len(CLASSES))).all()
    assert np.isfinite(said.expected_returns).all()
    assert (said.expected_returns[said.signals == HOLD] == 0.0).all()
    assert ((said.confidences[told] >= 1 / 3) & (said.confidences[told] <= 1.0)).all()
    assert {source.model_id for source in said.sources} == {speaker.live.model_id}
    if said.probabilities is not None:
        chosen = np.take_along_axis(said.probabilities, said.signals[:, None].astype(int), axis=1)[:, 0]
        np.testing.assert_array_equal(said.confidences, chosen)
        np.testing.assert_allclose(said.probabilities[told].sum(axis=1), 1.0)


def test_saying_it_again_says_the_same_and_leaves_the_bars_alone(speaker: Speaker, market: Bars) -> None:
    before = {name: getattr(market, name).copy() for name in Bars.__dataclass_fields__}
    assert_equal(speaker.say(market), speaker.say(market))
    for name, values in before.items():
        np.testing.assert_array_equal(getattr(market, name), values)


@pytest.mark.skipif(not RECORDED.exists(), reason="recorded candles are not here")
def test_recorded_candles_are_heard_alike(speaker: Speaker) -> None:
    import pandas as pd  # noqa: PLC0415 - a second that only this test pays

    frame = pd.read_parquet(RECORDED).head(3_000)
    hours = frame["open_time"].to_numpy() // (60 * MINUTE_MS)
    bars = Bars(  # as if an hour were a minute: gaps stay gaps
        MINUTE_MS * hours, *(frame[name].to_numpy() for name in ("open", "high", "low", "close", "volume"))
    )
    said = speaker.say(bars)
    live = speaker.live
    for segment in find_segments(bars.open_time_ms, MINUTE_MS):
        candles = candles_of(bars[segment])
        for place in range(0, len(candles), 7):
            heard = ask_live(live, candles[max(0, place + 1 - live.lookback_bars) : place + 1])
            assert said.predict(segment.start + place) == heard
    assert len(set(said.signals.tolist())) == 3 or said.signals.min() == said.signals.max()


def test_defaults_lie_in_a_space_whose_corners_are_sound(named: tuple[Rule, Make]) -> None:
    rule, _ = named
    values = rule.check_values({})
    assert values == {one.name: one.default for one in rule.parameters}
    assert rule.summary.endswith(".")
    for one in rule.parameters:
        assert one.low < one.high
        assert 0 < one.step <= one.high - one.low
        assert one.description.endswith(".")
        assert (one.check(one.low), one.check(one.high)) == (one.low, one.high)
        assert type(one.check(one.low)) is (int if one.kind == "integer" else float)
    assert rule.lookback(values) >= 1
    assert len(rule.name_model(values)) <= 128, "what the books hold"


def test_bad_values_are_refused_with_what_is_allowed(named: tuple[Rule, Make]) -> None:
    rule, _ = named
    bad: list[tuple[dict[str, Any], str]] = [({"crystal_ball": 1}, "parameter_unknown")]
    for one in rule.parameters:
        bad += [({one.name: value}, "parameter_out_of_range") for value in (one.low - one.step, one.high + one.step)]
        nonsense: tuple[object, ...] = ("10", None, True, [])
        bad += [({one.name: value}, "parameter_invalid") for value in nonsense]
        wrong = "parameter_invalid" if one.kind == "integer" else "parameter_out_of_range"
        bad += [({one.name: value}, wrong) for value in (float("nan"), float("inf"))]
        if one.kind == "integer":
            bad.append(({one.name: one.default + 0.5}, "parameter_invalid"))
    for given_values, code in bad:
        with pytest.raises(InvalidInputError) as refused:
            rule.check_values(given_values)
        assert refused.value.code == code, given_values


def test_registry_knows_each_strategy_by_its_own_name_and_no_other() -> None:
    assert {name: get_rule(name).name for name in STRATEGIES} == {name: name for name in STRATEGIES}
    with pytest.raises(NotFoundError, match="there are forest, buy-and-hold") as refused:
        get_rule("crystal-ball")
    assert refused.value.code == "unknown_strategy"


def test_every_strategy_that_must_be_taught_says_so() -> None:
    for name, rule in STRATEGIES.items():
        if rule.find_signals is None:
            assert name in TEACHERS
            with pytest.raises(InvalidInputError) as refused:
                rule.compute_signals(MARKETS["walk"], MINUTE_MS, {})
            assert refused.value.code == "strategy_untaught"


def test_buying_and_holding_says_buy_after_every_bar() -> None:
    said = STRATEGIES["buy-and-hold"].compute_signals(MARKETS["gaps"], MINUTE_MS, {})
    assert said.predict(0) is not None
    assert {CLASSES[code] for code in said.signals} == {Signal.BUY}
