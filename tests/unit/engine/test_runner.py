from __future__ import annotations

import asyncio

import pytest

from app.engine.runner import run_every

pytestmark = pytest.mark.anyio


async def test_runner_with_slow_work_skips_ticks_and_never_overlaps() -> None:
    running = most = calls = 0
    missed: list[int] = []

    async def work() -> None:
        nonlocal running, most, calls
        running += 1
        most = max(most, running)
        calls += 1
        await asyncio.sleep(0.05)
        running -= 1
        if calls == 3:
            raise StopAsyncIteration

    with pytest.raises(StopAsyncIteration):
        await run_every(0.02, work, on_missed=missed.append)
    assert calls == 3
    assert most == 1
    assert len(missed) == 2
    assert all(count >= 2 for count in missed)
