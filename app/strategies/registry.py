"""Every strategy by its name; `tests/contract/test_strategies.py` holds each to its contract."""

from __future__ import annotations

from app.errors import NotFoundError
from app.strategies.buy_and_hold import BUY_AND_HOLD
from app.strategies.forest import FOREST
from app.strategies.moving_average_cross import MOVING_AVERAGE_CROSS
from app.strategies.rules import Rule

STRATEGIES: dict[str, Rule] = {
    "forest": FOREST,
    "buy-and-hold": BUY_AND_HOLD,
    "moving-average-cross": MOVING_AVERAGE_CROSS,
}


def get_rule(name: str) -> Rule:
    """The strategy of this name; raises `NotFoundError` (`unknown_strategy`)."""
    if name not in STRATEGIES:
        raise NotFoundError(
            f"There is no strategy {name[:40]!r}; there are {', '.join(STRATEGIES)}.",
            code="unknown_strategy",
            context={"known": list(STRATEGIES)},
        )
    return STRATEGIES[name]
