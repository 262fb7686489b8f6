"""The backtest confirms life, trade by trade; where it does not, the cause has a name."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from app import __version__
from app.bootstrap import Service, build_service
from app.cli import main
from app.domain.candle import Candle, Interval
from app.domain.job import JobStatus
from app.domain.market import MarketSnapshot
from app.domain.order import Origin
from app.domain.ports import EVERYTHING
from app.domain.signal import Doubt
from app.domain.standing import RunKey
from app.errors import NotFoundError
from app.main import create_app
from app.research.parity.report import Cause, ParityReport, StretchStart, shorten
from tests.integration.test_replay import change_document
from tests.integration.test_verification import tamper
from tests.support.http import running_server
from tests.support.recorded import MINUTE, Recorded, make_settings, recorded_service

pytest_plugins = ("tests.support.databases",)
pytestmark = pytest.mark.usefixtures("compiled_kernel")

T = TypeVar("T")

RUN = "simulated.forest.main.1"
CYCLES = 60


@pytest.fixture(scope="module")
def template(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and books of an undisturbed hour with entries, exits and stops."""
    folder = tmp_path_factory.mktemp("books")
    shutil.copyfile(migrated_file, folder / "trading.db")
    live(folder, lambda recorded: recorded.run(CYCLES))
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(template, tmp_path / "copy"))


def live(folder: Path, work: Callable[[Recorded], Awaitable[None]], **settings: Any) -> None:
    """Let a service live, from where the books end."""

    async def run() -> None:
        async with recorded_service(folder, **settings) as recorded:
            newest = (await recorded.service.ledger.list_cycles(limit=1)).items
            if newest:
                recorded.clock.at = newest[0].finished_at
            await work(recorded)

    asyncio.run(run())


def with_service(folder: Path, work: Callable[[Service], Awaitable[T]]) -> T:
    """What `work` gives with a service that has its database open, and nothing else."""

    async def run() -> T:
        service = build_service(make_settings(folder))
        async with service.database:
            return await work(service)

    return asyncio.run(run())


def compare(folder: Path, **wanted: Any) -> ParityReport:
    """Compare, and see that it was told how far it is."""
    told: list[float] = []
    report = with_service(folder, lambda service: service.parity.run(lambda share, _: told.append(share), **wanted))
    assert told == sorted(told)
    return report


def causes_of(report: ParityReport) -> Counter[Cause]:
    return Counter(one.cause for one in report.differences)


def test_every_trade_of_an_undisturbed_run_is_equal(folder: Path) -> None:
    report = compare(folder)

    assert (report.runs, report.cycles, report.causes, report.differences) == ((RUN,), CYCLES, {}, ())
    assert report.trades == report.equal == len(report.rows) > 10
    assert {row.origin for row in report.rows} == {Origin.SIGNAL, Origin.PROTECTION}
    assert all(row.live == row.backtest for row in report.rows)
    assert report.is_explained


def test_next_open_tells_what_the_assumption_changes(folder: Path) -> None:
    report = compare(folder)

    other, (stretch,) = report.next_open, report.stretches
    rows = [row for row in report.rows if row.next_open_price is not None]
    assert len(rows) == other.matched > 10
    assert other.matched + other.only_live == report.trades
    assert other.without_cycle == 0
    for row in rows:
        assert row.live is not None
        assert row.next_open_price is not None
        worse = (row.live.price - row.next_open_price) * (1 if row.live.side == "BUY" else -1)
        assert row.difference_bps == pytest.approx(float(worse / row.next_open_price) * 10_000)
    assert max(abs(row.difference_bps or 0.0) for row in rows) == abs(other.largest_bps or 0.0) > 0
    assert (stretch.start, stretch.cycles) == (StretchStart.BEGINNING, CYCLES)
    assert other.equity_difference == stretch.equity_next_open - stretch.equity_live != 0


def test_live_equity_is_that_of_the_books(folder: Path) -> None:
    report = compare(folder)
    standing = with_service(folder, lambda service: service.ledger.load_standing(RunKey("simulated")))

    assert report.stretches[-1].equity_live == Decimal(standing.snapshot.equity) / 10**8


def test_every_kind_of_booking_is_equal_or_a_persons(tmp_path: Path) -> None:
    live(tmp_path, lambda recorded: recorded.live())

    report = compare(tmp_path)

    assert set(report.causes) == {"person_acted"}
    assert report.equal + report.causes["person_acted"] == report.trades > 20
    assert causes_of(report) == {Cause.PERSON_ACTED: 10}
    assert any(row.origin is Origin.PERSON and row.cause is None for row in report.rows)  # a limit that a cycle filled
    assert {stretch.start for stretch in report.stretches} == {StretchStart.BEGINNING, StretchStart.PERSON_ACTED}
    assert report.is_explained


