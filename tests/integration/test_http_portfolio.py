"""The account over HTTP: the real service on the simulated market, from an order to the new run after a reset."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.errors import StorageError
from tests.support.edge import problem
from tests.support.portfolio_service import START, Counter, open_counter

pytest_plugins = ("tests.support.databases",)

LISTINGS = ("positions", "orders", "fills", "closed-trades", "equity", "runs")
LIMIT = {"kind": "LIMIT", "price": "80000"}
STOP = {"kind": "STOP_LOSS", "price": "89000"}


@pytest.fixture
def counter(sqlite_url: str, tmp_path: Path) -> Iterator[Counter]:
    with open_counter(sqlite_url, tmp_path) as opened:
        yield opened


def money(rows: Any, name: str) -> Decimal:
    """The sum of a column."""
    return sum((Decimal(row[name]) for row in rows), Decimal(0))


def test_orders_live_from_placing_to_their_end_and_the_books_add_up(counter: Counter) -> None:
    bought = counter.place("BUY", "0.02")
    stop = counter.place("SELL", "0.02", **STOP)["orders"][0]
    target = counter.place("SELL", "0.01", kind="TAKE_PROFIT", price=89_640)["orders"][0]
    dip = counter.place("BUY", "0.01", kind="LIMIT", price="89552")["orders"][0]
    brief = counter.place("BUY", "0.01", **LIMIT, expires_at="2026-01-05T10:05:00Z")["orders"][0]
    trailing = counter.place("SELL", "0.01", kind="TRAILING_STOP", trail_fraction="0.02")["orders"][0]
    protected = counter.get("/portfolio/positions")["items"]
    counter.advance(15)
    cycle = counter.run_cycle()
    canceled = counter.client.delete(f"/portfolio/orders/{stop['id']}")

    assert bought["reason_code"] == "filled"
    assert bought["fills"][0]["price"] == "89582.08"
    assert (stop["status"], stop["price"], stop["reduce_only"]) == ("NEW", "89000", True)
    assert trailing["price"] == "87764.1"
    assert protected[0]["order_ids"] == [stop["id"], target["id"], trailing["id"]]
    assert [(fill["order_id"], fill["price"], fill["origin"]) for fill in cycle["fills"]] == [
        (dip["id"], "89552", "person"),
        (target["id"], "89640", "person"),
    ]
    assert canceled.json() == counter.get(f"/portfolio/orders/{stop['id']}")
    statuses = {order["id"]: order["status"] for order in counter.get("/portfolio/orders")["items"]}
    assert statuses == {
        bought["orders"][0]["id"]: "FILLED",
        stop["id"]: "CANCELED",
        target["id"]: "FILLED",
        dip["id"]: "FILLED",
        brief["id"]: "EXPIRED",
        trailing["id"]: "NEW",
    }
    problem(counter.client.delete(f"/portfolio/orders/{stop['id']}"), 409, "order_ended")

    summary, fills = counter.get("/portfolio/summary"), counter.get("/portfolio/fills")["items"]
    closed, held = counter.get("/portfolio/closed-trades")["items"], counter.get("/portfolio/positions")["items"]
    assert all(money(fill["postings"], "amount") == 0 for fill in fills)
    assert summary["fees"] == str(money(fills, "fee"))
    assert [row["trade_id"] for row in closed] == [cycle["fills"][1]["id"]]
    assert closed[0]["profit"] == summary["realised_profit"] == cycle["fills"][1]["realised_profit"]
    assert Decimal(closed[0]["net_profit"]) == Decimal(closed[0]["profit"]) - Decimal(closed[0]["fees"])
    assert (held[0]["account"], held[0]["side"], held[0]["quantity"]) == ("position:BTCUSDT", "LONG", "0.02")
    assert Decimal(summary["equity"]) == Decimal(summary["cash"]) + Decimal(held[0]["market_value"])
    assert Decimal(summary["equity"]) == (
        10_000 + Decimal(summary["realised_profit"]) + Decimal(summary["unrealised_profit"]) - Decimal(summary["fees"])
    )
    newest = counter.get("/portfolio/equity", limit=1)["items"][0]
    assert (newest["equity"], newest["drawdown"]) == (summary["equity"], summary["drawdown"])
    assert (summary["open_positions"], summary["open_orders"], summary["halt"]) == (1, 1, None)


def test_listings_as_csv_have_the_cells_of_the_json(counter: Counter) -> None:
    counter.place("BUY", "0.02")
    counter.place("SELL", "0.01", **STOP)
    counter.place("SELL", "0.005")
    counter.place("BUY", "0.1", symbol="ETHUSDT")

    for name in LISTINGS:
        items = counter.get(f"/portfolio/{name}", limit=2)["items"]
        answer = counter.client.get(f"/portfolio/{name}", params={"limit": 2}, headers={"Accept": "text/csv"})
        rows = list(csv.reader(io.StringIO(answer.text)))
        assert answer.headers["content-type"].startswith("text/csv; charset=utf-8"), name
        assert rows[0] == list(items[0])
        assert rows[1:] == [[cell(value) for value in item.values()] for item in items]
    summary = counter.get("/portfolio/summary")
    answer = counter.client.get("/portfolio/summary", headers={"Accept": "text/csv"})
    shown = list(csv.reader(io.StringIO(answer.text)))
    assert shown == [list(summary), [cell(value) for value in summary.values()]]
    link = counter.client.get("/portfolio/fills?limit=2&symbol=BTCUSDT").json()["next_cursor"]
    assert link is None
    page = counter.client.get("/portfolio/fills?limit=1&symbol=BTCUSDT", headers={"Accept": "text/csv"})
    next_address = page.headers["link"].removeprefix("<").removesuffix('>; rel="next"')
    assert next_address.startswith("/portfolio/fills?limit=1&symbol=BTCUSDT&cursor=")
    second = counter.client.get(next_address, headers={"Accept": "text/csv"})
    assert next(csv.DictReader(io.StringIO(second.text)))["side"] == "BUY"
    assert "link" not in second.headers


def cell(value: object) -> str:
    """A value of JSON as it stands in a table."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def test_listings_keep_to_their_filters_and_go_on_where_they_ended(counter: Counter) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        counter.place("BUY", "1" if symbol == "SOLUSDT" else "0.01", symbol=symbol)
        counter.place("SELL", "0.5" if symbol == "SOLUSDT" else "0.005", symbol=symbol)
        counter.advance(1)
    old = counter.get("/portfolio/summary")["run"]
    counter.client.post("/portfolio/reset").raise_for_status()
    counter.place("BUY", "0.01")
    new = counter.get("/portfolio/summary")["run"]

    for name in ("orders", "fills", "closed-trades", "equity", "positions"):
        everything = counter.get(f"/portfolio/{name}", run=old)["items"]
        paged: list[Any] = []
        cursor = None
        while cursor is not None or not paged:
            page = counter.get(f"/portfolio/{name}", run=old, limit=1, cursor=cursor)
            paged += page["items"]
            cursor = page["next_cursor"]
        assert paged == everything, name
        assert len(everything) >= 3
        symbols = {item["symbol"] for item in counter.get(f"/portfolio/{name}", run=old, symbol="ETHUSDT")["items"]}
        assert symbols == {"ETHUSDT"}, name
        assert counter.get(f"/portfolio/{name}", source="binance")["items"] == [], name
        late = "2026-01-05T10:02:30Z"
        before = counter.get(f"/portfolio/{name}", run=old, until=late)["items"]
        since = counter.get(f"/portfolio/{name}", run=old, since=late)["items"]
        assert {item["symbol"] for item in before} - {None} == {"BTCUSDT", "ETHUSDT"}, name
        assert {item["symbol"] for item in since} == {"SOLUSDT"}, name
        problem(counter.client.get(f"/portfolio/{name}?cursor=dHJhZGU6MQ"), 422, "invalid_cursor")
    assert [run["id"] for run in counter.get("/portfolio/runs", source="simulated")["items"]] == [new, old]
    assert [run["id"] for run in counter.get("/portfolio/runs", run=old)["items"]] == [old]
    assert len(counter.get("/portfolio/orders", run=new)["items"]) == 1
    assert counter.get("/portfolio/orders", status="NEW")["items"] == []
    assert len(counter.get("/portfolio/orders", status="FILLED")["items"]) == 7


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"quantity": "0.000001"}, 422, "order_invalid"),
    ({"price": "80000"}, 422, "order_invalid"),
    ({"kind": "LIMIT"}, 422, "order_invalid"),
    ({"kind": "LIMIT", "price": "80000.001"}, 422, "order_invalid"),
    ({"kind": "TRAILING_STOP", "side": "SELL"}, 422, "order_invalid"),
    ({**LIMIT, "expires_at": "2026-01-05T10:00:00Z"}, 422, "order_invalid"),
    ({"quantity": "0"}, 422, "invalid_input"),
    ({"quantity": "-1"}, 422, "invalid_input"),
    ({"quantity": "10000000001"}, 422, "invalid_input"),
    ({"quantity": "0.000000001"}, 422, "invalid_input"),
    ({"quantity": True}, 422, "invalid_input"),
    ({"kind": "TRAILING_STOP", "side": "SELL", "trail_fraction": 1}, 422, "invalid_input"),
    ({"kind": "ICEBERG"}, 422, "invalid_input"),
    ({"leverage": 3}, 422, "invalid_input"),
    ({"symbol": "NOSUCH"}, 404, "unknown_symbol"),
    ({"quantity": "5"}, 409, "insufficient_cash"),
    ({"quantity": "0.00001"}, 409, "below_minimum_notional"),
    ({"kind": "LIMIT", "price": "1", "quantity": "0.1"}, 409, "below_minimum_notional"),
    ({"side": "SELL"}, 409, "no_position"),
    ({"side": "SELL", **STOP}, 409, "no_position"),
    ({"reduce_only": True}, 409, "no_position"),
]


