"""Many backtests on the same candles, of which only their days and their fills are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.research.backtest.compiled import make_cycles, run_pass
from app.research.backtest.ground import Ground
from app.research.backtest.market import Said, prepare_on
from app.research.backtest.plan import Plan, Series
from app.risk.curves import find_utc_days
from ml.bars import IntegerArray


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a trial came to; the same numbers as in the `Books` of its compiled backtest.

    Attributes:
        daily: The account's worth at the end of each UTC day, in 1e-8 quote units, shape (n_days,).
        fills: How many fills it had.
    """

    daily: IntegerArray
    fills: int


class Sweep:
    """Runs trials. Threads may share one; compiled code runs on as many cores as there are threads.

    Args:
        series: The markets; what is said of them is not looked at.

    Raises:
        InvalidInputError: `beyond_64_bits` or `candle_not_positive`, as `run_compiled`.
    """

    def __init__(self, series: Sequence[Series]) -> None:
        self._ground = Ground(series)

    @property
    def days(self) -> range:
        """The UTC days from the first cycle to the last, counted from the epoch."""
        return find_utc_days(self._ground.times_ms)

    def run(self, plan: Plan, said: Sequence[Said]) -> Outcome:
        """Run a trial.

        Args:
            plan: How it is traded.
            said: What is said of each series.

        Raises:
            InvalidInputError: `beyond_64_bits`, as `run_compiled`.
        """
        prepared = prepare_on(self._ground, plan, said)
        cycles = make_cycles(prepared)
        state = run_pass(plan, prepared, cycles, 0)
        return Outcome(cycles.daily, int(state.account["fills"][0]))
