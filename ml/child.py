"""A process that was started to compute one thing: it tells how far it is, and ends with whoever started it.

What it says comes as one JSON object a line on standard output: {"progress": 0.4, "message": "..."}, and at last what
it came to.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any


def say(line: dict[str, Any]) -> None:
    """Say something to the parent, at once."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def report(progress: float, message: str) -> None:
    """Say how far the work is, from 0 to 1, and what it does."""
    say({"progress": progress, "message": message})


def end_with_parent() -> None:
    """From now on, end this process when its standard input does, as it does when the parent is gone."""
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    while os.read(0, 4_096):  # not sys.stdin: its lock would be held while the interpreter shuts down
        pass
    os._exit(4)
