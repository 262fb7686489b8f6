"""What the routes of the models answer."""

from __future__ import annotations

from typing import Any

from pydantic import AliasPath, ConfigDict, Field

from app.api import examples
from app.api.schemas import Answer, Moment
from app.domain.model import ModelState


class Model(Answer):
    """A model of the registry."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.MODEL]})

    id: str
    source: str
    interval: str
    state: ModelState = Field(description="ACTIVE decides now, FORMER once did, a CHALLENGER never has.")
    symbols: list[str] = Field(validation_alias=AliasPath("card", "symbols"))
    label_rule: dict[str, Any] = Field(validation_alias=AliasPath("card", "label_rule"))
    edge: str = Field(
        validation_alias=AliasPath("card", "metrics", "edge"), description="none, statistical or tradable."
    )
    skill: float | None = Field(validation_alias=AliasPath("card", "metrics", "skill", "value"))
    direction_skill: float | None = Field(validation_alias=AliasPath("card", "metrics", "direction_skill", "value"))
    comparison: dict[str, Any] | None = Field(
        validation_alias=AliasPath("card", "comparison"),
        description="Its log-loss beside that of the model then in use, on rows that taught neither.",
    )
    sha256: str
    trained_at: Moment = Field(validation_alias=AliasPath("card", "trained_at"))
    registered_at: Moment
    activated_at: Moment | None


class ModelList(Answer):
    """Models, newest first."""

    items: list[Model]
