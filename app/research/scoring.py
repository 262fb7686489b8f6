"""Scores decisions: once the candle at a model's horizon has closed, what it said is held against what came."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from app.domain.candle import Candle, Interval
from app.domain.data_quality import check_history
from app.domain.outcome import Outcome, StatedDecision, Truth
from app.domain.ports import Clock, MarketData
from app.domain.signal import Signal
from app.errors import ServiceError
from app.storage.outcomes import SqlOutcomes
from app.strategies.bars import bars_from_candles
from ml.bars import Bars
from ml.bundle import BundleError, load_card
from ml.labels import CLASSES, LabelRule, compute_labels

log = structlog.get_logger()

LOOKBACK_BARS: Final = 20_000
"""Decisions on older candles than this many are not scored any more; the longest horizon is half of it."""

LEAST_PROBABILITY: Final = 1e-6
"""What a label counts as having been given at least, so that no single loss outweighs all others."""

_PAUSE_SECONDS = 60.0

RuleOf = Callable[[str], LabelRule | None]
"""The label rule of a model by its id; None where it is not known any more."""

_Due = tuple[StatedDecision, LabelRule]


class Scorer:
    """Finds decisions whose labels have settled, and records what came of them.

    Args:
        market: Where the candles come from; only decisions of its source are scored.
        outcomes: Where decisions and scores are kept.
        clock: Tells which candles have closed, and stamps scores.
        rule_of: What a model's labels mean; its decisions stay as they are where that is not known.
    """

    def __init__(self, market: MarketData, outcomes: SqlOutcomes, clock: Clock, rule_of: RuleOf) -> None:
        self._market = market
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
        for waiting in await self._outcomes.find_waiting(self._market.source, now, LOOKBACK_BARS):
            rule = await asyncio.to_thread(self._rule_of, waiting.model_id)
            if rule is None:
                continue
            until = now - (rule.horizon_bars + 1) * waiting.interval.duration
            if waiting.oldest <= until:
                found = await self._outcomes.find_unscored(self._market.source, waiting, until)
                due[waiting.symbol, waiting.interval] += [(decision, rule) for decision in found]
        return due

    async def _score_market(self, symbol: str, interval: Interval, due: Sequence[_Due]) -> int:
        oldest = min(decision.candle_open_time for decision, _ in due)
        candles = await self._fetch_since(symbol, interval, oldest)
        check_history(candles)
        outcomes = await asyncio.to_thread(settle, due, candles, self._clock.now())
        return await self._outcomes.record(self._market.source, outcomes)

    async def _fetch_since(self, symbol: str, interval: Interval, oldest: datetime) -> list[Candle]:
        # One more than has passed by our clock, because another candle may close meanwhile.
        bars = (self._clock.now() - oldest) // interval.duration + 1
        return await self._market.fetch_history(symbol, interval, bars)


def settle(due: Sequence[_Due], candles: Sequence[Candle], now: datetime) -> list[Outcome]:
    """What came of each decision by `candles` (one market's, oldest first); those that must wait are left out.

    A label is never computed across a gap: where a candle between the decision's and the one at the horizon is
    missing, and later ones are there, the outcome has no truth.
    """
    bars = bars_from_candles(candles)
    rows = {candle.open_time: row for row, candle in enumerate(candles)}
    outcomes = []
    for decision, rule in due:
        first = decision.candle_open_time
        last = first + rule.horizon_bars * decision.interval.duration
        if not candles or candles[-1].open_time < last:
            continue
        window = slice(rows.get(first, 0), rows.get(last, 0) + 1)
        whole = first in rows and last in rows and window.stop - window.start == rule.horizon_bars + 1
        truth = _judge(decision, bars[window], rule) if whole else None
        settled_at = last + decision.interval.duration - timedelta(milliseconds=1)
        outcomes.append(Outcome(decision.cycle_id, settled_at, now, truth))
    return outcomes


def read_label_rule(folder: Path, model_id: str) -> LabelRule | None:
    """The label rule on the card of a model in `folder`, None where the model is gone or not one of this version."""
    try:
        rule = load_card(folder / model_id)["label_rule"]
        return LabelRule(rule["horizon_bars"], rule["threshold_percent"])
    except (BundleError, KeyError, TypeError, ValueError):
        return None


def _judge(decision: StatedDecision, window: Bars, rule: LabelRule) -> Truth:
    """Hold a decision against the candles from its own to the one at the horizon."""
    label = Signal(CLASSES[compute_labels(window, rule)[0]])
    forward_return = float(window.close[-1] / window.open[1] - 1.0)
    return Truth(label, forward_return, -math.log(max(decision.probabilities[label], LEAST_PROBABILITY)))
