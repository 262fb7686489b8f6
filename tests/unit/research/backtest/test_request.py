"""A request says everything, survives JSON, and is refused where it cannot be run."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from app.agents.decision_making import Gate
from app.domain.candle import Interval
from app.domain.record import from_plain
from app.domain.risk import SizingMethod, StopRule
from app.errors import InvalidInputError, NotFoundError
from app.research.backtest.request import BacktestRequest, Driver, make_plan
from tests.support.backtests import SINCE, UNTIL, make_request

FOREST: dict[str, Any] = {"strategy": "forest", "until": SINCE + timedelta(days=30)}


@pytest.mark.parametrize("fields", [{}, FOREST, {"strategy": "forest", "model_id": "forest-binance-1m-x"}])
def test_request_through_json_is_the_same(fields: dict[str, Any]) -> None:
    request = make_request(**fields)
    document = json.loads(json.dumps(request.to_document()))
    assert from_plain(BacktestRequest, document) == request
    assert from_plain(BacktestRequest, document).digest == request.digest


def test_request_of_one_moment_in_two_zones_has_one_digest() -> None:
    eastern = SINCE.astimezone(timezone(timedelta(hours=5)))
    assert make_request(since=eastern).digest == make_request().digest


def test_every_field_changes_the_digest() -> None:
    request = make_request()
    changed = [
        replace(request, symbols=("ETHUSDT",)),
        replace(request, interval=Interval.M30),
        replace(request, since=SINCE + timedelta(hours=1)),
        replace(request, until=UNTIL - timedelta(hours=1)),
        replace(request, source="candles.csv"),
        replace(request, parameters={"fast_bars": 11, "slow_bars": 50}),
        replace(request, initial_cash=Decimal("10000.00000001")),
        replace(request, terms=replace(request.terms, fee_bps=Decimal("2.01"))),
        replace(request, window_bars=101),
        replace(request, latency_bars=1),
        replace(request, seed=1),
        replace(request, driver=Driver.ENGINE),
    ]
    assert len({one.digest for one in changed} | {request.digest}) == len(changed) + 1


def test_request_has_the_settings_and_the_parameters_that_nobody_named() -> None:
    request = make_request({"fee_bps": "7.5", "stop_rule": "trailing_stop", "sizing": "kelly", "max_drawdown": 0})
    assert request.terms.fee_bps == Decimal("7.5")
    assert request.terms.slippage_bps == Decimal(3)
    assert request.protection.stop is StopRule.TRAILING_STOP
    assert request.sizing.method is SizingMethod.KELLY
    assert request.limits.max_drawdown == 0
    assert request.parameters == {"fast_bars": 10, "slow_bars": 50}
    assert (request.window_bars, request.driver, request.walk_forward) == (100, Driver.COMPILED, None)


def test_window_is_as_long_as_the_strategy_looks_back() -> None:
    assert make_request(parameters={"slow_bars": 300}).window_bars == 301


def test_forest_is_taught_on_the_way_by_the_settings() -> None:
    request = make_request({"model_horizon_bars": 12, "training_klines": 600}, **FOREST)
    assert request.walk_forward is not None
    assert (request.walk_forward.train_bars, request.walk_forward.step_bars) == (600, 168)
    assert request.parameters["horizon_bars"] == 12
    assert make_request(step_bars=24, **FOREST).walk_forward.step_bars == 24  # type: ignore[union-attr]


def test_gate_asks_a_rule_nothing_and_a_forest_what_the_service_asks() -> None:
    rule, forest = make_request({"require_edge": True}), make_request({"require_edge": True}, **FOREST)
    assert make_plan(rule, 51).gate == Gate(0.0)
    assert make_plan(forest, 61).gate == forest.gate == Gate(0.45, require_edge=True, require_positive_return=True)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"symbols": ()}, "symbols"),
        ({"symbols": ("BTCUSDT", "BTCUSDT")}, "symbols"),
        ({"symbols": ("../../etc",)}, "symbols"),
        ({"symbols": tuple(f"COIN{number}USDT" for number in range(11))}, "symbols"),
        ({"since": datetime(2026, 1, 1)}, "since"),  # noqa: DTZ001 - that is what is refused
        ({"since": datetime(2009, 1, 1, tzinfo=UTC)}, "since"),
        ({"until": SINCE}, "until"),
        ({"until": SINCE - timedelta(days=9)}, "until"),
        ({"interval": Interval.M1, "since": datetime(2012, 1, 1, tzinfo=UTC)}, "span"),
        ({"source": ""}, "source"),
        ({"seed": -1}, "seed"),
        ({"latency_bars": -1}, "latency_bars"),
        ({"window_bars": 60}, "window_bars"),
        ({"model_id": "forest-1"}, "models"),
        ({"strategy": "forest", "model_id": "../forest"}, "model_id"),
        ({"strategy": "forest", "model_id": "forest-1", "parameters": {"depth": 3}}, "parameters of a model"),
        ({"step_bars": 1, "strategy": "forest", "until": SINCE + timedelta(days=100)}, "step_bars"),
        ({"step_bars": -5, "strategy": "forest"}, "walk_forward"),
    ],
)
def test_request_that_cannot_be_run_is_refused_by_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make_request(**fields)
    assert (caught.value.code, caught.value.context["field"]) == ("invalid_request", field)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"fee_bps": -1}, "fee_bps: "),
        ({"initial_cash": "NaN"}, "initial_cash: "),
        ({"initial_cash": "0.000000001"}, "initial_cash: "),
        ({"sizing": "all"}, "sizing: "),
        ({"api_key": "0123456789abcdef"}, "no setting 'api_key'"),
        ({"database_url": "sqlite:////etc/passwd"}, "no setting 'database_url'"),
    ],
)
def test_setting_that_cannot_be_is_refused_in_words(own: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make_request(own)
    assert caught.value.code == "invalid_request"
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"strategy": "martingale"}, "unknown_strategy"),
        ({"parameters": {"fast": 3}}, "parameter_unknown"),
        ({"parameters": {"fast_bars": float("nan")}}, "parameter_invalid"),
        ({"parameters": {"fast_bars": 60, "slow_bars": 50}}, "parameters_conflict"),
    ],
)
def test_strategy_or_parameter_that_is_not_there_is_refused(fields: dict[str, Any], code: str) -> None:
    with pytest.raises((InvalidInputError, NotFoundError)) as caught:
        make_request(**fields)
    assert caught.value.code == code
