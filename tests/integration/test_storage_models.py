"""The registry of models: what was trained, what is in use, and what a rollback goes back to."""

from __future__ import annotations

import asyncio

import pytest

from app.domain.events import EventType
from app.domain.model import ActivationReason, ModelState
from app.errors import ConflictError, NotFoundError
from app.storage.database import Database
from app.storage.events import SqlEvents
from app.storage.models import SqlModels
from tests.support.books import SteppingClock
from tests.support.models import registered_card

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio


def registry(database: Database) -> SqlModels:
    return SqlModels(database, SteppingClock())


async def states(models: SqlModels) -> dict[str, ModelState]:
    return {model.id: model.state for model in await models.list("simulated", "1m")}


async def test_register_newest_first_and_the_active_one_is_the_last_taken_into_use(database: Database) -> None:
    models = registry(database)
    assert await models.find_active("simulated", "1m") is None
    await models.register(registered_card("forest-1"), ActivationReason.TRAINED)
    await models.register(registered_card("forest-2"), None)
    await models.register(registered_card("forest-3"), ActivationReason.CHALLENGE)
    assert await states(models) == {
        "forest-3": ModelState.ACTIVE,
        "forest-2": ModelState.CHALLENGER,
        "forest-1": ModelState.FORMER,
    }
    active = await models.find_active("simulated", "1m")
    assert active is not None
    assert (active.id, active.card) == ("forest-3", registered_card("forest-3"))
    assert active.activated_at is not None
    assert await models.find_former("simulated", "1m") == "forest-1"


async def test_taking_a_model_into_use_is_an_event_and_registering_or_asking_again_is_none(database: Database) -> None:
    models = registry(database)
    await models.register(registered_card("forest-1"), ActivationReason.TRAINED)
    await models.register(registered_card("forest-1"), ActivationReason.REQUEST)
    await models.register(registered_card("forest-2"), None)
    await models.register(registered_card("forest-2"), ActivationReason.CHALLENGE)
    events = await SqlEvents(database).load_after(0, 9)
    assert [event.type for event in events] == [EventType.MODEL_ACTIVATED] * 2
    assert [dict(event.data) for event in events] == [
        {"model_id": "forest-1", "source": "simulated", "interval": "1m", "reason": "trained"},
        {"model_id": "forest-2", "source": "simulated", "interval": "1m", "reason": "challenge"},
    ]


async def test_rollback_twice_goes_back_and_forth(database: Database) -> None:
    models = registry(database)
    for name in ("forest-1", "forest-2"):
        await models.register(registered_card(name), ActivationReason.TRAINED)
    for wanted in ("forest-1", "forest-2"):
        former = await models.find_former("simulated", "1m")
        assert former == wanted
        await models.register(registered_card(former), ActivationReason.ROLLBACK)
        assert (await states(models))[wanted] is ModelState.ACTIVE


async def test_register_again_changes_nothing_and_two_at_once_enter_it_once(database: Database) -> None:
    models = registry(database)
    card = registered_card("forest-1")
    await asyncio.gather(*(models.register(card, ActivationReason.TRAINED) for _ in range(4)))
    first = await models.get("forest-1")
    await models.register(card, ActivationReason.TRAINED)
    assert await models.get("forest-1") == first
    with pytest.raises(ConflictError) as caught:
        await models.find_former("simulated", "1m")
    assert caught.value.code == "no_former_model"


async def test_markets_do_not_see_each_others_models(database: Database) -> None:
    models = registry(database)
    await models.register(registered_card("forest-1"), ActivationReason.TRAINED)
    await models.register(registered_card("forest-hour", interval="1h"), ActivationReason.TRAINED)
    await models.register(registered_card("forest-real", source="binance"), ActivationReason.TRAINED)
    assert await states(models) == {"forest-1": ModelState.ACTIVE}
    assert [model.id for model in await models.list("binance", "1m")] == ["forest-real"]


async def test_list_is_cut_and_still_holds_the_active_one(database: Database) -> None:
    models = registry(database)
    await models.register(registered_card("forest-1"), ActivationReason.TRAINED)
    for name in ("forest-2", "forest-3"):
        await models.register(registered_card(name), None)
    assert [model.id for model in await models.list("simulated", "1m", 1)] == ["forest-3", "forest-1"]


async def test_count_candidates_counts_recipes_not_trainings(database: Database) -> None:
    models = registry(database)
    asked = registered_card("forest-1")
    other = asked | {"label_rule": asked["label_rule"] | {"horizon_bars": 6}}
    assert await models.count_candidates("simulated", "1m", asked) == 1
    for name in ("forest-1", "forest-2"):
        await models.register(registered_card(name), None)
    assert await models.count_candidates("simulated", "1m", asked) == 1
    assert await models.count_candidates("simulated", "1m", other) == 2
    await models.register(registered_card("forest-3", label_rule=other["label_rule"]), None)
    assert await models.count_candidates("simulated", "1m", asked) == 2


@pytest.mark.parametrize("model_id", ["forest-none", "a\x00b"])
async def test_get_unknown_model_is_not_found(database: Database, model_id: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        await registry(database).get(model_id)
    assert caught.value.code == "model_not_found"
