"""Trains a bundle from candles. Run as a process of its own: `python -m ml.training REQUEST.json BARS.npz`.

Progress comes as one JSON object a line on standard output: {"progress": 0.4, "message": "..."}; the last one has
"model" (the bundle's path) or "error" ({"code", "message"}). The process ends when its standard input does, so
that it does not outlive whoever started it. This module needs scikit-learn.
"""

from __future__ import annotations

import fcntl
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from ml.backend import BackendError, run_calls
from ml.bars import Bars, FloatArray, IntegerArray, find_segments, load_bars
from ml.bundle import BundleError, find_newest, fits_request, load_bundle, save_bundle
from ml.canaries import (
    LeakError,
    check_closed,
    check_features,
    check_join,
    check_plausible,
    check_shuffled,
    check_split,
)
from ml.card import describe_window, list_warnings, name_libraries
from ml.child import end_with_parent, report, say
from ml.drift import make_reference
from ml.evaluation import Judged, evaluate, log_losses
from ml.features import FEATURE_NAMES, compute_features
from ml.forest import ForestRule, Rows, compute_prior, fit_calibrated, fit_predictor
from ml.importance import measure_importances
from ml.labels import CLASSES, LabelRule
from ml.paper import Costs, expect_returns
from ml.predictor import Predictor
from ml.preparation import LEAST_ROWS, Prepared, TrainingError, prepare_rows, prepare_segment
from ml.splits import Split, walk_forward

TEST_FRACTION: Final = 0.5
"""The newest share of the rows, on which models taught by what came before are judged."""

FOLDS: Final = 5

EMBARGO_FRACTION: Final = 0.01
"""The share of the training's span that lies between the last label that teaches and the first row that judges."""

_JOINED_BARS = 5_000

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """A model taught by one fold, and what it says of the rows that judge it.

    Attributes:
        predictor: The model.
        said: Its probabilities, shape (n_rows, 3).
        priors: The shares of the classes among the rows that taught it, shape (n_rows, 3).
        expected: What following it is expected to bring after costs, fractions, shape (n_rows,).
    """

    predictor: Predictor
    said: FloatArray
    priors: FloatArray
    expected: FloatArray


def judge(prepared: Prepared, test: IntegerArray, folds: Sequence[Fold]) -> Judged:
    """The rows `test` with what the folds said of them."""
    return Judged(
        probabilities=np.concatenate([fold.said for fold in folds]),
        priors=np.concatenate([fold.priors for fold in folds]),
        labels=prepared.rows.labels[test],
        last_labels=prepared.last_labels[test],
        series=prepared.series[test],
        next_returns=prepared.next_returns[test],
        side_costs=prepared.side_costs[test],
        overlap_rows=prepared.overlap_rows,
        allowed=np.concatenate([fold.expected for fold in folds]) > 0,
    )


