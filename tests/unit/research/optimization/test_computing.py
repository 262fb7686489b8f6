"""An optimisation finds what there is, judges it by later days only, and ends the same however often it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from app.domain.record import canonical, from_plain, to_plain
from app.errors import InvalidInputError
from app.research.backtest.computing import Task as BacktestTask
from app.research.backtest.computing import compute_backtest
from app.research.backtest.measuring import compute_daily
from app.research.optimization.computing import OPTUNA_FILE, TRIALS_FILE, compute_optimization
from app.research.optimization.request import FoldRule, Method, Objective, OptimizationRequest
from app.research.optimization.request import make_request as make
from app.research.optimization.result import OptimizationRun
from app.research.optimization.space import Axis
from app.research.optimization.worker import BARS_FILE, TASK_FILE, main
from app.risk.metrics import compute_sharpe, compute_total_return
from ml.bars import save_bars
from tests.support.backtests import SINCE
from tests.support.optimizations import (
    AXES,
    DAYS,
    count_bars,
    draw_walk,
    draw_waves,
    make_base,
    make_optimization,
    make_task,
    optimize,
)

pytestmark = pytest.mark.usefixtures("compiled_kernel")

SMALL = {"trials": 40, "population": 12, "generations": 4, "folds": 2}
ROOT = Path(__file__).parents[4]


def ask(method: Method, **asked: object) -> OptimizationRequest:
    return make(make_base(), AXES, {**SMALL, "method": method, **asked})


def strip(run: OptimizationRun) -> OptimizationRun:
    """A run without what the clock said."""
    return replace(run, seconds=0.0)


@pytest.fixture(scope="module")
def waves() -> np.ndarray:
    return draw_waves(1)


@pytest.fixture(scope="module")
def whole(waves: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> OptimizationRun:
    """Every point of the grid on a market of waves."""
    return optimize(ask(Method.GRID), waves, tmp_path_factory.mktemp("grid"))


@pytest.mark.parametrize("method", [Method.RANDOM, Method.GENETIC, Method.TPE, Method.NSGA2])
def test_search_finds_parameters_nearly_as_good_as_the_best_there_are(
    method: Method, waves: np.ndarray, whole: OptimizationRun, tmp_path: Path
) -> None:
    run = optimize(ask(method), waves, tmp_path)
    assert whole.best.sharpe is not None
    assert run.best.sharpe is not None
    assert run.best.sharpe > 0.75 * whole.best.sharpe > 2.0
    assert run.trials < whole.trials == 113
    assert (tmp_path / OPTUNA_FILE).exists() is (method in (Method.TPE, Method.NSGA2))
    (tmp_path / "again").mkdir()
    again = optimize(ask(method), waves, tmp_path / "again")
    assert strip(again) == strip(run)
    if method is Method.NSGA2:
        assert run.best in run.front
        assert all(len(one.objectives) == 2 for one in run.front)


def test_run_through_json_is_the_same(whole: OptimizationRun) -> None:
    assert from_plain(OptimizationRun, json.loads(canonical(to_plain(whole)))) == whole


def test_trial_is_the_backtest_of_its_parameters(waves: np.ndarray, whole: OptimizationRun, tmp_path: Path) -> None:
    task, history = make_task(whole.request, waves)
    request = whole.request.space.make_request(whole.best.values)
    alone = compute_backtest(
        BacktestTask("b" * 32, SINCE, "0.2.1", request, task.data), history, tmp_path, lambda _share, _words: None
    )
    curve, _ = compute_daily(float(request.initial_cash), alone.books)
    assert curve.tolist() == list(whole.best_curve)
    assert alone.run.performance.sharpe == whole.best.sharpe
    assert alone.run.fills == whole.best.fills
    held = whole.out_of_sample.benchmark
    assert len(curve) == DAYS + 1
    assert held[-1] / held[0] - 1 == pytest.approx(whole.out_of_sample.benchmark_return)


@pytest.mark.parametrize("method", Method)
def test_choice_is_made_without_the_days_after_it(method: Method, tmp_path: Path) -> None:
    closes = draw_walk(3)
    changed = closes.copy()
    cut = len(closes) - count_bars(DAYS // 2) + 1
    changed[cut:] = closes[cut - 1] * draw_walk(4)[: len(closes) - cut] / 100.0
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    first = optimize(ask(method), closes, tmp_path / "one")
    second = optimize(ask(method), changed, tmp_path / "other")
    assert first.best_curve != second.best_curve
    assert first.choices[0].values == second.choices[0].values
    assert first.choices[0].in_sample == second.choices[0].in_sample
    assert first.choices[0].out_of_sample != second.choices[0].out_of_sample


def test_what_you_would_have_had_is_every_choice_on_the_days_after_it_less_its_round_trip(tmp_path: Path) -> None:
    request = make(make_base({"fee_bps": 20, "slippage_bps": 5}), AXES[:1], {"method": Method.GRID, "folds": 3})
    run = optimize(request, draw_walk(8), tmp_path)
    outside, value = run.out_of_sample, float(request.backtest.initial_cash)
    assert outside.curve[0] == value
    from app.research.optimization.archive import Archive  # noqa: PLC0415

    with Archive(tmp_path / TRIALS_FILE, 1, DAYS) as archive:
        curves = {request.space.get_values(point)["fast_bars"]: archive[point].curve for point in archive}
    before = None
    for choice in run.choices:
        start, stop = ((one - SINCE) // timedelta(days=1) for one in (choice.test_since, choice.test_until))
        curve = curves[int(choice.values["fast_bars"])]
        growth = curve[start + 1] / curve[start] - (0.0 if choice.values == before else 0.005)
        value *= growth * curve[stop] / curve[start + 1]
        before = choice.values
    assert outside.curve[-1] == pytest.approx(value)
    curve = np.array(outside.curve)
    assert len(curve) == DAYS // 2 + 1
    assert outside.total_return == compute_total_return(curve)
    assert outside.sharpe == pytest.approx(compute_sharpe(curve[1:] / curve[:-1] - 1.0))
    assert 1 <= outside.changes <= 3


def test_optimisation_that_is_killed_goes_on_and_ends_as_it_would_have(tmp_path: Path) -> None:
    closes = draw_walk(5)
    request = ask(Method.GENETIC, generations=20)
    task, history = make_task(request, closes)
    for name in ("task", "killed", "whole"):
        (tmp_path / name).mkdir()
    (tmp_path / "task" / TASK_FILE).write_text(canonical(to_plain(task)))
    save_bars(tmp_path / "task" / BARS_FILE, history)
    trials = tmp_path / "killed" / TRIALS_FILE
    folders = map(str, (tmp_path / "task", tmp_path, trials.parent))
    with subprocess.Popen(
        [sys.executable, "-m", "app.research.optimization.worker", *folders],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        until = time.monotonic() + 60
        while not (trials.exists() and trials.stat().st_size > 10_000):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
    had = trials.stat().st_size
    on_the_way = compute_optimization(task, history, tmp_path, trials.parent, lambda _share, _words: None)
    uninterrupted = compute_optimization(task, history, tmp_path, tmp_path / "whole", lambda _share, _words: None)
    assert 10_000 < had < trials.stat().st_size == (tmp_path / "whole" / TRIALS_FILE).stat().st_size
    assert strip(on_the_way) == strip(uninterrupted)


def test_progress_rises_to_the_end(tmp_path: Path) -> None:
    heard: list[tuple[float, str]] = []
    task, history = make_task(ask(Method.GENETIC), draw_walk(1))
    compute_optimization(task, history, tmp_path, tmp_path, lambda share, words: heard.append((share, words)))
    shares = [share for share, _ in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 0.95
    assert heard[-2][1].startswith("Search 3 of 3: ")


@pytest.mark.parametrize("objective", [Objective.TOTAL_RETURN, Objective.CALMAR])
def test_best_is_the_best_by_what_was_asked_for(objective: Objective, waves: np.ndarray, tmp_path: Path) -> None:
    run = optimize(make_optimization(method=Method.GRID, objectives=(objective,)), waves, tmp_path)
    assert [one.objectives[0] for one in run.top] == sorted((one.objectives[0] or 0.0 for one in run.top), reverse=True)
    assert run.best.objectives == run.top[0].objectives
    if objective is Objective.TOTAL_RETURN:
        assert run.best.objectives == (run.best.total_return,)


def test_stops_and_targets_are_varied_with_the_parameters(waves: np.ndarray, tmp_path: Path) -> None:
    axes = (AXES[0], Axis("stop_atr_multiple", 0.5, 2.5, 1.0, is_integer=False))
    request = make_optimization(make_base({"stop_rule": "trailing_stop"}), axes=axes, method=Method.GRID)
    run = optimize(request, waves, tmp_path)
    assert run.trials == 30
    returns = {(one.values["fast_bars"], one.total_return) for one in run.top}
    assert len(returns) > len({one.values["fast_bars"] for one in run.top})


def test_span_that_is_too_short_for_its_folds_is_refused(tmp_path: Path) -> None:
    request = make_optimization(make_base(days=30), method=Method.GRID, folds=FoldRule(folds=5))
    with pytest.raises(InvalidInputError) as caught:
        optimize(request, draw_walk(1, days=30), tmp_path)
    assert caught.value.code == "span_too_short"


def test_forest_is_taught_by_its_parameters_and_gated_by_its_confidence(tmp_path: Path) -> None:
    own: dict[str, object] = {
        "training_klines": 500,
        "require_positive_return": False,
        "model_threshold_percent": 2,
        "allow_short": True,
    }
    since, until = (SINCE + timedelta(days=day) for day in (100, 120))
    base = make_base(own, since=since, until=until, strategy="forest", step_bars=120, parameters={"horizon_bars": 5})
    axes = (Axis("depth", 2, 3, 1, is_integer=True), Axis("min_confidence", 0.0, 0.9, 0.9, is_integer=False))
    request = OptimizationRequest(backtest=base, axes=axes, method=Method.GRID, folds=FoldRule(folds=2))
    task, history = make_task(replace(request, backtest=replace(base, since=SINCE)), draw_waves(2))
    task = replace(task, request=request)
    run = compute_optimization(task, history, tmp_path, tmp_path, lambda _share, _words: None)
    fills = {(one.values["depth"], one.values["min_confidence"]): one.fills for one in run.top}
    assert {place for place, count in fills.items() if count == 0} == {(2, 0.9), (3, 0.9)}
    assert len(fills) == 4


@pytest.mark.filterwarnings("default")  # of Dask's own
def test_trials_on_a_dask_cluster_come_to_the_same(waves: np.ndarray, tmp_path: Path) -> None:
    from distributed import LocalCluster  # noqa: PLC0415 - two seconds, in each process that collects tests

    request = ask(Method.RANDOM, trials=12)
    task, history = make_task(request, waves)
    runs = []
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2, threads_per_worker=1, dashboard_address=None, processes=False, protocol="tcp"
    ) as cluster:
        for name, backend in (("here", "loky"), ("there", cluster.scheduler_address)):
            (tmp_path / name).mkdir()
            own = replace(task, backend=backend)
            runs.append(compute_optimization(own, history, tmp_path, tmp_path / name, lambda _share, _words: None))
    assert strip(runs[0]) == strip(runs[1])


def test_cluster_that_does_not_answer_is_said_by_the_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.backend._CONNECT_SECONDS", 0.2)
    task, history = make_task(ask(Method.RANDOM), draw_walk(1))
    (tmp_path / TASK_FILE).write_text(canonical(to_plain(replace(task, backend="tcp://127.0.0.1:1"))))
    save_bars(tmp_path / BARS_FILE, history)
    assert main(tmp_path, tmp_path, tmp_path) == 3
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["error"]["kind"], last["error"]["code"]) == ("ConfigurationError", "backend_unusable")
    assert last["error"]["message"].startswith("No Dask scheduler answers at TRAINING_BACKEND=tcp://127.0.0.1:1")
