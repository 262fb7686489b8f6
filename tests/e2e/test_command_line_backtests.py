"""`python -m app backtest|walk-forward|compare` as a person uses them, on the simulated market and on files."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.domain.candle import Interval
from app.research.backtest import keeper
from app.research.backtest.books import Books
from tests.support.candles import made_candles
from tests.support.commands import command, environment, run, run_process

pytestmark = pytest.mark.usefixtures("compiled_kernel", "computed_here")

SPAN = ("--since", "2026-01-01", "--until", "2026-01-03")
CROSS = ("--strategy", "moving-average-cross", "--interval", "15m", *SPAN)
QUICK = {"TRAINING_KLINES": "600", "MODEL_THRESHOLD_PERCENT": "0.1", "MODEL_HORIZON_BARS": "5"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the books of all these commands."""
    return tmp_path_factory.mktemp("backtests")


@pytest.fixture(scope="module")
def crossed(place: Path) -> Any:
    """A run that several tests look at, as JSON."""
    ended = run(place, "backtest", *CROSS, "--json")
    assert ended.code == 0, ended.err
    return ended.json


def write_file(file: Path, bars: int = 400, left_out: int | None = None) -> list[str]:
    """A plain CSV of candles of 15 minutes, one of them left out where that is asked; returns its lines."""
    candles = made_candles("BTCUSDT", Interval.M15, end=datetime(2026, 1, 10, tzinfo=UTC), bars=bars)
    lines = ["timestamp,open,high,low,close,volume"] + [
        f"{int(one.open_time.timestamp() * 1_000)},{one.open},{one.high},{one.low},{one.close},{one.volume}"
        for place, one in enumerate(candles)
        if place != left_out
    ]
    file.write_text("\n".join(lines) + "\n")
    return lines


def test_backtest_as_json_is_the_document_of_the_api(crossed: Any) -> None:
    assert crossed["request"]["strategy"] == "moving-average-cross"
    assert (crossed["request"]["since"], crossed["request"]["until"]) == (
        "2026-01-01T00:00:00.000Z",
        "2026-01-03T00:00:00.000Z",
    )
    assert crossed["data"]["source"] == "simulated-7"
    assert sum(crossed["outcomes"].values()) == 2 * 96
    assert "difference" not in crossed


def test_backtest_for_people_says_what_came_of_it_and_what_speaks_against_it(place: Path, crossed: Any) -> None:
    ended = run(place, "backtest", *CROSS)

    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == ("moving-average-cross:fast_bars=10,slow_bars=50 on BTCUSDT, 15m candles of simulated-7")
    assert lines[1] == (f"2026-01-01 00:00:00Z to 2026-01-03 00:00:00Z: 192 cycles, {crossed['fills']} fills")
    assert lines[2] == f"10000 became {crossed['final_equity']}"
    assert f"{crossed['performance']['total_return']:+.2%}".replace("%", " %") in ended.out
    assert f"{crossed['benchmark']['total_return']:+.2%}".replace("%", " %") in ended.out
    assert "Luck? Too short to say" in ended.out
    assert "Note: The market is simulated" in ended.out
    assert f"Run {crossed['id']}" in ended.out, "the same request is the same run"


def test_backtest_takes_its_own_rules(place: Path) -> None:
    ended = run(
        place,
        *("backtest", *CROSS, "--parameter", "fast_bars=5", "--parameter", "slow_bars=20", "--cash", "5000"),
        *("--fee-bps", "10", "--slippage-bps", "0", "--sizing", "risk_per_trade", "--stop-rule", "trailing_stop"),
        *("--set", "max_drawdown=0.5", "--set", "COOLDOWN_LOSSES=0", "--latency-bars", "2", "--seed", "4", "--json"),
        *("--symbol", "ETHUSDT", "--symbol", "BTCUSDT"),
    )

    assert ended.code == 0, ended.err
    asked = ended.json["request"]
    wanted = {
        "symbols": ["ETHUSDT", "BTCUSDT"],
        "parameters": {"fast_bars": 5.0, "slow_bars": 20.0},
        "initial_cash": "5000",
        "fee_bps": "10",
        "slippage_bps": "0",
        "sizing": "risk_per_trade",
        "stop_rule": "trailing_stop",
        "max_drawdown": "0.5",
        "cooldown_losses": 0,
        "latency_bars": 2,
        "seed": 4,
    }
    assert {name: asked[name] for name in wanted} == wanted


