"""`python -m app …` as a person or a cron line uses it, on the simulated market with a quick model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from tests.support.logs import logs_given_back

PROJECT = Path(__file__).parents[2]
SETTINGS = {
    "MARKET_SOURCE": "simulated",
    "TRAINING_KLINES": "1500",
    "MODEL_THRESHOLD_PERCENT": "0.1",
    "MODEL_HORIZON_BARS": "10",
    "MIN_CONFIDENCE": "0",
    "REQUIRE_POSITIVE_RETURN": "false",
    "SYMBOLS": "BTCUSDT,ETHUSDT",
}
KEPT = ("PATH", "HOME", "LANG", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR")


@dataclass
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


def command(*arguments: str) -> list[str]:
    """The command as a list of words."""
    return [sys.executable, "-m", "app", *arguments]


def environment(**settings: str) -> dict[str, str]:
    """What it finds in its environment."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    return kept | {"PYTHONPATH": str(PROJECT)} | SETTINGS | settings


def run_process(folder: Path, *arguments: str, **settings: str) -> Ended:
    """A command as a process of its own, as a shell runs it."""
    ended = subprocess.run(
        command(*arguments), cwd=folder, env=environment(**settings), capture_output=True, timeout=60, check=False
    )
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def run(folder: Path, *arguments: str, **settings: str) -> Ended:
    """The same in this process, where nothing need be loaded first: a process takes a second to start."""
    raw = BytesIO(), BytesIO()
    out, err = (TextIOWrapper(one, write_through=True) for one in raw)
    with (
        pytest.MonkeyPatch.context() as changed,
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
        logs_given_back(),
    ):
        changed.setattr(os, "environ", environment(**settings))
        changed.setattr(sys, "argv", ["app", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return Ended(int(ended.value.code or 0), *(one.getvalue().decode() for one in raw))
