"""`app.research.child.run_child` in a thread of the test's process: one of its own takes a second to start."""

from __future__ import annotations

import asyncio
import importlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.research.child import OnProgress

CALLERS = ("app.research.backtest.keeper", "app.research.optimization.keeper", "app.research.training")


class Said:
    """The standard output of one thread, which hands on each line of JSON."""

    def __init__(self, hear: Callable[[dict[str, Any]], None]) -> None:
        self._hear = hear

    def write(self, line: str) -> None:
        self._hear(json.loads(line))

    def flush(self) -> None:
        """Nothing is kept back."""


class Here(threading.local):
    """What `ml.child` finds in place of `sys`: an output for each thread."""

    stdout: Said


HERE = Here()


async def run_here(module: str, arguments: tuple[Path, ...], on_progress: OnProgress) -> tuple[dict[str, Any], int]:
    """Run the module's `main` in a thread; returns its last word and its status. Nothing can take it down."""
    loop = asyncio.get_running_loop()
    last: dict[str, Any] = {}

    def hear(line: dict[str, Any]) -> None:
        nonlocal last
        last = line
        if "progress" in line:
            loop.call_soon_threadsafe(on_progress, line["progress"], line["message"])

    def work() -> int:
        HERE.stdout = Said(hear)
        status: int = importlib.import_module(module).main(*arguments)
        return status

    status = await asyncio.to_thread(work)
    return last, status


def replace_processes(changed: pytest.MonkeyPatch) -> None:
    """Have backtests, optimisations and trainings run here."""
    changed.setattr("ml.child.sys", HERE)
    for caller in CALLERS:
        changed.setattr(f"{caller}.run_child", run_here)
