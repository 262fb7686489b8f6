"""What is checked in every training before its model is believed: that nothing has seen the future.

A leak makes every other number a lie, so each of these stops the training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ml.bars import Bars, FloatArray, IntegerArray
from ml.evaluation import LEAST_BLOCKS
from ml.features import LOOKBACK_BARS
from ml.forest import ForestRule, Rows, fit_forest, forest_arrays
from ml.predictor import N_CLASSES, Predictor
from ml.splits import Split

TOO_GOOD_SKILL: Final = 0.5
"""A skill at telling BUY from SELL that no market gives; real ones gave 0.002 (measured)."""

SHUFFLED_GAIN: Final = 0.01
"""How much more than chance labels without any meaning may be foreseen, besides luck."""

_CUTS = (0.4, 0.7, 0.9)

Compute = Callable[[Bars], FloatArray]
"""What makes a feature matrix of contiguous candles."""

Join = Callable[[Bars], tuple[IntegerArray, FloatArray]]
"""What makes the rows of contiguous candles: when each was decided, and its features."""


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


def check_join(join: Join, bars: Bars, interval_ms: int) -> None:
    """Join features to rows again from candles whose later ones are others: no row may know those.

    `check_features` cannot see a matrix without fault that is joined one row too early.

    Raises:
        LeakError: `join_looks_ahead`, a row that was decided before the candles differ has changed.
    """
    decided_at, whole = join(bars)
    for share in _CUTS:
        cut = max(LOOKBACK_BARS, round(share * len(bars)))
        if cut >= len(bars):
            continue
        known_at = int(bars.open_time_ms[cut - 1]) + interval_ms
        again_at, again = join(_replace_after(bars, cut))
        before, after = decided_at <= known_at, again_at <= known_at
        if not (np.array_equal(decided_at[before], again_at[after]) and np.array_equal(whole[before], again[after])):
            raise LeakError(
                "join_looks_ahead",
                f"A row decided within the first {cut:,} candles changes with later ones: it was joined too early.",
            )


def check_split(rows: Rows, split: Split, embargo: int) -> None:
    """Refuse a split whose teachers had not all been settled, by more than the embargo, before the first judge.

    Raises:
        LeakError: `split_overlaps`.
    """
    taught_until = int(rows.settled_at[split.train].max())
    if taught_until >= int(rows.decided_at[split.test].min()) - embargo:
        raise LeakError(
            "split_overlaps", "A label that teaches was settled after the first row that judges was decided."
        )


def check_shuffled(rows: Rows, split: Split, seed: int) -> float:
    """Teach and judge with labels that were dealt out anew: nothing can be learnt from them, only known by heart.

    The forest is one that learns by heart: each tree grows until its leaves are pure. What it gives the truth is
    compared with what it gives the truth of another row, so that neither its overconfidence nor common classes count.

    Returns:
        How much more probability it gives to what came true than to what came true of any row; 0 is chance.

    Raises:
        LeakError: `shuffled_labels_teach`, that is above `SHUFFLED_GAIN`: rows that judge had taught.
    """
    dealt = np.random.default_rng(seed).permutation(rows.labels)
    by_heart = ForestRule(trees=10, depth=64, leaf_fraction=0.0, sample_fraction=1.0, sample_maximum=20_000, seed=seed)
    forest = fit_forest(rows.features[split.train], dealt[split.train], by_heart)
    said = Predictor(forest_arrays(forest)).predict_batch(rows.features[split.test])
    truth = dealt[split.test]
    shares = np.bincount(truth, minlength=N_CLASSES) / len(truth)
    gains = said[np.arange(len(truth)), truth] - said @ shares
    gain = float(gains.mean())
    if gain > SHUFFLED_GAIN + 4.0 * float(gains.std()) / np.sqrt(len(gains)):
        raise LeakError(
            "shuffled_labels_teach",
            f"A model taught with shuffled labels gives the truth {gain:.1%} more than chance: rows that judge it had "
            "taught it.",
        )
    return gain


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
