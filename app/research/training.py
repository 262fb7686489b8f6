"""Runs a training in a process of its own, so that cycles and requests go on beside it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.errors import ConflictError, ServiceError
from ml.bars import Bars, save_bars

OnProgress = Callable[[float, str], None]
"""Hears how far work is, from 0 to 1, and what it does."""

_ROOT = Path(__file__).resolve().parents[2]


async def train_bundle(history: Mapping[str, Bars], request: dict[str, Any], on_progress: OnProgress) -> Path:
    """Train on the bars of each symbol as `ml.training.train` describes; returns the path of the new bundle.

    A caller who is cancelled takes the process down with it.

    Raises:
        ConflictError: The candles cannot teach a model; the code says why (`too_few_rows`, `one_class` ...).
        ServiceError: `training_failed`, the process broke.
    """
    try:
        last, returncode = await _run(history, request, on_progress)
    except OSError as error:
        raise ServiceError(
            f"The training cannot run: {error.strerror}; make room in {tempfile.gettempdir()}.",
            code="training_failed",
        ) from error
    return _outcome(last, returncode)


async def _run(
    history: Mapping[str, Bars], request: dict[str, Any], on_progress: OnProgress
) -> tuple[dict[str, Any], int | None]:
    """Run the process to its end; returns its last word and its status."""
    with tempfile.TemporaryDirectory(prefix="papertape-training-") as scratch:
        request_path, bars_path = Path(scratch, "request.json"), Path(scratch, "bars.npz")
        await asyncio.to_thread(_write_inputs, request_path, bars_path, history, request)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ml.training", str(request_path), str(bars_path)),
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
            await process.wait()
    return last, process.returncode


def _write_inputs(request_path: Path, bars_path: Path, history: Mapping[str, Bars], request: dict[str, Any]) -> None:
    request_path.write_text(json.dumps(request))
    save_bars(bars_path, history)


async def _follow(process: asyncio.subprocess.Process, on_progress: OnProgress) -> dict[str, Any]:
    """Pass progress on until the process ends; returns its last word."""
    if process.stdout is None:
        raise ServiceError("The training has no output to follow.", code="training_failed")
    last: dict[str, Any] = {}
    async for line in process.stdout:
        last = json.loads(line)
        if "progress" in last:
            on_progress(last["progress"], last["message"])
    await process.wait()
    return last


def _outcome(last: dict[str, Any], returncode: int | None) -> Path:
    if "model" in last:
        return Path(last["model"])
    if "error" in last:
        raise ConflictError(last["error"]["message"], code=last["error"]["code"])
    if returncode == -9:
        reason = "was killed, most likely because the machine ran out of memory; try a smaller TRAINING_KLINES"
    else:
        reason = f"ended with status {returncode}; its error is in the log above"
    raise ServiceError(f"The training {reason}.", code="training_failed")
