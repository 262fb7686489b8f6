"""The registry of models: which there are, and which was in use when. Nothing is ever changed or removed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select

from app.domain.events import Event, EventType
from app.domain.model import ActivationReason, Model, ModelState
from app.domain.ports import Clock
from app.errors import ConflictError, NotFoundError
from app.storage import events
from app.storage.database import Database
from app.storage.pages import is_plain
from app.storage.tables import model_activations, models


def compute_recipe(asked: Mapping[str, Any]) -> str:
    """A hash of what a model was asked to be, whatever candles it saw: from its card, or from a training request."""
    said = [asked[name] for name in ("symbols", "label_rule", "forest")]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


class SqlModels:
    """The registry on SQLite or PostgreSQL.

    A market is a source and an interval; each has one model in use.

    Args:
        database: An open database.
        clock: Stamps entries.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def register(self, card: dict[str, Any], reason: ActivationReason | None) -> None:
        """Enter a model unless it is there, and take it into use where there is a `reason` to, as one transaction."""
        now = self._clock.now()

        def job(connection: Connection) -> None:
            known = select(models.c.id).where(models.c.id == card["model_id"])
            if connection.scalar(known) is None:
                values = {
                    "id": card["model_id"],
                    "source": card["source"],
                    "interval": card["interval"],
                    "recipe": compute_recipe(card),
                    "sha256": card["sha256"],
                    "card": card,
                    "registered_at": now,
                }
                connection.execute(insert(models), values)
            active = _history(connection, card["source"], card["interval"])[:1]
            if reason is not None and active != [card["model_id"]]:
                values = {"model_id": card["model_id"], "reason": reason.value, "activated_at": now}
                connection.execute(insert(model_activations), values)
                events.append(connection, None, [_activation(card, reason, now)])

        await self._database.write(job)

    async def find_active(self, source: str, interval: str) -> Model | None:
        """The model in use on a market, None before there is one."""

        def job(connection: Connection) -> Model | None:
            newest = _history(connection, source, interval)[:1]
            return _find(connection, newest[0]) if newest else None

        return await self._database.read(job)

    async def find_former(self, source: str, interval: str) -> str:
        """The id of the model that was in use before the present one.

        Raises:
            ConflictError: `no_former_model`.
        """
        history = await self._database.read(lambda connection: _history(connection, source, interval))
        former = next((model_id for model_id in history if model_id != history[0]), None)
        if former is None:
            raise ConflictError("There is no model to go back to.", code="no_former_model")
        return former

    async def get(self, model_id: str) -> Model:
        """One model; raises `NotFoundError` (`model_not_found`)."""
        found = None
        if is_plain(model_id):
            found = await self._database.read(lambda connection: _find(connection, model_id))
        if found is None:
            raise NotFoundError("There is no model with this id.", code="model_not_found")
        return found

    async def list(self, source: str, interval: str, limit: int = 100) -> list[Model]:
        """The models of a market, newest first, at most `limit` and in any case the one in use."""

        def job(connection: Connection) -> list[Model]:
            history = _history(connection, source, interval)
            of_market = (models.c.source == source) & (models.c.interval == interval)
            newest = select(models.c.id).where(of_market).order_by(models.c.number.desc()).limit(limit)
            wanted = [*connection.scalars(newest), *history[:1]]
            found = [_find(connection, model_id) for model_id in dict.fromkeys(wanted)]
            return [model for model in found if model is not None]

        return await self._database.read(job)

    async def count_candidates(self, source: str, interval: str, asked: Mapping[str, Any]) -> int:
        """How many different models were tried on a market, the one that is asked for among them."""

        def job(connection: Connection) -> int:
            of_market = (models.c.source == source) & (models.c.interval == interval)
            tried = set(connection.scalars(select(models.c.recipe).where(of_market).distinct()))
            return len(tried | {compute_recipe(asked)})

        return await self._database.read(job)


def _activation(card: Mapping[str, Any], reason: ActivationReason, now: datetime) -> Event:
    data = {name: card[name] for name in ("model_id", "source", "interval")} | {"reason": reason.value}
    message = f"{card['model_id']} decides from now on ({reason.value})."
    return Event(now, EventType.MODEL_ACTIVATED, message, ("model",), data=data)


def _history(connection: Connection, source: str, interval: str) -> list[str]:
    """The ids of the models a market used, newest first."""
    statement = (
        select(model_activations.c.model_id)
        .join(models, models.c.id == model_activations.c.model_id)
        .where((models.c.source == source) & (models.c.interval == interval))
        .order_by(model_activations.c.number.desc())
    )
    return list(connection.scalars(statement))


def _find(connection: Connection, model_id: str) -> Model | None:
    row = connection.execute(select(models).where(models.c.id == model_id)).one_or_none()
    if row is None:
        return None
    activated_at = connection.scalar(
        select(func.max(model_activations.c.activated_at)).where(model_activations.c.model_id == model_id)
    )
    state = ModelState.CHALLENGER
    if activated_at is not None:
        is_active = _history(connection, row.source, row.interval)[:1] == [model_id]
        state = ModelState.ACTIVE if is_active else ModelState.FORMER
    told = (row.id, row.source, row.interval, row.sha256, state, row.card, row.registered_at, activated_at)
    return Model(*told)
