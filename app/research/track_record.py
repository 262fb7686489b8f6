"""How a model did live: statistics of the decisions whose labels have settled."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app.domain.outcome import ScoredDecision
from app.domain.signal import Signal

BINS: Final = 20
"""How many bins the confidences from 0 to 1 fall into, each 0.05 wide."""

RUNNING_POINTS: Final = 100

_Z = 1.959964  # of a two-sided 95 % interval of the normal distribution


@dataclass(frozen=True, slots=True)
class HitRate:
    """How many of `count` decisions came true, as a share, with its 95 % interval; None where there are none.

    The interval is Wilson's (Journal of the American Statistical Association 22, 1927). It takes decisions for
    independent. Those whose horizons overlap are not, so that the truth is less certain than it says.
    """

    count: int
    rate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class ConfidenceBin:
    """The decisions whose confidence lies from `lower` to below `upper`: what they stated, and what came true."""

    lower: float
    upper: float
    stated: float
    hits: HitRate


@dataclass(frozen=True, slots=True)
class RunningLogLoss:
    """The mean log-loss of all decisions that had settled by a moment."""

    settled_at: datetime
    log_loss: float


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """How the decisions of one model came out.

    `prior_log_loss` is what always saying the shares of `class_counts` would have cost, which nobody knew
    beforehand; `skill` is 1 - log_loss / prior_log_loss, None while only one class came true. `brier` is the mean
    over decisions of the squared errors of the three probabilities, summed: 0 to 2. `calibration_error` is the
    expected calibration error: the mean distance of stated and true in `bins`, weighted by their counts. `gate`
    tells of the BUY and SELL decisions that were confident enough to be traded.
    """

    model_id: str
    count: int
    first_settled_at: datetime
    last_settled_at: datetime
    log_loss: float
    prior_log_loss: float
    skill: float | None
    brier: float
    calibration_error: float
    class_counts: dict[Signal, int]
    gate: HitRate
    bins: tuple[ConfidenceBin, ...]
    running: tuple[RunningLogLoss, ...]


def summarize(scored: Sequence[ScoredDecision], min_confidence: float) -> list[TrackRecord]:
    """The record of each model in `scored` (oldest first), the one whose decisions settled last first."""
    models: dict[str, list[ScoredDecision]] = defaultdict(list)
    for row in scored:
        models[row.decision.model_id].append(row)
    records = [_summarize_model(model_id, rows, min_confidence) for model_id, rows in models.items()]
    return sorted(records, key=lambda record: (record.last_settled_at, record.first_settled_at), reverse=True)


def measure_hits(rows: Sequence[ScoredDecision]) -> HitRate:
    """How many of the decisions named what came true."""
    count = len(rows)
    if count == 0:
        return HitRate(0, None, None, None)
    rate = sum(row.decision.action is row.truth.label for row in rows) / count
    shrink = 1 + _Z**2 / count
    middle = (rate + _Z**2 / (2 * count)) / shrink
    reach = _Z * math.sqrt(rate * (1 - rate) / count + _Z**2 / (4 * count**2)) / shrink
    return HitRate(count, rate, max(0.0, middle - reach), min(1.0, middle + reach))


def _summarize_model(model_id: str, rows: Sequence[ScoredDecision], min_confidence: float) -> TrackRecord:
    count = len(rows)
    log_loss = math.fsum(row.truth.log_loss for row in rows) / count
    counts = Counter(row.truth.label for row in rows)
    prior = -math.fsum(number / count * math.log(number / count) for number in counts.values())
    bins = _fill_bins(rows)
    traded = [row for row in rows if row.decision.action is not Signal.HOLD]
    return TrackRecord(
        model_id=model_id,
        count=count,
        first_settled_at=rows[0].settled_at,
        last_settled_at=rows[-1].settled_at,
        log_loss=log_loss,
        prior_log_loss=max(0.0, prior),
        skill=1 - log_loss / prior if prior > 0 else None,
        brier=math.fsum(_brier(row) for row in rows) / count,
        calibration_error=sum(one.hits.count * abs(one.stated - (one.hits.rate or 0.0)) for one in bins) / count,
        class_counts={signal: counts[signal] for signal in Signal},
        gate=measure_hits([row for row in traded if row.decision.confidence >= min_confidence]),
        bins=bins,
        running=_run(rows),
    )


def _brier(row: ScoredDecision) -> float:
    return sum((share - (signal is row.truth.label)) ** 2 for signal, share in row.decision.probabilities.items())


def _fill_bins(rows: Sequence[ScoredDecision]) -> tuple[ConfidenceBin, ...]:
    """The bins that are not empty, lowest first; a confidence of 1 belongs to the last."""
    filled: dict[int, list[ScoredDecision]] = defaultdict(list)
    for row in rows:
        filled[min(BINS - 1, int(row.decision.confidence * BINS))].append(row)
    return tuple(
        ConfidenceBin(
            lower=place / BINS,
            upper=(place + 1) / BINS,
            stated=math.fsum(row.decision.confidence for row in filled[place]) / len(filled[place]),
            hits=measure_hits(filled[place]),
        )
        for place in sorted(filled)
    )


def _run(rows: Sequence[ScoredDecision]) -> tuple[RunningLogLoss, ...]:
    """The mean so far after every so many decisions, and after the last."""
    step = -(-len(rows) // RUNNING_POINTS)
    total = 0.0
    points = []
    for number, row in enumerate(rows, start=1):
        total += row.truth.log_loss
        if number % step == 0 or number == len(rows):
            points.append(RunningLogLoss(row.settled_at, total / number))
    return tuple(points)
