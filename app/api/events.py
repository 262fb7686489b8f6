"""What the routes of the event log answer."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from app.api import examples
from app.api.schemas import Answer, Moment
from app.domain.events import EventType


class Event(Answer):
    """One thing that happened; the same document stands in the file and in the stream."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.EVENT]})

    sequence: int = Field(ge=1, description="Its place in the log; the `id` of the stream.")
    at: Moment
    type: EventType
    tags: list[str]
    symbol: str | None
    action: str | None = Field(description="BUY, SELL, HOLD or another verb, where there is one.")
    cycle_id: str | None
    message: str
    data: dict[str, Any] = Field(description="What else there is to know; money in strings.")


class EventPage(Answer):
    """Events, newest first."""

    items: list[Event]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")
