"""Whether a cycle could run now, one check for each thing that it needs, and how the newest one ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.domain.cycle import CycleReport
from app.domain.data_quality import MAXIMUM_CLOCK_SKEW_SECONDS
from app.domain.ports import MarketData
from app.errors import ServiceError
from app.exchanges.binance import BinanceMarketDataClient
from app.research.model_keeper import ModelKeeper
from app.storage.database import Database

_PROBE_SECONDS = 30.0
_DOUBTED_PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One named thing that has to be right for a cycle to run, and what was found."""

    name: str
    ok: bool
    detail: str


class MarketProbe:
    """Asks the market whether it answers: at most every `_PROBE_SECONDS`, sooner while it does not."""

    def __init__(self) -> None:
        self._last: tuple[float, Check] | None = None
        self._probing = asyncio.Lock()

    async def check(self, market: MarketData) -> Check:
        """Whether the exchange answers."""
        async with self._probing:
            now = asyncio.get_running_loop().time()
            if self._last is not None:
                asked_at, check = self._last
                if now - asked_at < (_PROBE_SECONDS if check.ok else _DOUBTED_PROBE_SECONDS):
                    return check
            try:
                await market.probe()
                check = Check("market", ok=True, detail=f"{market.source} answers")
            except ServiceError as error:
                check = Check("market", ok=False, detail=error.message)
            self._last = (now, check)
            return check


async def check_database(database: Database) -> Check:
    """Whether the database can be written to."""
    try:
        await database.check()
    except ServiceError as error:
        return Check("database", ok=False, detail=error.message)
    return Check("database", ok=True, detail=database.description)


def check_ledger(error: ServiceError | None) -> Check:
    """Whether the books added up at the start."""
    return Check("ledger", ok=error is None, detail=error.message if error else "the books add up")


def check_clock(market: MarketData) -> Check:
    """Whether this machine's clock is near the exchange's."""
    skew = market.clock_skew_seconds if isinstance(market, BinanceMarketDataClient) else 0.0
    if skew is None:
        return Check("clock", ok=True, detail="not measured yet")
    words = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} the exchange"
    return Check("clock", ok=abs(skew) <= MAXIMUM_CLOCK_SKEW_SECONDS, detail=words)


def check_model(keeper: ModelKeeper) -> Check:
    """Whether there is a model to decide with."""
    status, age = keeper.status, keeper.age
    if age is None:
        return Check("model", ok=False, detail=f"{status.message} ({status.progress:.0%})")
    warning = f" It is {age.days} days old, which is too old: a new one is due." if keeper.is_old else ""
    return Check("model", ok=True, detail=status.message + warning)


def describe_cycle(report: CycleReport) -> dict[str, Any]:
    """A cycle in what `GET /health` says of the newest."""
    finished: datetime = report.finished_at
    status = report.execution.status if report.execution else report.status
    reason_code = report.execution.reason_code if report.execution else report.reason_code
    return {
        "id": report.id,
        "symbol": report.symbol,
        "finished_at": finished.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "status": status.value,
        "reason_code": reason_code,
    }
