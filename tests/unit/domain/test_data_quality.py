"""Market data is refused for every defect, each under its own code, and passed where it is merely unusual."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.candle import Candle, Interval
from app.domain.data_quality import check_history, check_snapshot, contiguous_bars, in_order
from app.domain.instrument import Instrument
from app.domain.market import MarketSnapshot, Quote
from app.errors import ConflictError, DataQualityError, NotReadyError, ServiceError
from tests.support.candles import made_candles

NOW = datetime(2026, 1, 5, 12, 0, 30, tzinfo=UTC)
CANDLES = made_candles("BTCUSDT", Interval.M1, end=NOW, bars=100)
LAST = len(CANDLES) - 1


def snapshot(candles: list[Candle] = CANDLES, **changes: Any) -> MarketSnapshot:
    closes = [candle.close for candle in [*CANDLES, *candles] if candle.close.is_finite()]
    good = MarketSnapshot(
        source="binance",
        symbol="BTCUSDT",
        interval=Interval.M1,
        candles=tuple(candles),
        quote=Quote(closes[-1], NOW),
        instrument=Instrument("BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"), Decimal(5)),
        exchange_time=NOW,
        clock_skew_seconds=0.2,
    )
    return replace(good, **changes)


def with_candle(index: int, **changes: Any) -> list[Candle]:
    return [*CANDLES[:index], replace(CANDLES[index], **changes), *CANDLES[index + 1 :]]


def scaled(candle: Candle, factor: str) -> Candle:
    names = ("open", "high", "low", "close")
    return replace(candle, **{name: getattr(candle, name) * Decimal(factor) for name in names})


def refusal(bad: MarketSnapshot, minimum_bars: int = 61) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        check_snapshot(bad, minimum_bars=minimum_bars)
    return caught.value


def test_check_snapshot_good_data_passes() -> None:
    check_snapshot(snapshot(), minimum_bars=100)


@pytest.mark.parametrize(
    ("candles", "code"),
    [
        (with_candle(LAST, close=Decimal("NaN")), "candle_not_finite"),
        (with_candle(LAST, high=Decimal("Infinity")), "candle_not_finite"),
        (with_candle(LAST, volume=Decimal("sNaN")), "candle_not_finite"),
        (with_candle(0, open=Decimal(0)), "candle_not_positive"),
        (with_candle(LAST, low=Decimal(-5)), "candle_not_positive"),
        (with_candle(LAST, high=Decimal("1e30")), "candle_out_of_range"),
        (with_candle(LAST, volume=Decimal("1e19")), "candle_out_of_range"),
        (with_candle(3, volume=Decimal(-1)), "candle_volume_negative"),
        (with_candle(LAST, high=CANDLES[LAST].low, low=CANDLES[LAST].high), "candle_impossible"),
        (with_candle(LAST, close=CANDLES[LAST].high + 1), "candle_impossible"),
        (with_candle(LAST, open=CANDLES[LAST].low - 1), "candle_impossible"),
        ([*CANDLES, replace(CANDLES[LAST], volume=Decimal(7))], "candle_duplicate"),
        ([*CANDLES, CANDLES[LAST]], "candle_duplicate"),
        (CANDLES[::-1], "candle_out_of_order"),
        (with_candle(LAST, open_time=CANDLES[LAST].open_time + timedelta(seconds=17)), "candle_misaligned"),
        (with_candle(LAST, close_time=CANDLES[LAST].close_time + timedelta(minutes=4)), "candle_misaligned"),
        (with_candle(LAST, close_time=CANDLES[LAST].open_time - timedelta(seconds=1)), "candle_misaligned"),
        (made_candles("BTCUSDT", Interval.M1, end=NOW + timedelta(days=1), bars=100), "candle_in_future"),
        (made_candles("BTCUSDT", Interval.M1, end=NOW + timedelta(minutes=1), bars=100), "candle_in_future"),
        ([*CANDLES[:-2], scaled(CANDLES[-2], "10"), CANDLES[-1]], "candle_jump"),
        ([*CANDLES[:-1], scaled(CANDLES[-1], "0.1")], "candle_jump"),
        ([*CANDLES[:-1], scaled(CANDLES[-1], "1.52")], "candle_jump"),
        ([*CANDLES[:-1], scaled(CANDLES[-1], "0.48")], "candle_jump"),
        (with_candle(LAST, low=CANDLES[LAST].open * Decimal("0.49")), "candle_jump"),
        (with_candle(0, high=CANDLES[0].open * Decimal("1.51")), "candle_jump"),
        (with_candle(LAST, open=Decimal("1e-8"), low=Decimal("1e-8")), "candle_jump"),
    ],
)
def test_check_snapshot_bad_candle_refused_as_bad_data(candles: list[Candle], code: str) -> None:
    error = refusal(snapshot(candles))

    assert isinstance(error, DataQualityError)
    assert error.code == code
    assert "candle_open_time" in error.context


@pytest.mark.parametrize(
    ("price", "code"),
    [
        (Decimal(0), "price_not_positive"),
        (Decimal(-3), "price_not_positive"),
        (Decimal("NaN"), "price_not_positive"),
        (Decimal("1e13"), "price_not_positive"),
        (CANDLES[LAST].close * Decimal("1.31"), "price_far_from_close"),
        (CANDLES[LAST].close * Decimal("0.69"), "price_far_from_close"),
    ],
)
def test_check_snapshot_bad_price_refused_as_bad_data(price: Decimal, code: str) -> None:
    error = refusal(snapshot(quote=Quote(price, NOW)))

    assert isinstance(error, DataQualityError)
    assert error.code == code


def test_check_snapshot_price_within_30_percent_passes() -> None:
    check_snapshot(snapshot(quote=Quote(CANDLES[LAST].close * Decimal("1.29"), NOW)), minimum_bars=61)


@pytest.mark.parametrize("skew", [60.5, -3600.0, float("nan"), float("inf")])
def test_check_snapshot_clock_too_far_off_not_ready(skew: float) -> None:
    error = refusal(snapshot(clock_skew_seconds=skew))

    assert isinstance(error, NotReadyError)
    assert error.code == "clock_skew"
    assert "NTP" in error.message


def test_check_snapshot_clock_sixty_seconds_off_passes() -> None:
    check_snapshot(snapshot(clock_skew_seconds=-60.0), minimum_bars=61)


def test_check_snapshot_halted_symbol_conflicts_before_all_else() -> None:
    halted = Instrument("BTCUSDT", "BTC", "USDT", Decimal(1), Decimal(1), Decimal(5), trading=False)

    error = refusal(snapshot([], instrument=halted, clock_skew_seconds=999.0))

    assert isinstance(error, ConflictError)
    assert error.code == "symbol_not_trading"


def test_check_snapshot_close_two_intervals_old_passes_and_older_is_stale() -> None:
    newest = CANDLES[LAST].close_time
    check_snapshot(snapshot(exchange_time=newest + timedelta(minutes=2)), minimum_bars=61)

    error = refusal(snapshot(exchange_time=newest + timedelta(minutes=2, milliseconds=1)))

    assert isinstance(error, NotReadyError)
    assert error.code == "stale_data"
    assert error.context["age_seconds"] == pytest.approx(120.001)


def test_check_snapshot_too_few_candles_says_have_and_need() -> None:
    error = refusal(snapshot(CANDLES[-60:]))

    assert isinstance(error, NotReadyError)
    assert error.code == "insufficient_history"
    assert (error.context["have"], error.context["need"], error.context["gap"]) == (60, 61, False)
    assert error.retry_after_seconds == 60


def test_check_snapshot_no_candles_is_insufficient_history() -> None:
    assert refusal(snapshot([])).context["have"] == 0


def test_check_snapshot_gap_inside_the_needed_bars_is_insufficient_history() -> None:
    error = refusal(snapshot([*CANDLES[:-60], *CANDLES[-59:]]))

    assert error.code == "insufficient_history"
    assert (error.context["have"], error.context["gap"]) == (59, True)


def test_check_snapshot_gap_before_the_needed_bars_passes() -> None:
    check_snapshot(snapshot([*CANDLES[:-70], *CANDLES[-65:]]), minimum_bars=61)


def test_check_snapshot_flat_candles_without_trades_pass() -> None:
    price = CANDLES[0].close
    flat = [replace(candle, open=price, high=price, low=price, close=price, volume=Decimal(0)) for candle in CANDLES]

    check_snapshot(snapshot(flat), minimum_bars=61)


def test_check_snapshot_candle_closed_early_by_a_halt_passes() -> None:
    early = CANDLES[LAST].open_time + timedelta(seconds=2, milliseconds=646)

    check_snapshot(snapshot(with_candle(LAST, close_time=early)), minimum_bars=61)
    check_snapshot(snapshot(with_candle(LAST, close_time=CANDLES[LAST].open_time)), minimum_bars=61)


def test_check_snapshot_daily_candle_may_triple() -> None:
    daily = made_candles("ADAUSDT", Interval.D1, end=NOW, bars=70)
    daily[-1] = replace(daily[-1], high=daily[-1].open * 3, close=daily[-1].open * 3)

    check_snapshot(snapshot(daily, interval=Interval.D1), minimum_bars=61)


def test_check_history_gaps_and_large_moves_pass() -> None:
    check_history([*CANDLES[:20], scaled(CANDLES[40], "3"), *CANDLES[60:]])


@pytest.mark.parametrize(
    ("candles", "code"),
    [
        (with_candle(5, close=Decimal("NaN")), "candle_not_finite"),
        (with_candle(5, close=Decimal(0)), "candle_not_positive"),
        (with_candle(5, high=CANDLES[5].low - 1), "candle_impossible"),
        (with_candle(5, volume=Decimal("-0.1")), "candle_volume_negative"),
        (CANDLES[::-1], "candle_out_of_order"),
        ([CANDLES[0], CANDLES[0]], "candle_duplicate"),
    ],
)
def test_check_history_impossible_candle_refused(candles: list[Candle], code: str) -> None:
    with pytest.raises(DataQualityError) as caught:
        check_history(candles)

    assert caught.value.code == code


def test_check_history_nothing_passes() -> None:
    check_history([])


@given(st.permutations(CANDLES[:8]), st.lists(st.integers(0, 7), max_size=4))
def test_in_order_any_order_and_repetition_gives_the_same_candles(shuffled: list[Candle], repeated: list[int]) -> None:
    assert in_order([*shuffled, *(CANDLES[index] for index in repeated)]) == CANDLES[:8]


def test_in_order_differing_duplicates_refused() -> None:
    with pytest.raises(DataQualityError) as caught:
        in_order([*CANDLES, replace(CANDLES[50], volume=Decimal(7))])

    assert caught.value.code == "candle_duplicate"


@given(st.sets(st.integers(0, 30), min_size=1))
def test_contiguous_bars_counts_back_from_the_newest(kept: set[int]) -> None:
    newest = max(kept)
    expected = next(count for count in range(1, 32) if newest - count not in kept)

    assert contiguous_bars([CANDLES[index] for index in sorted(kept)], Interval.M1) == expected


def test_contiguous_bars_nothing_is_zero() -> None:
    assert contiguous_bars([], Interval.M1) == 0