def test_orders_that_cannot_be_are_refused_with_a_reason_and_leave_nothing(counter: Counter) -> None:
    for changes, status, code in REFUSED:
        body = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.01", **changes}
        problem(counter.client.post("/portfolio/orders", json=body), status, code)
    assert counter.get("/portfolio/orders")["items"] == []
    problem(counter.client.get("/portfolio/orders/nothing"), 404, "order_not_found")
    problem(counter.client.delete("/portfolio/orders/nothing"), 404, "order_not_found")
    problem(counter.client.get("/portfolio/summary?run=simulated.forest.main.9"), 404, "run_not_found")
    problem(counter.client.post("/portfolio/close?symbol=BTCUSDT"), 409, "no_position")
    problem(counter.client.post("/portfolio/reset", json={"cash": "0"}), 422, "invalid_input")
    problem(counter.client.post("/trading/halt", json={"reason": ""}), 422, "invalid_input")
    assert counter.client.post("/portfolio/close").json()["reason_code"] == "nothing_to_do"


def test_key_used_again_gives_the_first_answer_and_books_nothing(counter: Counter) -> None:
    first = counter.order("BUY", "0.01", key="one")
    again = counter.order("BUY", "0.010", key="one")
    assert again.text == first.text
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == f"/portfolio/orders/{first.json()['orders'][0]['id']}"
    assert "idempotency-replayed" not in first.headers
    problem(counter.order("BUY", "0.02", key="one"), 422, "idempotency_key_reused")

    for path, key in (("/portfolio/close", "two"), ("/portfolio/reset", "three")):
        answers = [counter.client.post(path, headers={"Idempotency-Key": key}) for _ in range(2)]
        assert answers[0].status_code == 200
        assert answers[0].text == answers[1].text
        assert answers[1].headers["idempotency-replayed"] == "true"
    assert len(counter.get("/portfolio/fills")["items"]) == 2
    assert len(counter.get("/portfolio/runs")["items"]) == 2


