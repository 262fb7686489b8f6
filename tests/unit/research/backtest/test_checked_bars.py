"""Which cycles a backtest refuses: those, and for the reason, that a live cycle's own check refuses."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from app.domain.candle import Candle, Interval
from app.domain.data_quality import check_snapshot
from app.domain.instrument import Instrument
from app.domain.market import MarketSnapshot, Quote
from app.errors import InvalidInputError, ServiceError
from app.research.backtest.books import OUTCOMES
from app.research.backtest.checked_bars import check_bars
from ml.bars import Bars
from tests.support.backtests import SINCE

pytestmark = pytest.mark.usefixtures("compiled_kernel")

_INSTRUMENT = Instrument("BTCUSDT", "BTC", "USDT", Decimal("1e-8"), Decimal("1e-8"), Decimal(0))
_EDGES = {
    Interval.M1: (0.499, 0.5, 0.501, 0.699, 0.7, 0.701, 1.299, 1.3, 1.301, 1.499, 1.5, 1.501),
    Interval.D1: (0.199, 0.2, 0.201, 0.699, 0.7, 0.701, 1.299, 1.3, 1.301, 4.99, 5.0, 5.01),
}
"""Just short of what is refused, at it, and just beyond."""


def make_bars(seed: int, interval: Interval, level: float, count: int = 2_600) -> Bars:
    """Quiet candles, a few of which jump, in open or close or for a moment, and a few of which are missing."""
    random, edges = np.random.default_rng(seed), _EDGES[interval]
    opens, closes = np.empty(count), np.empty(count)
    price = level
    for bar in range(count):
        price *= random.choice(edges) if random.random() < 0.004 else 1.0
        opens[bar] = price
        closes[bar] = price = price * (
            random.choice(edges) if random.random() < 0.004 else random.uniform(0.999, 1.001)
        )
        price *= (level / price) ** 0.1  # or some walks would leave what can be counted
    low, high = np.minimum(opens, closes), np.maximum(opens, closes)
    far = random.random(count) < 0.004
    low[far] *= random.choice([one for one in edges if one < 1], far.sum())
    far = random.random(count) < 0.004
    high[far] *= random.choice([one for one in edges if one > 1], far.sum())
    opens, high, low, closes = (np.round(one, 8) for one in (opens, high, low, closes))
    steps = np.where(random.random(count) < 0.01, random.integers(2, 6, count), 1)
    times = int(SINCE.timestamp()) * 1_000 + np.cumsum(steps) * interval.milliseconds
    return Bars(times, opens, high, low, closes, np.ones(count))


def refuse_live(
    bars: Bars, interval: Interval, window_bars: int, minimum_bars: int, first: int = 0
) -> list[str | None]:
    """Why a live cycle after each bar from `first` to the last but one is refused, its quote the open of the next."""
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    rows = zip(*(values.tolist() for values in columns), strict=True)
    moments = [datetime.fromtimestamp(one / 1_000, tz=SINCE.tzinfo) for one in bars.open_time_ms.tolist()]
    candles = [
        Candle(at, at + interval.duration - timedelta(milliseconds=1), *(Decimal(f"{value:.8f}") for value in row))
        for at, row in zip(moments, rows, strict=True)
    ]
    refused: list[str | None] = []
    for cycle in range(first, len(candles) - 1):
        window, following = candles[max(cycle - window_bars + 1, 0) : cycle + 1], candles[cycle + 1]
        quote = Quote(following.open, following.open_time)
        snapshot = MarketSnapshot(
            "simulated", "BTCUSDT", interval, window, quote, _INSTRUMENT, following.open_time, clock_skew_seconds=0.0
        )
        try:
            check_snapshot(snapshot, minimum_bars=minimum_bars)
        except ServiceError as error:
            refused.append(error.code)
        else:
            refused.append(None)
    return refused


@pytest.mark.parametrize(
    ("interval", "level", "window_bars", "minimum_bars"),
    [
        (Interval.M1, 30_000.0, 20, 5),
        (Interval.M1, 0.012, 7, 7),
        (Interval.M1, 0.0000123, 30, 1),
        (Interval.M1, 8_000_000.0, 10, 3),
        (Interval.D1, 1.5, 15, 10),
    ],
)
def test_cycles_are_refused_as_live(interval: Interval, level: float, window_bars: int, minimum_bars: int) -> None:
    bars = make_bars(1, interval, level)
    codes = check_bars(bars, interval).find_refusals(window_bars, minimum_bars).tolist()
    expected = refuse_live(bars, interval, window_bars, minimum_bars)
    assert [OUTCOMES[code] if code else None for code in codes[:-1]] == expected
    assert codes[-1] == 0
    assert {"candle_jump", "price_far_from_close", "stale_data"} <= set(expected)
    assert expected.count(None) > 500
    assert (minimum_bars == 1) == ("insufficient_history" not in expected)


@pytest.mark.parametrize("place", [1_500, 2_048])
@pytest.mark.parametrize("kind", ["opens", "closes", "returns"])
@pytest.mark.parametrize("share", _EDGES[Interval.M1])
def test_one_jump_among_quiet_bars_is_found(place: int, kind: str, share: float) -> None:
    opens, high, low, closes = prices = np.full((4, 3_000), 100.0)
    (high if share > 1 else low)[place] *= share
    if kind != "returns":
        prices[:, place + 1 :] *= share
        closes[place] *= share
    if kind == "opens":
        opens[place], high[place], low[place] = closes[place], closes[place], closes[place]
    bars = Bars(int(SINCE.timestamp()) * 1_000 + np.arange(3_000) * 60_000, opens, high, low, closes, np.ones(3_000))
    codes = check_bars(bars, Interval.M1).find_refusals(6, 2)
    near = bars[place - 10 : place + 10]
    assert [OUTCOMES[code] if code else None for code in codes[place - 4 : place + 9]] == refuse_live(
        near, Interval.M1, 6, 2, first=6
    )
    assert not codes[1 : place - 1].any()
    assert not codes[place + 6 :].any()


def test_jump_that_is_one_only_in_whole_units_is_found() -> None:
    prices = np.full(3_000, 0.000000014)  # one unit each
    prices[1_500] = 0.000000016  # two
    bars = Bars(int(SINCE.timestamp()) * 1_000 + np.arange(3_000) * 60_000, prices, prices, prices, prices, prices)
    codes = check_bars(bars, Interval.M1).find_refusals(6, 2).tolist()
    expected = refuse_live(bars[1_400:1_600], Interval.M1, 6, 2)
    assert [OUTCOMES[code] if code else None for code in codes[1_410:1_599]] == expected[10:]
    assert expected[99:105] == ["price_far_from_close"] + ["candle_jump"] * 5


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("low", 0.000000004, "candle_not_positive"),
        ("close", float("nan"), "candle_not_positive"),
        ("high", 500_000_000.0, "beyond_64_bits"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_a_price_beyond_counting_is_refused_wherever_it_stands(column: str, value: float, code: str) -> None:
    bars = make_bars(2, Interval.M1, 100.0)
    getattr(bars, column)[2_000] = value
    with pytest.raises(InvalidInputError) as raised:
        check_bars(bars, Interval.M1)
    assert raised.value.code == code
