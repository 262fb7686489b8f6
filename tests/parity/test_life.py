"""A backtest is what the live service would have done: the engine with its real agents, exchange checks and ledgers."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.engine.memory_ledger import MemoryLedger
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from tests.support.fakes import FakeClock
from tests.support.live import life_of, live
from tests.support.parity import World, make_world, run_if_countable

pytestmark = pytest.mark.usefixtures("compiled_kernel")

pytest_plugins = ("tests.support.databases",)

_SEEDS = st.integers(0, 10**9)
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

TRADED_SEEDS = (12, 274, 562)
"""Worlds of two symbols that trade long and short, with protection, a liquidation, gaps and refused candles."""


def assert_lives_as_tested(world: World) -> None:
    """The books of a backtest are those of the same candles lived through, on a ledger in memory."""
    books = run_if_countable(world)
    if books is not None:
        clock = FakeClock()
        lived = asyncio.run(live(world, MemoryLedger(clock), clock))
        assert lived == life_of(books)


@settings(_PATIENT, max_examples=25)
@given(seed=_SEEDS)
def test_backtest_of_any_world_is_what_lives_through_it(seed: int) -> None:
    assert_lives_as_tested(make_world(Random(seed), bars=(70, 170)))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1_000, 1_400, 200))
def test_backtests_of_many_worlds_are_what_lives_through_them(first: int) -> None:
    for seed in range(first, first + 200):
        assert_lives_as_tested(make_world(Random(seed)))


@pytest.mark.anyio
@pytest.mark.parametrize("seed", TRADED_SEEDS)
async def test_backtest_is_what_the_service_books_in_its_database(sqlite_database: Database, seed: int) -> None:
    world = make_world(Random(seed), bars=(70, 100))
    books = run_if_countable(world)
    assert books is not None
    assert len(books.fills) > 10
    clock = FakeClock()
    lived = await live(world, SqlLedger(sqlite_database, clock), clock)
    assert lived == life_of(books)
