"""The ways to size an entry and to protect it, as the settings name them."""

from __future__ import annotations

from enum import StrEnum


class SizingMethod(StrEnum):
    """How much an entry may spend; the rules are those of `app.risk.sizing`."""

    FIXED_FRACTION = "fixed_fraction"
    RISK_PER_TRADE = "risk_per_trade"
    VOLATILITY_TARGET = "volatility_target"
    KELLY = "kelly"


class StopRule(StrEnum):
    """Which order takes an entry out again once the price moves against it."""

    NONE = "none"
    STOP_LOSS = "stop_loss"
    TRAILING_STOP = "trailing_stop"
