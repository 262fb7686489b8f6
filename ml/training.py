"""Trains a bundle from candles. Run as a process of its own: `python -m ml.training REQUEST.json BARS.npz`.

Progress comes as one JSON object a line on standard output: {"progress": 0.4, "message": "..."}; the last one has
"model" (the bundle's path) or "error" ({"code", "message"}). The process ends when its standard input does, so
that it does not outlive whoever started it. This module needs scikit-learn.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import sklearn

from ml.bars import Bars, FloatArray, IntegerArray, find_segments
from ml.bundle import find_newest, save_bundle
from ml.evaluation import evaluate
from ml.features import FEATURE_NAMES, compute_features
from ml.forest import ForestRule, fit_forest, forest_arrays
from ml.labels import CLASSES, UNSETTLED, LabelArray, LabelRule, compute_labels
from ml.predictor import Predictor
from ml.splits import split_holdout

LEAST_ROWS: Final = 200
"""How many settled rows a training needs."""

TEST_FRACTION: Final = 0.25

Progress = Callable[[float, str], None]


class TrainingError(Exception):
    """The candles cannot teach a model; `code` says why in snake_case."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def prepare_rows(bars: Bars, interval_ms: int, rule: LabelRule) -> tuple[FloatArray, LabelArray, IntegerArray]:
    """The rows that can teach: features, labels and the bar each belongs to, oldest first.

    Features and labels are computed for each run of candles without a gap, so none reaches across one.

    Raises:
        TrainingError: `too_few_rows`, `one_class` or `features_invalid`.
    """
    features, labels, decided_at = [], [], []
    for segment in find_segments(bars.open_time_ms, interval_ms):
        part = bars[segment]
        matrix, truth = compute_features(part), compute_labels(part, rule)
        usable = (truth != UNSETTLED) & ~np.isnan(matrix).all(axis=1)
        features.append(matrix[usable])
        labels.append(truth[usable])
        decided_at.append(np.flatnonzero(usable) + segment.start)
    rows = sum(len(part) for part in labels)
    if rows < LEAST_ROWS:
        raise TrainingError(
            "too_few_rows", f"{len(bars)} candles give {rows} rows to learn from; {LEAST_ROWS} are needed."
        )
    matrix, truth = np.concatenate(features), np.concatenate(labels)
    if not np.isfinite(matrix).all():
        raise TrainingError("features_invalid", "A feature of the candles is not finite.")
    if len(np.unique(truth)) == 1:
        raise TrainingError(
            "one_class",
            f"Every candle is {CLASSES[truth[0]]}: the price never moved as far as the label rule asks. Set a smaller "
            "MODEL_THRESHOLD_PERCENT or a larger MODEL_HORIZON_BARS.",
        )
    return matrix, truth, np.concatenate(decided_at).astype(np.int64)


def train(bars: Bars, request: dict[str, Any], on_progress: Progress) -> Path:
    """Judge a forest on the newest quarter of the rows, fit it again on all of them, and write the bundle.

    Args:
        bars: Closed candles, oldest first; gaps are allowed.
        request: folder, source, symbol, interval, interval_ms, horizon_bars, threshold_percent, trained_at.
        on_progress: Hears how far the work is (0 to 1) and what it does.

    Raises:
        TrainingError: The candles cannot teach a model.
    """
    rule = LabelRule(request["horizon_bars"], request["threshold_percent"])
    on_progress(0.05, f"Computing {len(FEATURE_NAMES)} features of {len(bars):,} candles.")
    features, labels, decided_at = prepare_rows(bars, request["interval_ms"], rule)
    split = split_holdout(decided_at, decided_at + rule.horizon_bars, TEST_FRACTION)
    if len(split.train) < LEAST_ROWS // 2:
        raise TrainingError(
            "too_few_rows", f"{len(split.train)} rows are left to learn from once the newest are kept for judging."
        )
    forest_rule = ForestRule()
    on_progress(0.2, f"Judging on the newest {len(split.test):,} rows what {len(split.train):,} older ones teach.")
    judged = Predictor(forest_arrays(fit_forest(features[split.train], labels[split.train], forest_rule)))
    metrics = evaluate(judged.predict_batch(features[split.test]), labels[split.test], labels[split.train])
    on_progress(0.6, f"Fitting the forest on all {len(labels):,} rows.")
    forest = forest_arrays(fit_forest(features, labels, forest_rule))
    on_progress(0.95, "Writing the bundle.")
    card = {
        "source": request["source"],
        "symbols": [request["symbol"]],
        "interval": request["interval"],
        "label_rule": asdict(rule),
        "window": _describe_window(bars, request["interval_ms"], labels),
        "hyperparameters": asdict(forest_rule),
        "libraries": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "metrics": metrics,
        "warnings": _warnings(features, labels, metrics),
    }
    return save_bundle(Path(request["folder"]), forest, card, datetime.fromisoformat(request["trained_at"]))


