"""Recorded cycles come out the same again, byte for byte; where they do not, the first difference has a name."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from app.bootstrap import Service, build_service
from app.cli import main
from app.domain.order import Origin
from app.domain.ports import EVERYTHING, Selection
from app.domain.record import canonical, digest
from app.errors import ConflictError, NotFoundError, ServiceError
from app.research.replay import NotReplayed, Replay
from tests.integration.test_verification import make_books, tamper
from tests.support.recorded import START, make_settings

pytest_plugins = ("tests.support.databases",)

T = TypeVar("T")

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def template(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and books with every kind of booking in them."""
    folder = tmp_path_factory.mktemp("books")
    shutil.copyfile(migrated_file, folder / "trading.db")
    asyncio.run(make_books(folder, f"sqlite:///{folder / 'trading.db'}"))
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(template, tmp_path / "copy"))


def with_service(folder: Path, work: Callable[[Service], Awaitable[T]], url: str | None = None) -> T:
    """What `work` gives with a service that has its database open, and nothing else."""

    async def run() -> T:
        service = build_service(make_settings(folder, url))
        async with service.database:
            return await work(service)

    return asyncio.run(run())


async def replay_all(service: Service, wanted: Selection = EVERYTHING) -> list[Replay | NotReplayed]:
    told: list[tuple[int, int]] = []
    found = [one async for one in service.replayer.replay_all(wanted, lambda *done: told.append(done))]
    assert told[-1:] == [(len(found), len(found))][: len(found)]
    return found


