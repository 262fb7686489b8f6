"""The ledger in memory keeps the runs of a key apart, and its listings to what is wanted."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.domain.candle import Interval
from app.domain.cycle import ExecutionStatus
from app.domain.ports import Selection
from tests.support.edge import settings
from tests.support.fake_service import FakeService

pytestmark = pytest.mark.anyio


async def test_reset_lets_a_candle_be_traded_again_in_the_new_run() -> None:
    service = FakeService(settings())
    await service.open_account()
    first, _ = await service.run_cycle("BTCUSDT", Interval.M1, None)
    await service.portfolio.reset(Decimal(5_000), None)
    second, _ = await service.run_cycle("BTCUSDT", Interval.M1, None)

    assert second.execution is not None
    assert second.execution.status is ExecutionStatus.FILLED
    assert (first.run, second.run) == ("simulated.forest.main.1", "simulated.forest.main.2")
    old = await service.ledger.list_trades(limit=10, wanted=Selection(run=first.run))
    assert old.items == first.fills


async def test_list_trades_of_a_span_counts_its_start_and_not_its_end() -> None:
    service = FakeService(settings())
    await service.open_account()
    for _ in range(3):
        await service.run_cycle("BTCUSDT", Interval.M1, None)
        service.clock.advance(minutes=1)
    times = [trade.executed_at for trade in service.ledger.trades]

    found = await service.ledger.list_trades(limit=10, wanted=Selection(since=times[0], until=times[2]))

    assert [trade.id for trade in found.items] == [2, 1]
