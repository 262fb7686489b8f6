"""The common work as a freqtrade strategy; freqtrade loads it from this folder by the name of its class."""

from __future__ import annotations

from typing import Any

import talib.abstract as talib
from freqtrade.strategy import IStrategy
from pandas import DataFrame
from technical import qtpylib

from benchmarks.peers import work


class Cross(IStrategy):
    """All in when the fast average crosses above the slow one, out when it crosses below."""

    INTERFACE_VERSION = 3
    timeframe = "1m"
    minimal_roi: dict[str, float] = {}  # noqa: RUF012 - freqtrade's own form
    stoploss = -1.0  # never
    use_exit_signal = True
    startup_candle_count = 0
    order_types = {  # noqa: RUF012
        "entry": "market", "exit": "market", "stoploss": "market", "stoploss_on_exchange": False,
    }  # fmt: skip

    def populate_indicators(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:  # noqa: ARG002
        """Compute the averages of all candles."""
        dataframe["fast"] = talib.SMA(dataframe, timeperiod=work.FAST_BARS)
        dataframe["slow"] = talib.SMA(dataframe, timeperiod=work.SLOW_BARS)
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:  # noqa: ARG002
        """Enter on a cross above."""
        dataframe.loc[qtpylib.crossed_above(dataframe["fast"], dataframe["slow"]), "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:  # noqa: ARG002
        """Leave on a cross below."""
        dataframe.loc[qtpylib.crossed_below(dataframe["fast"], dataframe["slow"]), "exit_long"] = 1
        return dataframe
