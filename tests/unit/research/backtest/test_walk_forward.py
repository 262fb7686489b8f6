"""A forest that walks forward: what teaches a piece, what cannot, and that nothing later reaches it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ml.backend
from app.domain.candle import Interval
from app.domain.signal import Edge, Signal
from app.errors import InvalidInputError
from app.research.backtest.walk_forward import (
    Lesson,
    Piece,
    Schedule,
    Taught,
    Teaching,
    WalkForward,
    check_never_seen,
    teach,
    walk_forward,
)
from app.strategies.forest import FOREST, read_values
from app.strategies.signals import SignalArrays
from ml.bars import Bars
from ml.features import LOOKBACK_BARS, compute_features
from ml.labels import HOLD, LabelRule
from ml.paper import Costs, expect_returns
from tests.support.models import MINUTE_MS, registered_card, walk_bars

BARS = 1_200
SCHEDULE = Schedule(train_bars=500, step_bars=200)
TEACHING = Teaching(
    LabelRule(5, 0.1), Costs(10.0, 5.0), {"trees": 6, "depth": 3, "leaf_fraction": 0.05, "sample_fraction": 0.8}
)
BARRIERS = replace(TEACHING, label_rule=LabelRule(20, 0.1, "triple_barrier"))
ARRAYS = ("signals", "confidences", "expected_returns", "speakers", "probabilities")


def ignore(_share: float, _words: str) -> None: ...


def walk(bars: Bars, schedule: Schedule = SCHEDULE, teaching: Teaching = TEACHING) -> tuple[SignalArrays, WalkForward]:
    found = walk_forward({"BTCUSDT": bars}, Interval.M1, schedule, teaching, ignore)
    return found.signals["BTCUSDT"], found


def same(first: SignalArrays, second: SignalArrays) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name, strict=True)


def change(bars: Bars, cut: int, *, by: float = 1.5) -> Bars:
    """Other candles from `cut` on."""
    factors = np.where(np.arange(len(bars)) < cut, 1.0, by)
    return replace(bars, **{name: getattr(bars, name) * factors for name in ("open", "high", "low", "close", "volume")})


def flat_before(bars: Bars, cut: int) -> Bars:
    """The same with one price for all candles before `cut`."""
    is_flat = np.arange(len(bars)) < cut
    return replace(
        bars, **{name: np.where(is_flat, 100.0, getattr(bars, name)) for name in ("open", "high", "low", "close")}
    )


def test_pieces_follow_each_other_and_each_was_taught_before_it_began() -> None:
    said, found = walk(walk_bars(BARS))

    assert [(one.first_open_ms // MINUTE_MS, one.until_ms // MINUTE_MS) for one in found.pieces] == [
        *((500, 700), (700, 900), (900, 1_100), (1_100, 1_200))
    ]
    assert [one.trained_from_ms // MINUTE_MS for one in found.pieces] == [0, 200, 400, 600]
    np.testing.assert_array_equal(said.speakers, np.repeat([-1, 0, 1, 2, 3], [500, 200, 200, 200, 100]))
    for piece, source in zip(found.pieces, said.sources, strict=True):
        stamp = f"{datetime.fromtimestamp(piece.first_open_ms / 1_000, UTC):%Y%m%dT%H%M%SZ}"
        assert source.model_id == piece.model_id
        assert source.model_id.startswith(f"forest-wf-1m-{stamp}-")
        # The newest label is settled at the close of the last candle before the piece.
        assert source.taught_until_ms == piece.taught_until_ms == piece.first_open_ms
        assert (source.edge, piece.refusal) == (Edge.NONE, None)
        # 500 candles, of which 50 have no features and 5 no label yet.
        assert piece.trained_rows == 500 - (LOOKBACK_BARS - 1) - 5
        assert source.class_returns is not None
        assert source.class_returns[Signal.SELL] < 0 < source.class_returns[Signal.BUY]
    assert len({source.model_id for source in said.sources}) == 4
    assert (said.signals[:500] == HOLD).all()
    assert len(np.unique(said.signals)) > 1


def test_what_is_said_is_what_the_model_of_the_piece_says() -> None:
    bars = walk_bars(BARS)
    said, _ = walk(bars)
    lesson = Lesson({"BTCUSDT": bars[200:700]}, Interval.M1, TEACHING, 0, 701 * MINUTE_MS)
    taught = teach(lesson)
    assert isinstance(taught, Taught)

    rows = compute_features(bars)[700:900]
    shares = taught.predictor.predict_batch(rows)
    np.testing.assert_array_equal(said.probabilities[700:900], shares)  # type: ignore[index]
    source = said.sources[1]
    assert source == taught.source
    assert source.class_returns is not None
    assert source.round_trip_cost is not None
    returns = np.array([source.class_returns[name] for name in (Signal.SELL, Signal.HOLD, Signal.BUY)])
    expected = expect_returns(shares, returns, source.round_trip_cost / 2)
    np.testing.assert_array_equal(said.expected_returns[700:900], expected)


@pytest.mark.parametrize("embargo_bars", [0, 1, 2, 30])
def test_embargo_keeps_the_last_label_away_from_the_piece(embargo_bars: int) -> None:
    _, found = walk(walk_bars(700), replace(SCHEDULE, embargo_bars=embargo_bars))
    (piece,) = found.pieces
    assert piece.taught_until_ms is not None
    first_decided = piece.first_open_ms + MINUTE_MS
    assert first_decided - piece.taught_until_ms == (embargo_bars + 1) * MINUTE_MS


@settings(max_examples=12, deadline=None)
@given(
    train_bars=st.integers(420, 600),
    step_bars=st.integers(60, 400),
    embargo_bars=st.integers(0, 40),
    cut=st.integers(480, 899),
    teaching=st.sampled_from([TEACHING, BARRIERS]),
    ending=st.sampled_from(["changed", "cut off", "later"]),
)
def test_later_candles_reach_nothing_said_before_them(
    train_bars: int, step_bars: int, embargo_bars: int, cut: int, teaching: Teaching, ending: str
) -> None:
    bars, schedule = walk_bars(900, seed=3), Schedule(train_bars, step_bars, embargo_bars)
    cut = max(cut, train_bars + 1)
    later = replace(bars, open_time_ms=bars.open_time_ms + MINUTE_MS * (np.arange(900) >= cut))
    other = {"changed": change(bars, cut), "cut off": bars[:cut], "later": later}[ending]
    said, found = walk(bars, schedule, teaching)
    again, found_again = walk(other, schedule, teaching)

    same(said[:cut], again[:cut])
    begun = [piece.model_id for piece in found.pieces if piece.first_open_ms <= (cut - 1) * MINUTE_MS]
    assert [piece.model_id for piece in found_again.pieces][: len(begun)] == begun
    for piece in found.pieces:
        assert piece.taught_until_ms is not None
        assert piece.taught_until_ms < piece.first_open_ms + MINUTE_MS - embargo_bars * MINUTE_MS
        assert piece.trained_from_ms == piece.first_open_ms - train_bars * MINUTE_MS


def test_candles_of_the_window_teach() -> None:
    bars = walk_bars(700)
    said, _ = walk(bars)
    other, _ = walk(change(bars, 400, by=1.1))
    assert said.sources[0].model_id != other.sources[0].model_id


def test_same_seed_gives_the_same_bits_and_another_seed_another_forest() -> None:
    bars = walk_bars(900)
    said, found = walk(bars)
    again, found_again = walk(bars)
    same(said, again)
    assert found.pieces == found_again.pieces
    assert said.sources == again.sources
    other, _ = walk(bars, teaching=replace(TEACHING, forest={**TEACHING.forest, "seed": 1}))
    assert {one.model_id for one in other.sources}.isdisjoint({one.model_id for one in said.sources})


@pytest.mark.slow
def test_processes_of_their_own_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = walk_bars(900)
    said, found = walk(bars)
    monkeypatch.setattr(ml.backend, "LOKY_ROWS", 0)
    spread, found_again = walk(bars)
    same(said, spread)
    assert (said.sources, found.pieces) == (spread.sources, found_again.pieces)


def test_one_forest_learns_from_all_symbols_and_speaks_of_each() -> None:
    first, second = walk_bars(900, seed=1), walk_bars(700, seed=2, first_open_time_ms=100 * MINUTE_MS)
    found = walk_forward({"BTCUSDT": first, "ETHUSDT": second}, Interval.M1, SCHEDULE, TEACHING, ignore)

    assert [one.trained_rows for one in found.pieces] == [445 + 345, 445 + 445]
    assert found.signals["BTCUSDT"].sources == found.signals["ETHUSDT"].sources
    np.testing.assert_array_equal(found.signals["BTCUSDT"].speakers, np.repeat([-1, 0, 1], [500, 200, 200]))
    np.testing.assert_array_equal(found.signals["ETHUSDT"].speakers, np.repeat([-1, 0, 1], [400, 200, 100]))


def test_gap_leaves_bars_without_features_silent_and_the_window_reaches_over_it() -> None:
    bars = walk_bars(900)
    times = np.where(np.arange(900) < 600, bars.open_time_ms, bars.open_time_ms + 10_000 * MINUTE_MS)
    said, found = walk(replace(bars, open_time_ms=times))

    assert (said.speakers[600 : 600 + LOOKBACK_BARS - 1] == -1).all()
    assert (said.speakers[600 + LOOKBACK_BARS - 1 : 700] == 0).all()
    assert found.pieces[1].trained_from_ms == 200 * MINUTE_MS
    assert found.pieces[1].trained_rows == 345 + 45


def test_piece_that_cannot_be_taught_is_silent_and_says_why() -> None:
    said, found = walk(flat_before(walk_bars(900), 500))

    assert isinstance(found.pieces[0], Piece)
    assert (found.pieces[0].model_id, found.pieces[0].trained_rows) == (None, 0)
    assert "Every candle is HOLD" in str(found.pieces[0].refusal)
    assert found.pieces[1].refusal is None
    np.testing.assert_array_equal(said.speakers, np.repeat([-1, -1, 0], [500, 200, 200]))


@pytest.mark.parametrize(
    ("bars", "schedule", "code"),
    [
        (walk_bars(500), SCHEDULE, "history_too_short"),
        (walk_bars(0), SCHEDULE, "history_too_short"),
        (walk_bars(600), Schedule(200, 100), "too_few_rows"),
        (walk_bars(600), Schedule(300, 100, embargo_bars=100), "too_few_rows"),
        (
            replace(walk_bars(700), **dict.fromkeys(("open", "high", "low", "close"), np.full(700, 3.0))),
            SCHEDULE,
            "one_class",
        ),
    ],
)
def test_history_that_cannot_be_walked_is_refused(bars: Bars, schedule: Schedule, code: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        walk(bars, schedule)
    assert refused.value.code == code


@pytest.mark.parametrize("numbers", [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_schedule_that_goes_nowhere_is_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        Schedule(*numbers)
    assert refused.value.code == "schedule_invalid"


def test_progress_is_told_after_each_piece_and_can_end_the_work() -> None:
    heard: list[tuple[float, str]] = []

    class CancelledError(Exception):
        pass

    def listen(share: float, words: str) -> None:
        heard.append((share, words))
        if len(heard) == 2:
            raise CancelledError

    with pytest.raises(CancelledError):
        walk_forward({"BTCUSDT": walk_bars(BARS)}, Interval.M1, SCHEDULE, TEACHING, listen)
    assert heard == [
        (0.25, "Piece 1 of 4: taught by 445 rows."),
        (0.5, "Piece 2 of 4: taught by 445 rows."),
    ]


def test_forest_is_taught_by_the_values_of_its_space() -> None:
    values = FOREST.check_values({"horizon_bars": 5, "threshold_percent": 0.1, "depth": 2})
    rule, forest = read_values(values)
    assert rule == LabelRule(5, 0.1)
    assert forest == {"depth": 2, "leaf_fraction": 0.02}
    _, found = walk(walk_bars(700), teaching=Teaching(rule, Costs(10.0, 5.0), {**forest, "trees": 3}))
    assert found.pieces[0].trained_rows == 445


def test_frozen_bundle_is_refused_on_what_taught_it() -> None:
    taught_until = 1_767_225_600_000
    card = registered_card("forest-x", window={"taught_until_ms": taught_until})

    check_never_seen(card, taught_until)
    with pytest.raises(InvalidInputError) as refused:
        check_never_seen(card, taught_until - 1)

    assert refused.value.code == "model_saw_candles"
    assert refused.value.context == {"model_id": "forest-x", "first_allowed": "2026-01-01T00:00:00Z"}
    assert "Start at 2026-01-01T00:00:00Z or later, or walk forward." in refused.value.message


def test_service_imports_no_training() -> None:
    code = (
        "import sys, app.research.backtest.walk_forward, app.strategies.registry;"
        "print([name for name in ('sklearn', 'numba', 'joblib', 'pandas') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
