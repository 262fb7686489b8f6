"""A trained model on disk: a folder with the forest as plain arrays and a card that says what it is.

Loading one cannot run code: the arrays are numbers only (`allow_pickle=False`), the card is JSON, the card's
SHA-256 of the arrays is checked before they are read, and then everything that a prediction relies on is.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from ml.calibration import Calibration
from ml.features import FEATURE_NAMES, compute_features_hash
from ml.labels import CLASSES
from ml.predictor import N_CLASSES, ForestArrays

CARD_VERSION: Final = 2
EDGES: Final = ("none", "statistical", "tradable")
"""What a model can have been shown to know; `ml.evaluation.find_edge` says which."""

ARRAYS_NAME: Final = "forest.npz"
CARD_NAME: Final = "card.json"

_MAXIMUM_CARD_BYTES = 1_000_000
_MAXIMUM_ARRAYS_BYTES = 256_000_000
_MAXIMUM_DEPTH = 64
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, EOFError, OSError),
    *(RuntimeError, MemoryError, OverflowError),  # an encrypted archive; an array that says it is larger than memory
)
_DTYPES = {
    "roots": np.int64,
    "feature": np.int64,
    "threshold": np.float64,
    "children": np.int64,
    "missing_right": np.int64,
    "probabilities": np.float64,
}
_CARD_TYPES: dict[str, type | tuple[type, ...]] = {
    "model_id": str,
    "trained_at": str,
    "source": str,
    "symbols": list,
    "interval": str,
    "label_rule": dict,
    "window": dict,
    "forest": dict,
    "hyperparameters": dict,
    "libraries": dict,
    "calibration": dict,
    "class_returns": dict,
    "side_cost": float,
    "metrics": dict,
    "drift": dict,
    "warnings": list,
    "sha256": str,
}


class BundleError(Exception):
    """A folder is no bundle that can be used.

    Args:
        reason_code: Why, in snake_case: "missing", "altered", "invalid" or "mismatched".
        message: Why, in words.
    """

    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model that passed every check: its card, its trees, what they mean, and the folder they came from."""

    card: dict[str, Any]
    forest: ForestArrays
    calibration: Calibration
    path: Path

    @property
    def model_id(self) -> str:
        """The name that decisions carry."""
        return str(self.card["model_id"])

    @property
    def trained_at(self) -> datetime:
        """When it was trained, aware UTC."""
        return datetime.fromisoformat(self.card["trained_at"])


