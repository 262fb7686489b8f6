"""The seed indicators that every cycle reports: TA-Lib's, over the candles of the cycle."""

from __future__ import annotations

import importlib
import math
import sys
from types import ModuleType

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


def _last(values: object) -> float | None:
    value = float(values[-1]) if len(values) else math.nan  # type: ignore[index,arg-type]
    return value if math.isfinite(value) else None
