"""A service whose books do not add up says so everywhere, trades nothing, and goes on once they are repaired."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from app.bootstrap import Service, build_service
from app.domain.candle import Interval
from app.domain.events import EventFilter, EventType
from app.errors import NotReadyError, StorageError
from app.setting_kinds import MarketSource
from app.settings import load_settings
from app.storage import verification

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.anyio

RUN = "simulated.forest.main.1"


@asynccontextmanager
async def started(url: str, models: Path) -> AsyncIterator[Service]:
    settings = load_settings(
        database_url=url, market_source=MarketSource.SIMULATED, model_path=models, event_log_file=""
    )
    service = build_service(settings)
    try:
        await service.start(train=False)
        yield service
    finally:
        await service.stop()


async def test_books_that_do_not_add_up_stop_trading_until_they_are_repaired(sqlite_url: str, tmp_path: Path) -> None:
    async with started(sqlite_url, tmp_path):
        pass
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        connection.execute("DROP TRIGGER snapshots_no_update")
        connection.execute("UPDATE snapshots SET cash = cash + 1")
        connection.commit()

    async with started(sqlite_url, tmp_path) as service:
        with pytest.raises(StorageError) as refused:
            await service.run_cycle("BTCUSDT", Interval.M1)
        failing = [check for check in await service.checks() if check.name == "ledger"]
        told = (await service.event_log.list(EventFilter(EventType.BOOKS_MISMATCH))).items
        assert (await service.ledger.list_trades(limit=1)).items == ()
        account = await service.database.read(lambda connection: verification.list_accounts(connection)[0])
        found = await service.database.read(
            lambda connection: verification.verify_account(connection, account, lambda *_: None)
        )
        now = service.clock.now()
        repaired = await service.database.write(lambda connection: verification.repair(connection, account, now, found))

    difference = "cash is recorded as 10000.00000001, and its fills come to 10000"
    assert refused.value.code == "ledger_mismatch"
    assert refused.value.context == {"run": RUN, "differences": [difference]}
    assert "python -m app verify" in refused.value.message
    assert [(check.ok, difference in check.detail) for check in failing] == [(False, True)]
    assert [event.message for event in told] == [refused.value.message]
    assert repaired
    async with started(sqlite_url, tmp_path) as service:
        with pytest.raises(NotReadyError):  # only the model is missing now
            await service.run_cycle("BTCUSDT", Interval.M1)
