"""A host is called when it may be, and never sooner."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from app.errors import UpstreamError, UpstreamRateLimitError
from app.exchanges.rate_gate import BREAKER_FAILURES, SLOW_DOWN_SHARE, STOP_SHARE, HostGate, WeightBudget, refusal

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 1, 5, 12, 0, 0, tzinfo=UTC)


class Seconds:
    """Monotonic seconds, by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def gate(seconds: Seconds) -> HostGate:
    return HostGate("example.org", seconds)


async def call(gate: HostGate, error: UpstreamError | None = None) -> str:
    async with gate.passage():
        await asyncio.sleep(0)
        if error is not None:
            raise error
        gate.record_answer()
    return "called"


async def test_passage_while_blocked_refused_with_the_reason_and_the_rest(gate: HostGate, seconds: Seconds) -> None:
    gate.block("upstream_banned", 30)
    seconds.now += 10

    with pytest.raises(UpstreamRateLimitError) as caught:
        await call(gate)

    assert (caught.value.code, caught.value.retry_after_seconds) == ("upstream_banned", 20)
    assert caught.value.context == {"host": "example.org"}


async def test_passage_wait_over_is_open(gate: HostGate, seconds: Seconds) -> None:
    gate.block("upstream_rate_limited", 30)
    seconds.now += 30

    assert await call(gate) == "called"


async def test_block_shorter_wait_does_not_shorten_a_longer(gate: HostGate) -> None:
    gate.block("upstream_banned", 720)

    assert gate.block("upstream_forbidden", 5) == 720
    assert (gate.reason, gate.remaining_seconds) == ("upstream_banned", 720)


async def test_block_longest_wait_is_three_days(gate: HostGate) -> None:
    assert gate.block("upstream_banned", 10**9) == 3 * 86_400


async def test_passage_first_call_goes_alone_and_the_others_follow_its_answer(gate: HostGate) -> None:
    under_way: list[int] = []

    async def watched() -> None:
        async with gate.passage():
            under_way.append(1)
            await asyncio.sleep(0.005)
            assert sum(under_way) == 1 or gate.remaining_seconds == 0
            gate.record_answer()

    first = asyncio.create_task(watched())
    others = [asyncio.create_task(watched()) for _ in range(5)]
    await asyncio.sleep(0.001)
    assert len(under_way) == 1

    await asyncio.gather(first, *others)
    assert len(under_way) == 6


async def test_passage_first_call_unreachable_told_to_all_who_waited(gate: HostGate) -> None:
    error = refusal("upstream_unreachable", "example.org", 1)

    outcomes = await asyncio.gather(call(gate, error), call(gate), call(gate), return_exceptions=True)

    assert [outcome is error for outcome in outcomes] == [True, True, True]
    assert await call(gate) == "called"


async def test_passage_first_call_cancelled_next_one_goes_first(gate: HostGate) -> None:
    async def hang() -> None:
        async with gate.passage():
            await asyncio.sleep(60)

    first = asyncio.create_task(hang())
    await asyncio.sleep(0)
    second = asyncio.create_task(call(gate))
    await asyncio.sleep(0)

    first.cancel()

    assert await second == "called"


async def test_record_failure_opens_at_the_fifth_in_a_row(gate: HostGate, seconds: Seconds) -> None:
    opened = [gate.record_failure("upstream_unavailable") for _ in range(BREAKER_FAILURES - 1)]
    gate.record_answer()
    opened += [gate.record_failure("upstream_unavailable") for _ in range(BREAKER_FAILURES)]

    assert opened == [False] * 8 + [True]
    assert gate.remaining_seconds == 10
    seconds.now += 11
    assert gate.record_failure("upstream_unavailable") is True


async def test_record_answer_of_an_older_call_does_not_lift_a_wait(gate: HostGate) -> None:
    gate.block("upstream_banned", 720)

    gate.record_answer()

    assert gate.remaining_seconds == 720


async def test_guess_wait_doubles_once_for_calls_that_were_under_way_together(gate: HostGate, seconds: Seconds) -> None:
    first = gate.guess_wait_seconds(sent=99.0)
    gate.block("upstream_rate_limited", first)
    together = gate.guess_wait_seconds(sent=99.5)
    seconds.now += 61

    assert (first, together) == (60, 60)
    assert gate.guess_wait_seconds(sent=160.5) == 120


async def test_guess_wait_never_longer_than_an_hour(gate: HostGate, seconds: Seconds) -> None:
    for _ in range(20):
        wait = gate.guess_wait_seconds(sent=seconds.now)

    assert wait == 3_600


@pytest.mark.parametrize(
    ("used", "share", "expected"),
    [
        ("4798", SLOW_DOWN_SHARE, 0),
        ("4799", SLOW_DOWN_SHARE, 45),
        ("4799", STOP_SHARE, 0),
        ("5699", STOP_SHARE, 45),
        ("-1", STOP_SHARE, 0),
        ("", STOP_SHARE, 0),
        (None, STOP_SHARE, 0),
        ("\u0663", STOP_SHARE, 0),
    ],
)
def test_weight_budget_room_for_two_more(used: str | None, share: float, expected: float) -> None:
    budget = WeightBudget()
    budget.record(used, NOON)

    assert budget.seconds_until_room(share, 2, NOON + timedelta(seconds=15)) == expected


def test_weight_budget_next_minute_starts_anew_and_late_answers_do_not_lower_it() -> None:
    budget = WeightBudget()
    budget.record("5999", NOON)
    budget.record("10", NOON)

    assert budget.seconds_until_room(STOP_SHARE, 2, NOON) == 60
    assert budget.seconds_until_room(STOP_SHARE, 2, NOON + timedelta(minutes=1)) == 0
