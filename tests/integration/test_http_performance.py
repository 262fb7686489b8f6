"""`GET /portfolio/performance` and the command beside it: the same answer as JSON, as CSV and as tables."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator

import pytest

from app.api.performance import describe
from app.cli import main
from app.terminal import print_performance
from tests.support.edge import Edge, problem, running_edge
from tests.support.performances import REPORT

pytest_plugins = ("tests.support.databases",)
PATH = "/portfolio/performance"


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with running_edge() as running:
        yield running


def test_answer_has_money_in_strings_and_ratios_in_numbers(edge: Edge) -> None:
    answer = edge.client.get(PATH, params={"run": "simulated.forest.main.1"})

    document = answer.json()
    assert answer.status_code == 200
    assert (document["equity"], document["costs_paid"], document["expectancy"]) == (
        "10500.00000001",
        "7.1",
        "12.12345679",
    )
    assert (document["total_return"], document["sortino"], document["drawdown_end"]) == (0.05, None, 4)
    assert document["shadow_books"]["always_flat"] == {
        "equity": "10000",
        "total_return": 0.0,
        "comparison": {"difference": 0.001, "low": -0.002, "high": 0.004, "better": None},
    }
    assert document["shadow_books"]["random"]["comparison"] is None
    assert document["verdict"] == {"answer": "unknown", "reason": "Not known yet."}


def test_csv_has_each_name_with_its_value(edge: Edge) -> None:
    answer = edge.client.get(PATH, headers={"Accept": "text/csv"})

    rows = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert rows[0] == ["name", "value"]
    found = dict(rows[1:])
    assert (found["run"], found["days"], found["sortino"]) == ("simulated.forest.main.1", "12", "")
    assert found["shadow_books.buy_and_hold.comparison.low"] == "-0.002"
    assert found["verdict.answer"] == "unknown"


def test_run_that_does_not_exist_is_not_found(edge: Edge) -> None:
    problem(edge.client.get(PATH, params={"run": "simulated.forest.main.2"}), 404, "run_not_found")


def test_tables_show_numbers_books_and_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    print_performance(REPORT, as_json=False)

    shown = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines()]
    assert ["sharpe", "1.5"] in lines
    assert ["sortino", "-"] in lines
    assert ["buy and hold", "10,000.00", "+0.00%", "+0.100%", "-0.200% to +0.400%"] in lines
    assert ["random", "10,000.00", "+0.00%", "-", "-"] in lines
    assert shown.endswith("Is it any good? Not known yet.\n")


def test_command_prints_what_the_route_answers(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MARKET_SOURCE", "simulated")
    monkeypatch.setattr(sys, "argv", ["app", "performance", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()

    document = json.loads(capfd.readouterr().out)
    assert ended.value.code in (0, None)
    assert list(document) == list(describe(REPORT).model_dump())
    assert (document["run"], document["fills"], document["verdict"]["answer"]) == (
        "simulated.forest.main.1",
        0,
        "unknown",
    )
