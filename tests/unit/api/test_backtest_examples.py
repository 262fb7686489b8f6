"""What the documentation of backtests shows is what is answered."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from app.api import backtest_examples as examples
from app.api import backtests
from app.api.backtest_requests import NewBacktest
from app.engine.clocks import SystemClock
from app.settings import load_settings


@pytest.mark.parametrize(
    ("kind", "example"),
    [
        (backtests.Summary, examples.SUMMARY),
        (backtests.Backtest, examples.BACKTEST),
        (backtests.Curve, examples.CURVE),
        (backtests.ClosedTradePage, examples.TRADES),
        (backtests.DecisionPage, examples.DECISIONS),
        (backtests.Strategy, examples.STRATEGY),
    ],
)
def test_example_is_an_answer(kind: type[BaseModel], example: dict[str, Any]) -> None:
    assert kind.model_validate(example).model_dump(mode="json") == example


def test_example_of_what_was_asked_is_asked_again_as_it_is() -> None:
    settings, now = load_settings(_env_file=None), SystemClock().now()
    first = NewBacktest.model_validate(examples.NEW_BACKTEST).to_domain(settings, now)
    again = NewBacktest.model_validate(examples.BACKTEST["request"]).to_domain(settings, now)

    assert again == first
