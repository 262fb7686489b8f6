"""freqtrade at the common work: its `Backtesting`, offline; indicators and the backtest itself are timed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from freqtrade.data.history import get_timerange
from freqtrade.enums import RunMode
from freqtrade.exchange import Exchange
from freqtrade.optimize.backtesting import Backtesting

from benchmarks.peers import work

PAIR = "BTC/USDT"
_MARKET = {
    "id": "BTCUSDT", "symbol": PAIR, "base": "BTC", "quote": "USDT", "active": True, "type": "spot", "spot": True,
    "precision": {"amount": 1e-8, "price": 10.0**-work.PRICE_DIGITS},
    "limits": {name: {"min": None, "max": None} for name in ("amount", "cost", "price")},
}  # fmt: skip


class Offline(Exchange):
    """freqtrade's exchange with one market that it did not have to ask for."""

    def reload_markets(self, *_: object, **__: object) -> None:
        """Know the one market."""
        self._markets = {PAIR: _MARKET}


def settings() -> dict[str, Any]:
    return {
        "runmode": RunMode.BACKTEST,
        "dry_run": True,
        "exchange": {"name": "binance", "pair_whitelist": [PAIR], "pair_blacklist": []},
        "pairlists": [{"method": "StaticPairList"}],
        "strategy": "Cross",
        "strategy_path": str(Path(__file__).parent / "freqtrade_strategy"),
        "timeframe": "1m",
        "stake_currency": "USDT",
        "stake_amount": "unlimited",
        "max_open_trades": 1,
        "dry_run_wallet": work.CASH,
        "tradable_balance_ratio": 1 / (1 + work.COST),  # all in, the fee included
        "fee": work.COST,
        "trading_mode": "spot",
        "margin_mode": "",
        "entry_pricing": {"price_side": "other"},
        "exit_pricing": {"price_side": "other"},
        "dataformat_ohlcv": "feather",
        "user_data_dir": Path(__file__).parent,
        "datadir": Path(__file__).parent,
        "internals": {},
        "export": "none",
    }


def measure(candles: work.Candles, repeats: int) -> dict[str, Any]:
    logging.disable(logging.WARNING)
    config = settings()
    test = Backtesting(config, Offline(config, validate=False))
    columns = {name: getattr(candles, name) for name in ("open", "high", "low", "close", "volume")}
    frame = pd.DataFrame({"date": pd.to_datetime(candles.open_time_ms, unit="ms", utc=True), **columns})
    data = {PAIR: frame}
    begin, end = get_timerange(data)
    test._set_strategy(test.strategylist[0])  # noqa: SLF001 - what its own command calls

    def run() -> dict[str, Any]:
        return test.backtest(test.strategy.advise_all_indicators(data), begin, end)

    timing = work.best_seconds(run, repeats)
    outcome = work.Outcome(float(timing[2]["final_balance"]), 2 * len(timing[2]["results"]))
    return {"freqtrade": work.report(len(frame), timing, outcome)}


if __name__ == "__main__":
    work.main(measure)
