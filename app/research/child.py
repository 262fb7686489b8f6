"""Runs work in a process of its own, so that cycles and requests go on beside it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

OnProgress = Callable[[float, str], None]
"""Hears how far work is, from 0 to 1, and what it does."""

_ROOT = Path(__file__).resolve().parents[2]


async def run_child(module: str, arguments: tuple[Path, ...], on_progress: OnProgress) -> tuple[dict[str, Any], int]:
    """Run a module of ours that speaks as `ml.child` does; returns its last word and its status.

    A caller who is cancelled takes the process down with it. Raises OSError where it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *map(str, arguments)),
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        last = await _follow(process, on_progress)
    finally:
        if process.returncode is None:
            process.kill()
        status = await process.wait()
    return last, status


async def _follow(process: asyncio.subprocess.Process, on_progress: OnProgress) -> dict[str, Any]:
    """Pass progress on until the process ends; returns its last word."""
    last: dict[str, Any] = {}
    while process.stdout is not None and (line := await process.stdout.readline()):
        last = json.loads(line)
        if "progress" in last:
            on_progress(last["progress"], last["message"])
    await process.wait()
    return last