def test_outage_and_other_settings_leave_every_trade_equal(folder: Path) -> None:
    async def after_an_outage(recorded: Recorded) -> None:
        recorded.clock.advance(17 * MINUTE)
        await recorded.run(20)

    live(
        folder,
        after_an_outage,
        first_id=CYCLES + 1,
        min_confidence=0.6,
        order_cash_fraction=0.5,
        stop_rule="trailing_stop",
    )

    report = compare(folder)

    assert (report.cycles, report.causes, report.differences) == (CYCLES + 20, {}, ())
    assert report.equal == report.trades
    assert [one.start for one in report.stretches] == [StretchStart.BEGINNING, StretchStart.SETTINGS_CHANGED]


def test_doubt_about_the_model_counts_as_it_did(folder: Path) -> None:
    async def in_doubt(recorded: Recorded) -> None:
        strategy = recorded.service.strategy
        strategy.watch(strategy.model_id, 0.9, Doubt("drift", "The market has moved away."))
        await recorded.run(15)

    live(folder, in_doubt, first_id=CYCLES + 1)

    report = compare(folder)

    assert (report.cycles, report.differences) == (CYCLES + 15, ())
    first = with_service(folder, lambda service: service.ledger.get_cycle(f"booking-{CYCLES + 1}"))
    assert max(row.at for row in report.rows if row.origin is Origin.SIGNAL) < first.started_at


def test_trades_on_candles_without_a_cycle_are_counted(folder: Path) -> None:
    async def after_an_outage(recorded: Recorded) -> None:
        recorded.clock.advance(30 * MINUTE)
        await recorded.run(5)

    live(folder, after_an_outage, first_id=CYCLES + 1)

    report = compare(folder)

    assert report.equal == report.trades
    assert report.next_open.only_backtest >= report.next_open.without_cycle > 3


def restate(snapshot: MarketSnapshot, opened: Candle) -> MarketSnapshot:
    """The snapshot with one candle that has fallen instead of risen, or the other way round."""
    candles = list(snapshot.candles)
    for place, candle in enumerate(candles):
        if place and candle.open_time == opened.open_time:
            before = candles[place - 1].close
            close = before - 1 if candle.close > before else before + 1
            prices = (candle.open, candle.high, candle.low, close)
            candles[place] = replace(candle, close=close, high=max(prices), low=min(prices))
    return replace(snapshot, candles=tuple(candles))


def test_candle_that_was_restated_is_named(folder: Path) -> None:
    before = compare(folder)

    async def with_another_candle(recorded: Recorded) -> None:
        service = recorded.service
        trades = (await service.ledger.list_trades(limit=100)).items
        entry = next(one for one in trades if one.origin is Origin.SIGNAL and one.side == "BUY")
        cycle = await service.ledger.get_cycle(str(entry.cycle_id))
        assert cycle.market is not None
        fetch, traded_on = service.market.fetch_snapshot, cycle.market.candles[-1]

        async def fetch_restated(symbol: str, interval: Interval, bars: int) -> MarketSnapshot:
            return restate(await fetch(symbol, interval, bars), traded_on)

        service.market.fetch_snapshot = fetch_restated  # type: ignore[method-assign]
        await recorded.run(3)

    live(folder, with_another_candle, first_id=CYCLES + 1)

    report = compare(folder)

    assert set(causes_of(report)) == {Cause.CANDLES_RESTATED}
    assert report.is_explained
    assert 1 <= report.causes["candles_restated"] <= 2
    assert report.equal >= before.equal - 1
    (what,) = {one.what for one in report.differences if one.what.startswith("trades")}
    assert what == "trades: 1 and 0"


@pytest.mark.parametrize("which", ["(SELECT MAX(id) FROM trades)", "3"])
def test_fill_that_was_changed_by_hand_is_unexplained(folder: Path, which: str) -> None:
    tamper(folder / "trading.db", f"UPDATE trades SET price = price + 100000000 WHERE id = {which}")

    report = compare(folder)

    (difference,) = report.differences
    assert (difference.cause, report.causes, report.unexplained) == (Cause.UNEXPLAINED, {"unexplained": 1}, 1)
    assert difference.what.startswith("trades.0.price: ")
    assert report.equal == report.trades - 1
    assert not report.is_explained


def test_standing_that_was_changed_by_hand_is_unexplained(folder: Path) -> None:
    change_document(folder, 30, lambda document: document["standing"]["snapshot"].update(losses_in_a_row=77))

    report = compare(folder)

    assert [one.cause for one in report.differences][:1] == [Cause.UNEXPLAINED]
    assert report.differences[0].what.startswith("the account after it: snapshot.losses_in_a_row: 77 and ")
    assert not report.is_explained


def test_other_version_of_the_code_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_document(folder, 30, lambda document: document["standing"]["snapshot"].update(losses_in_a_row=77))
    monkeypatch.setattr("app.research.parity.comparing.__version__", "9.9.9")

    report = compare(folder)

    assert set(causes_of(report)) == {Cause.VERSION_CHANGED}
    assert report.differences[0].what.endswith(f"(run by version {__version__})")


