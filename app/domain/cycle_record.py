"""Everything a cycle used, as one document, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.domain.candle import Candle, Interval
from app.domain.cycle import Circumstances, CycleDraft, CycleReport
from app.domain.instrument import Instrument
from app.domain.market import MarketSnapshot, Quote
from app.domain.record import canonical, from_plain, to_plain
from app.domain.signal import Doubt
from app.domain.standing import Standing


@dataclass(frozen=True, slots=True)
class CandleReference:
    """Which kept candles a cycle looked at, oldest first.

    `runs` are (open time in ms, how many follow it without a gap), `restated` the versions of those that an exchange
    has restated, by open time in ms; `sha256` is of the candles' digests, None where it is not kept.
    """

    runs: tuple[tuple[int, ...], ...]
    restated: dict[str, int]
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class CycleInputs:
    """What a cycle started from, as it is recorded; the candles stand elsewhere, under `candles`."""

    candles: CandleReference
    quote: Quote
    exchange_time: datetime
    clock_skew_seconds: float
    instrument: Instrument
    features: tuple[float, ...]
    drift: float | None
    doubt: Doubt | None
    circumstances: Circumstances
    standing: Standing

    def snapshot(self, source: str, symbol: str, interval: Interval, candles: Sequence[Candle]) -> MarketSnapshot:
        """The market as the cycle saw it."""
        return MarketSnapshot(
            source,
            symbol,
            interval,
            tuple(candles),
            self.quote,
            self.instrument,
            self.exchange_time,
            self.clock_skew_seconds,
        )


def write_inputs(draft: CycleDraft, standing: Standing, candles: CandleReference) -> str:
    """The document of a cycle, as canonical JSON."""
    snapshot = draft.snapshot
    return canonical(
        to_plain(
            CycleInputs(
                candles,
                snapshot.quote,
                snapshot.exchange_time,
                snapshot.clock_skew_seconds,
                snapshot.instrument,
                draft.prediction.features,
                draft.prediction.drift,
                draft.prediction.doubt,
                draft.circumstances,
                standing,
            )
        )
    )


def read_inputs(document: Any) -> CycleInputs:  # noqa: ANN401 - parsed JSON
    """The inputs from the document of a cycle; raises KeyError, TypeError or ValueError where it is none."""
    inputs: CycleInputs = from_plain(CycleInputs, document)
    return inputs


def write_outcome(report: CycleReport) -> str:
    """What came of a cycle, as canonical JSON: what a replay must give again, byte for byte."""
    return canonical(to_plain(report))