def save_bundle(folder: Path, forest: ForestArrays, card: dict[str, Any], trained_at: datetime) -> Path:
    """Write a bundle into `folder` so that it is there as a whole or not at all; returns its path.

    The card gets its `model_id`, `trained_at`, features, classes and hash here. The same model at the same
    moment is the same path, and is left as it stands.
    """
    arrays = _pack(forest)
    digest = _digest(arrays, card["calibration"])
    model_id = f"forest-{card['source']}-{card['interval']}-{trained_at:%Y%m%dT%H%M%SZ}-{digest[:8]}"
    complete = {
        "card_version": CARD_VERSION,
        "model_id": model_id,
        "trained_at": trained_at.isoformat(),
        **card,
        "features": list(FEATURE_NAMES),
        "features_hash": compute_features_hash(),
        "classes": list(CLASSES),
        "depth": forest.depth,
        "sha256": digest,
    }
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / model_id
    if target.exists():
        return target
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        _write(scratch / ARRAYS_NAME, arrays)
        _write(scratch / CARD_NAME, json.dumps(complete, indent=1, allow_nan=False).encode())
        _sync(scratch)
        scratch.rename(target)
        _sync(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return target


def load_bundle(path: Path) -> Bundle:
    """Read and check one bundle.

    Raises:
        BundleError: It is not there, cut short, altered, or not one of this version's models.
    """
    card = load_card(path)
    arrays = _read(path / ARRAYS_NAME, _MAXIMUM_ARRAYS_BYTES)
    if _digest(arrays, card["calibration"]) != card["sha256"]:
        raise BundleError("altered", f"{ARRAYS_NAME} or the calibration is not what {CARD_NAME} was written for")
    forest = _unpack(arrays, card["depth"])
    _check_forest(forest)
    try:
        calibration = Calibration.from_card(card["calibration"])
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise BundleError("invalid", f"{CARD_NAME} holds no calibration: {error}") from error
    return Bundle(card, forest, calibration, path)


def fits_request(card: dict[str, Any], request: dict[str, Any]) -> bool:
    """Whether a model was trained as a training request asks: on the same market, by the same rules."""
    return all(card[name] == request[name] for name in ("source", "interval", "symbols", "label_rule", "forest"))


def load_card(path: Path) -> dict[str, Any]:
    """Read and check the card of the bundle at `path`, without its arrays; raises `BundleError`."""
    return _read_card(path / CARD_NAME)


def find_newest(
    folder: Path, fits: Callable[[dict[str, Any]], bool], on_rejected: Callable[[Path, BundleError], None]
) -> Bundle | None:
    """The newest bundle in `folder` whose card `fits`, or None.

    Bundles that do not fit are left alone; `on_rejected` hears of each that is broken or of another version.
    """
    found: list[Bundle] = []
    for path in sorted(folder.glob("forest-*")) if folder.is_dir() else []:
        if ".bad-" in path.name:
            continue
        try:
            if fits(load_card(path)):
                found.append(load_bundle(path))
        except BundleError as error:
            on_rejected(path, error)
    return max(found, key=lambda bundle: (bundle.trained_at, bundle.model_id), default=None)


def set_aside(path: Path, now: datetime) -> Path:
    """Rename a bundle that was refused so that nobody takes it for a model; returns where it is now."""
    target = path.with_name(f"{path.name}.bad-{now:%Y%m%dT%H%M%S%fZ}")
    path.rename(target)
    return target


def compute_digest(forest: ForestArrays, calibration: Calibration) -> str:
    """The fingerprint that a bundle of this forest and calibration carries: the same one, the same predictions."""
    return _digest(_pack(forest), calibration.as_card())


def _digest(arrays: bytes, calibration: dict[str, Any]) -> str:
    """One hash over all that a prediction comes from."""
    return hashlib.sha256(arrays + json.dumps(calibration, sort_keys=True).encode()).hexdigest()


def _pack(forest: ForestArrays) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in _DTYPES:
            array = io.BytesIO()
            np.lib.format.write_array(array, getattr(forest, name), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), array.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _unpack(arrays: bytes, depth: int) -> ForestArrays:
    try:
        with zipfile.ZipFile(io.BytesIO(arrays)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAXIMUM_ARRAYS_BYTES:
                raise BundleError("invalid", f"{ARRAYS_NAME} is larger than any forest of ours")
            named = {name: _read_array(archive, name) for name in _DTYPES}
    except _UNREADABLE as error:
        raise BundleError("invalid", f"{ARRAYS_NAME} cannot be read: {error}") from error
    return ForestArrays(**named, depth=depth)


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray[Any, Any]:
    with archive.open(f"{name}.npy") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    if array.dtype != _DTYPES[name]:
        raise BundleError("invalid", f"{name} holds {array.dtype}, not {np.dtype(_DTYPES[name])}")
    return array


def _check_forest(forest: ForestArrays) -> None:
    """Refuse trees that could crash a prediction, never end it, or say what is no probability."""
    nodes, trees = len(forest.feature), len(forest.roots)
    own = np.arange(nodes)
    shapes = {
        "roots": (trees,),
        "feature": (nodes,),
        "threshold": (nodes,),
        "children": (nodes, 2),
        "missing_right": (nodes,),
        "probabilities": (nodes, N_CLASSES),
    }
    sound = all(getattr(forest, name).shape == shape for name, shape in shapes.items())
    if not (sound and trees and nodes and 0 <= forest.depth <= _MAXIMUM_DEPTH):
        raise BundleError("invalid", "the arrays do not have the shapes of a forest")
    leaf = (forest.children == own[:, None]).all(axis=1)
    sums = forest.probabilities.sum(axis=1)
    checks = {
        "a root is out of range": ((forest.roots < 0) | (forest.roots >= nodes)).any(),
        "a child is out of range": ((forest.children < own[:, None]) | (forest.children >= nodes)).any(),
        "a node is a child of itself": ((forest.children == own[:, None]).any(axis=1) & ~leaf).any(),
        "a column is out of range": ((forest.feature < 0) | (forest.feature >= len(FEATURE_NAMES))).any(),
        "a threshold is not finite": not np.isfinite(forest.threshold).all(),
        "a missing_right is neither 0 nor 1": (forest.missing_right & ~1).any(),
        "a node holds no probabilities": not (
            np.isfinite(forest.probabilities).all()
            and (forest.probabilities >= 0).all()
            and (np.abs(sums - 1) <= 1e-9).all()
        ),
        "a path is longer than the card says": not leaf[_walk(forest)].all(),
    }
    for message, wrong in checks.items():
        if wrong:
            raise BundleError("invalid", message)


def _walk(forest: ForestArrays) -> np.ndarray[Any, Any]:
    """Every node that can be reached in exactly `depth` steps."""
    nodes = len(forest.feature)
    reached = np.unique(forest.roots.clip(0, nodes - 1))
    for _ in range(forest.depth):
        reached = np.unique(forest.children[reached].clip(0, nodes - 1))
    return reached


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(_read(path, _MAXIMUM_CARD_BYTES))
    except (ValueError, RecursionError) as error:
        raise BundleError("invalid", f"{CARD_NAME} is not JSON: {error}") from error
    if not isinstance(card, dict) or card.get("card_version") != CARD_VERSION:
        raise BundleError("mismatched", f"{CARD_NAME} is not a card of version {CARD_VERSION}")
    wrong = [name for name, kind in _CARD_TYPES.items() if not isinstance(card.get(name), kind)]
    if wrong or not isinstance(card.get("depth"), int):
        raise BundleError("invalid", f"{CARD_NAME} lacks {', '.join(wrong) or 'depth'}")
    if card["model_id"] != path.parent.name:
        raise BundleError("altered", f"{CARD_NAME} is the card of {card['model_id'][:80]}")
    if card.get("features_hash") != compute_features_hash() or card.get("classes") != list(CLASSES):
        raise BundleError("mismatched", "the model was trained on other features or classes than this version computes")
    _check_time(card["trained_at"])
    _check_numbers(card)
    return card


def _check_numbers(card: dict[str, Any]) -> None:
    """Refuse a card whose numbers a decision could not be made with."""
    returns = card["class_returns"]
    if set(returns) != set(CLASSES) or not all(isinstance(value, float) for value in returns.values()):
        raise BundleError("invalid", "class_returns does not hold a number for each class")
    if not all(math.isfinite(value) for value in (*returns.values(), card["side_cost"])):
        raise BundleError("invalid", "class_returns or side_cost is not finite")
    if card["metrics"].get("edge") not in EDGES:
        raise BundleError("invalid", f"the edge is none of {', '.join(EDGES)}")


def _check_time(text: str) -> None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BundleError("invalid", f"trained_at is no time: {error}") from error
    if moment.tzinfo is None:
        raise BundleError("invalid", "trained_at has no time zone")


def _read(path: Path, maximum: int) -> bytes:
    try:
        if path.stat().st_size > maximum:
            raise BundleError("invalid", f"{path.name} is larger than any of ours")
        return path.read_bytes()
    except OSError as error:
        raise BundleError("missing", f"{path.name} cannot be read: {error.strerror}") from error


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