def test_reset_starts_a_run_that_is_traded_on_at_once_and_leaves_the_old_one_readable(
    sqlite_url: str, tmp_path: Path
) -> None:
    with open_counter(sqlite_url, tmp_path, min_confidence=0.5) as counter:
        first = counter.run_cycle()
        counter.place("SELL", "0.01", **STOP)
        old, summary = first["run"], counter.get("/portfolio/summary")
        answer = counter.client.post("/portfolio/reset", json={"cash": 5_000})
        second = counter.run_cycle()

        assert answer.json()["run"] == second["run"] == "simulated.forest.main.2"
        assert [(order["status"], order["reason_code"]) for order in answer.json()["orders"]] == [
            ("CANCELED", "run_ended")
        ]
        assert second["execution"]["status"] == "FILLED", "the new run has not traded this candle"
        assert second["market"]["candle_open_time"] == first["market"]["candle_open_time"]
        assert counter.get("/portfolio/summary")["initial_cash"] == "5000"
        ended = counter.get("/portfolio/summary", run=old)
        assert ended == summary | {"open_orders": 0}
        assert [item["quantity"] for item in counter.get("/portfolio/positions", run=old)["items"]] == ["0.0279"]
        assert [(run["id"], run["ended_at"]) for run in counter.get("/portfolio/runs")["items"]] == [
            (second["run"], None),
            (old, answer.json()["at"]),
        ]
    with open_counter(sqlite_url, tmp_path, start=START + timedelta(minutes=1)) as counter:
        assert counter.get("/portfolio/summary")["run"] == second["run"]
        assert counter.get("/readyz")["status"] == "ready"