def train(history: Mapping[str, Bars], request: dict[str, Any], on_progress: Progress) -> Path:
    """Judge a forest by walking forward, fit it once more the same way on the newest rows, and write the bundle.

    Args:
        history: Symbol to closed candles, oldest first; gaps are allowed.
        request: folder, source, interval, interval_ms, label_rule, forest, min_confidence, fee_bps, slippage_bps,
            require_positive_return, trained_at, candidates, backend (as `ml.backend.run_calls` takes it), and champion
            (the path of the bundle to compare with, or None).
        on_progress: Hears how far the work is (0 to 1) and what it does.

    Raises:
        TrainingError: The candles cannot teach a model, or a canary found a leak.
    """
    rule, forest_rule = LabelRule(**request["label_rule"]), ForestRule(**request["forest"])
    costs = Costs(request["fee_bps"], request["slippage_bps"])
    candles = sum(len(bars) for bars in history.values())
    on_progress(0.02, f"Computing {len(FEATURE_NAMES)} features of {candles:,} candles.")
    prepared = prepare_rows(history, request["interval_ms"], rule, costs)
    rows = prepared.rows
    embargo = int(EMBARGO_FRACTION * (rows.decided_at[-1] - rows.decided_at[0]))
    splits = _split(rows, embargo)
    try:
        _look_for_leaks(history, request, rows, splits, embargo, on_progress)
        judged, importances = _walk(prepared, splits, forest_rule, embargo, request["backend"], on_progress)
        judged = judged if request["require_positive_return"] else replace(judged, allowed=None)
        on_progress(0.8, f"Judging {len(judged):,} rows beside the baselines.")
        metrics = evaluate(judged, request["min_confidence"], request["candidates"])
        check_plausible(metrics)
        on_progress(0.9, f"Fitting the forest on the newest of all {len(rows):,} rows.")
        ((forest, calibration),) = run_calls(fit_calibrated, [(rows, forest_rule, embargo)], request["backend"], 0)
    except LeakError as error:
        raise TrainingError(error.code, str(error)) from error
    except BackendError as error:
        raise TrainingError("backend_unusable", str(error)) from error
    predictor = Predictor(forest, calibration)
    class_returns, side_cost = measure_returns(prepared, np.arange(len(rows)))
    on_progress(0.97, "Writing the bundle.")
    card = {
        "source": request["source"],
        "symbols": list(history),
        "interval": request["interval"],
        "label_rule": asdict(rule),
        "window": describe_window(history, request["interval_ms"], rows),
        "forest": dict(request["forest"]),
        "hyperparameters": asdict(forest_rule),
        "libraries": name_libraries(),
        "calibration": calibration.as_card(),
        "class_returns": dict(zip(CLASSES, class_returns.tolist(), strict=True)),
        "side_cost": side_cost,
        "metrics": metrics | {"folds": len(splits), "embargo_ms": embargo},
        "importances": importances,
        "drift": make_reference(rows.features, predictor.predict_batch(rows.features)),
        "comparison": _compare_with_champion(request["champion"], prepared, splits[-1], judged),
        "warnings": list_warnings(rows, metrics),
    }
    return save_bundle(Path(request["folder"]), forest, card, datetime.fromisoformat(request["trained_at"]))


