"""Shared calls are made once, and calls that belong together end together."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import ConflictError, DataQualityError, NotFoundError, UpstreamError, UpstreamTimeoutError
from app.exchanges.concurrency import SingleFlight, most_telling, together

pytestmark = pytest.mark.anyio


async def failing(error: Exception, after: float = 0.0) -> None:
    await asyncio.sleep(after)
    raise error


async def test_single_flight_everyone_gets_the_one_result_and_the_next_asks_anew() -> None:
    calls: list[str] = []
    flights: SingleFlight[int] = SingleFlight()

    async def work() -> int:
        calls.append("x")
        await asyncio.sleep(0.001)
        return len(calls)

    assert await asyncio.gather(*(flights.run("key", work) for _ in range(5))) == [1] * 5
    assert await flights.run("key", work) == 2


async def test_single_flight_error_reaches_everyone_and_is_not_kept() -> None:
    flights: SingleFlight[None] = SingleFlight()

    outcomes = await asyncio.gather(
        *(flights.run("key", lambda: failing(UpstreamError("no"))) for _ in range(3)), return_exceptions=True
    )

    assert [str(outcome) for outcome in outcomes] == ["no"] * 3
    with pytest.raises(ConflictError):
        await flights.run("key", lambda: failing(ConflictError("other")))


async def test_single_flight_closed_call_under_way_cancelled() -> None:
    flights: SingleFlight[None] = SingleFlight()
    waiting = asyncio.create_task(flights.run("key", lambda: asyncio.sleep(60)))
    await asyncio.sleep(0)

    await flights.aclose()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_together_first_failure_cancels_the_rest_and_is_raised_bare() -> None:
    slow = asyncio.create_task(asyncio.sleep(60))

    with pytest.raises(UpstreamError) as caught:
        await together(slow, asyncio.create_task(failing(UpstreamError("no"))))

    assert type(caught.value) is UpstreamError
    assert slow.cancelled()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_together_cancelled_from_outside_cancels_all() -> None:
    inner = asyncio.create_task(asyncio.sleep(60))
    outer = asyncio.create_task(together(inner))
    await asyncio.sleep(0)

    outer.cancel()

    with pytest.raises(asyncio.CancelledError):
        await outer
    assert inner.cancelled()


async def test_together_cancelled_while_another_fails_stays_cancelled() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise UpstreamError("while cleaning up") from None

    outer = asyncio.create_task(together(asyncio.create_task(stubborn())))
    await asyncio.sleep(0.001)

    outer.cancel()

    with pytest.raises(asyncio.CancelledError):
        await outer


def test_most_telling_wrong_request_before_failure_and_bug_before_all() -> None:
    unknown = NotFoundError("?", code="unknown_symbol")
    late, lost = UpstreamTimeoutError("late"), UpstreamError("lost", code="upstream_unreachable")
    bad = DataQualityError("bad")

    assert most_telling([late, unknown, lost]) is unknown
    assert most_telling([lost, late]) is late
    assert most_telling([late, bad]) is bad
    assert most_telling([unknown, ValueError("bug")]).args == ("bug",)
