"""A file of events, a line of JSON each: in order, each once, however often the process starts or fails."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path

from app.domain.events import Event, to_document

MAXIMUM_BYTES = 10 * 2**20
FILES = 5

_RIGHTS = 0o600


class EventFile:
    """Appends events to a file; once that is large it becomes `.1`, what was `.1` becomes `.2`, and the last one goes.

    One process writes the file at a time: it holds a lock on a file beside it, which the system lets go when the
    process ends, however it ends.

    Args:
        path: The newest file. What is not there is made, except folders.
        maximum_bytes: How large a file may be before the next event begins a new one.
        files: How many files there may be.
    """

    def __init__(self, path: Path, maximum_bytes: int = MAXIMUM_BYTES, files: int = FILES) -> None:
        self.path = path
        self._maximum_bytes = maximum_bytes
        self._files = files
        self._lock: int | None = None

    def open(self) -> int:
        """Make sure that this process alone writes the file; returns the sequence of the last event in it, or 0.

        Raises:
            BlockingIOError: Another process writes it.
            OSError: It cannot be written to.
        """
        if self._lock is None:
            self._lock = _take(self._numbered("lock"))
        _cut_torn_line(self.path)
        for path in (self.path, self._numbered(1)):
            if sequence := _last_sequence(path):
                return sequence
        return 0

    def append(self, events: Sequence[Event]) -> None:
        """Write `events`, oldest first. After an OSError `open` tells how far it came."""
        for event in events:
            line = json.dumps(to_document(event), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
            if self._size() + len(line) > self._maximum_bytes:
                self._rotate()
            with open(self.path, "ab", opener=_open_privately) as file:
                file.write(line)

    def close(self) -> None:
        """Let another process write the file."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _rotate(self) -> None:
        for number in range(self._files - 1, 0, -1):
            older = self._numbered(number - 1) if number > 1 else self.path
            if older.exists():
                older.replace(self._numbered(number))

    def _numbered(self, suffix: int | str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags, _RIGHTS)


def _take(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _RIGHTS)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _cut_torn_line(path: Path) -> None:
    """Take away what a crash or a full disk left of a line."""
    if path.exists():
        text = path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            os.truncate(path, whole)


def _last_sequence(path: Path) -> int:
    """The sequence on the last line that has one."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    for line in reversed(lines):
        try:
            return int(json.loads(line)["sequence"])
        except (ValueError, TypeError, KeyError):
            continue
    return 0
