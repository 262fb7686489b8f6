"""What the reader of a backtest must know before he believes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from app.research.backtest.books import Books
from app.research.backtest.request import STORE, BacktestRequest
from app.research.backtest.result import BacktestData, Caveat
from app.risk.curves import DAY_MS
from app.risk.significance import LEAST_DAYS

_SIMULATED: Final = "simulated"
_LATE: Final = 0.1
"""A strategy that says nothing for so large a share of the span has begun late."""


def find_caveats(
    request: BacktestRequest, data: BacktestData, books: Books, outcomes: Mapping[str, int], first_word_ms: int | None
) -> tuple[Caveat, ...]:
    """Everything that speaks against taking a result at its face value.

    Args:
        request: What was asked for.
        data: What it ran on.
        books: What it came to.
        outcomes: How many cycles came to what.
        first_word_ms: When the first cycle ran that a signal was there for; None where there was none.
    """
    traded = _of_trading(books, outcomes) if len(books) else ()
    return (*_of_data(request, data), *_of_span(books, first_word_ms), *traded)


def _of_data(request: BacktestRequest, data: BacktestData) -> Iterator[Caveat]:
    if data.source.startswith(_SIMULATED):
        yield Caveat("simulated_market", "The market is simulated: what is earned there says nothing about a real one.")
    if request.source != STORE:
        yield Caveat("instrument_unknown", "A file knows no ticks, lots and least orders: none were kept to.")
    missing = sum(one.missing for one in data.series)
    if missing:
        yield Caveat("candles_missing", f"{missing:,} candles are missing; nothing was decided across the gaps.")
    refused = sum(one.refused_rows for one in data.series)
    if refused:
        yield Caveat("rows_refused", f"{refused:,} rows of the file were left out.")


def _of_span(books: Books, first_word_ms: int | None) -> Iterator[Caveat]:
    if len(books) == 0:
        yield Caveat("no_cycles", "No candle has closed within the span: nothing was decided.")
        return
    first, last = int(books.times_ms[0]), int(books.times_ms[-1])
    days = (last - first) / DAY_MS
    if days < LEAST_DAYS:
        yield Caveat("few_days", f"{days:.1f} days are too few to tell skill from luck; {LEAST_DAYS} are the least.")
    if first_word_ms is None:
        yield Caveat("nothing_said", "The strategy said nothing: there were too few candles without a gap.")
    elif first_word_ms - first > _LATE * (last - first):
        share = (first_word_ms - first) / (last - first)
        words = f"The strategy said nothing for the first {share:.0%} of the span: earlier candles are missing."
        yield Caveat("late_start", words)


def _of_trading(books: Books, outcomes: Mapping[str, int]) -> Iterator[Caveat]:
    if len(books.fills) == 0:
        yield Caveat("no_trades", "Nothing was traded.")
    if books.halted_cycle >= 0:
        share = 1 - books.halted_cycle / len(books)
        yield Caveat("halted", f"MAX_DRAWDOWN halted trading: the last {share:.0%} of the span had no entry.")
    if small := outcomes.get("volume_share"):
        yield Caveat("volume_refused", f"{small:,} entries were refused: there was too little volume.")
    if old := outcomes.get("model_too_old"):
        yield Caveat("model_too_old", f"{old:,} entries were refused: the model was too old by then.")
    if books.held[-1]:
        words = "A position is open at the end: it counts at the last price, and its exit is not paid for."
        yield Caveat("open_position", words)
