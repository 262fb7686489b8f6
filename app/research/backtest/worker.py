"""Computes a backtest in a process of its own: `python -m app.research.backtest.worker FOLDER MODELS`.

In the folder it finds the task and the candles, and there it leaves the run and its books, as
`app.research.backtest.stored` has them; the other folder is that of bundles. It speaks as `ml.child` does; its last
word is {"done": true}, or "error" ({"kind", "code", "message"}).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from app.domain.record import from_plain
from app.errors import ServiceError
from app.research.backtest.computing import Task, compute_backtest
from app.research.backtest.stored import pack_books, write_run
from ml.bars import load_bars
from ml.child import end_with_parent, report, say

TASK_FILE = "task.json"
BARS_FILE = "bars.npz"
RUN_FILE = "run.json"
BOOKS_FILE = "books.bin"


def main(folder: Path, models: Path) -> int:
    """Compute what is in the folder; returns the status of the process."""
    task: Task = from_plain(Task, json.loads((folder / TASK_FILE).read_text()))
    history = load_bars(folder / BARS_FILE)
    (folder / BARS_FILE).unlink()  # the largest of it; whoever is killed leaves the folder behind
    try:
        result = compute_backtest(task, history, models, report)
        (folder / BOOKS_FILE).write_bytes(pack_books(result.books, result.benchmark_equity, result.said))
        (folder / RUN_FILE).write_text(write_run(result.run))
    except ServiceError as error:
        return _give_up(type(error).__name__, error.code, error.message)
    except OSError as error:
        place = error.filename or folder
        return _give_up("ServiceError", "backtest_failed", f"The backtest cannot run: {error.strerror} ({place}).")
    say({"done": True})
    return 0


def _give_up(kind: str, code: str, message: str) -> int:
    say({"error": {"kind": kind, "code": code, "message": message}})
    return 3


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(*map(Path, sys.argv[1:])))
