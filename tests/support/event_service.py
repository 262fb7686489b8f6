"""The fake service over a real event log, so that the stream can be tested for real."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.events import Event
from app.research.event_relay import EventRelay
from app.storage.database import Database
from app.storage.events import SqlEvents
from tests.support.fake_service import FakeService


@dataclass
class EventService(FakeService):
    """A fake service whose events are kept in the database of its settings."""

    async def start(self) -> None:
        await super().start()
        self.database = Database(self.settings.database_url.get_secret_value())
        await self.database.open()
        self.event_log = self.log = SqlEvents(self.database)
        self.event_relay = self.relay = EventRelay(self.log, None, self.clock)
        await self.relay.start("1.0")

    async def stop(self) -> None:
        await self.relay.stop("1.0")
        await self.database.aclose()
        await super().stop()

    def happen(self, events: Sequence[Event]) -> None:
        """From any thread: append `events`."""
        asyncio.run_coroutine_threadsafe(self.log.append(events), self.loop).result(10)
