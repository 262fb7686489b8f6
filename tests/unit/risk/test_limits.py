"""Each limit at its edge: what passes, what does not, what it says, and what a cap leaves."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.money import PPM, UNITS
from app.domain.order import Check, Side
from app.domain.portfolio import Portfolio, Position, worth
from app.domain.standing import Halt, Snapshot
from app.risk import limits
from tests.support.standings import NOON, make_account

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


def told(check: Check | None) -> tuple[str, bool, str, str]:
    """A check without its words, which must be whole sentences."""
    assert check is not None
    assert check.detail.endswith(".")
    return check.code, check.passed, check.value, check.limit


def test_halt_names_its_reason_and_how_to_resume() -> None:
    assert told(limits.check_halt(None)) == ("halted", True, "running", "running")
    check = limits.check_halt(Halt("by_person", "Holidays.", NOON))
    assert told(check) == ("halted", False, "by_person", "running")
    assert "since 2026-11-21 12:00 UTC" in check.detail
    assert "POST /trading/resume" in check.detail


def test_short_needs_to_be_allowed() -> None:
    assert told(limits.check_short(Side.SELL, allowed=False)) == ("short_not_allowed", False, "SELL", "BUY")
    assert told(limits.check_short(Side.SELL, allowed=True)) == ("short_not_allowed", True, "SELL", "BUY or SELL")
    assert limits.check_short(Side.BUY, allowed=False).passed


@pytest.mark.parametrize(
    ("opening", "passed", "value"),
    [
        (10_000, True, "0"),
        (9_000, True, "0"),
        (10_526, True, "0.049971"),
        (10_527, False, "0.050061"),
        (20_000, False, "0.5"),
    ],
)
def test_daily_loss_counts_from_the_equity_the_day_began_with(opening: int, passed: bool, value: str) -> None:
    account = make_account(day_equity=opening * UNITS)
    assert told(limits.check_daily_loss(account, Decimal("0.05"))) == ("daily_loss", passed, value, "0.05")


def test_daily_loss_reached_exactly_ends_the_day() -> None:
    account = make_account(cash=9_500, day_equity=10_000 * UNITS)
    check = limits.check_daily_loss(account, Decimal("0.05"))
    assert told(check) == ("daily_loss", False, "0.05", "0.05")
    assert check is not None
    assert check.detail == (
        "Today has lost 5 % of the equity it began with; from 5 % on nothing is opened until the next UTC day "
        "(MAX_DAILY_LOSS)."
    )


def test_daily_loss_of_a_day_that_began_with_nothing_is_all_of_it() -> None:
    account = make_account(cash=0, day_equity=0, peak_equity=UNITS)
    assert told(limits.check_daily_loss(account, Decimal("0.05")))[1:3] == (False, "1")


def test_drawdown_counts_from_the_peak() -> None:
    account = make_account(cash=7_500, peak_equity=10_000 * UNITS)
    assert told(limits.check_drawdown(account, Decimal("0.25"))) == ("max_drawdown", False, "0.25", "0.25")
    assert told(limits.check_drawdown(account, Decimal("0.2501"))) == ("max_drawdown", True, "0.25", "0.2501")


@pytest.mark.parametrize(
    ("losses", "seconds_since", "passed"),
    [(2, 0, True), (3, 0, False), (3, 3_599, False), (3, 3_600, True), (9, 1, False)],
)
def test_cooldown_holds_for_its_minutes_after_the_last_loss(losses: int, seconds_since: int, passed: bool) -> None:
    account = make_account(losses_in_a_row=losses, last_loss_at=NOON - seconds_since * SECOND)
    check = limits.check_cooldown(account, 3, timedelta(minutes=60), NOON)
    assert told(check) == ("cooldown", passed, str(losses), "3")
    assert check is not None
    assert ("until" in check.detail) is not passed


def test_cooldown_says_until_when() -> None:
    account = make_account(losses_in_a_row=4, last_loss_at=NOON)
    check = limits.check_cooldown(account, 3, timedelta(minutes=90), NOON)
    assert check is not None
    assert "for 90 minutes, until 2026-11-21 13:30:00 UTC (COOLDOWN_LOSSES)" in check.detail


def test_cooldown_without_a_loss_passes() -> None:
    assert told(limits.check_cooldown(make_account(), 3, timedelta(hours=1), NOON))[1:] == (True, "0", "3")


@pytest.mark.parametrize(("count", "passed"), [(0, True), (4, True), (5, False), (6, False)])
def test_trades_of_a_day_are_counted_before_the_next(count: int, passed: bool) -> None:
    account = make_account(trades_today=count)
    assert told(limits.check_trades(account, 5)) == ("max_trades_per_day", passed, str(count), "5")


def test_positions_count_the_new_one_and_no_dust() -> None:
    account = make_account(held={"ETHUSDT": 1, "SOLUSDT": -1})
    assert told(limits.check_positions(account, "BTCUSDT", 3)) == ("max_open_positions", True, "3", "3")
    assert told(limits.check_positions(account, "BTCUSDT", 2)) == ("max_open_positions", False, "3", "2")
    assert told(limits.check_positions(account, "ETHUSDT", 2)) == ("max_open_positions", True, "2", "2")
    dust = Portfolio(UNITS, dust={"ETHUSDT": Position(1, 1, 0, NOON)})
    dusty = Snapshot(NOON, dust, UNITS, UNITS, UNITS, {"ETHUSDT": UNITS})
    assert told(limits.check_positions(dusty, "BTCUSDT", 1))[2] == "1"


@pytest.mark.parametrize(
    ("price", "passed", "value"),
    [(100, True, "0"), (105, True, "5"), (95, True, "5"), (106, False, "6"), (94, False, "6"), (200, False, "100")],
)
def test_price_band_holds_to_either_side(price: int, passed: bool, value: str) -> None:
    check = limits.check_price_band(price * UNITS, 100 * UNITS, Decimal(5))
    assert told(check) == ("price_band", passed, value, "5")


def test_price_band_that_is_passed_by_a_hair_is_passed() -> None:
    assert told(limits.check_price_band(105 * UNITS + 1, 100 * UNITS, Decimal(5)))[1:] == (False, "5.0001", "5")


def test_model_may_be_twice_its_maximum_age() -> None:
    week = timedelta(days=7)
    assert told(limits.check_model_age(14 * DAY, week)) == ("model_too_old", True, "14", "14")
    assert told(limits.check_model_age(14 * DAY + SECOND, week))[1] is False
    assert told(limits.check_model_age(timedelta(hours=30), week))[2] == "1.25"
    assert limits.check_model_age(None, week) is None


@pytest.mark.parametrize(
    ("distances", "passed"), [([1], True), ([1, 99], True), ([0], False), ([5, 100], False), ([0, 50], False)]
)
def test_stop_must_be_away_from_the_price_and_above_zero(distances: list[int], passed: bool) -> None:
    check = limits.check_stop([one * UNITS for one in distances], 100 * UNITS)
    assert told(check) == ("stop_unknown", passed, str(max(distances)), "100")


def test_cash_must_buy_a_lot() -> None:
    lot = UNITS // 1_000
    assert told(limits.check_cash(UNITS // 10, lot, 100 * UNITS)) == ("insufficient_cash", True, "0.1", "0.1")
    assert told(limits.check_cash(UNITS // 10 - 1, lot, 100 * UNITS))[1] is False
    assert told(limits.check_cash(0, 1, 1))[1:] == (False, "0", "0.00000001")


def test_symbol_exposure_is_cut_to_what_its_share_leaves() -> None:
    account = make_account(cash=6_000, held={"BTCUSDT": 30, "ETHUSDT": 10})
    check, left = limits.cap_symbol_exposure(4_000 * UNITS, account, "BTCUSDT", Decimal("0.5"))
    assert left == 2_000 * UNITS
    assert told(check) == ("max_symbol_exposure", True, "7000", "5000")
    assert check is not None
    assert check.detail == (
        "What is held of BTCUSDT would be worth 7000 with the order; at most 50 % of the equity, 5000, may be "
        "(MAX_SYMBOL_EXPOSURE): cut from 4000 to 2000."
    )


def test_symbol_exposure_of_a_short_counts_as_that_of_a_long() -> None:
    account = make_account(cash=13_000, held={"BTCUSDT": -30})
    assert limits.cap_symbol_exposure(4_000 * UNITS, account, "BTCUSDT", Decimal("0.5"))[1] == 2_000 * UNITS


def test_gross_exposure_adds_longs_and_shorts() -> None:
    account = make_account(cash=10_000, held={"BTCUSDT": 30, "ETHUSDT": -30})
    check, left = limits.cap_gross_exposure(5_000 * UNITS, account, Decimal(1))
    assert left == 4_000 * UNITS
    assert told(check) == ("max_gross_exposure", True, "11000", "10000")
    assert limits.cap_gross_exposure(5_000 * UNITS, account, Decimal("0.6"))[1] == 0


def test_exposure_that_leaves_nothing_fails() -> None:
    account = make_account(cash=5_000, held={"BTCUSDT": 50})
    check, left = limits.cap_symbol_exposure(UNITS, account, "BTCUSDT", Decimal("0.25"))
    assert left == 0
    assert told(check) == ("max_symbol_exposure", False, "5001", "2500")


def test_volume_share_counts_base_units() -> None:
    check, left, most = limits.cap_volume(1_000 * UNITS, 100 * UNITS, 40 * UNITS, Decimal("0.1"))
    assert (left, most) == (400 * UNITS, 4 * UNITS)
    assert told(check) == ("volume_share", True, "10", "4")


def test_candle_without_volume_takes_no_entry() -> None:
    check, left, most = limits.cap_volume(1_000 * UNITS, 100 * UNITS, 0, Decimal("0.1"))
    assert (left, most) == (0, 0)
    assert told(check) == ("volume_share", False, "10", "0")


def test_notional_must_reach_what_the_exchange_asks_for() -> None:
    assert told(limits.check_notional(5 * UNITS, 5 * UNITS)) == ("below_minimum_notional", True, "5", "5")
    assert told(limits.check_notional(5 * UNITS - 1, 5 * UNITS))[1:3] == (False, "4.99999999")


def test_limit_of_zero_says_and_cuts_nothing() -> None:
    ruined = make_account(cash=1, day_equity=WHOLE, peak_equity=WHOLE, losses_in_a_row=9, last_loss_at=NOON)
    none, hour = Decimal(0), timedelta(hours=1)
    assert limits.check_daily_loss(ruined, none) is None
    assert limits.check_drawdown(ruined, none) is None
    assert limits.check_cooldown(ruined, 0, hour, NOON) is None
    assert limits.check_cooldown(ruined, 3, timedelta(0), NOON) is None
    assert limits.check_trades(ruined, 0) is None
    assert limits.check_positions(ruined, "BTCUSDT", 0) is None
    assert limits.check_price_band(2, 1, none) is None
    assert limits.cap_symbol_exposure(7, ruined, "BTCUSDT", none) == (None, 7)
    assert limits.cap_gross_exposure(7, ruined, none) == (None, 7)
    assert limits.cap_volume(7, 1, 0, none) == (None, 7, limits.UNLIMITED)


WHOLE = 10_000 * UNITS


@given(
    budget=st.integers(0, 10**16),
    cash=st.integers(0, 10**6),
    held=st.dictionaries(st.sampled_from(["BTCUSDT", "ETHUSDT", "SOLUSDT"]), st.integers(1, 10**4)),
    share=st.integers(1, 10_000),
    volume=st.integers(0, 10**16),
    price=st.integers(1, 10**14),
)
def test_caps_hold_whatever_is_asked_for(
    budget: int, cash: int, held: dict[str, int], share: int, volume: int, price: int
) -> None:
    limit = Decimal(share).scaleb(-4)
    account = make_account(cash, held)
    most = account.equity * share // 10_000

    _, left = limits.cap_symbol_exposure(budget, account, "BTCUSDT", limit)
    assert 0 <= left <= budget
    assert left == 0 or left + worth(account.portfolio.holding("BTCUSDT"), 100 * UNITS) <= most

    _, left = limits.cap_gross_exposure(left, account, limit)
    assert left == 0 or left + account.equity - account.portfolio.cash <= most

    _, left, quantity = limits.cap_volume(left, price, volume, limit)
    assert quantity * PPM <= volume * share * 100
    assert worth(quantity, price) >= left >= 0
