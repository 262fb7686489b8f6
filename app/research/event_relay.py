"""Follows the event log, this process's entries and those of others, and hands each event on: to a file, to streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import structlog

from app.domain.events import Event, EventFilter, EventType
from app.domain.ports import Clock
from app.errors import NotReadyError, StorageError
from app.observability.event_file import EventFile
from app.storage.events import SqlEvents

log = structlog.get_logger()

MAXIMUM_STREAMS = 20
MAXIMUM_BEHIND = 1_000
"""How many events a reader who had caught up may fall behind before the stream is ended."""

IDLE_SECONDS = 15.0
"""How long a stream says nothing at most."""

_POLL_SECONDS = 1.0
_PAGE = 100
_FILE_PAGE = 500
_RETRY_SECONDS = 5.0


class EventRelay:
    """Hands on what is in the event log.

    A stream reads the log itself, from where its reader is. So nothing is kept for a reader, none is waited for, and
    one that comes back with the last sequence it saw gets everything after it, once.

    Args:
        events: The log.
        file: Where every event is written, too; None for nowhere.
        clock: Stamps the start and the stop of the service.
    """

    def __init__(self, events: SqlEvents, file: EventFile | None, clock: Clock) -> None:
        self._events = events
        self._file = file
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._streams_ended = False
        self._streams = 0
        self._newest = 0
        self._news = asyncio.Event()
        self._written: int | None = None
        self._complaint = ""

    async def start(self, version: str) -> None:
        """Enter the start of the service, and begin to follow; raises `StorageError`."""
        await self._events.append([_service_event(self._clock.now(), EventType.SERVICE_STARTED, version)])
        self._task = asyncio.create_task(self._keep(), name="event-relay")

    async def stop(self, version: str) -> None:
        """Enter the stop of the service, hand on what is left, and end; does nothing where nothing was started."""
        self.end_streams()
        if self._task is None:
            return
        with suppress(StorageError):  # the service stops all the same
            await self._events.append([_service_event(self._clock.now(), EventType.SERVICE_STOPPED, version)])
        self._stopping = True
        self._events.notify()
        await self._task
        self._task = None
        if self._file is not None:
            self._file.close()

    def end_streams(self) -> None:
        """Let every stream end now, and the next ones at once."""
        self._streams_ended = True
        self._tell()

    @contextmanager
    def seat(self) -> Iterator[None]:
        """A place for one reader.

        Raises:
            NotReadyError: `too_many_streams`, every place is taken.
        """
        if self._streams >= MAXIMUM_STREAMS:
            raise NotReadyError(
                f"{MAXIMUM_STREAMS} readers follow the events already; try again later, or ask for /events.",
                code="too_many_streams",
                retry_after_seconds=_RETRY_SECONDS,
            )
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def follow(self, after: int | None, wanted: EventFilter) -> AsyncGenerator[Event | None]:
        """Events that are wanted, oldest first and without an end: those after a sequence, or from now on.

        None comes where nothing has for `IDLE_SECONDS`, so that a connection can be kept alive.
        It ends when the service stops, and where a reader who had caught up falls too far behind.
        """
        newest = await self._events.last_sequence()
        # A sequence beyond the newest is of another database.
        position = newest if after is None else min(after, newest)
        caught_up = False
        while not self._streams_ended:
            seen = self._newest
            page = await self._events.load_after(position, _PAGE, wanted)
            for event in page:
                yield event
            if len(page) < _PAGE:
                position = max(position, seen, *(event.sequence for event in page))
                caught_up = True
                if not await self._has_news_beyond(position):
                    yield None
            else:
                position = page[-1].sequence
                if caught_up and self._newest - position > MAXIMUM_BEHIND:
                    log.warning("events.reader_too_slow", sequence=position, newest=self._newest)
                    return

    async def _has_news_beyond(self, sequence: int) -> bool:
        """Wait for something after `sequence`, or for the end; False when it did not come in time."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                while self._newest <= sequence and not self._streams_ended:
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    def _tell(self) -> None:
        """Wake every stream that waits."""
        self._news.set()
        self._news = asyncio.Event()

    async def _keep(self) -> None:
        while not self._stopping:
            await self._hand_on()
            await self._events.wait(_POLL_SECONDS)
        await self._hand_on()

    async def _hand_on(self) -> None:
        """Tell streams and file what is new; what fails is tried again at the next round, and said once."""
        try:
            newest = await self._events.last_sequence()
            if newest > self._newest:
                self._newest = newest
                self._tell()
            if self._file is not None:
                await self._write(self._file, newest)
        except StorageError as error:
            self._complain(error.message)
        except OSError as error:
            self._written = None
            held = "another process writes it" if isinstance(error, BlockingIOError) else str(error)
            self._complain(f"{self._file and self._file.path} is not written: {held}")
        else:
            self._complaint = ""

    async def _write(self, file: EventFile, newest: int) -> None:
        if self._written is None:
            last = await asyncio.to_thread(file.open)
            # What the file has beyond the log is of another database.
            self._written = last if last <= newest else 0
        while self._written < newest:
            page = await self._events.load_after(self._written, _FILE_PAGE)
            await asyncio.to_thread(file.append, page)
            self._written = page[-1].sequence

    def _complain(self, detail: str) -> None:
        if detail != self._complaint:
            self._complaint = detail
            log.warning("events.not_handed_on", detail=detail)


def _service_event(at: datetime, kind: EventType, version: str) -> Event:
    words = kind.value.replace(".", " ").capitalize()
    return Event(at, kind, f"{words}: Papertape {version}.", ("service",), data={"version": version})
