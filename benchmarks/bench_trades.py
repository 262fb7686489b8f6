"""How long a page of trades takes, and a start, with many trades in the books: python -m benchmarks.bench_trades."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from sqlalchemy import Connection, insert

from app.broker.desk import Desk, Terms
from app.broker.market_orders import enter, leave
from app.domain.booking import make_report, make_trades
from app.domain.candle import Candle, Interval
from app.domain.cycle import Circumstances, CycleDraft, Decision, ExecutionStatus, LogLine, MarketView, Settlement
from app.domain.instrument import Instrument
from app.domain.market import Indicators, MarketSnapshot, Quote
from app.domain.money import to_units
from app.domain.order import Origin, Side
from app.domain.ports import EVERYTHING, Selection
from app.domain.signal import Edge, Prediction, Signal
from app.domain.standing import RunKey, Standing
from app.engine.clocks import SimulatedClock, SystemClock
from app.engine.memory_ledger import follow
from app.storage import bookings, standings
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from app.storage.records import cycle_values, decision_values
from app.storage.tables import cycles, decisions

TRADES = 100_000
READS = 300
KEY = RunKey("simulated")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "ADAUSDT")
CASH = Decimal(10_000)
FREE = Terms(fee_bps=Decimal(0), slippage_bps=Decimal(0), volume_share=Decimal(0))
"""Without a fee the cash lasts."""

_START = datetime(2026, 1, 1, tzinfo=UTC)
_PRICE = Decimal("65000.10000000")
_QUANTITY = to_units(Decimal("0.01"))
_BATCH = 2_000


def made_draft(number: int, symbol: str, side: Side) -> CycleDraft:
    """A cycle on the next candle of `symbol`, which has no range, so that nothing slips."""
    opened = _START + timedelta(minutes=number // len(SYMBOLS))
    closed = opened + timedelta(milliseconds=59_999)
    candle = Candle(opened, closed, _PRICE, _PRICE, _PRICE, _PRICE, Decimal(10))
    instrument = Instrument(
        symbol, symbol.removesuffix("USDT"), "USDT", Decimal("0.01"), Decimal("0.00001"), Decimal(5)
    )
    seen_at = opened + timedelta(minutes=1)
    probabilities = {Signal.BUY: 0.5, Signal.SELL: 0.3, Signal.HOLD: 0.2}
    return CycleDraft(
        id=f"cycle-{number:09}",
        key=KEY,
        symbol=symbol,
        interval=Interval.M1,
        started_at=seen_at,
        market=MarketView(_PRICE, opened, closed, Indicators(65_000.1, 64_999.9, 55.5, 1e-4), ()),
        decision=Decision(Signal(side), 0.5, probabilities, "confident", "The model is confident.", "forest-1"),
        prediction=Prediction(Signal(side), probabilities, "forest-1", 0.001, Edge.NONE),
        snapshot=MarketSnapshot(
            KEY.source, symbol, Interval.M1, (candle,), Quote(_PRICE, seen_at), instrument, seen_at, 0.0
        ),
        circumstances=Circumstances("00ff", "11ee", "1", 0),
        logs=(LogLine(seen_at, "market_monitoring", "Price 65000.1."),),
    )


def made_cycles(standing: Standing, count: int) -> Iterator[tuple[CycleDraft, Standing, Settlement]]:
    """Cycles that buy and sell five symbols in turns, each with where the account stood before it."""
    for number in range(count):
        symbol = SYMBOLS[number % len(SYMBOLS)]
        side = Side.SELL if standing.portfolio.quantity(symbol) else Side.BUY
        draft = made_draft(number, symbol, side)
        desk = Desk(FREE, draft.id, standing, draft.snapshot, draft.started_at, cycle_id=draft.id)
        if side is Side.BUY:
            refusal = enter(desk, side, desk.portfolio.available, _QUANTITY, Origin.SIGNAL)
        else:
            refusal = leave(desk, desk.held, Origin.SIGNAL)
        assert refusal is None
        settlement = desk.settle(ExecutionStatus.FILLED, "filled", desk.last_words)
        yield draft, standing, settlement
        standing = follow(standing, settlement)


async def fill_books(database: Database, count: int) -> None:
    """Put `count` trades into the books of a new account, through the same tables and triggers as a cycle."""
    made = made_cycles(await SqlLedger(database, SimulatedClock(_START)).open_account(KEY, CASH), count)

    def insert_batch(connection: Connection) -> None:
        account = standings.get_account(connection, KEY)
        batch = [
            (
                draft,
                before,
                settlement,
                make_trades(account.run, settlement, draft.id, draft.decision, draft.started_at),
            )
            for draft, before, settlement in itertools.islice(made, _BATCH)
        ]
        reports = [
            make_report(account.run, draft, settlement, trades, draft.started_at)
            for draft, _, settlement, trades in batch
        ]
        connection.execute(insert(cycles), [cycle_values(report, account.id) for report in reports])
        connection.execute(insert(decisions), [decision_values(draft.id, draft.decision) for draft, *_ in batch])
        for draft, before, settlement, trades in batch:
            bookings.save_settlement(connection, account, before, settlement, trades, draft.id)

    for _ in range(-(-count // _BATCH)):
        await database.write(insert_batch)


async def fill_file(path: Path) -> None:
    """Make a database at `path` with `TRADES` trades."""
    async with Database(f"sqlite:///{path}") as database:
        await fill_books(database, TRADES)


async def measure_pages(ledger: SqlLedger, name: str, wanted: Selection = EVERYTHING) -> None:
    """Time pages of a hundred trades: the newest, and those far down."""
    seconds = []
    cursor = None
    for _ in range(READS):
        begun = time.perf_counter()
        page = await ledger.list_trades(limit=100, cursor=cursor, wanted=wanted)
        seconds.append(time.perf_counter() - begun)
        assert len(page.items) == 100
        cursor = page.next_cursor if len(seconds) % 2 else None
    seconds.sort()
    p50, p99 = (1_000 * seconds[int(len(seconds) * share)] for share in (0.5, 0.99))
    print(f"list_trades(limit=100) {name:<17} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms")


async def main() -> None:
    """Fill, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'bench.db'}"
        async with Database(url) as database:
            begun = time.perf_counter()
            await fill_books(database, TRADES)
            print(f"{TRADES} trades written in {time.perf_counter() - begun:.1f} s")
        print(f"{(Path(folder) / 'bench.db').stat().st_size / 2**20:.0f} MB")
        begun = time.perf_counter()
        async with Database(url) as database:
            opened = time.perf_counter()
            ledger = SqlLedger(database, SystemClock())
            await ledger.open_account(KEY, CASH)
            checked = time.perf_counter()
            print(f"open and quick_check {opened - begun:.2f} s, check of the books {checked - opened:.2f} s")
            await measure_pages(ledger, "all")
            await measure_pages(ledger, "of a symbol", Selection(symbol="ETHUSDT"))
            await measure_pages(ledger, "of a source", Selection(source=KEY.source))
            await measure_pages(ledger, "of both", Selection(symbol="ETHUSDT", source=KEY.source))


if __name__ == "__main__":
    asyncio.run(main())
