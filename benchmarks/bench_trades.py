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

from sqlalchemy import Connection, insert, select

from app.domain.candle import Interval
from app.domain.cycle import (
    CycleDraft,
    Decision,
    Execution,
    ExecutionStatus,
    LogLine,
    MarketView,
    Trade,
)
from app.domain.market import Indicators
from app.domain.order import Side
from app.domain.signal import Signal
from app.engine.clocks import SystemClock
from app.storage.database import Database
from app.storage.ledger import SqlLedger
from app.storage.records import cycle_values, decision_values, trade_values
from app.storage.tables import accounts, cycles, decisions, trades

TRADES = 100_000
READS = 300
SOURCE = "simulated"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "ADAUSDT")
CASH = Decimal(10_000)

_START = datetime(2026, 1, 1, tzinfo=UTC)
_PRICE = Decimal("65000.10000000")
_QUANTITY = Decimal("0.01000000")
_NOTIONAL = Decimal("650.00100000")
_BATCH = 2_000


def made_trades(count: int) -> Iterator[tuple[CycleDraft, Trade]]:
    """Cycles that buy and sell five symbols in turns, without a fee so that the cash lasts."""
    cash, held = CASH, dict.fromkeys(SYMBOLS, Decimal(0))
    for number in range(count):
        symbol, opened = SYMBOLS[number % len(SYMBOLS)], _START + timedelta(minutes=number // len(SYMBOLS))
        side = Side.SELL if held[symbol] else Side.BUY
        cash += _NOTIONAL if side is Side.SELL else -_NOTIONAL
        held[symbol] += _QUANTITY if side is Side.BUY else -_QUANTITY
        view = MarketView(_PRICE, opened, opened + timedelta(minutes=1), Indicators(65_000.1, 64_999.9, 55.5, 1e-4), ())
        probabilities = {Signal.BUY: 0.5, Signal.SELL: 0.3, Signal.HOLD: 0.2}
        decision = Decision(Signal(side), 0.5, probabilities, "confident", "The model is confident.", "forest-1")
        log = (LogLine(opened, "market_monitoring", "Price 65000.1."),)
        draft = CycleDraft(f"cycle-{number:09}", SOURCE, symbol, Interval.M1, opened, view, decision, log)
        yield (
            draft,
            Trade(
                id=0,
                cycle_id=draft.id,
                symbol=symbol,
                interval=Interval.M1,
                source=SOURCE,
                side=side,
                quantity=_QUANTITY,
                price=_PRICE,
                notional=_NOTIONAL,
                fee=Decimal(0),
                slippage_bps=3.0,
                confidence=0.5,
                model_id="forest-1",
                candle_open_time=opened,
                executed_at=opened,
                reason=f"{side} 0.01 {symbol} at 65000.1, 3.00 bps from the quote, fee 0.",
                cash_after=cash,
                position_after=held[symbol],
            ),
        )


async def fill_books(database: Database, count: int) -> None:
    """Put `count` trades into the books of a new account, through the same tables and triggers as a cycle."""
    await SqlLedger(database, SystemClock()).open_account(SOURCE, CASH)
    made = made_trades(count)

    def insert_batch(connection: Connection) -> None:
        account_id = connection.execute(select(accounts.c.id).where(accounts.c.source == SOURCE)).scalar_one()
        batch = [
            (draft.finish(Execution(ExecutionStatus.FILLED, "filled", trade.reason, trade), trade.executed_at), trade)
            for draft, trade in itertools.islice(made, _BATCH)
        ]
        connection.execute(insert(cycles), [cycle_values(report, account_id) for report, _ in batch])
        reasons = [decision_values(report.id, report.decision) for report, _ in batch if report.decision is not None]
        connection.execute(insert(decisions), reasons)
        connection.execute(insert(trades), [trade_values(trade, account_id) for _, trade in batch])

    for _ in range(-(-count // _BATCH)):
        await database.write(insert_batch)


async def fill_file(path: Path) -> None:
    """Make a database at `path` with `TRADES` trades."""
    async with Database(f"sqlite:///{path}") as database:
        await fill_books(database, TRADES)


async def measure_pages(ledger: SqlLedger, name: str, **filters: str) -> None:
    """Time pages of a hundred trades: the newest, and those far down."""
    seconds = []
    cursor = None
    for _ in range(READS):
        begun = time.perf_counter()
        page = await ledger.list_trades(limit=100, cursor=cursor, **filters)
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
            await ledger.open_account(SOURCE, CASH)
            checked = time.perf_counter()
            print(f"open and quick_check {opened - begun:.2f} s, check of the books {checked - opened:.2f} s")
            await measure_pages(ledger, "all")
            await measure_pages(ledger, "of a symbol", symbol="ETHUSDT")
            await measure_pages(ledger, "of a source", source=SOURCE)
            await measure_pages(ledger, "of both", symbol="ETHUSDT", source=SOURCE)


if __name__ == "__main__":
    asyncio.run(main())
