"""What is said of an optimisation in words; plain text."""

from __future__ import annotations

from app.research.optimization.result import Plateau
from app.research.optimization.space import Values


def say_values(values: Values | None) -> str:
    """Values by name, such as fast_bars=10, slow_bars=50."""
    return "nothing" if values is None else ", ".join(f"{name}={value:g}" for name, value in values.items())


def say_plateau(plateau: Plateau) -> str:
    """Whether the best is on a plateau, in a sentence."""
    if plateau.is_plateau is None or plateau.neighbours is None:
        return "Plateau or spike? Nothing around the best says."
    share = plateau.neighbours / plateau.peak
    if plateau.is_plateau:
        return f"The best is on a plateau: what lies around it comes to {share:.0%} of it."
    return f"The best is a spike, which luck makes as well: what lies around it comes to {share:.0%} of it."
