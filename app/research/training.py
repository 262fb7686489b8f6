"""Runs a training in a process of its own, so that cycles and requests go on beside it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.errors import ConflictError, ServiceError
from app.research.child import OnProgress, run_child
from ml.bars import Bars, save_bars


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
) -> tuple[dict[str, Any], int]:
    """Run the process to its end; returns its last word and its status."""
    with tempfile.TemporaryDirectory(prefix="papertape-training-") as scratch:
        request_path, bars_path = Path(scratch, "request.json"), Path(scratch, "bars.npz")
        await asyncio.to_thread(_write_inputs, request_path, bars_path, history, request)
        return await run_child("ml.training", (request_path, bars_path), on_progress)


def _write_inputs(request_path: Path, bars_path: Path, history: Mapping[str, Bars], request: dict[str, Any]) -> None:
    request_path.write_text(json.dumps(request))
    save_bars(bars_path, history)


def _outcome(last: dict[str, Any], returncode: int) -> Path:
    if "model" in last:
        return Path(last["model"])
    if "error" in last:
        raise ConflictError(last["error"]["message"], code=last["error"]["code"])
    if returncode == -9:
        reason = "was killed, most likely because the machine ran out of memory; try a smaller TRAINING_KLINES"
    else:
        reason = f"ended with status {returncode}; its error is in the log above"
    raise ServiceError(f"The training {reason}.", code="training_failed")
