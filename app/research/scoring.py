"""Scores decisions: once the candle at a model's horizon has closed, what it said is held against what came."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from app.domain.candle import Interval
from app.domain.outcome import Outcome, StatedDecision, Truth
from app.domain.ports import Clock
from app.domain.signal import Signal
from app.errors import ServiceError
from app.research.history import HistoryKeeper
from app.storage.outcomes import SqlOutcomes
from ml.bars import Bars
from ml.bundle import BundleError, load_card
from ml.labels import CLASSES, LEAST_PROBABILITY, UNSETTLED, VOLATILITY_BARS, LabelRule, compute_labels

log = structlog.get_logger()

LOOKBACK_BARS: Final = 20_000
"""Decisions on older candles than this many are not scored any more; the longest horizon is half of it."""

_PAUSE_SECONDS = 60.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

RuleOf = Callable[[str], LabelRule | None]
"""The label rule of a model by its id; None where it is not known any more."""

_Due = tuple[StatedDecision, LabelRule]


class Scorer:
    """Finds decisions whose labels have settled, and records what came of them.

    Args:
        history: Where the candles come from; only decisions of its source are scored.
        outcomes: Where decisions and scores are kept.
        clock: Tells which candles have closed, and stamps scores.
        rule_of: What a model's labels mean; its decisions stay as they are where that is not known.
    """

    def __init__(self, history: HistoryKeeper, outcomes: SqlOutcomes, clock: Clock, rule_of: RuleOf) -> None:
        self._history = history
        self._outcomes = outcomes
        self._clock = clock
        self._rule_of = rule_of

    async def keep(self, on_scored: Callable[[int], Awaitable[None]]) -> None:
        """Score what has settled about once a minute, until cancelled; `on_scored` hears how many decisions."""
        while True:
            try:
                scored, failure = await self.score()
                await on_scored(scored)
            except ServiceError as error:
                failure = error
            if failure is not None:
                log.warning("scoring.failed", code=failure.code, detail=failure.message)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def score(self) -> tuple[int, ServiceError | None]:
        """Score every decision that can be; returns how many that were, and what the first market that failed said.

        A market that fails does not keep the others from being scored; what it left is scored the next time.

        Raises:
            StorageError: The database does not tell which decisions wait.
        """
        scored = 0
        failure: ServiceError | None = None
        for (symbol, interval), due in (await self._find_due()).items():
            try:
                scored += await self._score_market(symbol, interval, due)
            except ServiceError as error:
                failure = failure or error
        if scored:
            log.info("decisions.scored", count=scored)
        return scored, failure

    async def _find_due(self) -> dict[tuple[str, Interval], list[_Due]]:
        """The decisions whose horizon has passed by our clock, for each market."""
        now = self._clock.now()
        due: dict[tuple[str, Interval], list[_Due]] = defaultdict(list)
        for waiting in await self._outcomes.find_waiting(self._history.source, now, LOOKBACK_BARS):
            rule = await asyncio.to_thread(self._rule_of, waiting.model_id)
            if rule is None:
                continue
            until = now - (rule.horizon_bars + 1) * waiting.interval.duration
            if waiting.oldest <= until:
                found = await self._outcomes.find_unscored(self._history.source, waiting, until)
                due[waiting.symbol, waiting.interval] += [(decision, rule) for decision in found]
        return due

    async def _score_market(self, symbol: str, interval: Interval, due: Sequence[_Due]) -> int:
        oldest = min(decision.candle_open_time for decision, _ in due)
        # One more than has passed by our clock, because another candle may close meanwhile.
        passed = (self._clock.now() - oldest) // interval.duration + 1
        bars = await self._history.load_newest(symbol, interval, passed + VOLATILITY_BARS, lambda _done, _total: None)
        outcomes = await asyncio.to_thread(settle, due, bars, self._clock.now())
        return await self._outcomes.record(self._history.source, outcomes)


def settle(due: Sequence[_Due], bars: Bars, now: datetime) -> list[Outcome]:
    """What came of each decision by `bars` (one market's, oldest first); those that must wait are left out.

    A label is never computed across a gap: where a candle that it needs is missing, and later ones are there, the
    outcome has no truth.
    """
    rows = {int(opened): row for row, opened in enumerate(bars.open_time_ms)}
    outcomes = []
    for decision, rule in due:
        step = decision.interval.milliseconds
        first = (decision.candle_open_time - _EPOCH) // _MILLISECOND
        last = first + rule.horizon_bars * step
        if not len(bars) or int(bars.open_time_ms[-1]) < last:
            continue
        needed = range(first - rule.bars_before * step, last + step, step)
        whole = all(opened in rows for opened in needed)
        truth = _judge(decision, bars[rows[needed[0]] : rows[last] + 1], rule) if whole else None
        settled_at = decision.candle_open_time + (rule.horizon_bars + 1) * decision.interval.duration - _MILLISECOND
        outcomes.append(Outcome(decision.cycle_id, settled_at, now, truth))
    return outcomes


def read_label_rule(folder: Path, model_id: str) -> LabelRule | None:
    """The label rule on the card of a model in `folder`, None where the model is gone or not one of this version."""
    try:
        return LabelRule(**load_card(folder / model_id)["label_rule"])
    except (BundleError, KeyError, TypeError, ValueError):
        return None


def _judge(decision: StatedDecision, window: Bars, rule: LabelRule) -> Truth | None:
    """Hold a decision against the candles that its label needs; None where they leave it without one."""
    found = compute_labels(window, rule)
    if found.labels[rule.bars_before] == UNSETTLED:
        return None
    label = Signal(CLASSES[found.labels[rule.bars_before]])
    loss = -math.log(max(decision.probabilities[label], LEAST_PROBABILITY))
    return Truth(label, float(found.forward_return[rule.bars_before]), loss)