def test_backtest_verified_runs_both_drivers_and_finds_no_difference(place: Path, crossed: Any) -> None:
    shown = run(place, "backtest", *CROSS, "--verify")
    found = run(place, "backtest", *CROSS, "--verify", "--json").json

    assert shown.code == 0, shown.err
    assert f"Both drivers agree on all 192 cycles and {crossed['fills']} fills, to the last 1e-8." in shown.out
    assert found["difference"] is None
    assert found["id"] == crossed["id"]


def test_backtest_verified_with_a_difference_names_it_and_exits_3(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(first: Books, second: Books) -> str:
        assert len(first) == len(second) == 192
        return "fill 3: price 1 and 2"

    monkeypatch.setattr(keeper, "find_first_difference", differ)
    ended = run(place, "backtest", *CROSS, "--verify")

    assert ended.code == 3
    assert "The drivers DIFFER (compiled, then engine): fill 3: price 1 and 2" in ended.out


def test_backtest_as_a_page_is_written_beside_its_tables(place: Path, crossed: Any, tmp_path: Path) -> None:
    shown = run(place, "backtest", *CROSS, "--html", str(tmp_path / "run.html"))
    machine = run(place, "backtest", *CROSS, "--html", str(tmp_path / "again.html"), "--json")

    assert shown.out.endswith(f"Wrote {tmp_path / 'run.html'}\n")
    assert machine.json["id"] == crossed["id"]
    page = (tmp_path / "run.html").read_text()
    assert crossed["id"] in page
    assert crossed["data"]["candle_hash"] in page


def test_backtest_of_a_file_trades_its_candles(place: Path, tmp_path: Path) -> None:
    write_file(tmp_path / "BTCUSDT-15m.csv")
    asked = ("backtest", "--strategy", "moving-average-cross", "--file", str(tmp_path / "BTCUSDT-15m.csv"), "--json")

    whole = run(place, *asked)
    late = run(place, *asked, "--since", "2026-01-09")

    assert whole.code == 0, whole.err
    assert (whole.json["data"]["source"], whole.json["data"]["bars"]) == ("file", 400)
    assert sum(whole.json["outcomes"].values()) == 300, "a window of 100 candles comes before the first cycle"
    assert (whole.json["request"]["interval"], whole.json["request"]["until"]) == ("15m", "2026-01-10T00:00:00.000Z")
    assert "instrument_unknown" in {caveat["code"] for caveat in whole.json["caveats"]}
    assert sum(late.json["outcomes"].values()) == 96
    assert str(tmp_path) not in whole.out, "what HTTP answers names no file"


def test_backtest_of_a_file_with_a_gap_is_refused_unless_it_is_allowed(place: Path, tmp_path: Path) -> None:
    write_file(tmp_path / "gap.csv", left_out=200)
    asked = ("backtest", "--strategy", "buy-and-hold", "--file", str(tmp_path / "gap.csv"), "--json")

    refused = run(place, *asked)
    allowed = run(place, *asked, "--allow-gaps")

    assert (refused.code, refused.out) == (2, "")
    assert "gap.csv has 1 problem: row 202" in refused.err
    assert "[candles_refused]" in refused.err
    assert allowed.json["data"]["series"][0]["missing"] == 1
    assert "candles_missing" in {caveat["code"] for caveat in allowed.json["caveats"]}


def test_backtest_of_a_file_with_a_bad_row_leaves_it_out_where_that_is_asked(place: Path, tmp_path: Path) -> None:
    lines = write_file(tmp_path / "bad.csv")
    lines[300] = re.sub(r",[^,]+,", ",-1,", lines[300], count=1)
    (tmp_path / "bad.csv").write_text("\n".join(lines) + "\n")
    asked = ("backtest", "--strategy", "buy-and-hold", "--file", str(tmp_path / "bad.csv"), "--json")

    refused = run(place, *asked, "--allow-gaps")
    dropped = run(place, *asked, "--allow-gaps", "--drop-bad-rows")

    assert refused.code == 2
    assert "row 301" in refused.err
    assert dropped.json["data"]["series"][0]["refused_rows"] == 1


def test_walk_forward_trains_on_the_way(place: Path) -> None:
    asked = ("--interval", "15m", *SPAN, "--train-bars", "600", "--step-bars", "96", "--parameter", "horizon_bars=5")
    ended = run(place, "walk-forward", *asked, "--json", **QUICK)

    assert ended.code == 0, ended.err
    found = ended.json
    assert (found["request"]["training_klines"], found["request"]["step_bars"]) == (600, 96)
    assert found["request"]["parameters"]["horizon_bars"] == 5.0
    assert len(found["model_ids"]) == 2, "a model for each day"
    assert len(found["calibration"]) == 10


def test_compare_puts_strategies_side_by_side(place: Path, crossed: Any, tmp_path: Path) -> None:
    named = ("--strategy", "buy-and-hold", "--strategy", "moving-average-cross")
    asked = ("--interval", "15m", *SPAN, *named, "--strategy", "moving-average-cross:fast_bars=5,slow_bars=20")

    shown = run(place, "compare", *asked, "--html", str(tmp_path / "all.html"))
    found = run(place, "compare", *asked, "--json").json["items"]

    assert shown.code == 0, shown.err
    assert shown.out.startswith("BTCUSDT, 15m candles of simulated-7, 2026-01-01 00:00:00Z to 2026-01-03 00:00:00Z\n")
    for name in (
        "buy-and-hold",
        "moving-average-cross:fast_bars=10,slow_bars=50",
        "moving-average-cross:fast_bars=5,slow_bars=20",
        "everything, held throughout",
    ):
        assert f"│ {name} " in shown.out
    assert found[1]["id"] == crossed["id"]
    assert len({one["significance"]["trials"] for one in found}) == 1, "each is judged by all that was tried"
    assert (tmp_path / "all.html").stat().st_size > 100_000


def test_compare_of_runs_that_are_kept_needs_nothing_else(place: Path, crossed: Any) -> None:
    other = run(place, "backtest", *CROSS[:-1], "2026-01-02", "--json").json

    shown = run(place, "compare", crossed["id"], other["id"])
    found = run(place, "compare", crossed["id"], other["id"], "--json").json["items"]

    assert [one["id"] for one in found] == [crossed["id"], other["id"]]
    assert shown.out.startswith("These ran on different candles")
    name = "moving-average-cross:fast_bars=10,slow_bars=50"
    assert f"\nNote on {name}: 1.0 days are too few" in shown.out
    assert "\nNote: The market is simulated" in shown.out


def test_compare_names_a_strategy_with_parameters_that_are_not_the_usual_ones(place: Path, crossed: Any) -> None:
    other = run(place, "backtest", *CROSS, "--parameter", "fast_bars=7", "--json").json

    assert "│ moving-average-cross:fast_bars=7,slow_bars=50 " in run(place, "compare", other["id"]).out
    assert "│ moving-average-cross " in run(place, "compare", crossed["id"]).out


def test_compare_without_a_strategy_takes_every_one(place: Path) -> None:
    ended = run(place, "compare", "--interval", "15m", *SPAN, "--json", **QUICK)

    assert ended.code == 0, ended.err
    items = ended.json["items"]
    assert [one["request"]["strategy"] for one in items] == ["forest", "buy-and-hold", "moving-average-cross"]
    assert len({(one["request"]["since"], one["request"]["until"]) for one in items}) == 1


@pytest.mark.parametrize(
    "refused",
    [
        (["backtest", "--strategy", "none"], "There is no strategy 'none'"),
        (["backtest", "--symbol", "btc/usd"], "5 to 20 capital letters"),
        (["backtest", "--strategy", "buy-and-hold", "--symbol", "NOSUCHUSDT"], "[unknown_symbol]"),
        (["backtest", "--interval", "7m"], "'7m' is not one of"),
        (["backtest", "--since", "yesterday"], "--since: 'yesterday' is no date or time"),
        (["backtest", "--since", "2026-01-02", "--until", "2026-01-01"], "candles after since"),
        (["backtest", "--since", "2126-01-01"], "since lies in the future"),
        (["backtest", "--parameter", "fast_bars"], "--parameter: 'fast_bars' is not as NAME=VALUE"),
        (["backtest", "--parameter", "fast_bars=many"], "[invalid_option]"),
        (["backtest", "--strategy", "moving-average-cross", "--parameter", "fast_bars=99"], "[parameters_conflict]"),
        (["backtest", "--strategy", "moving-average-cross", "--parameter", "quick=9"], "[parameter_unknown]"),
        (["backtest", "--cash", "lots"], "initial_cash"),
        (["backtest", "--cash", "-5"], "initial_cash"),
        (["backtest", "--fee-bps", "1e9"], "fee_bps"),
        (["backtest", "--set", "api_key=0123456789abcdef"], "A backtest has no setting 'api_key'"),
        (["backtest", "--set", "max_drawdown"], "--set: 'max_drawdown' is not as NAME=VALUE"),
        (["backtest", "--set", "max_drawdown=2"], "max_drawdown"),
        (["backtest", "--latency-bars", "2000"], "latency_bars"),
        (["backtest", "--model", "../../etc"], "model_id"),
        (["backtest", "--model", "forest-none", "--set", "model_path=/etc"], "no setting 'model_path'"),
        (["backtest", "--model", "forest-none", *SPAN], "[model_not_found]"),
        (["backtest", "--file", "none.csv"], "none.csv is not there, or is no file. [file_unreadable]"),
        (["backtest", "--allow-gaps"], "are for --file"),
        (["backtest", "--file", "a.csv", "--symbol", "BTCUSDT", "--symbol", "ETHUSDT"], "one --symbol"),
        (["backtest", *CROSS, "--html", "no/such/run.html"], "[file_not_writable]"),
        (["backtest", *CROSS, "--html", "/"], "name a file in a folder that is there. [file_not_writable]"),
        (["walk-forward", "--train-bars", "10"], "training_klines"),
        (["walk-forward", "--step-bars", "0"], "'--step-bars'"),
        (["compare", "none"], "[backtest_not_found]"),
        (["compare", "none", "--strategy", "forest"], "[options_conflict]"),
        (["compare", "--strategy", "forest:depth"], "--strategy: 'depth'"),
    ],
    ids=lambda refused: "-".join(refused[0]),
)
def test_what_cannot_be_run_is_said_in_a_line_and_an_exit_code(place: Path, refused: tuple[list[str], str]) -> None:
    arguments, said = refused

    ended = run(place, *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert said in " ".join(ended.err.split())
    assert "Traceback" not in ended.err


def test_file_too_short_to_begin_with_says_what_would_do(place: Path, tmp_path: Path) -> None:
    write_file(tmp_path / "short.csv", bars=60)
    asked = ("backtest", "--strategy", "moving-average-cross", "--file", str(tmp_path / "short.csv"))

    ended = run(place, *asked)
    begun = run(place, *asked, "--since", "2026-01-09T10:00:00", "--json")

    assert ended.code == 2
    assert "The file has 60 candles, and the strategy looks at 100 before it begins" in ended.err
    assert begun.code == 0, begun.err


def test_exchange_that_is_away_is_said_and_exits_3(place: Path) -> None:
    ended = run(
        place, "backtest", MARKET_SOURCE="binance", BINANCE_BASE_URL="http://127.0.0.1:1", BINANCE_FALLBACK_URL=""
    )

    assert (ended.code, ended.out) == (3, "")
    assert "cannot be reached" in ended.err


def test_interrupted_backtest_ends_with_its_worker_and_keeps_nothing(tmp_path: Path) -> None:
    asked = ("backtest", "--strategy", "moving-average-cross", "--driver", "engine", "--since", "2026-01-05", "--until")
    process = subprocess.Popen(
        command(*asked, "2026-01-10"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while not (workers := find_workers(process.pid)):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)

    assert (process.returncode, out) == (130, b"")
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert run_process(tmp_path, "compare", "none").code == 2, "the books are whole"


def find_workers(parent: int) -> list[int]:
    """The processes of a command that compute backtests."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(one) for one in children if b"backtest.worker" in Path(f"/proc/{one}/cmdline").read_bytes()]
