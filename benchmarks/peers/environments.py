"""Environments of their own for the peers: made at the first measurement, outside the project, and kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "papertape-bench"
INSTALLING_SECONDS = 600
RUNNING_SECONDS = 600


class NotMeasuredError(Exception):
    """A peer could not be measured; the message says why."""


@dataclass(frozen=True)
class Peer:
    """A library to be measured.

    Attributes:
        name: As its people write it.
        package: Its name on PyPI, with extras.
        version: The one that is installed.
        script: The module that measures it, in this package.
        oldest_python: What it needs at least.
    """

    name: str
    package: str
    version: str
    script: str
    oldest_python: tuple[int, int] = (3, 11)


VECTORBT = Peer("vectorbt", "vectorbt[rust]", "1.2.0", "run_vectorbt")
VECTORBT_SWEEP = Peer("vectorbt", "vectorbt[rust]", "1.2.0", "run_vectorbt_sweep")
BACKTESTING = Peer("backtesting.py", "backtesting", "0.6.6", "run_backtesting")
FREQTRADE = Peer("freqtrade", "freqtrade", "2026.9", "run_freqtrade")
NAUTILUS = Peer("NautilusTrader", "nautilus-trader", "1.231.0", "run_nautilus", (3, 12))


def run_peer(peer: Peer, candles: Path, bars: int, repeats: int) -> dict[str, Any]:
    """What the peer's script prints, run in the peer's environment by itself.

    Raises:
        NotMeasuredError: It does not install, or does not run.
    """
    python = _find_environment(peer)
    command = [str(python), "-m", f"benchmarks.peers.{peer.script}", str(candles), str(bars), str(repeats)]
    printed = _run(command, RUNNING_SECONDS, f"{peer.name} does not run")
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def _find_environment(peer: Peer) -> Path:
    """The interpreter of the peer's environment, which is made where it is not there."""
    folder = CACHE / f"{peer.package.partition('[')[0]}-{peer.version}"
    python, whole = folder / "bin" / "python", folder / "whole"
    if not whole.exists():
        shutil.rmtree(folder, ignore_errors=True)  # what an installation that was cut short left
        uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
        what = f"{peer.name} {peer.version} does not install"
        base = _find_python(peer)
        _run([uv, "venv", "--quiet", "--no-project", "--python", base, str(folder)], INSTALLING_SECONDS, what)
        requirement = f"{peer.package}=={peer.version}"
        command = [uv, "pip", "install", "--quiet", "--python", str(python), requirement]
        _run(command, INSTALLING_SECONDS, what)
        whole.touch()
    return python


def _find_python(peer: Peer) -> str:
    """This interpreter, or the first of the machine's that is new enough."""
    if sys.version_info >= peer.oldest_python:
        return sys.executable
    names = [found for name in ("python3.13", "python3.12") if (found := shutil.which(name))]
    kept = sorted(str(path) for path in Path("~/.pyenv/versions").expanduser().glob("3.1[23].*/bin/python"))
    for candidate in (*names, *kept):
        if subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    wanted = ".".join(map(str, peer.oldest_python))
    raise NotMeasuredError(f"{peer.name} needs Python {wanted}, which is not here")


def _run(command: list[str], seconds: int, what: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, text=True, timeout=seconds, cwd=ROOT, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMeasuredError(f"{what}: {error}") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise NotMeasuredError(f"{what}: {said[-1][:200]}")
    return done.stdout
