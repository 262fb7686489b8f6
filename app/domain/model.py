"""A trained model as the registry keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class ModelState(StrEnum):
    """Whether a model decides: now, once but no longer, or not yet."""

    ACTIVE = "ACTIVE"
    FORMER = "FORMER"
    CHALLENGER = "CHALLENGER"


class ActivationReason(StrEnum):
    """Why a model was taken into use."""

    FOUND = "found"
    TRAINED = "trained"
    CHALLENGE = "challenge"
    REQUEST = "request"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of the registry; `activated_at` is the newest time it was taken into use, None for never."""

    id: str
    source: str
    interval: str
    sha256: str
    state: ModelState
    card: Mapping[str, Any]
    registered_at: datetime
    activated_at: datetime | None
