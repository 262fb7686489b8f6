"""Folds give the same numbers wherever they are fitted: here, in processes of joblib's, on a Dask cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ml.backend
from ml.backend import BackendError, run_calls
from ml.preparation import TrainingError
from ml.training import train
from tests.support.models import walk_bars
from tests.unit.ml.test_training import REQUEST


def add(first: int, second: int) -> int:
    return first + second


def trained(folder: Path, backend: str) -> dict[str, Any]:
    request = REQUEST | {"folder": str(folder), "backend": backend}
    heard: list[float] = []
    path = train({"BTCUSDT": walk_bars(1_200)}, request, lambda share, _words: heard.append(share))
    assert heard == sorted(heard)
    card: dict[str, Any] = json.loads((path / "card.json").read_text())
    return card


def test_calls_come_back_in_their_order_whatever_runs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [(number, 10 * number) for number in range(7)]
    alone = list(run_calls(add, calls, "loky", 10))
    monkeypatch.setattr(ml.backend, "LOKY_ROWS", 0)
    assert alone == list(run_calls(add, calls, "loky", 10)) == [11 * number for number in range(7)]


# A thread of loky that still hands out work may find it gone (KeyError): it was to end then anyway.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_calls_whose_results_nobody_wants_any_more_end_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    for least in (ml.backend.LOKY_ROWS, 0):
        monkeypatch.setattr(ml.backend, "LOKY_ROWS", least)
        results = run_calls(add, [(number, 1) for number in range(100)], "loky", 10)
        assert next(results) == 1
        results.close()
        assert list(results) == []


@pytest.mark.filterwarnings("default")  # of Dask's own
@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_training_on_a_dask_cluster_of_two_gives_the_same_model(tmp_path: Path, *, processes: bool) -> None:
    # Workers that are threads get their work over the wire, too; it is their start that takes processes seconds.
    from distributed import LocalCluster  # noqa: PLC0415 - two seconds, in each process that collects tests

    here = trained(tmp_path / "here", "loky")
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2, threads_per_worker=1, dashboard_address=None, processes=processes, protocol="tcp"
    ) as cluster:
        there = trained(tmp_path / "there", cluster.scheduler_address)
    assert there == here
    assert np.isfinite(there["metrics"]["skill"]["value"])


def test_backend_that_nobody_answers_at_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ml.backend, "_CONNECT_SECONDS", 0.3)
    with pytest.raises(BackendError, match="No Dask scheduler answers at TRAINING_BACKEND=tcp"):
        list(run_calls(add, [(1, 2)], "tcp://127.0.0.1:1", 10))
    with pytest.raises(TrainingError) as refused:
        trained(tmp_path, "tcp://127.0.0.1:1")
    assert refused.value.code == "backend_unusable"
