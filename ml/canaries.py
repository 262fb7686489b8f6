"""What is checked in every training before its model is believed: that nothing has seen the future.

A leak makes every other number a lie, so each of these stops the training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ml.bars import Bars, FloatArray
from ml.features import LOOKBACK_BARS
from ml.forest import ForestRule, Rows, fit_predictor
from ml.evaluation import LEAST_BLOCKS, log_losses
from ml.splits import Split

TOO_GOOD_SKILL: Final = 0.5
"""A skill at telling BUY from SELL that no market gives; real ones gave 0.002 (measured)."""

SHUFFLED_SKILL: Final = 0.02
"""The skill that labels without any meaning may show by luck."""

_CUTS = (0.4, 0.7, 0.9)

Compute = Callable[[Bars], FloatArray]
"""What makes a feature matrix of contiguous candles."""


class LeakError(Exception):
    """The training has seen what it must not; `code` says what, in snake_case."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def check_features(compute: Compute, bars: Bars) -> None:
    """Compute features again from a history cut short, and from one whose later candles are others.

    Raises:
        LeakError: `features_look_ahead`, a row changed that came before the cut.
    """
    whole = compute(bars)
    for share in _CUTS:
        cut = max(LOOKBACK_BARS, round(share * len(bars)))
        if cut >= len(bars):
            continue
        for name, other in (("cut off", bars[:cut]), ("replaced", _replace_after(bars, cut))):
            if not np.array_equal(compute(other)[:cut], whole[:cut], equal_nan=True):
                raise LeakError(
                    "features_look_ahead",
                    f"A feature of the first {cut:,} candles changes when what came later is {name}: it looks ahead.",
                )


def check_closed(bars: Bars, interval_ms: int, now_ms: int) -> None:
    """Refuse candles that had not closed when they were fetched.

    Raises:
        LeakError: `candle_open`.
    """
    if len(bars) and int(bars.open_time_ms[-1]) + interval_ms > now_ms:
        raise LeakError("candle_open", "The newest candle had not closed yet; its numbers are not final.")


def check_shuffled(rows: Rows, split: Split, rule: ForestRule, embargo: int) -> float:
    """Teach and judge with labels that were dealt out anew: nothing can be learnt from them.

    Returns:
        The skill, 1 - log-loss / log-loss of the class shares.

    Raises:
        LeakError: `shuffled_labels_teach`, the skill is above `SHUFFLED_SKILL`: rows that judge had taught.
    """
    random = np.random.default_rng(rule.seed)
    dealt = Rows(**{name: getattr(rows, name) for name in Rows.__dataclass_fields__} | {"labels": random.permutation(rows.labels)})
    train, test = dealt.take(split.train), dealt.take(split.test)
    shares = np.bincount(train.labels, minlength=3) / len(train)
    prior = log_losses(np.broadcast_to(shares, (len(test), 3)), test.labels)
    own = log_losses(fit_predictor(train, rule, embargo).predict_batch(test.features), test.labels)
    skill = float(1.0 - own.mean() / prior.mean())
    luck = 4.0 * float((prior - own).std() / np.sqrt(len(test)) / prior.mean())
    if skill > SHUFFLED_SKILL + luck:
        raise LeakError(
            "shuffled_labels_teach",
            f"A model taught with shuffled labels has a skill of {skill:.1%}: rows that judge it had taught it.",
        )
    return skill


def check_plausible(metrics: dict[str, Any]) -> None:
    """Refuse what is too good to be true, once there are rows enough for that to be no luck.

    Raises:
        LeakError: `too_good_to_be_true`.
    """
    skill, least = metrics["direction_skill"]["value"], metrics["direction_skill"]["low"]
    if metrics["verdict"]["blocks"] >= LEAST_BLOCKS and least is not None and least > TOO_GOOD_SKILL:
        raise LeakError(
            "too_good_to_be_true",
            f"Out of sample the model tells BUY from SELL with a skill of {skill:.1%}; no market gives that, so "
            "something has seen the future. The model is not taken into use.",
        )


def _replace_after(bars: Bars, cut: int) -> Bars:
    """The same candles up to `cut`, and after it others: twice the price, and a tenth more at each end."""
    values = {}
    for name, factor in (("open", 2.0), ("high", 2.2), ("low", 1.8), ("close", 2.1), ("volume", 3.0)):
        values[name] = np.concatenate((getattr(bars, name)[:cut], factor * getattr(bars, name)[cut:][::-1]))
    return Bars(bars.open_time_ms, **values)
