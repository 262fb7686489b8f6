"""`python -m app …` as a person or a cron line uses it: results on standard output, one line of error, exit codes."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from app.bootstrap import build_service
from app.domain.candle import Interval
from app.engine.clocks import SimulatedClock
from tests.support.candles import made_candles
from tests.support.commands import command, environment, run, run_process
from tests.support.edge import settings
from tests.support.exchange_server import ExchangeServer

pytestmark = pytest.mark.usefixtures("computed_here")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained model and, of each of two symbols, one trade."""
    folder = tmp_path_factory.mktemp("command-line")
    trained = run_process(folder, "train", "--json")
    assert trained.code == 0, trained.err
    assert trained.json["model_id"].startswith("forest-simulated-1m-")
    assert run_process(folder, "cycle", "--all").code == 0
    return folder


def test_cycle_as_json_is_the_document_of_the_api(place: Path) -> None:
    report = run(place, "cycle", "--symbol", "ETHUSDT", "--json").json

    assert report["symbol"] == "ETHUSDT"
    assert report["source"] == "simulated"
    assert report["execution"]["status"] in ("FILLED", "SKIPPED")
    assert sum(report["decision"]["probabilities"].values()) == pytest.approx(1)


def test_cycle_for_people_is_one_line_that_says_what_came_of_it(place: Path) -> None:
    ended = run(place, "cycle")

    assert ended.code == 0
    pattern = (
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  BTCUSDT \(simulated\)  (BUY|SELL|HOLD) \d+\.\d%  (filled|skipped): .+\n"
    )
    assert re.fullmatch(pattern, ended.out)


def test_trades_are_listed_newest_first_for_people_and_machines(place: Path) -> None:
    trades = run(place, "trades", "--json").json
    table = run(place, "trades").out

    assert [trade["id"] for trade in trades] == sorted((trade["id"] for trade in trades), reverse=True)
    for trade in trades:
        assert Decimal(trade["notional"]) == Decimal(trade["price"]) * Decimal(trade["quantity"])
        assert f"{Decimal(trade['price']).normalize():f}" in table
    assert run(place, "trades", "--symbol", "SOLUSDT").out == "No trades yet.\n"
    assert run(place, "trades", "--symbol", "SOLUSDT", "--json").json == []
    assert len(run(place, "trades", "--limit", "1", "--json").json) == min(1, len(trades))


def test_model_shows_the_card_beside_its_baselines(place: Path) -> None:
    card = run(place, "model", "--json").json
    shown = run(place, "model").out

    competitors = card["metrics"]["competitors"]
    assert card["window"]["candles"] == 1500
    assert f"| **this model** | {competitors['model']['log_loss']['value']:.4f}" in shown
    assert f"| class shares | {competitors['class_prior']['log_loss']['value']:.4f}" in shown


def test_model_as_a_page_is_written_where_asked(place: Path, tmp_path: Path) -> None:
    card = run(place, "model", "--json").json
    ended = run(place, "model", "--html", str(tmp_path / "card.html"))

    assert (ended.code, ended.out) == (0, f"Wrote {tmp_path / 'card.html'}\n"), ended.err
    page = (tmp_path / "card.html").read_text()
    assert f"<title>{card['model_id']}</title>" in page
    assert f"{card['metrics']['competitors']['model']['log_loss']['value']:.4f}" in page
    assert page.count("<svg ") == 5


def test_track_record_without_a_settled_decision_says_so(place: Path) -> None:
    assert run(place, "track-record").out.startswith("No decision has settled yet")
    assert run(place, "track-record", "--json").json == []


def test_track_record_scores_what_has_settled_and_shows_it(place: Path, tmp_path: Path) -> None:
    books = f"sqlite:///{tmp_path / 'trading.db'}"
    asyncio.run(run_cycles_two_hours_ago(place / "models", books, 3))

    found = run(place, "track-record", "--json", DATABASE_URL=books)
    table = run(place, "track-record", DATABASE_URL=books)

    assert (found.code, table.code) == (0, 0), found.err
    (record,) = found.json
    assert record["model_id"] == run(place, "model", "--json").json["model_id"]
    assert record["count"] == 3
    assert record["running"][-1]["log_loss"] == pytest.approx(record["log_loss"])
    assert f"{record['log_loss']:.4f}" in table.out
    assert record["model_id"] in table.out


