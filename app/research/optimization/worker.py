"""Computes an optimisation in a process of its own: `python -m app.research.optimization.worker FOLDER MODELS STUDY`.

In the folder it finds the task and the candles, and there it leaves the run; the others are that of bundles, and that
where trials are kept until the run is. It speaks as `app.research.backtest.worker` does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from app.domain.record import canonical, from_plain, to_plain
from app.errors import ConfigurationError, ServiceError
from app.research.backtest.worker import give_up
from app.research.optimization.computing import compute_optimization
from app.research.optimization.describing import Task
from ml.backend import BackendError
from ml.bars import load_bars
from ml.child import end_with_parent, report, say

TASK_FILE = "task.json"
BARS_FILE = "bars.npz"
RUN_FILE = "run.json"


def main(folder: Path, models: Path, study: Path) -> int:
    """Compute what is in the folder; returns the status of the process."""
    task: Task = from_plain(Task, json.loads((folder / TASK_FILE).read_text()))
    history = load_bars(folder / BARS_FILE)
    (folder / BARS_FILE).unlink()  # as `backtest.worker`
    try:
        run = compute_optimization(task, history, models, study, report)
        (folder / RUN_FILE).write_text(canonical(to_plain(run)))
    except ServiceError as error:
        return give_up(error)
    except BackendError as error:
        return give_up(ConfigurationError(str(error), code="backend_unusable"))
    except OSError as error:
        words = f"The optimisation cannot run: {error.strerror} ({error.filename or study})."
        return give_up(ServiceError(words, code="optimization_failed"))
    say({"done": True})
    return 0


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(*map(Path, sys.argv[1:])))
