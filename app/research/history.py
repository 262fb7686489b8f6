"""Keeps the history of markets at hand: what is in the table is read there, and only what is missing is fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from app.domain.candle import Interval
from app.domain.data_quality import check_history
from app.domain.ports import Clock, MarketData
from app.exchanges.concurrency import together
from app.storage.candle_store import CandleStore, Gap
from ml.bars import Bars

OnCandles = Callable[[int, int], None]
"""Hears how many of how many candles are settled: kept, or found not to exist."""

PAGE_ROWS = 1_000

_PAGES_AT_ONCE = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)
"""No exchange we know has older candles."""


@dataclass(frozen=True, slots=True)
class Download:
    """What a download of one series came to.

    Of its candles that opened from `since` until before `until`, `fetched` came now and `stored` are kept; in the
    `gaps`, oldest first, the exchange has none.
    """

    source: str
    symbol: str
    interval: Interval
    since: datetime
    until: datetime
    fetched: int
    stored: int
    gaps: tuple[Gap, ...]


@dataclass(slots=True)
class _Tally:
    """Counts candles while they come in."""

    total: int
    on_progress: OnCandles
    done: int = 0
    fetched: int = 0

    def settle(self, candles: int) -> None:
        self.done += candles
        self.on_progress(min(self.done, self.total), self.total)


class HistoryKeeper:
    """Fetches the candles that are not kept yet, and keeps them.

    Each page is kept as soon as it is there, so that whatever breaks a download off, the next one goes on from what
    was reached. What the exchange does not have is asked for once a download, in as few calls as its gaps need.

    Args:
        market: Where candles come from.
        store: Where they are kept.
        clock: Says which candles can have closed.
    """

    def __init__(self, market: MarketData, store: CandleStore, clock: Clock) -> None:
        self._market = market
        self._store = store
        self._clock = clock

    @property
    def source(self) -> str:
        """The name of the market, which books and models carry."""
        return self._market.source

    async def download(
        self, symbol: str, interval: Interval, since: datetime, until: datetime, on_progress: OnCandles
    ) -> Download:
        """Keep every closed candle that opened from `since` until before `until`; gaps are reported, never filled.

        Raises:
            UpstreamError: The exchange failed or its candles cannot be true; the pages before are kept.
            NotFoundError: `unknown_symbol`.
            StorageError: The candles cannot be kept.
        """
        since = _next_open(max(since, _EARLIEST), interval)
        until = max(since, _next_open(min(until, self._last_close(interval)), interval))
        total = (until - since) // interval.duration
        tally = _Tally(total, on_progress)
        gaps = await self._fetch_missing(symbol, interval, since, until, tally)
        stored = total - _count(gaps)
        return Download(self.source, symbol, interval, since, until, tally.fetched, stored, tuple(gaps))

    async def load_range(
        self, symbol: str, interval: Interval, since: datetime, until: datetime, on_progress: OnCandles
    ) -> Bars:
        """Every closed candle that opened from `since` until before `until`; what is missing is fetched.

        Raises as `download`.
        """
        found = await self.download(symbol, interval, since, until, on_progress)
        return await self._store.load_bars(self._market.candle_source, symbol, interval, found.since, found.until)

    async def load_newest(self, symbol: str, interval: Interval, bars: int, on_progress: OnCandles) -> Bars:
        """The newest `bars` closed candles, oldest first; fewer where the exchange has fewer. Raises as `download`.

        The more gaps there are, the further back the first of them lies.
        """
        tally = _Tally(bars, on_progress)
        until = since = self._last_close(interval)
        have, reach = 0, bars
        while have < bars and (since == until or await self._has_older(symbol, interval, since)):
            start = max(_EARLIEST, since - reach * interval.duration)
            gaps = await self._fetch_missing(symbol, interval, start, since, tally)
            have += (since - start) // interval.duration - _count(gaps)
            since, reach = start, max(bars - have, PAGE_ROWS)
        return (await self._store.load_bars(self._market.candle_source, symbol, interval, since, until))[-bars:]

    async def _fetch_missing(
        self, symbol: str, interval: Interval, since: datetime, until: datetime, tally: _Tally
    ) -> list[Gap]:
        """Ask once for everything that is missing; returns what is missing still."""
        series = (self._market.candle_source, symbol, interval)
        gaps = await self._store.find_gaps(*series, since, until)
        tally.settle((until - since) // interval.duration - _count(gaps))
        for gap in gaps:
            await self._fetch_gap(symbol, interval, gap, tally)
        return await self._store.find_gaps(*series, since, until) if gaps else []

    async def _fetch_gap(self, symbol: str, interval: Interval, gap: Gap, tally: _Tally) -> None:
        """Fetch a few pages at once; where they are all empty, go on with the next candle that the exchange has."""
        position = gap.since
        while position < gap.until:
            edges = [
                min(position + page * PAGE_ROWS * interval.duration, gap.until) for page in range(_PAGES_AT_ONCE + 1)
            ]
            pages = [
                asyncio.create_task(self._fetch_page(symbol, interval, start, end, tally))
                for start, end in pairwise(edges)
                if start < end
            ]
            await together(*pages)
            position = edges[-1]
            if position < gap.until and not any(page.result() for page in pages):
                following = await self._market.fetch_range(symbol, interval, position, gap.until, limit=1)
                after = following[0].open_time if following else gap.until
                tally.settle((after - position) // interval.duration)
                position = after

    async def _fetch_page(self, symbol: str, interval: Interval, start: datetime, end: datetime, tally: _Tally) -> int:
        """Fetch, check and keep the candles of one page's span; returns how many there were."""
        page = await self._market.fetch_range(symbol, interval, start, end, PAGE_ROWS)
        check_history(page)
        await self._store.save(self._market.candle_source, symbol, interval, page)
        tally.fetched += len(page)
        tally.settle((end - start) // interval.duration)
        return len(page)

    async def _has_older(self, symbol: str, interval: Interval, moment: datetime) -> bool:
        return bool(await self._market.fetch_range(symbol, interval, _EARLIEST, moment, limit=1))

    def _last_close(self, interval: Interval) -> datetime:
        now = self._clock.now()
        return now - (now - _EPOCH) % interval.duration


def _count(gaps: Sequence[Gap]) -> int:
    return sum(gap.missing for gap in gaps)


def _next_open(moment: datetime, interval: Interval) -> datetime:
    """The first open time that is not before the moment."""
    return _EPOCH - (_EPOCH - moment) // interval.duration * interval.duration