async def run_cycles_two_hours_ago(models: Path, books: str, count: int) -> None:
    clock = SimulatedClock(datetime.now(UTC) - timedelta(hours=2))
    chosen = settings(
        model_path=models, database_url=books, model_threshold_percent=0.1, model_horizon_bars=10, min_confidence=0
    )
    service = build_service(chosen, clock)
    try:
        await service.start(train=False)
        for _ in range(count):
            clock.advance(timedelta(minutes=1))
            await service.run_cycle("BTCUSDT", Interval.M1)
    finally:
        await service.stop()


def test_doctor_finds_everything_well(place: Path) -> None:
    ended = run(place, "doctor")
    found = run(place, "doctor", "--json").json

    assert ended.code == 0
    assert ended.out.startswith("Market source: simulated (MARKET_SOURCE=simulated)\n")
    assert [check["name"] for check in found["checks"]] == ["database", "ledger", "market", "clock", "model"]
    assert all(check["ok"] for check in found["checks"])


def test_doctor_says_what_to_do_about_an_exchange_that_is_away(place: Path) -> None:
    ended = run(
        place, "doctor", MARKET_SOURCE="binance", BINANCE_BASE_URL="http://127.0.0.1:1", BINANCE_FALLBACK_URL=""
    )

    assert ended.code == 3
    assert "NOT OK  market: 127.0.0.1:1 cannot be reached" in ended.out
    assert "or set MARKET_SOURCE=simulated" in ended.out
    assert "python -m app train" in ended.out, "there is no model of Binance here"


@pytest.mark.parametrize(
    "refused",
    [
        (["cycle", "--symbol", "btc/usd"], {}, 2, "5 to 20 capital letters and digits"),
        (["cycle", "--symbol", "NOSUCHUSDT"], {}, 2, "[unknown_symbol]"),
        (["cycle", "--interval", "7m"], {}, 2, "'7m' is not one of"),
        (["cycle", "--loop", "0"], {}, 2, "'--loop': Input should be greater than or equal to 1"),
        (["download", "btc/usd"], {}, 2, "5 to 20 capital letters and digits"),
        (["download", "NOSUCHUSDT"], {}, 2, "[unknown_symbol]"),
        (["download", "BTCUSDT", "--since", "yesterday"], {}, 2, "--since: 'yesterday' is no date or time"),
        (["download", "BTCUSDT", "--until", "0001-01-01T00:00:00+14:00"], {}, 2, "[invalid_time]"),
        (["download", "BTCUSDT", "--since", "2026-02-01", "--until", "2026-01-01"], {}, 2, "before --until"),
        (["download", "BTCUSDT", "--since", "2126-01-01"], {}, 2, "[invalid_span]"),
        (["download"], {}, 2, "Missing argument 'SYMBOL'"),
        (
            ["download", "BTCUSDT"],
            {"MARKET_SOURCE": "binance", "BINANCE_BASE_URL": "http://127.0.0.1:1"},
            3,
            "cannot be reached",
        ),
        (["trades", "--limit", "0"], {}, 2, "'--limit': Input should be greater than or equal to 1"),
        (["nonsense"], {}, 2, "No such command"),
        (["trades"], {"FEE_BPS": "many", "PORT": "-1"}, 2, "FEE_BPS: "),
        (["trades"], {"DATABASE_URL": "sqlite:////nowhere/at/all.db"}, 2, "the folder /nowhere/at does not exist"),
        (["serve"], {"HOST": "192.0.2.7"}, 2, "API_KEY: must be set to listen on 192.0.2.7"),
        (["cycle"], {"MARKET_SOURCE": "binance", "BINANCE_BASE_URL": "http://127.0.0.1:1"}, 3, "cannot be reached"),
        (["model", "--html", "no/such/card.html"], {}, 2, "[file_not_writable]"),
        (["model", "--html", "card.html", "--json"], {}, 2, "[options_conflict]"),
        (["model"], {"MODEL_PATH": "elsewhere"}, 3, "[model_not_ready]"),
    ],
    ids=lambda refused: "-".join(refused[0] + sorted(refused[1])),
)
def test_what_cannot_be_done_is_said_in_a_line_and_an_exit_code(
    place: Path, refused: tuple[list[str], dict[str, str], int, str]
) -> None:
    arguments, settings, code, said = refused

    ended = run(place, *arguments, **{"BINANCE_FALLBACK_URL": ""} | settings)

    assert ended.code == code
    assert said in " ".join(ended.err.split())
    assert ended.out == ""


