"""`python -m app optimize` as a person uses it, on the simulated market and on a file."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.commands import command, environment, run
from tests.support.optimizations import draw_waves
from tests.support.pages import ReadPage

pytestmark = pytest.mark.usefixtures("compiled_kernel", "computed_here")

SPAN = ("--interval", "4h", "--since", "2026-01-01", "--until", "2026-03-01", "--folds", "3")
VARIED = ("--vary", "fast_bars=5:20:5", "--vary", "slow_bars=20:60:20")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the books of all these commands."""
    return tmp_path_factory.mktemp("optimizations")


@pytest.fixture(scope="module")
def found(place: Path) -> Any:
    """An optimisation that several tests look at, as JSON; its page is beside the books."""
    ended = run(place, "optimize", *SPAN, *VARIED, "--method", "grid", "--json", "--html", "found.html")
    assert ended.code == 0, ended.err
    return ended.json


def test_optimisation_as_json_is_the_document_of_the_api(found: Any) -> None:
    assert found["trials"] == 11
    assert found["request"]["method"] == "grid"
    assert found["request"]["backtest"]["symbols"] == ["BTCUSDT"]
    assert found["data"]["source"] == "simulated-7"
    assert found["judgement"]["recommended"] is None
    assert len(found["choices"]) == 3


def test_optimisation_for_people_says_what_to_think_of_it(place: Path, found: Any) -> None:
    ended = run(place, "optimize", *SPAN, *VARIED, "--method", "grid")
    lines = ended.out.splitlines()
    assert ended.code == 0
    assert lines[0] == "moving-average-cross on BTCUSDT, 4h candles of simulated-7, 2026-01-01 to 2026-03-01"
    assert lines[1].startswith("11 different trials by grid, in ")
    assert "What you would have had from 2026-01-31 on: " in ended.out
    assert f"Probability of overfitting: {100 * found['overfitting']['probability']:.1f} %" in ended.out
    assert "Recommended: nothing" in ended.out
    assert found["judgement"]["reason"] in ended.out
    assert f"Optimisation {found['id']}, " in ended.out, "the same request is the same run"
    assert f"the backtest of the best is {found['best_run_id']}" in ended.out


def test_page_shows_the_choices_the_map_and_the_refusal(place: Path, found: Any) -> None:
    page = ReadPage((place / "found.html").read_text())
    said = " ".join(page.words)
    assert "Recommended: nothing." in said
    assert found["judgement"]["reason"] in said
    cells = next(trace for figure in page.figures for trace in figure["data"] if trace["type"] == "heatmap")
    assert (cells["x"], cells["y"]) == (["5", "10", "15", "20"], ["20", "40", "60"])
    assert cells["z"][1] == pytest.approx(found["plateau"]["cells"][1], rel=1e-6)
    assert sum(row[:1] == ["2026-01-01 to 2026-01-31"] for row in page.rows) == 1


def test_file_of_a_market_that_can_be_known_brings_a_recommendation(place: Path) -> None:
    closes = draw_waves(1)
    opens = np.append(closes[:1], closes[:-1])
    start = 1_767_225_600_000
    lines = ["timestamp,open,high,low,close,volume"] + [
        f"{start + 14_400_000 * number},{one:.4f},{max(one, other):.4f},{min(one, other):.4f},{other:.4f},1000000"
        for number, (one, other) in enumerate(zip(opens.tolist(), closes.tolist(), strict=True))
    ]
    (place / "waves.csv").write_text("\n".join(lines) + "\n")
    ended = run(
        *(place, "optimize", "--file", "waves.csv", "--method", "tpe", "--trials", "10", "--folds", "2"),
        *("--vary", "slow_bars=10:40:5", "--parameter", "fast_bars=4", "--seed", "3", "--cash-fraction", "1"),
        *("--fee-bps", "0", "--slippage-bps", "0", "--set", "max_drawdown=0", "--json"),
    )
    assert ended.code == 0, ended.err
    run_of_it = ended.json
    assert run_of_it["data"]["source"] == "file"
    assert run_of_it["judgement"]["recommended"] == run_of_it["best"]["values"]
    assert set(run_of_it["best"]["values"]) == {"slow_bars"}
    assert run_of_it["request"]["seed"] == 3
    assert run_of_it["out_of_sample"]["ratio"] > 0.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--vary", "fast_bars=5"), "--vary: fast_bars='5' is not as fast_bars=5:50:5. [invalid_option]"),
        (("--vary", "fast_bars=5:a"), "is not as fast_bars=5:50:5. [invalid_option]"),
        (("--vary", "fast_bars=20:5"), "[range_invalid]"),
        (("--vary", "quick=5:50"), "[parameter_unknown]"),
        (("--method", "grid"), "[grid_too_large]"),
        (("--driver", "engine"), "driver must be compiled"),
        (("--strategy", "buy-and-hold"), "[nothing_to_vary]"),
        (("--trials", "0"), "trials must be from 2 to 10,000. [invalid_request]"),
        (("--parameter", "fast_bars=5", "--vary", "fast_bars=5:50"), "[parameter_fixed]"),
        (("--file", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(place: Path, given: tuple[str, ...], said: str) -> None:
    ended = run(place, "optimize", *given)
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_optimisation_that_is_interrupted_goes_on_where_it_was(place: Path) -> None:
    for seed in range(4):  # where this process was held up, a search may have ended before it was seen
        asked = ("optimize", *SPAN, "--method", "genetic", "--generations", "30", "--seed", str(seed), "--json")
        file = kill_on_its_way(place, asked)
        if file is not None:
            break
    assert file is not None, "each of them ended before it was killed"
    had = file.stat().st_size
    ended = run(place, *asked)
    assert ended.code == 0, ended.err
    assert ended.json["id"] == file.parent.name
    assert ended.json["trials"] * 8 * 60 > had
    assert not file.exists()


def kill_on_its_way(place: Path, asked: tuple[str, ...]) -> Path | None:
    """Start a command and kill it once it has run trials; their file, or None where it was too quick."""
    with subprocess.Popen(
        command(*asked), cwd=place, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        until = time.monotonic() + 60
        while not (files := [one for one in place.glob("models/studies/*/trials.bin") if has_trials(one)]):
            if process.poll() is not None:
                assert process.returncode == 0
                return None
            assert time.monotonic() < until
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    time.sleep(0.5)  # its child hears of it
    return files[0] if files[0].exists() else None


def has_trials(file: Path) -> bool:
    try:
        return file.stat().st_size > 5_000
    except FileNotFoundError:
        return False
