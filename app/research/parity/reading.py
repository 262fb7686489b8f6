"""Reads an account's chain as what happened to it: cycles that can be run again, and what came between them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from app.domain.action import ActionReport
from app.domain.record import from_plain
from app.errors import ServiceError
from app.research.parity.comparing import Unreadable
from app.research.replay import RecordedCycle, read_cycle
from app.storage.archive import Archive, Link, measure_chain
from app.storage.database import Database
from app.storage.standings import Account

Step = RecordedCycle | ActionReport | Unreadable
"""One record; a cycle that was refused is none."""

_CHUNK = 200

_Settings = dict[str, dict[str, Any] | None]


async def read_steps(
    database: Database, account: Account, since: datetime | None
) -> AsyncIterator[tuple[float, list[Step]]]:
    """An account's records in their order, some at a time, each time with how far that is, 0 to 1.

    Args:
        database: An open database.
        account: Whose they are.
        since: They begin with the first cycle that ended then or later.
    """
    first, last, count = await database.read(lambda connection: measure_chain(connection, account.id, since))
    archive, after, done = Archive(), first - 1, 0
    settings: _Settings = {}

    def load(connection: Connection) -> tuple[int, list[Step]]:
        links = archive.load_chain(connection, account.id, after, last, _CHUNK)
        steps = [_read_step(connection, archive, link, settings) for link in links]
        return (links[-1].number if links else last), [step for step in steps if step is not None]

    while done < count:
        after, steps = await database.read(load)
        done = min(done + _CHUNK, count)
        yield done / count, steps


def name_group(step: Step) -> tuple[str, ...]:
    """What steps that are taken together have in common: cycles their settings and their model."""
    if isinstance(step, RecordedCycle):
        return ("cycle", step.inputs.circumstances.settings_digest, *step.model)
    return (type(step).__name__,)


def _read_step(connection: Connection, archive: Archive, link: Link, settings: _Settings) -> Step | None:
    try:
        if link.kind != "cycle":
            report: ActionReport = from_plain(ActionReport, json.loads(str(link.document))["report"])
            return report
        return read_cycle(connection, archive, link, settings)
    except ServiceError as error:
        return None if error.code == "cycle_refused" else Unreadable(link.cycle_id, link.report, error.message)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return Unreadable(None, None, f"The record {link.number}, of what a person did, is damaged.")