def test_refused_command_ends_its_process_with_a_line_and_an_exit_code(place: Path) -> None:
    ended = run_process(place, "model", MODEL_PATH="elsewhere")

    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert "[model_not_ready]" in ended.err


def test_download_keeps_what_there_is_says_what_there_is_not_and_asks_again_for_that_only(tmp_path: Path) -> None:
    first_open = datetime(2026, 1, 4, tzinfo=UTC)
    given = made_candles("BTCUSDT", Interval.M15, end=first_open + timedelta(days=30), bars=30 * 96)
    with ExchangeServer() as exchange:
        exchange.give_candles("BTCUSDT", Interval.M15, [*given[:1_000], *given[1_096:]])
        settings = {"MARKET_SOURCE": "binance", "BINANCE_BASE_URL": exchange.url, "BINANCE_FALLBACK_URL": ""}
        download = ("download", "BTCUSDT", "--interval", "15m", "--since", "2026-01-04")
        shown = run(tmp_path, *download, "--until", "2026-01-21T00:00:00+00:00", **settings)
        exchange.requests.clear()
        again = run(tmp_path, *download, "--until", "2026-01-24T02:00:00+02:00", "--json", **settings)
        asked = exchange.count("klines")

    assert (shown.code, again.code) == (0, 0), shown.err + again.err
    assert shown.out == (
        "BTCUSDT 15m from binance, 2026-01-04T00:00:00Z to 2026-01-21T00:00:00Z: "
        "1,536 candles kept, 1,536 fetched now\n"
        "Gap: 2026-01-14T10:00:00Z to 2026-01-15T10:00:00Z, 96 candles the exchange does not have\n"
    )
    assert again.json == {
        "source": "binance",
        "symbol": "BTCUSDT",
        "interval": "15m",
        "since": "2026-01-04T00:00:00Z",
        "until": "2026-01-24T00:00:00Z",
        "fetched": 288,
        "stored": 1_824,
        "gaps": [{"since": "2026-01-14T10:00:00Z", "until": "2026-01-15T10:00:00Z", "missing": 96}],
    }
    assert asked == 2


def test_download_without_dates_keeps_the_last_thirty_days(place: Path) -> None:
    report = run(place, "download", "ETHUSDT", "--interval", "1h", "--json").json

    since, until = (datetime.fromisoformat(report[name]) for name in ("since", "until"))
    assert until - since in (timedelta(days=30), timedelta(days=30, hours=-1))
    assert report["fetched"] == report["stored"] == (until - since) // timedelta(hours=1)
    assert report["gaps"] == []


def test_cycle_loop_survives_an_exchange_that_goes_away_and_ends_when_asked(tmp_path: Path) -> None:
    with ExchangeServer() as exchange:
        settings = {"MARKET_SOURCE": "binance", "BINANCE_BASE_URL": exchange.url, "BINANCE_FALLBACK_URL": ""}
        assert run(tmp_path, "train", **settings).code == 0
        process = subprocess.Popen(
            command("cycle", "--loop", "1"),
            cwd=tmp_path,
            env=environment(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert "BTCUSDT (binance)" in process.stdout.readline()
        exchange.fail("klines", "busy")
        assert "[upstream_unavailable]" in process.stderr.readline()
        exchange.heal()
        deadline = time.monotonic() + 30
        assert "BTCUSDT (binance)" in process.stdout.readline()
        assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 130


def test_demo_of_the_same_seed_is_the_same_bytes_and_leaves_no_traces(tmp_path: Path) -> None:
    demo = ("demo", "--cycles", "20", "--seed", "3", "--json")
    first = run_process(tmp_path, *demo, PYTHONHASHSEED="1", TZ="Pacific/Apia", TRAINING_KLINES="2000")
    again = run(tmp_path, *demo, TRAINING_KLINES="2000")

    assert first.code == 0
    assert first.out == again.out
    assert first.json["seed"] == 3
    assert first.json["cycles"] == 20
    equity = Decimal(first.json["cash"]) + Decimal(first.json["position"]) * Decimal(first.json["price"])
    assert Decimal(first.json["equity"]) == equity
    assert list(tmp_path.iterdir()) == []
