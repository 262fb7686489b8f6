"""An exchange of one's own: a real HTTP server on 127.0.0.1 that speaks Binance's wire format.

It runs in a thread with a loop of its own, so that synchronous and asynchronous tests use it alike:

    with ExchangeServer(["BTCUSDT"]) as exchange:
        exchange.fail("klines", "gzip_noise", times=1)
        client = BinanceMarketDataClient(exchange.url, "", SystemClock())
        ...
        assert exchange.count("klines") == 2

and as a process: `python -m tests.support.exchange_server --port 8099 --symbols 50 --delay-ms 20`.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from app.domain.candle import Candle, Interval
from tests.support.candles import load_recorded
from tests.support.exchange_faults import FAULTS, Ending, Fault, Reply, response
from tests.support.exchange_market import WEIGHTS, BinanceError, Market

FIVE_SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "ADAUSDT")

_PREFIX = "/api/v3/"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came; `at` is a monotonic instant."""

    endpoint: str
    query: dict[str, str]
    at: float


class ExchangeServer:
    """The server, its market, its clock and its faults; attributes may be changed while it runs.

    Args:
        symbols: The listed pairs.
        port: 0 takes a free one.
        delay_seconds: How long every answer takes.
        weight_limit: The weight a minute allows, as `exchangeInfo` says it; beyond it comes 429.
        packs: Whether answers are compressed, as Binance's are.
    """

    def __init__(
        self,
        symbols: Sequence[str] = FIVE_SYMBOLS,
        *,
        port: int = 0,
        delay_seconds: float = 0.0,
        weight_limit: int = 1_000_000,
        packs: bool = False,
    ) -> None:
        self.market = Market(symbols, weight_limit=weight_limit)
        self.delay_seconds = delay_seconds
        self.packs = packs
        self.offset = timedelta()
        self.reported_weight: int | None = None
        self.requests: deque[Request] = deque(maxlen=100_000)
        self._port = port
        self._stopped_at: datetime | None = None
        self._faults: dict[str, tuple[Fault, int | None]] = {}
        self._weights: Counter[int] = Counter()
        self._bodies: dict[tuple[str, int], bytes] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connections: set[_Connection] = set()

    # -- running

    def start(self) -> None:
        """Listen; returns once the port is open."""
        ready = threading.Event()
        listener = socket.create_server(("127.0.0.1", self._port), backlog=512)
        self._port = listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(listener, ready), daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Close every connection and the port."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """Name and port."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://{self.host}"

    # -- the market and its clock

    def now(self) -> datetime:
        """The exchange's time."""
        return self._stopped_at if self._stopped_at is not None else datetime.now(UTC) + self.offset

    def set_time(self, moment: datetime, *, runs: bool = True) -> None:
        """Set the exchange's clock; it runs on from there or stands still."""
        self.offset = moment - datetime.now(UTC)
        self._stopped_at = None if runs else moment

    def advance(self, step: timedelta) -> None:
        """Move the exchange's clock on."""
        if self._stopped_at is not None:
            self._stopped_at += step
        self.offset += step

    def give_candles(self, symbol: str, interval: Interval, candles: list[Candle]) -> None:
        """Serve these candles, oldest first, instead of made-up ones; one that covers now is the open one."""
        self.market.listings[symbol].candles[interval] = candles
        self._bodies.clear()

    def set_status(self, symbol: str, status: str) -> None:
        """Change a pair's status, such as to BREAK."""
        self.market.listings[symbol].status = status
        self._bodies.clear()

    # -- faults and what was asked

    def fail(self, endpoint: str, fault: str | Fault, times: int | None = None) -> None:
        """Answer an endpoint ("klines", "ticker/price", "exchangeInfo", "time" or "*") with a fault.

        Args:
            endpoint: Which; "*" for all that have no fault of their own.
            fault: A name in `exchange_faults.FAULTS`, or a function of the good body.
            times: How often; None for ever.
        """
        self._faults[endpoint] = (FAULTS[fault] if isinstance(fault, str) else fault, times)

    def heal(self, endpoint: str | None = None) -> None:
        """Answer an endpoint, or all, as one should again."""
        for name in list(self._faults) if endpoint is None else [endpoint]:
            self._faults.pop(name, None)

    def count(self, endpoint: str | None = None) -> int:
        """How many requests came, to one endpoint or to all."""
        return sum(endpoint in (None, request.endpoint) for request in list(self.requests))

    def weight_used(self) -> int:
        """The weight of all requests that came."""
        return sum(WEIGHTS.get(request.endpoint, 1) for request in list(self.requests))

    def drop_connections(self) -> None:
        """Close every open connection, as an idle timeout of the server would."""
        if self._loop is not None:
            for connection in list(self._connections):
                self._loop.call_soon_threadsafe(connection.close)

    # -- answering

    def reply_to(self, target: str) -> Reply:
        """What goes over the wire for a request's target."""
        endpoint, query = _parsed(target)
        self.requests.append(Request(endpoint, query, time.monotonic()))
        now = self.now()
        minute = int(now.timestamp()) // 60
        self._weights[minute] += WEIGHTS.get(endpoint, 1)
        used = self.reported_weight if self.reported_weight is not None else self._weights[minute]
        headers = {"X-MBX-USED-WEIGHT-1M": str(used)}
        if used > self.market.weight_limit:
            headers["Retry-After"] = str(60 - int(now.timestamp()) % 60)
            return _plain(429, b'{"code":-1003,"msg":"Too much request weight used."}', headers)
        fault = self._take_fault(endpoint)
        if endpoint not in WEIGHTS:
            return _plain(404, b"<html>not found</html>", {"Content-Type": "text/html"})
        try:
            body = self._body(endpoint, target, query, now)
        except BinanceError as error:
            if fault is None:
                return _plain(400, error.body, headers)
            body = error.body
        if fault is not None:
            return fault(body)
        if self.packs:
            return _plain(200, gzip.compress(body, 1), {**headers, "Content-Encoding": "gzip"})
        return _plain(200, body, headers)

    def _body(self, endpoint: str, target: str, query: dict[str, str], now: datetime) -> bytes:
        if endpoint == "time":
            return self.market.answer(endpoint, query, now)
        # No candle is shorter than a minute, so nothing else changes within one.
        key = (target, int(now.timestamp()) // 60)
        body = self._bodies.get(key)
        if body is None:
            if len(self._bodies) > 5_000:
                self._bodies.clear()
            body = self._bodies[key] = self.market.answer(endpoint, query, now)
        return body

    def _take_fault(self, endpoint: str) -> Fault | None:
        name = endpoint if endpoint in self._faults else "*"
        fault, times = self._faults.get(name, (None, None))
        if fault is not None and times is not None:
            if times <= 1:
                del self._faults[name]
            else:
                self._faults[name] = (fault, times - 1)
        return fault

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop = loop = asyncio.new_event_loop()
        server = loop.run_until_complete(loop.create_server(lambda: _Connection(self, loop), sock=listener))
        loop.call_soon(ready.set)
        try:
            loop.run_forever()
        finally:
            # Python 3.11 leaves open what it accepted a turn before its server was closed, so accepting ends first.
            loop.remove_reader(listener)
            loop.run_until_complete(self._close_connections())
            server.close()
            loop.close()

    async def _close_connections(self) -> None:
        # A connection that was just accepted shows up, and one that was just closed goes, a few turns later.
        for _ in range(50):
            for connection in list(self._connections):
                connection.close()
            await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    """One client's connection: requests in, replies out, one after the other."""

    def __init__(self, server: ExchangeServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._server._connections.discard(self)
        self._transport = None
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
            reply = self._server.reply_to(head.split(b" ", 2)[1].decode("latin-1"))
            if reply.whole is not None and not self._server.delay_seconds:
                self._write(reply.whole)
            else:
                self._task = self._loop.create_task(self._play(reply))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def _play(self, reply: Reply) -> None:
        await asyncio.sleep(self._server.delay_seconds)
        for seconds, piece in reply.pieces:
            # Sleeping for no time, too, lets the loop notice that a client has gone.
            await asyncio.sleep(seconds)
            await self._writable.wait()
            if self._transport is None or self._transport.is_closing():
                return
            self._write(piece)
        if self._transport is not None and reply.ending is Ending.CLOSE:
            self._transport.close()
        elif self._transport is not None and reply.ending is Ending.RESET:
            # Lingering for no time makes the kernel send a reset instead of an orderly end.
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()


def _plain(code: int, body: bytes, headers: dict[str, str]) -> Reply:
    return Reply([(0.0, response(code, body, headers))])


@lru_cache(maxsize=10_000)
def _parsed(target: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(target)
    return parts.path.removeprefix(_PREFIX), dict(parse_qsl(parts.query, keep_blank_values=True))


def _symbols(text: str) -> list[str]:
    """Names separated by commas, or how many pairs to make up after the first five."""
    if not text.isdigit():
        return text.split(",")
    names = [*FIVE_SYMBOLS, *(f"COIN{number:03}USDT" for number in range(int(text)))]
    return names[: int(text)]


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--symbols", default="5", help="how many, or names separated by commas")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--candles", type=Path, help="SYMBOL-INTERVAL.parquet, moved to end a day from now")
    arguments = parser.parse_args()
    server = ExchangeServer(_symbols(arguments.symbols), port=arguments.port, delay_seconds=arguments.delay_ms / 1_000)
    if arguments.candles:
        symbol, _, interval = arguments.candles.name.split(".")[0].partition("-")
        candles = load_recorded(arguments.candles, datetime.now(UTC) + timedelta(days=1))
        server.give_candles(symbol, Interval(interval), candles)
    with server:
        print(server.url, flush=True)  # noqa: T201 - a caller reads the address from here
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
