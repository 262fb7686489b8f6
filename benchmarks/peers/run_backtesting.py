"""backtesting.py at the common work."""

from __future__ import annotations

import warnings
from typing import Any

import pandas as pd
from backtesting import Strategy
from backtesting.lib import FractionalBacktest, crossover

from benchmarks.peers import work


def mean_of(values: Any, span: int) -> pd.Series:  # noqa: ANN401 - an array of the library's own kind
    return pd.Series(values).rolling(span).mean()


class Cross(Strategy):
    """All in when the fast average crosses above the slow one, out when it crosses below."""

    def init(self) -> None:
        """Compute the averages of all bars."""
        self.fast = self.I(mean_of, self.data.Close, work.FAST_BARS)
        self.slow = self.I(mean_of, self.data.Close, work.SLOW_BARS)

    def next(self) -> None:
        """Trade a cross at the next open, the library's default."""
        if crossover(self.fast, self.slow):
            self.buy(size=1 - 1e-12)  # 1 would be one unit
        elif crossover(self.slow, self.fast) and self.position:
            self.position.close()


def measure(candles: work.Candles, repeats: int) -> dict[str, Any]:
    frame = pd.DataFrame(
        {
            "Open": candles.open,
            "High": candles.high,
            "Low": candles.low,
            "Close": candles.close,
            "Volume": candles.volume,
        },
        pd.to_datetime(candles.open_time_ms, unit="ms"),
    )
    warnings.simplefilter("ignore")
    test = FractionalBacktest(
        frame, Cross, cash=work.CASH, commission=work.COST, fractional_unit=1e-8, finalize_trades=False
    )
    timing = work.best_seconds(test.run, repeats)
    equity, trades = timing[2]["_equity_curve"]["Equity"].iloc[-1], timing[2]["_trades"]
    outcome = work.Outcome(float(equity), 2 * len(trades))
    return {"backtesting.py": work.report(len(frame), timing, outcome)}


if __name__ == "__main__":
    work.main(measure)