def change_document(folder: Path, number: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the record `number` as somebody with the file could."""
    file = folder / "trading.db"
    with sqlite3.connect(file) as connection:
        (packed,) = connection.execute("SELECT document FROM records WHERE number = ?", (number,)).fetchone()
    document = json.loads(zlib.decompress(packed))
    change(document)
    packed = zlib.compress(canonical(document).encode())
    tamper(file, f"UPDATE records SET document = x'{packed.hex()}' WHERE number = {number}")


def test_every_kind_of_cycle_replays_equal(database_url: str, tmp_path: Path) -> None:
    asyncio.run(make_books(tmp_path, database_url))

    async def work(service: Service) -> list[Replay | NotReplayed]:
        page = await service.ledger.list_cycles(limit=1_000)
        codes = {report.execution.reason_code for report in page.items if report.execution}
        assert {"filled", "candle_already_traded", "no_position", "already_in_position"} <= codes
        origins = {trade.origin for trade in (await service.ledger.list_trades(limit=1_000)).items}
        assert origins == {Origin.SIGNAL, Origin.PERSON, Origin.PROTECTION}
        return await replay_all(service)

    found = with_service(tmp_path, work, database_url)

    assert [one for one in found if isinstance(one, Replay) and one.difference] == []
    assert [one.code for one in found if isinstance(one, NotReplayed)] == ["cycle_refused"]
    assert len(found) == 42


def test_replays_are_those_that_are_wanted(folder: Path) -> None:
    of_symbol = with_service(folder, lambda service: replay_all(service, Selection(symbol="ETHUSDT")))
    later = with_service(folder, lambda service: replay_all(service, Selection(since=START.replace(minute=30))))

    assert [one.cycle_id for one in of_symbol] == ["booking-23", "booking-24"]
    assert 0 < len(later) < 30
    assert all(isinstance(one, Replay) and one.equal for one in (*of_symbol, *later))


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda document: document["features"].__setitem__(2, 0.5), "features.2: 0.5 and "),
        (lambda document: document["quote"].update(price="66000"), "checks."),
        (lambda document: document["circumstances"].update(model_age=86_400_000_000 * 20), "checks.6.detail: "),
        (lambda document: document["standing"]["snapshot"]["portfolio"].update(cash=0), "checks."),
        (lambda document: document["instrument"].update(trading=False), "status: 'COMPLETED' and refused: "),
    ],
    ids=["feature", "quote", "age", "cash", "halted"],
)
def test_replay_names_the_first_field_that_differs(
    folder: Path, change: Callable[[dict[str, Any]], None], difference: str
) -> None:
    change_document(folder, 4, change)

    found = with_service(folder, lambda service: service.replayer.replay("booking-4"))

    assert not found.equal
    assert str(found.difference).startswith(difference)


def test_replay_under_other_settings_differs(folder: Path) -> None:
    with sqlite3.connect(folder / "trading.db") as connection:
        ((text,),) = connection.execute("SELECT document FROM settings_documents").fetchall()
    document = json.loads(text) | {"min_confidence": 0.9}
    name = digest(canonical(document))
    tamper(folder / "trading.db", f"INSERT INTO settings_documents VALUES ('{name}', '{json.dumps(document)}')")
    change_document(folder, 4, lambda inputs: inputs["circumstances"].update(settings_digest=name))

    found = with_service(folder, lambda service: service.replayer.replay("booking-4"))

    assert str(found.difference).startswith("checks: ")


def test_environment_has_no_say_in_a_replay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEE_BPS", "50")
    monkeypatch.setenv("MIN_CONFIDENCE", "0.99")

    assert with_service(folder, lambda service: service.replayer.replay("booking-4")).equal


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE settings_documents SET document = '{}'", "settings_missing"),
        ("UPDATE cycle_candles SET close = '1' WHERE open_time_ms = 1772406000000", "record_incomplete"),
        ("DELETE FROM cycle_candles WHERE open_time_ms = 1772406000000", "record_incomplete"),
        ("UPDATE records SET document = x'00' WHERE number = 4", "record_damaged"),
        ("DELETE FROM records WHERE number = 4", "record_missing"),
    ],
)
def test_replay_without_what_the_cycle_came_from_is_a_named_error(folder: Path, statement: str, code: str) -> None:
    tamper(folder / "trading.db", statement)

    with pytest.raises(ServiceError) as refused:
        with_service(folder, lambda service: service.replayer.replay("booking-4"))
    assert refused.value.code == code


def test_replay_without_the_model_is_a_named_error(folder: Path) -> None:
    shutil.rmtree(folder / "models")

    with pytest.raises(ConflictError, match="cannot be loaded") as refused:
        with_service(folder, lambda service: service.replayer.replay("booking-4"))
    assert refused.value.code == "model_missing"
    found = with_service(folder, replay_all)
    codes = Counter(one.code for one in found if isinstance(one, NotReplayed))
    assert codes == {"model_missing": 41, "cycle_refused": 1}


def test_replay_of_no_cycle_and_of_a_refused_one_say_so(folder: Path) -> None:
    with pytest.raises(NotFoundError):
        with_service(folder, lambda service: service.replayer.replay("booking-999"))
    with pytest.raises(ConflictError) as refused:
        with_service(folder, lambda service: service.replayer.replay("booking-22"))
    assert refused.value.code == "cycle_refused"


def run_command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    own = {"PYTHONPATH": str(PROJECT), "MARKET_SOURCE": "binance", "BINANCE_BASE_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "app", *arguments]
    return subprocess.run(
        command, cwd=folder, env=kept | own | environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_another_process_replays_the_same_bytes(folder: Path) -> None:
    ended = run_command(folder, "replay", "--all", "--json", PYTHONHASHSEED="12345", TZ="Asia/Tokyo", FEE_BPS="99")

    answer = json.loads(ended.stdout)
    assert (ended.returncode, answer["equal"], answer["different"]) == (0, 41, [])


def test_why_tells_the_model_the_gate_and_the_price(folder: Path) -> None:
    async def work(service: Service) -> None:
        for trade in (await service.ledger.list_trades(limit=1_000)).items:
            found = await service.reasons.find(trade.id)
            assert found.notes == ()
            assert found.order is not None
            if trade.origin is Origin.SIGNAL:
                explanation, gate = found.explanation, found.gate
                assert explanation is not None
                assert gate is not None
                summed = explanation.bias + explanation.calibration
                summed += sum(one.contribution for one in explanation.contributions)
                assert summed == pytest.approx(explanation.probability, abs=1e-9)
                assert explanation.probability == pytest.approx(trade.confidence, abs=1e-9)
                assert found.decision is not None
                assert gate.expected_return == pytest.approx(found.decision.expected_return, abs=1e-12)
                assert all(check.passed for check in found.checks)
                assert found.price is not None
                assert found.price.fee_bps == 2
            elif trade.origin is Origin.PROTECTION:
                assert "that guarded the position was reached by the candle of" in found.summary
                assert found.candle is not None
                assert found.candle.open_time == trade.candle_open_time
                assert found.price is not None
            elif trade.cycle_id is None and trade.candle_open_time is None:
                assert found.summary == "A person asked for it."

    with_service(folder, work)


def test_why_of_a_trade_without_a_record_says_what_is_known(folder: Path) -> None:
    tamper(folder / "trading.db", "DELETE FROM records WHERE number = 4")

    async def work(service: Service) -> Any:
        (trade,) = (await service.ledger.get_cycle("booking-4")).fills
        return await service.reasons.find(trade.id)

    found = with_service(folder, work)
    assert found.notes == ("No record was kept of this cycle: it is older than records are.",)
    assert found.explanation is None
    assert found.decision is not None


def run_main(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["app", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_commands_print_and_exit_by_what_they_find(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_main(folder, monkeypatch, "verify") == 0
    assert capfd.readouterr().out.splitlines()[-1] == "All is well."
    assert run_main(folder, monkeypatch, "why", "1") == 0
    assert {"The gate", "The checks", "The order", "The price"} <= set(capfd.readouterr().out.splitlines())
    assert run_main(folder, monkeypatch, "why", "1", "--json") == 0
    assert json.loads(capfd.readouterr().out)["trade"]["id"] == 1
    assert run_main(folder, monkeypatch, "replay", "booking-4") == 0
    assert capfd.readouterr().out == "booking-4: the replay is equal, byte for byte.\n"
    assert run_main(folder, monkeypatch, "replay", "--all", "--since", "2026-03-02T00:30") == 0
    assert "cycles came out the same, byte for byte; 0 did not." in capfd.readouterr().out

    tamper(folder / "trading.db", "UPDATE snapshots SET peak_equity = peak_equity * 2 WHERE number = 5")
    assert run_main(folder, monkeypatch, "verify", "--json") == 3
    assert json.loads(capfd.readouterr().out)["sound"] is False
    assert run_main(folder, monkeypatch, "verify", "--repair") == 0
    assert "repaired; a snapshot that follows from the fills was written." in capfd.readouterr().out

    change_document(folder, 4, lambda document: document["features"].__setitem__(0, 0.5))
    assert run_main(folder, monkeypatch, "replay", "booking-4") == 3
    assert capfd.readouterr().out.startswith("booking-4: the replay differs in features.0: 0.5 and ")
    assert run_main(folder, monkeypatch, "verify") == 3
    assert "can only come back from a copy of the database." in capfd.readouterr().out


def test_commands_refuse_what_makes_no_sense(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_main(folder, monkeypatch, "replay") == 2
    assert run_main(folder, monkeypatch, "replay", "booking-4", "--all") == 2
    assert run_main(folder, monkeypatch, "verify", "--run", "binance.forest.main.9") == 2
    assert run_main(folder, monkeypatch, "why", "999") == 2