def _describe_window(bars: Bars, interval_ms: int, labels: LabelArray) -> dict[str, Any]:
    return {
        "first_open_time": _iso(int(bars.open_time_ms[0])),
        "last_open_time": _iso(int(bars.open_time_ms[-1])),
        "candles": len(bars),
        "gaps": len(find_segments(bars.open_time_ms, interval_ms)) - 1,
        "rows": len(labels),
        "class_counts": dict(zip(CLASSES, np.bincount(labels, minlength=len(CLASSES)).tolist(), strict=True)),
    }


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1_000, UTC).isoformat()


def _warnings(features: FloatArray, labels: LabelArray, metrics: dict[str, Any]) -> list[str]:
    warnings = [
        f"The feature {name} never changes."
        for name, spread in zip(FEATURE_NAMES, np.ptp(features, axis=0), strict=True)
        if spread == 0
    ]
    counts = np.bincount(labels, minlength=len(CLASSES))
    warnings += [f"No candle is {name}." for name, count in zip(CLASSES, counts, strict=True) if count == 0]
    if metrics["skill"] <= 0:
        warnings.append("Out of sample the model knows no more than the shares of the classes do.")
    return warnings


def main(request_path: str, bars_path: str) -> int:
    """Train as the files say, one training a folder at a time; whoever had to wait takes the winner's bundle."""
    request = json.loads(Path(request_path).read_text())
    with np.load(bars_path, allow_pickle=False) as arrays:
        bars = Bars(**{name: arrays[name] for name in Bars.__dataclass_fields__})
    folder = Path(request["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".training.lock").open("w") as lock:
        waited = not _lock_at_once(lock.fileno())
        if waited:
            _say({"progress": 0.0, "message": "Another process trains; waiting for its model."})
            fcntl.flock(lock, fcntl.LOCK_EX)
        path = _find_winner(folder, request) if waited else None
        try:
            path = path or train(bars, request, _report)
        except TrainingError as error:
            _say({"error": {"code": error.code, "message": str(error)}})
            return 3
    _say({"progress": 1.0, "message": "Trained.", "model": str(path)})
    return 0


def _lock_at_once(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _find_winner(folder: Path, request: dict[str, Any]) -> Path | None:
    asked_at = datetime.fromisoformat(request["trained_at"])
    rule = {"horizon_bars": request["horizon_bars"], "threshold_percent": request["threshold_percent"]}

    def fits(card: dict[str, Any]) -> bool:
        same = all(card[name] == request[name] for name in ("source", "interval"))
        return same and card["label_rule"] == rule and card["symbols"] == [request["symbol"]]

    newest = find_newest(folder, fits, lambda _path, _error: None)
    if newest is None or (asked_at - newest.trained_at).total_seconds() > request["fresh_seconds"]:
        return None
    return newest.path


def _report(progress: float, message: str) -> None:
    _say({"progress": progress, "message": message})


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    while os.read(0, 4_096):  # not sys.stdin: its lock would be held while the interpreter shuts down
        pass
    os._exit(4)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main(*sys.argv[1:]))
