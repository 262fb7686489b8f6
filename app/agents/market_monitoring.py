"""The first seat of a cycle: looks at the market and refuses what cannot be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from app.domain.candle import Interval
from app.domain.cycle import MarketView
from app.domain.data_quality import check_snapshot
from app.domain.market import Indicators, MarketSnapshot
from app.domain.ports import Snapshots
from app.strategies.bars import bars_from_candles
from ml.indicators import compute_seed_indicators

REPORTED_CANDLES = 10
"""How many of the last closed candles a cycle shows and keeps."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A snapshot that passed every check, and what is reported of it."""

    snapshot: MarketSnapshot
    view: MarketView


class Observer(Protocol):
    """Whoever has the first seat; in a backtest all candles are checked beforehand."""

    async def observe(self, symbol: str, interval: Interval) -> Observation:
        """The market as it stands; raises what `MarketMonitoringAgent.observe` raises."""
        ...


class MarketMonitoringAgent:
    """Fetches candles and price, checks them, and computes the seed indicators.

    Args:
        market: Where the data comes from.
        bars: How many closed candles to look at.
        minimum_bars: How many of them there must be, without a gap, at the end.
    """

    def __init__(self, market: Snapshots, *, bars: int, minimum_bars: int) -> None:
        self._market = market
        self._bars = bars
        self._minimum_bars = minimum_bars

    async def observe(self, symbol: str, interval: Interval) -> Observation:
        """The market as it stands.

        Raises:
            UpstreamError: The exchange failed or sent data that is not fit to trade on.
            NotReadyError: The data is stale, too short or interrupted, or this machine's clock is off.
            NotFoundError: The exchange does not know `symbol`.
            ConflictError: The exchange does not trade `symbol` at present.
        """
        snapshot = await self._market.fetch_snapshot(symbol, interval, self._bars)
        check_snapshot(snapshot, minimum_bars=self._minimum_bars)
        newest = snapshot.candles[-1]
        view = MarketView(
            price=snapshot.quote.price,
            candle_open_time=newest.open_time,
            candle_close_time=newest.close_time,
            indicators=Indicators(**compute_seed_indicators(bars_from_candles(snapshot.candles))),
            candles=tuple(snapshot.candles[-REPORTED_CANDLES:]),
        )
        return Observation(snapshot, view)
