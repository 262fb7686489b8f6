"""The event log: as a list, and as a stream of server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import WithJsonSchema

from app.api import events
from app.api.deps import EventRelay, RunningService
from app.api.problems import documented
from app.api.requests import Time, text_schema
from app.api.routes.trading import Cursor, Limit, SymbolFilter
from app.api.strict import StrictRoute
from app.domain.events import Event, EventFilter, EventType
from app.domain.ports import Page

router = APIRouter(route_class=StrictRoute, tags=["events"])

_MAXIMUM_SEQUENCE = 2**63 - 1
_SEQUENCE_SCHEMA = {"type": "integer", "minimum": 0, "maximum": _MAXIMUM_SEQUENCE}

TypeFilter = Annotated[
    EventType | None,
    Query(alias="type", description="Only this type."),
    text_schema(enum=[kind.value for kind in EventType]),
]
SinceFilter = Annotated[
    Time | None,
    Query(description="Only what happened at this time or after it."),
    text_schema(format="date-time"),
]
LastEventId = Annotated[
    int | None,
    Query(ge=0, le=_MAXIMUM_SEQUENCE, description="As the header, for a client that can not set one."),
    WithJsonSchema(_SEQUENCE_SCHEMA),
]
LastEventIdHeader = Annotated[
    int | None,
    Header(
        alias="Last-Event-ID",
        ge=0,
        le=_MAXIMUM_SEQUENCE,
        description="The last `id` that was seen; the stream goes on after it, without loss or doubles.",
    ),
    WithJsonSchema(_SEQUENCE_SCHEMA),
]


@router.get(
    "/events",
    operation_id="list_events",
    summary="List events",
    response_model=events.EventPage,
    responses=documented(503),
)
async def list_events(
    service: RunningService,
    limit: Limit = 100,
    cursor: Cursor = None,
    kind: TypeFilter = None,
    symbol: SymbolFilter = None,
    since: SinceFilter = None,
) -> Page[Event]:
    """What happened: cycles, orders, trades, halts, models, starts and stops; newest first."""
    return await service.event_log.list(EventFilter(kind, symbol, since), limit=limit, cursor=cursor)


async def _seated(service: RunningService) -> AsyncIterator[EventRelay]:
    with service.event_relay.seat():
        yield service.event_relay


@router.get(
    "/events/stream",
    operation_id="stream_events",
    summary="Follow the events",
    response_class=StreamingResponse,
    response_description="Server-sent events: the sequence as `id`, the event as `data`, a comment every 15 seconds.",
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, **documented(503)},
)
async def stream_events(
    request: Request,
    relay: Annotated[EventRelay, Depends(_seated)],
    kind: TypeFilter = None,
    symbol: SymbolFilter = None,
    last_event_id: LastEventId = None,
    last_event_id_header: LastEventIdHeader = None,
) -> StreamingResponse:
    """Send each event as it happens, to at most 20 readers at once.

    The stream ends when the service stops, and where a reader is too slow; one that comes back with the last `id`
    it saw gets everything after it, once.
    """
    after = last_event_id if last_event_id_header is None else last_event_id_header
    followed = relay.follow(after, EventFilter(kind, symbol))
    # FastAPI's own generator routes end with an error in the log where a reader leaves while they send.
    content = _nothing() if request.state.method == "HEAD" else _written(followed)
    return StreamingResponse(content, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _written(followed: AsyncGenerator[Event | None]) -> AsyncIterator[bytes]:
    async with aclosing(followed):
        async for event in followed:
            if event is None:
                yield KEEPALIVE_COMMENT
            else:
                document = events.Event.model_validate(event).model_dump_json()
                yield format_sse_event(data_str=document, id=str(event.sequence))


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield
