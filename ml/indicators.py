"""The seed indicators that every cycle reports, and what sizes and stops are measured by, over its candles."""

from __future__ import annotations

import importlib
import math
import sys
from types import ModuleType

import numpy as np

from ml.bars import Bars


def _import_talib() -> ModuleType:
    """TA-Lib without pandas and polars: it would load both to accept their series (85 MB and 2 s, measured)."""
    hidden = [name for name in ("pandas", "polars") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None makes an import fail, as documented
    try:
        return importlib.import_module("talib")
    finally:
        for name in hidden:
            del sys.modules[name]


talib = _import_talib()


def compute_seed_indicators(bars: Bars) -> dict[str, float | None]:
    """Compute sma_10 and sma_50 (quote units), rsi_14 (Wilder, 0 to 100) and price_change_1m (a fraction).

    All are those of the last bar; None where the bars do not reach back far enough, and for an RSI over a price
    that never moved. Wilder's RSI remembers every bar it is given, so it is reported and no input of the model.
    Source: J. W. Wilder, New Concepts in Technical Trading Systems, 1978.

    >>> import numpy as np
    >>> closes = np.arange(1.0, 21.0)
    >>> bars = Bars(np.arange(20, dtype=np.int64) * 60_000, closes, closes, closes, closes, closes)
    >>> compute_seed_indicators(bars)
    {'sma_10': 15.5, 'sma_50': None, 'rsi_14': 100.0, 'price_change_1m': 0.05263157894736836}
    """
    close = bars.close
    moved = len(bars) > 0 and bool((close != close[0]).any())
    return {
        "sma_10": _last(talib.SMA(close, timeperiod=10)),
        "sma_50": _last(talib.SMA(close, timeperiod=50)),
        "rsi_14": _last(talib.RSI(close, timeperiod=14)) if moved else None,
        "price_change_1m": float(close[-1] / close[-2] - 1) if len(bars) > 1 else None,
    }


def compute_atr(bars: Bars) -> float | None:
    """Compute Wilder's average true range over 14 bars, in quote units: that of the last bar.

    None with fewer than 15 bars. It remembers every bar it is given, so equal answers need equally many bars.
    Source: J. W. Wilder, New Concepts in Technical Trading Systems, 1978.

    >>> import numpy as np
    >>> low = np.full(20, 9.0)
    >>> compute_atr(Bars(np.arange(20, dtype=np.int64) * 60_000, low, low + 2, low, low + 1, low))
    2.0
    """
    return _last(talib.ATR(bars.high, bars.low, bars.close, timeperiod=14))


def compute_volatility(bars: Bars) -> float | None:
    """Compute the sample standard deviation of the log returns from close to close, per bar, a fraction.

    None with fewer than 15 bars.

    >>> import numpy as np
    >>> close = np.exp(np.array([0.0, 0.01] * 10))
    >>> bars = Bars(np.arange(20, dtype=np.int64) * 60_000, close, close, close, close, close)
    >>> round(compute_volatility(bars), 6)
    0.01026
    """
    if len(bars) < 15:
        return None
    return float(np.diff(np.log(bars.close)).std(ddof=1))


def _last(values: object) -> float | None:
    value = float(values[-1]) if len(values) else math.nan  # type: ignore[index,arg-type]
    return value if math.isfinite(value) else None
