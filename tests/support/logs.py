"""The logs of the process, which a command that a test runs in it sets for itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


@contextmanager
def logs_given_back() -> Iterator[None]:
    """Whatever sets the process's logs within the block, after it they are as they were."""
    root = logging.getLogger()
    level, handlers, configuration = root.level, list(root.handlers), structlog.get_config()
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        structlog.configure(**configuration)