def test_halt_holds_over_a_restart_and_stops_entries_only(sqlite_url: str, tmp_path: Path) -> None:
    with open_counter(sqlite_url, tmp_path, min_confidence=0.5) as counter:
        assert counter.client.post("/trading/resume").json()["reason_code"] == "not_halted"
        counter.place("BUY", "0.01")
        stop = counter.place("SELL", "0.01", **STOP)["orders"][0]
        halted = counter.client.post("/trading/halt", json={"reason": "The news."}).json()
        again = counter.client.post("/trading/halt").json()
    with open_counter(sqlite_url, tmp_path, min_confidence=0.5, start=START + timedelta(minutes=2)) as counter:
        assert counter.get("/health")["halted"] is True
        assert counter.get("/portfolio/summary")["halt"] == {
            "reason_code": "halted",
            "reason": "The news.",
            "at": "2026-01-05T10:00:30.000Z",
        }
        assert counter.run_cycle("ETHUSDT")["execution"]["reason_code"] == "halted"
        problem(counter.order("BUY", "0.01"), 409, "halted")
        assert counter.client.delete(f"/portfolio/orders/{stop['id']}").json()["status"] == "CANCELED"
        assert counter.client.post("/portfolio/close").json()["reason_code"] == "closed"
        resumed = counter.client.post("/trading/resume").json()
        assert counter.get("/health")["halted"] is False
        assert counter.get("/portfolio/summary")["halt"] is None
        assert counter.run_cycle("ETHUSDT")["execution"]["status"] == "FILLED"
        told = [event["type"] for event in counter.get("/events")["items"]]

    assert (halted["halted"], halted["reason"]) == (True, "The news.")
    assert (again["reason_code"], again["reason"]) == ("already_halted", "The news.")
    assert (resumed["halted"], resumed["reason_code"]) == (False, "resumed")
    assert told.count("trading.halted") == told.count("trading.resumed") == 1


def test_close_takes_every_position_in_one_booking_and_dust_with_the_last_sale(counter: Counter) -> None:
    counter.place("BUY", "0.01")
    counter.place("BUY", "0.1", symbol="ETHUSDT")
    sold = counter.place("SELL", "0.09999")
    counter.place("BUY", "0.01")
    counter.place("SELL", "0.00996")
    dust = counter.get("/portfolio/positions")["items"]
    counter.place("BUY", "0.01")
    closed = counter.client.post("/portfolio/close").json()

    assert sold["orders"][0]["quantity"] == "0.01", "a sale never turns a position round"
    assert [(item["account"], item["quantity"]) for item in dust] == [
        ("position:ETHUSDT", "0.1"),
        ("dust:BTCUSDT", "0.00004"),
    ]
    assert [(fill["symbol"], fill["quantity"]) for fill in closed["fills"]] == [
        ("BTCUSDT", "0.01004"),
        ("ETHUSDT", "0.1"),
    ]
    assert counter.get("/portfolio/positions")["items"] == []
    summary = counter.get("/portfolio/summary")
    assert (summary["market_value"], summary["dust_value"], summary["open_positions"]) == ("0", "0", 0)


def test_two_callers_at_once_close_a_position_once(counter: Counter) -> None:
    counter.place("BUY", "0.01")
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(lambda _: counter.client.post("/portfolio/close?symbol=BTCUSDT"), range(4)))

    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"no_position"}
    assert [fill["side"] for fill in counter.get("/portfolio/fills")["items"]] == ["SELL", "BUY"]


def test_short_holds_margin_and_its_liquidation_must_stay(sqlite_url: str, tmp_path: Path) -> None:
    with open_counter(sqlite_url, tmp_path, allow_short=True) as counter:
        sold = counter.place("SELL", "0.02")
        guard = next(order for order in sold["orders"] if order["origin"] == "liquidation")
        held, summary = counter.get("/portfolio/positions")["items"][0], counter.get("/portfolio/summary")
        problem(counter.client.delete(f"/portfolio/orders/{guard['id']}"), 409, "order_required")
        covered = counter.client.post("/portfolio/close?symbol=BTCUSDT").json()

    assert (held["side"], held["quantity"], held["order_ids"]) == ("SHORT", "0.02", [guard["id"]])
    assert Decimal(held["cost"]) < 0
    assert Decimal(summary["margin_held"]) == -2 * Decimal(held["cost"])
    assert Decimal(summary["available"]) == Decimal(summary["cash"]) - Decimal(summary["margin_held"])
    assert covered["fills"][0]["side"] == "BUY"


def test_books_that_do_not_add_up_are_not_traded_on_but_can_be_halted(counter: Counter) -> None:
    counter.service._ledger_error = StorageError("The books do not add up.", code="ledger_mismatch")

    problem(counter.order("BUY", "0.01"), 503, "ledger_mismatch")
    for path in ("/portfolio/close", "/portfolio/reset", "/trading/resume", "/trading/run-cycle"):
        problem(counter.client.post(path), 503, "ledger_mismatch")
    problem(counter.client.delete("/portfolio/orders/nothing"), 503, "ledger_mismatch")
    assert counter.client.post("/trading/halt").json()["halted"] is True
    assert counter.get("/portfolio/summary")["halt"]["reason"] == "It was halted on request."
