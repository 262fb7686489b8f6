"""The documentation page needs nothing from elsewhere, and the document says what is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from app import __version__
from tests.support.edge import Edge, running_edge


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with running_edge() as running:
        yield running


@pytest.fixture(scope="module")
def document(edge: Edge) -> dict[str, Any]:
    answer: dict[str, Any] = edge.client.get("/openapi.json").json()
    return answer


def test_page_and_everything_it_loads_come_from_here(edge: Edge) -> None:
    page = edge.client.get("/docs")

    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert addresses == ["data:,", "/docs/assets/swagger-ui.css", "/docs/assets/swagger-ui-bundle.js", "/docs/start.js"]
    for address in addresses[1:]:
        assert edge.client.get(address).status_code == 200
    assert "<script>" not in page.text


def test_page_runs_no_script_of_its_own(edge: Edge) -> None:
    policy = edge.client.get("/docs").headers["content-security-policy"]

    assert "script-src 'self';" in policy
    assert "connect-src 'self';" in policy


def test_user_interface_can_read_the_document(edge: Edge, document: dict[str, Any]) -> None:
    bundle = edge.client.get("/docs/assets/swagger-ui-bundle.js").text

    assert document["openapi"].startswith("3.1.")
    assert re.search(r'PACKAGE_VERSION:"5\.', bundle), "only Swagger UI 5 reads OpenAPI 3.1"


def test_document_names_the_version_of_the_package(document: dict[str, Any]) -> None:
    assert (document["info"]["title"], document["info"]["version"]) == ("Papertape", __version__)


OPERATIONS = {
    "run_cycle": ("post", "/trading/run-cycle"),
    "list_trades": ("get", "/trading/trades"),
    "get_trade": ("get", "/trading/trades/{trade_id}"),
    "list_cycles": ("get", "/trading/cycles"),
    "get_cycle": ("get", "/trading/cycles/{cycle_id}"),
    "replay_cycle": ("get", "/trading/cycles/{cycle_id}/replay"),
    "explain_trade": ("get", "/trading/trades/{trade_id}/why"),
    "get_parity": ("get", "/parity/latest"),
    "run_parity": ("post", "/parity/run"),
    "get_latest_market": ("get", "/trading/market/latest"),
    "get_portfolio": ("get", "/portfolio/summary"),
    "list_positions": ("get", "/portfolio/positions"),
    "list_orders": ("get", "/portfolio/orders"),
    "get_order": ("get", "/portfolio/orders/{order_id}"),
    "list_fills": ("get", "/portfolio/fills"),
    "list_closed_trades": ("get", "/portfolio/closed-trades"),
    "list_equity": ("get", "/portfolio/equity"),
    "list_runs": ("get", "/portfolio/runs"),
    "place_order": ("post", "/portfolio/orders"),
    "cancel_order": ("delete", "/portfolio/orders/{order_id}"),
    "close_positions": ("post", "/portfolio/close"),
    "reset_portfolio": ("post", "/portfolio/reset"),
    "halt_trading": ("post", "/trading/halt"),
    "resume_trading": ("post", "/trading/resume"),
    "get_performance": ("get", "/portfolio/performance"),
    "list_events": ("get", "/events"),
    "stream_events": ("get", "/events/stream"),
    "get_model": ("get", "/model"),
    "get_track_record": ("get", "/model/track-record"),
    "list_models": ("get", "/models"),
    "roll_back_model": ("post", "/models/rollback"),
    "activate_model": ("post", "/models/{model_id}/activate"),
    "predict": ("post", "/model/predict"),
    "train_model": ("post", "/model/train"),
    "run_backtest": ("post", "/backtest/run"),
    "list_backtests": ("get", "/backtest/runs"),
    "get_backtest": ("get", "/backtest/runs/{backtest_id}"),
    "delete_backtest": ("delete", "/backtest/runs/{backtest_id}"),
    "get_backtest_equity": ("get", "/backtest/runs/{backtest_id}/equity"),
    "list_backtest_trades": ("get", "/backtest/runs/{backtest_id}/trades"),
    "list_backtest_decisions": ("get", "/backtest/runs/{backtest_id}/decisions"),
    "list_strategies": ("get", "/backtest/strategies"),
    "run_optimization": ("post", "/optimize"),
    "list_optimizations": ("get", "/optimize/runs"),
    "get_optimization": ("get", "/optimize/runs/{optimization_id}"),
    "delete_optimization": ("delete", "/optimize/runs/{optimization_id}"),
    "list_jobs": ("get", "/jobs"),
    "get_job": ("get", "/jobs/{job_id}"),
    "cancel_job": ("post", "/jobs/{job_id}/cancel"),
    "get_health": ("get", "/health"),
    "get_liveness": ("get", "/livez"),
    "get_readiness": ("get", "/readyz"),
    "get_metrics": ("get", "/metrics"),
}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_operations_keep_their_ids(document: dict[str, Any]) -> None:
    found = {operation["operationId"]: (method, path) for method, path, operation in operations(document)}

    assert found == OPERATIONS


def test_every_operation_is_described_and_tagged(document: dict[str, Any]) -> None:
    known = {tag["name"] for tag in document["tags"]}
    for method, path, operation in operations(document):
        assert operation["summary"], (method, path)
        assert operation["description"], (method, path)
        assert len(operation["tags"]) == 1, (method, path)
        assert operation["tags"][0] in known, (method, path)


def test_every_failure_is_documented_as_a_problem(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        failures = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        assert {"400", "414", "421", "422", "500"} <= set(failures), (method, path)
        if method in ("post", "delete"):
            assert {"401", "403", "413", "415", "429", "503"} <= set(failures), path
        for answer in failures.values():
            assert answer["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }


def test_what_is_answered_is_closed_and_exact(document: dict[str, Any]) -> None:
    trade = document["components"]["schemas"]["Trade"]

    assert set(trade["required"]) == set(trade["properties"])
    assert trade["properties"]["price"]["type"] == "string"
    assert trade["properties"]["executed_at"]["format"] == "date-time"
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert document["components"]["schemas"]["EmptyBody"]["additionalProperties"] is False
