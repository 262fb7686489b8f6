"""The seeded candles of the side-by-side measurement."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter  # type: ignore[import-untyped]

from benchmarks.peers.work import PRICE_DIGITS, Candles

# With this seed the two averages of the common work are never equal, so that no rounding moves a trade; they begin
# with the fast one below; and the account is flat at the end of 5,000, 20,000, 50,000, 100,000, 500,000 and a million
# bars, so that what it came to does not depend on which price a library marks it at.
SEED = 1473
FIRST_PRICE = 30_000.0
START_MS = 1_577_836_800_000  # 2020-01-01
# A step leans on the one before it: 25,000 fills of a plain walk would cost the account all but a millionth, and what
# is left would measure how a library treats dust.
LEAN = 0.65
# No candle's range is above 20 bps of its close, from where on our broker takes more slippage than its least.
LARGEST_PUSH = 0.00066
LARGEST_WICK = 0.0001


def made_candles(count: int) -> Candles:
    """`count` candles of a random walk; each opens where the one before closed."""
    random = np.random.default_rng(SEED)
    steps = lfilter([1.0], [1.0, -LEAN], random.uniform(-LARGEST_PUSH, LARGEST_PUSH, count))
    close = np.round(FIRST_PRICE * np.exp(np.cumsum(steps)), PRICE_DIGITS)
    opened = np.concatenate(([FIRST_PRICE], close[:-1]))
    wicks = 1 + LARGEST_WICK * np.random.default_rng(SEED + 1).random((2, count))
    high = np.round(np.maximum(opened, close) * wicks[0], PRICE_DIGITS)
    low = np.round(np.minimum(opened, close) / wicks[1], PRICE_DIGITS)
    times = START_MS + 60_000 * np.arange(count, dtype=np.int64)
    volume = np.floor(1_000 + 9_000 * np.random.default_rng(SEED + 2).random(count))
    return Candles(times, opened, high, low, close, volume)
