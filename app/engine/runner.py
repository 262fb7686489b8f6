"""Runs cycles again and again at a steady pace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def run_every(
    seconds: float, work: Callable[[], Awaitable[None]], *, on_missed: Callable[[int], None] | None = None
) -> None:
    """Call `work` at once and then every `seconds`, until cancelled; calls never overlap.

    Ticks that pass while `work` still runs are skipped, and `on_missed` hears how many. Errors of `work` are
    the caller's to handle within it: what it raises ends the loop.
    """
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        await work()
        due += seconds
        late = loop.time() - due
        if late > 0:
            missed = int(late // seconds) + 1
            due += missed * seconds
            if on_missed is not None:
                on_missed(missed)
        await asyncio.sleep(max(0.0, due - loop.time()))
