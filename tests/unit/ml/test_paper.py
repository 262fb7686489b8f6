"""What a rule would have earned: by hand, and as a plain loop has it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.bars import Bars
from ml.labels import BUY, HOLD, SELL
from ml.paper import (
    Costs,
    compute_net_returns,
    compute_next_returns,
    compute_side_costs,
    expect_returns,
    hold_positions,
)
from tests.support.models import MINUTE_MS


def test_position_is_taken_kept_and_left_as_the_signals_say() -> None:
    signals = np.array([SELL, BUY, HOLD, BUY, SELL, HOLD, BUY, HOLD], dtype=np.int8)
    assert hold_positions(signals, np.zeros(8, dtype=np.int64)).tolist() == [0, 1, 1, 1, 0, 0, 1, 1]


def test_position_ends_with_its_series() -> None:
    signals = np.array([BUY, HOLD, HOLD, HOLD, SELL, BUY], dtype=np.int8)
    assert hold_positions(signals, np.array([0, 0, 1, 1, 2, 2])).tolist() == [1, 1, 0, 0, 0, 1]


def test_net_returns_are_what_a_hand_computes() -> None:
    positions = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    series = np.array([0, 0, 0, 0, 0, 1])
    next_returns = np.array([0.5, 0.02, -0.01, 0.5, 0.03, 0.04])
    side_costs = np.array([0.9, 0.001, 0.9, 0.002, 0.003, 0.004])
    net, traded = compute_net_returns(positions, series, next_returns, side_costs)
    assert traded.tolist() == [0.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    assert net == pytest.approx([0.0, 0.019, -0.01, -0.002, 0.027, 0.036])


def test_next_return_runs_from_the_next_open_to_the_one_after() -> None:
    opened = np.array([1.0, 100.0, 110.0, 121.0, 121.0])
    close = np.array([9.0, 9.0, 9.0, 9.0, 133.1])
    bars = Bars(MINUTE_MS * np.arange(5, dtype=np.int64), opened, opened, opened, close, opened)
    # The last but one ends at the last close: there is no later open.
    assert compute_next_returns(bars) == pytest.approx([0.1, 0.1, 0.0, 0.1, 0.0])
    assert compute_next_returns(bars[:1]).tolist() == [0.0]
    assert compute_next_returns(bars[:0]).tolist() == []


def test_side_costs_are_the_fee_and_the_larger_slippage() -> None:
    flat = np.array([100.0, 100.0])
    bars = Bars(np.array([0, MINUTE_MS]), flat, np.array([100.1, 102.0]), np.array([100.0, 98.0]), flat, flat)
    # 15 % of a range of 0.1 % is 1.5 bps, less than 3; of 4 % it is 60 bps.
    assert compute_side_costs(bars, Costs(2.0, 3.0)) == pytest.approx([0.0005, 0.0062])


ROWS = st.lists(st.tuples(st.sampled_from([SELL, HOLD, BUY]), st.booleans(), st.floats(-0.1, 0.1)), max_size=40)


@settings(max_examples=80, deadline=None)
@given(ROWS)
def test_positions_and_net_returns_are_those_of_a_plain_loop(rows: list[tuple[int, bool, float]]) -> None:
    series = np.cumsum(np.array([is_new for _, is_new, _ in rows], dtype=np.int64))
    position, wanted_positions, wanted_net = 0.0, [], []
    for number, (signal, _, earned) in enumerate(rows):
        before = position if number and series[number] == series[number - 1] else 0.0
        position = {BUY: 1.0, SELL: 0.0, HOLD: before}[signal]
        wanted_positions.append(position)
        wanted_net.append(position * earned - abs(position - before) * 0.001)
    positions = hold_positions(np.array([signal for signal, _, _ in rows], dtype=np.int8), series)
    assert positions.tolist() == wanted_positions
    earned_by_row = np.array([earned for _, _, earned in rows])
    net, _ = compute_net_returns(positions, series, earned_by_row, np.full(len(rows), 0.001))
    assert net.tolist() == pytest.approx(wanted_net)


def test_expected_return_is_the_move_in_the_signal_s_direction_less_a_round_trip() -> None:
    said = np.array([[0.1, 0.2, 0.7], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.4, 0.2, 0.4]])
    returns = np.array([-0.02, 0.001, 0.01])
    # The last row is a tie, which SELL wins: its move is -0.0038.
    wanted = [0.0052 - 0.002, 0.0128 - 0.002, 0.0, 0.0038 - 0.002]
    assert expect_returns(said, returns, 0.001).tolist() == pytest.approx(wanted)
