"""How cycles, trades and a model's card leave the service: into a pipe, onto a terminal, into a file."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from app.domain.candle import Interval
from app.domain.cycle import CycleReport, CycleStatus, Decision, Execution, ExecutionStatus, Trade
from app.domain.order import Check, Origin, Side
from app.domain.signal import Signal
from app.errors import InvalidInputError
from app.model_card.content import render_markdown
from app.terminal import print_card, print_cycle, print_trades, save_page
from tests.support.cards import make_whole_card
from tests.support.fakes import PROBABILITIES, START

STOPPED = Trade(
    id=7,
    cycle_id="cycle-1",
    symbol="BTCUSDT",
    interval=Interval.M1,
    source="simulated",
    side=Side.SELL,
    quantity=Decimal("0.01"),
    price=Decimal(63_000),
    notional=Decimal(630),
    fee=Decimal("0.126"),
    slippage_bps=3.0,
    confidence=None,
    model_id=None,
    candle_open_time=START,
    executed_at=START,
    reason="SELL 0.01 BTC at 63000.",
    cash_after=Decimal("9993.5"),
    position_after=Decimal(0),
    origin=Origin.PROTECTION,
    realised_profit=Decimal(-10),
)
CYCLE = CycleReport(
    id="cycle-1",
    source="simulated",
    symbol="BTCUSDT",
    interval=Interval.M1,
    status=CycleStatus.COMPLETED,
    started_at=START,
    finished_at=START,
    logs=(),
    decision=Decision(Signal.BUY, 0.5, PROBABILITIES, "confident", "BUY.", "forest-test"),
    execution=Execution(ExecutionStatus.SKIPPED, "hold_signal", "Nothing to do."),
)


def test_card_into_a_pipe_is_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    print_card(make_whole_card(), as_json=False)

    assert capsys.readouterr().out == render_markdown(make_whole_card())


def test_card_on_a_terminal_is_laid_out(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    print_card(make_whole_card(warnings=["\x1b]0;owned\x07[link](http://evil.example)"]), as_json=False)

    shown = capsys.readouterr().out
    assert "| --- |" not in shown
    assert "1.0000 [0.9500, 1.0500]" in shown
    assert "\x1b]" not in shown
    assert "[link](http://evil.example)" in shown


def test_card_as_json_is_the_card(capsys: pytest.CaptureFixture[str]) -> None:
    print_card(make_whole_card(), as_json=True)

    assert json.loads(capsys.readouterr().out) == make_whole_card()


def test_page_replaces_an_older_one_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "card.html"
    file.write_text("old")
    save_page("<p>\N{EURO SIGN}</p>", file)

    assert file.read_text("utf-8") == "<p>\N{EURO SIGN}</p>"
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]
    assert capsys.readouterr().out == f"Wrote {file}\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing/card.html", "No such file or directory"),
        ("file/card.html", "Not a directory"),
        ("folder", "directory"),
    ],
)
def test_page_that_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    with pytest.raises(InvalidInputError, match=said) as refused:
        save_page("<p></p>", tmp_path / name)
    assert refused.value.code == "file_not_writable"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_cycle_that_met_no_limit_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_cycle(CYCLE, as_json=False)

    line = "2026-11-21 01:02:03Z  BTCUSDT (simulated)  BUY 50.0%  skipped: Nothing to do.\n"
    assert capsys.readouterr().out == line


def test_cycle_tells_of_resting_orders_that_filled_and_of_checks_that_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    checks = (
        Check("halted", passed=True, value="running", limit="running", detail="Trading is not halted."),
        Check("daily_loss", passed=False, value="0.06", limit="0.05", detail="Today has lost too much."),
        Check("cooldown", passed=False, value="3", limit="3", detail="Three exits in a row lost."),
    )
    decided = replace(STOPPED, confidence=0.5, origin=Origin.SIGNAL)
    print_cycle(replace(CYCLE, checks=checks, fills=(STOPPED, decided)), as_json=False)

    assert capsys.readouterr().out.splitlines() == [
        "2026-11-21 01:02:03Z  BTCUSDT (simulated)  BUY 50.0%  skipped: Nothing to do. (1 of 3 checks passed)",
        "  filled  protection order: SELL 0.01 BTC at 63000.",
        "  failed  cooldown: Three exits in a row lost.",
    ]


def test_trades_of_no_decision_have_no_confidence(capsys: pytest.CaptureFixture[str]) -> None:
    print_trades([STOPPED], as_json=False)
    row = capsys.readouterr().out.splitlines()[3]
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        *("7", "2026-11-21 01:02:03Z", "BTCUSDT", "SELL", "0.01", "63000", "0.1260", "-", "9993.50", "simulated")
    ]

    print_trades([STOPPED], as_json=True)
    (item,) = json.loads(capsys.readouterr().out)
    assert (item["confidence"], item["model_id"], item["realised_profit"]) == (None, None, "-10")
