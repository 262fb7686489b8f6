"""What is said of an optimisation in words; plain text."""

from __future__ import annotations

from typing import Final

from app.research.optimization.request import Objective
from app.research.optimization.result import Plateau
from app.research.optimization.space import Values

OBJECTIVES: Final = {
    Objective.SHARPE: "Sharpe ratio",
    Objective.TOTAL_RETURN: "total return",
    Objective.CALMAR: "Calmar ratio",
    Objective.MAXIMUM_DRAWDOWN: "maximum drawdown",
}
"""What objectives are called."""


def say_values(values: Values | None) -> str:
    """Values by name, such as fast_bars=10, slow_bars=50."""
    return "nothing" if values is None else ", ".join(f"{name}={value:g}" for name, value in values.items())


def say_plateau(plateau: Plateau) -> str:
    """Whether the best is on a plateau, in a sentence."""
    if plateau.neighbours is None:
        return "Plateau or spike? Nothing was tried around the best."
    if plateau.is_plateau is None:
        return "Plateau or spike? The best is not above 0."
    share = plateau.neighbours / plateau.peak
    if plateau.is_plateau:
        return f"The best is on a plateau: what lies around it comes to {share:.0%} of it."
    return f"The best is a spike, which luck makes as well: what lies around it comes to {share:.0%} of it."