def test_model_that_is_missing_is_named_and_what_it_said_goes_on(folder: Path) -> None:
    whole = compare(folder)
    shutil.rmtree(folder / "models")

    report = compare(folder)

    decided = sum(row.origin is Origin.SIGNAL for row in whole.rows)
    assert report.causes == {"model_missing": decided}
    assert report.equal == whole.trades - decided > 0
    assert all(row.live == row.backtest for row in report.rows)
    assert [row.next_open_price for row in report.rows] == [row.next_open_price for row in whole.rows]


@pytest.mark.parametrize(
    ("statement", "unreadable"),
    [
        ("UPDATE records SET document = x'00' WHERE number = 30", 1),
        ("UPDATE settings_documents SET document = '{}'", CYCLES),
        ("DELETE FROM cycle_candles WHERE open_time_ms = (SELECT MAX(open_time_ms) FROM cycle_candles)", 1),
    ],
    ids=["record", "settings", "candle"],
)
def test_record_that_cannot_be_read_is_named(folder: Path, statement: str, unreadable: int) -> None:
    tamper(folder / "trading.db", statement)

    report = compare(folder)

    assert causes_of(report) == {Cause.RECORD_UNREADABLE: unreadable}
    assert report.cycles == CYCLES - unreadable
    assert report.equal == report.trades - report.causes.get("record_unreadable", 0)
    assert report.is_explained


def test_since_and_run_choose_the_cycles(folder: Path) -> None:
    whole = compare(folder)
    since = whole.rows[len(whole.rows) // 2].at

    later = compare(folder, since=since, run=RUN)

    assert 0 < later.cycles < CYCLES
    assert later.rows[0].at == since
    assert later.equal == later.trades == sum(row.at >= since for row in whole.rows)
    assert compare(folder, since=since + timedelta(days=9)).trades == 0
    with pytest.raises(NotFoundError, match="simulated"):
        compare(folder, run="simulated.forest.main.9")


def test_newest_report_is_kept_with_what_is_not_equal_first(folder: Path) -> None:
    with pytest.raises(NotFoundError) as refused:
        with_service(folder, lambda service: service.parity.latest())
    assert refused.value.code == "parity_not_found"
    tamper(folder / "trading.db", "UPDATE trades SET fee = fee + 1 WHERE id = 3")

    compare(folder, since=None)
    report = compare(folder)

    assert with_service(folder, lambda service: service.parity.latest()) == report
    short = shorten(report, 2)
    assert [row.trade_id for row in short.rows] == [3, report.rows[-1].trade_id]
    assert short.rows_left_out == report.trades - 2


def run_main(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["app", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_command_prints_and_exits_by_what_it_finds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_main(folder, monkeypatch, "parity") == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].endswith(f"trades equal with the live quotes; {CYCLES} cycles of 1 run were run again.")
    assert lines[1].startswith("Filled at the next open instead: ")
    assert sum(" equal " in line for line in lines[4:]) > 10

    tamper(folder / "trading.db", "UPDATE trades SET cash_after = cash_after + 1 WHERE id = 3")
    assert run_main(folder, monkeypatch, "parity") == 3
    assert "differences are unexplained" in capfd.readouterr().out
    assert run_main(folder, monkeypatch, "parity", "--json", "--run", RUN) == 3
    answer = json.loads(capfd.readouterr().out)
    assert (answer["unexplained"], answer["causes"]) == (1, {"unexplained": 1})
    assert run_main(folder, monkeypatch, "parity", "--since", "never") == 2


def test_service_compares_in_a_job_and_answers_the_report(folder: Path) -> None:
    with (
        running_server(create_app(make_settings(folder))) as server,
        httpx.Client(base_url=server.url, trust_env=False) as client,
    ):
        missing = client.get("/parity/latest")
        assert (missing.status_code, missing.json()["code"]) == (404, "parity_not_found")

        asked = client.post("/parity/run", params={"run": RUN}, headers={"Idempotency-Key": "once"})
        again = client.post("/parity/run", params={"run": RUN}, headers={"Idempotency-Key": "once"})
        assert (asked.status_code, again.json()["id"]) == (202, asked.json()["id"])
        deadline = time.monotonic() + 30
        while not JobStatus((job := client.get(asked.headers["Location"]).json())["status"]).is_final:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        answer = client.get("/parity/latest").json()

    assert job["result"] == {"trades": answer["trades"], "equal": answer["trades"], "unexplained": 0}
    assert (answer["runs"], answer["cycles"], answer["differences"]) == ([RUN], CYCLES, [])
    assert answer["rows"][0]["live"] == answer["rows"][0]["backtest"]


def test_books_without_a_cycle_have_nothing_to_compare(tmp_path: Path) -> None:
    async def nothing(recorded: Recorded) -> None:
        assert (await recorded.service.ledger.list_cycles(limit=1, wanted=EVERYTHING)).items == ()

    live(tmp_path, nothing)

    report = compare(tmp_path)

    assert (report.runs, report.cycles, report.trades, report.stretches) == ((RUN,), 0, 0, ())
    assert report.is_explained
