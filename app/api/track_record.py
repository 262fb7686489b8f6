"""How decisions came out, as it goes over the wire."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from app.api import examples
from app.api.schemas import Answer, Fraction, Moment

Loss = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class HitRate(Answer):
    """How many decisions came true, with Wilson's 95 % interval; null where there are none.

    Decisions whose horizons overlap are not independent, so that the truth is less certain than the interval says.
    """

    count: Count
    rate: Fraction | None
    low: Fraction | None
    high: Fraction | None


class ConfidenceBin(Answer):
    """The decisions whose confidence lies from `lower` to below `upper`."""

    lower: Fraction
    upper: Fraction
    stated: Fraction = Field(description="Their mean confidence: the share that should have come true.")
    hits: HitRate


class RunningLogLoss(Answer):
    """The mean log-loss of all decisions that had settled by a moment."""

    settled_at: Moment
    log_loss: Loss


class ClassCounts(Answer):
    """How often each label came true."""

    BUY: Count
    SELL: Count
    HOLD: Count


class TrackRecord(Answer):
    """How the decisions of one model came out."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.TRACK_RECORD]})

    model_id: str
    count: int = Field(ge=1, description="How many decisions have settled; the numbers below are of these.")
    first_settled_at: Moment
    last_settled_at: Moment
    log_loss: Loss = Field(description="Mean of -ln(probability given to what came true); lower is better.")
    prior_log_loss: Loss = Field(description="The same of always saying the shares of `class_counts`.")
    skill: float | None = Field(description="1 - log_loss / prior_log_loss; null while only one class came true.")
    brier: Loss = Field(description="Mean squared error of the probabilities, summed over the classes.")
    calibration_error: Fraction = Field(description="Mean distance of stated and true over `bins`, weighted by count.")
    class_counts: ClassCounts
    gate: HitRate = Field(description="The BUY and SELL decisions with a confidence of at least `MIN_CONFIDENCE`.")
    bins: list[ConfidenceBin] = Field(description="Those that are not empty, lowest first.")
    running: list[RunningLogLoss] = Field(max_length=100, description="Oldest first.")


class TrackRecordList(Answer):
    """Track records, the newest model first."""

    items: list[TrackRecord]
