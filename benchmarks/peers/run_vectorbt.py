"""vectorbt at the common work, from its indicators and `Portfolio.from_signals`, compiled by numba and in Rust."""

from __future__ import annotations

from typing import Any

import pandas as pd
import vectorbt as vbt

from benchmarks.peers import work

# As it installs, and with its extra, by which Rust does whatever it has a function for.
ENGINES = {"vectorbt": "numba", "vectorbt[rust]": "auto"}


def frame_of(candles: work.Candles) -> tuple[pd.Series, pd.Series]:
    index = pd.to_datetime(candles.open_time_ms, unit="ms")  # with a time zone vectorbt takes a hundred times as long
    return pd.Series(candles.open, index), pd.Series(candles.close, index)


def run(opened: Any, close: Any, fast_spans: Any, slow_spans: Any) -> Any:  # noqa: ANN401 - pandas, or what vectorbt has
    fast, slow = vbt.MA.run(close, fast_spans), vbt.MA.run(close, slow_spans)
    entries, exits = fast.ma_crossed_above(slow), fast.ma_crossed_below(slow)
    return vbt.Portfolio.from_signals(
        close,
        entries.vbt.signals.fshift(1),  # what a close says is filled at the next open
        exits.vbt.signals.fshift(1),
        price=opened,
        fees=work.FEE,
        slippage=work.SLIPPAGE,
        init_cash=work.CASH,
        freq="1min",
    )


def measure(candles: work.Candles, repeats: int) -> dict[str, Any]:
    opened, close = frame_of(candles)
    found = {}
    for name, engine in ENGINES.items():
        vbt.settings["engine"] = engine
        timing = work.best_seconds(lambda: run(opened, close, work.FAST_BARS, work.SLOW_BARS), repeats)
        portfolio = timing[2]
        outcome = work.Outcome(float(portfolio.final_value()), len(portfolio.orders.records))
        found[name] = work.report(len(close), timing, outcome)
    return found


if __name__ == "__main__":
    work.main(measure)
