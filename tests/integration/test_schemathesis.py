"""The API keeps to its own OpenAPI document, whatever schemathesis thinks of: the whole service, on a real database."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.domain.candle import Interval
from app.main import create_app
from tests.support.edge import settings
from tests.support.http import running_server

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = Path(sysconfig.get_path("scripts")) / "schemathesis"
EXAMPLES = 3
SECONDS = 180
READY_SECONDS = 60.0


@contextmanager
def running_service(folder: Path) -> Iterator[tuple[str, str, str]]:
    """The address of the service on the simulated market with a model and a few trades.

    And the ids of a backtest and of an optimisation.
    """
    chosen = settings(
        database_url=f"sqlite:///{folder / 'trading.db'}",
        model_path=folder / "models",
        default_interval=Interval.M15,
        training_klines=1_500,
        model_threshold_percent=0.1,
        model_horizon_bars=10,
        min_confidence=0,
    )
    with running_server(create_app(chosen)) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        deadline = time.monotonic() + READY_SECONDS
        while (answer := client.get("/readyz")).status_code != 200:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.1)
        for symbol in chosen.symbols:
            client.post("/trading/run-cycle", params={"symbol": symbol}).raise_for_status()
        order = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.001"}
        client.post("/portfolio/orders", json=order).raise_for_status()
        asked = {"strategy": "moving-average-cross", "interval": "15m", "parameters": {"fast_bars": 3, "slow_bars": 9}}
        varied = {"space": {"fast_bars": {"low": 5, "high": 20, "step": 5}}, "interval": "4h", "method": "grid"}
        yield server.url, run_job(client, "/backtest/run", asked), run_job(client, "/optimize", varied)


def run_job(client: httpx.Client, address: str, asked: Mapping[str, object]) -> str:
    """The id of the run that a job comes to."""
    answer = client.post(address, json=asked).raise_for_status()
    deadline = time.monotonic() + READY_SECONDS
    while (job := client.get(answer.headers["location"]).json())["status"] in ("QUEUED", "RUNNING"):
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    found: str = job["result"]["run_id"]
    return found


@pytest.mark.first
@pytest.mark.usefixtures("compiled_kernel")
def test_every_operation_keeps_to_its_document_in_all_phases(tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks",
        "NO_COLOR": "1",
    }
    with running_service(tmp_path) as (address, backtest_id, optimization_id):
        environment |= {"BACKTEST_ID": backtest_id, "OPTIMIZATION_ID": optimization_id}
        command = [
            *(str(SCHEMATHESIS), f"--config-file={ROOT / 'tests/support/schemathesis.toml'}"),
            *("run", f"{address}/openapi.json", f"--max-examples={EXAMPLES}", "--seed=1", "--no-shrink"),
            *("--checks=all", "--continue-on-failure", "--suppress-health-check=all"),
            "--exclude-operation-id=stream_events",  # has no end
        ]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )

    assert result.returncode == 0, "\n".join(line[:500] for line in (result.stdout + result.stderr).splitlines())
    assert "52 selected / 53 total" in result.stdout
