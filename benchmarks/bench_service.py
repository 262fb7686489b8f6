"""The running service against the local exchange: latency, throughput, start and memory."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

PROJECT = Path(__file__).parents[1]
SYMBOLS = 50
CALLERS = 16
CYCLES = 1_000


@dataclass(frozen=True)
class Running:
    """A service that is ready: its address, its process and how long it took to get there."""

    address: str
    process: subprocess.Popen[bytes]
    start_seconds: float

    @property
    def memory_megabytes(self) -> float:
        """Its resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def exchange(delay_milliseconds: float = 0.0) -> Iterator[str]:
    """The local exchange, in a process of its own; gives its address."""
    command = [sys.executable, "-m", "tests.support.exchange_server", "--symbols", str(SYMBOLS)]
    command += ["--delay-ms", str(delay_milliseconds)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def service(folder: Path, exchange_address: str) -> Iterator[Running]:
    """`python -m app serve` in `folder`, once it is ready."""
    environment = os.environ | {
        "PYTHONPATH": str(PROJECT),
        "MARKET_SOURCE": "binance",
        "BINANCE_BASE_URL": exchange_address,
        "BINANCE_FALLBACK_URL": "",
        "TRAINING_KLINES": "3000",
        "MODEL_THRESHOLD_PERCENT": "0.05",
        "PORT": "0",
        "LOG_LEVEL": "WARNING",
    }
    output = folder / "output.log"
    began = time.perf_counter()
    with output.open("w") as sink:
        command = [sys.executable, "-m", "app", "serve"]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=sink, stderr=sink)
    try:
        while (match := re.search(r"listening on (http://\S+)", output.read_text())) is None:
            assert process.poll() is None, output.read_text()
            time.sleep(0.01)
        while httpx.get(f"{match[1]}/readyz", trust_env=False).status_code != 200:
            time.sleep(0.02)
        yield Running(match[1], process, time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait(timeout=15)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def timed(client: httpx.Client, method: str, url: str) -> float:
    began = time.perf_counter()
    client.request(method, url).raise_for_status()
    return time.perf_counter() - began


def measure_overhead(running: Running, exchange_address: str, rounds: int = 200) -> tuple[float, float]:
    """p50 of a cycle and of the slower of its two upstream calls alone, in milliseconds, taken in turns."""
    upstream = {"klines": [], "ticker": []}  # type: dict[str, list[float]]
    cycles = []
    with httpx.Client(trust_env=False, timeout=30) as client:
        for number in range(rounds):
            klines = f"{exchange_address}/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=101"
            upstream["klines"].append(timed(client, "GET", klines))
            upstream["ticker"].append(timed(client, "GET", f"{exchange_address}/api/v3/ticker/price?symbol=BTCUSDT"))
            took = timed(client, "POST", f"{running.address}/trading/run-cycle?symbol=BTCUSDT")
            if number >= 10:
                cycles.append(took)
    slower = max(statistics.median(times) for times in upstream.values())
    return statistics.median(cycles) * 1e3, slower * 1e3


def symbol_names() -> list[str]:
    five = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "ADAUSDT"]
    return five + [f"COIN{number:03}USDT" for number in range(SYMBOLS - len(five))]


def measure_throughput(running: Running) -> float:
    """Cycles a second of `CALLERS` callers at once, over all symbols."""
    names, local = symbol_names(), threading.local()

    def call(number: int) -> None:
        if not hasattr(local, "client"):
            local.client = httpx.Client(trust_env=False, timeout=30)
        timed(local.client, "POST", f"{running.address}/trading/run-cycle?symbol={names[number % len(names)]}")

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(call, range(len(names))))
        began = time.perf_counter()
        list(pool.map(call, range(CYCLES)))
        return CYCLES / (time.perf_counter() - began)


def measure_trades_page(address: str, rounds: int = 300) -> float:
    """p99 of `GET /trading/trades?limit=100`, in milliseconds."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        times = [timed(client, "GET", f"{address}/trading/trades?limit=100") for _ in range(rounds + 10)]
    return percentile(times[10:], 0.99) * 1e3