def _split(rows: Rows, embargo: int) -> list[Split]:
    splits = walk_forward(rows.decided_at, rows.settled_at, FOLDS, TEST_FRACTION, embargo)
    splits = [split for split in splits if len(split.train) >= LEAST_ROWS // 4]
    if not splits:
        raise TrainingError(
            "too_few_rows",
            f"Of {len(rows)} rows too few are left to learn from once some are kept for judging and those between "
            "are dropped; use more candles or a smaller MODEL_HORIZON_BARS.",
        )
    return splits


def _look_for_leaks(
    history: Mapping[str, Bars],
    request: dict[str, Any],
    rows: Rows,
    splits: list[Split],
    embargo: int,
    on_progress: Progress,
) -> None:
    on_progress(0.05, "Looking for leaks: does any feature see the future, do shuffled labels teach?")
    now_ms = int(datetime.fromisoformat(request["trained_at"]).timestamp() * 1_000)
    for bars in history.values():
        check_closed(bars, request["interval_ms"], now_ms)
        longest = max(find_segments(bars.open_time_ms, request["interval_ms"]), key=lambda part: part.stop - part.start)
        check_features(compute_features, bars[longest])
        check_join(lambda part: _join(part, request), bars[longest][-_JOINED_BARS:], request["interval_ms"])
    for split in splits:
        check_split(rows, split, embargo)
    check_shuffled(rows, splits[-1], ForestRule(**request["forest"]).seed)


def _join(bars: Bars, request: dict[str, Any]) -> tuple[IntegerArray, FloatArray]:
    costs = Costs(request["fee_bps"], request["slippage_bps"])
    features, _, _, decided_at, *_ = prepare_segment(
        bars, request["interval_ms"], LabelRule(**request["label_rule"]), costs
    )
    return decided_at, features


def _walk(
    prepared: Prepared, splits: list[Split], rule: ForestRule, embargo: int, backend: str, on_progress: Progress
) -> tuple[Judged, list[dict[str, Any]]]:
    """What models say of rows that came after all that taught them, and what the newest of them looks at."""
    folds: list[Fold] = []
    calls = [(prepared, split, rule, embargo) for split in splits]
    for fold in run_calls(fit_fold, calls, backend, len(prepared.rows)):
        taught, judged = len(splits[len(folds)].train), len(fold.said)
        folds.append(fold)
        words = f"Fold {len(folds)} of {len(splits)}: {taught:,} rows taught, {judged:,} newer ones judged."
        on_progress(0.15 + 0.6 * len(folds) / len(splits), words)
    judges = prepared.rows.take(splits[-1].test)
    importances = measure_importances(folds[-1].predictor, judges.features, judges.labels, rule.seed)
    return judge(prepared, np.concatenate([split.test for split in splits]), folds), importances


def fit_fold(prepared: Prepared, split: Split, rule: ForestRule, embargo: int) -> Fold:
    """Teach a model with one fold, and hear what it says of the rows that judge it.

    Raises:
        TrainingError: `too_few_rows`.
    """
    taught = prepared.rows.take(split.train)
    try:
        predictor = fit_predictor(taught, rule, embargo)
    except ValueError as error:
        raise TrainingError("too_few_rows", f"A fold of {len(taught)} rows cannot be taught: {error}.") from error
    said = predictor.predict_batch(prepared.rows.features[split.test])
    class_returns, side_cost = measure_returns(prepared, split.train)
    return Fold(
        predictor=predictor,
        said=said,
        priors=np.tile(compute_prior(taught), (len(said), 1)),
        expected=expect_returns(said, class_returns, side_cost),
    )


def measure_returns(prepared: Prepared, numbers: IntegerArray) -> tuple[FloatArray, float]:
    """The mean forward return of each class among some rows (0 for one that never came), and the mean side cost."""
    labels, returns = prepared.rows.labels[numbers], prepared.forward_returns[numbers]
    means = [returns[labels == number].mean() if (labels == number).any() else 0.0 for number in range(len(CLASSES))]
    return np.array(means), float(prepared.side_costs[numbers].mean())


def _compare_with_champion(
    path: str | None, prepared: Prepared, newest: Split, judged: Judged
) -> dict[str, Any] | None:
    """The log-loss of the model in use and of this one's newest fold, on rows that taught neither; None without one."""
    if path is None:
        return None
    try:
        champion = load_bundle(Path(path))
    except BundleError:
        return None
    own = judged.probabilities[len(judged) - len(newest.test) :]
    rows = prepared.rows.take(newest.test)
    new = rows.decided_at > champion.card["window"]["taught_until_ms"]
    comparison: dict[str, Any] = {"champion": champion.model_id, "rows": int(new.sum())}
    if new.any():
        theirs = Predictor(champion.forest, champion.calibration).predict_batch(rows.features[new])
        comparison["champion_log_loss"] = float(log_losses(theirs, rows.labels[new]).mean())
        comparison["log_loss"] = float(log_losses(own[new], rows.labels[new]).mean())
    return comparison


def main(request_path: str, bars_path: str) -> int:
    """Train as the files say, one training a folder at a time; whoever had to wait takes the winner's bundle."""
    request = json.loads(Path(request_path).read_text())
    history = load_bars(Path(bars_path))
    folder = Path(request["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".training.lock").open("w") as lock:
        waited = not _lock_at_once(lock.fileno())
        if waited:
            say({"progress": 0.0, "message": "Another process trains; waiting for its model."})
            fcntl.flock(lock, fcntl.LOCK_EX)
        path = _find_winner(folder, request) if waited else None
        try:
            path = path or train(history, request, report)
        except TrainingError as error:
            say({"error": {"code": error.code, "message": str(error)}})
            return 3
    say({"progress": 1.0, "message": "Trained.", "model": str(path)})
    return 0


def _lock_at_once(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _find_winner(folder: Path, request: dict[str, Any]) -> Path | None:
    asked_at = datetime.fromisoformat(request["trained_at"])
    newest = find_newest(folder, lambda card: fits_request(card, request), lambda _path, _error: None)
    if newest is None or (asked_at - newest.trained_at).total_seconds() > request["fresh_seconds"]:
        return None
    return newest.path


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(*sys.argv[1:]))
