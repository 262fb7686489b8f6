"""What the risk seat says of an order: which checks run, what refuses, how much is left, and that exits get out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.agents.risk import WINDOW_BARS, Review, RiskAgent
from app.choices import make_risk
from app.domain.candle import Interval
from app.domain.market import MarketSnapshot
from app.domain.money import PPM, UNITS
from app.domain.order import Side
from app.domain.portfolio import worth
from app.domain.risk import SizingMethod, StopRule
from app.domain.signal import Edge, Prediction, Signal
from app.domain.standing import Halt, Snapshot
from app.risk.limits import UNLIMITED, LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule
from app.settings import Settings
from tests.support.standings import NOON, make_account, make_market, make_standing

DAY = timedelta(days=1)
SAID = {Signal.BUY: 0.5, Signal.SELL: 0.25, Signal.HOLD: 0.25}
MOVES = {Signal.BUY: 0.5, Signal.SELL: -0.5, Signal.HOLD: 0.0}
KNOWING = Prediction(Signal.BUY, SAID, "forest-test", 0.001, Edge.NONE, class_returns=MOVES, round_trip_cost=0.0)
HALT = Halt("by_person", "Holidays.", NOON)
ENTRY_CODES = [
    *("halted", "short_not_allowed", "daily_loss", "max_drawdown", "cooldown", "max_trades_per_day"),
    *("max_open_positions", "price_band", "model_too_old", "size_unknown", "insufficient_cash"),
    *("max_symbol_exposure", "max_gross_exposure", "volume_share", "below_minimum_notional"),
]
BREAKING_EVERYTHING: dict[str, Any] = {
    "day_equity": 20_000 * UNITS,
    "peak_equity": 40_000 * UNITS,
    "losses_in_a_row": 9,
    "last_loss_at": NOON,
    "trades_today": 999,
}


def make_agent(
    method: SizingMethod = SizingMethod.FIXED_FRACTION,
    limits: LimitRules | None = None,
    protection: ProtectionRule | None = None,
    *,
    allow_short: bool = False,
) -> RiskAgent:
    return RiskAgent(
        SizingRule(method), limits or LimitRules(), protection or ProtectionRule(), allow_short=allow_short
    )


def review(
    agent: RiskAgent | None = None,
    side: Side = Side.BUY,
    account: Snapshot | None = None,
    market: MarketSnapshot | None = None,
    *,
    halt: Halt | None = None,
    prediction: Prediction = KNOWING,
    model_age: timedelta | None = DAY,
) -> Review:
    standing = make_standing(account, halt)
    return (agent or make_agent()).review(side, prediction, market or make_market(), standing, model_age, NOON)


def codes(found: Review) -> list[str]:
    return [check.code for check in found.checks]


def test_review_entry_runs_every_check_in_order_and_spends_a_quarter_of_the_cash() -> None:
    found = review()
    assert (found.is_entry, found.approved, found.reason_code) == (True, True, "approved")
    assert codes(found) == ENTRY_CODES
    assert all(check.passed for check in found.checks)
    assert (found.budget, found.quantity_cap) == (2_500 * UNITS, 100 * UNITS)
    assert (found.stop_distance, found.target_distance, found.trail_fraction) == (0, 0, Decimal(0))
    assert found.reason == "BUY may spend 2500 USDT, fee included."


def test_review_buy_while_long_is_refused_as_ever() -> None:
    found = review(account=make_account(held={"BTCUSDT": 2}))
    assert (found.approved, found.is_entry, found.reason_code) == (False, False, "already_in_position")
    assert found.reason == "2 BTC are held already."
    assert found.checks == ()


def test_review_sell_while_flat_is_refused_as_ever_unless_shorts_are_allowed() -> None:
    found = review(side=Side.SELL)
    assert (found.approved, found.is_entry, found.reason_code) == (False, False, "no_position")
    assert found.reason == "There is no BTC to sell."
    assert codes(found) == ["short_not_allowed"]
    short = review(make_agent(allow_short=True), Side.SELL)
    assert (short.approved, short.is_entry, short.budget) == (True, True, 2_500 * UNITS)
    assert codes(short) == ENTRY_CODES


def test_review_sell_while_short_adds_nothing() -> None:
    found = review(make_agent(allow_short=True), Side.SELL, make_account(held={"BTCUSDT": -2}))
    assert (found.reason_code, found.reason) == ("already_in_position", "2 BTC are short already.")


@pytest.mark.parametrize(("side", "held"), [(Side.SELL, 2), (Side.BUY, -2)])
def test_review_exit_meets_the_price_band_only_halted_or_not(side: Side, held: int) -> None:
    account = make_account(held={"BTCUSDT": held}, **BREAKING_EVERYTHING)
    found = review(side=side, account=account, model_age=100 * DAY, halt=HALT)
    assert (found.is_entry, found.approved, found.reason_code) == (False, True, "approved")
    assert codes(found) == ["price_band"]
    assert found.reason == f"{side} closes the whole position, 2 BTC."
    assert found.budget == 0


def test_review_exit_waits_for_the_price_band() -> None:
    account = make_account(held={"BTCUSDT": 2})
    found = review(side=Side.SELL, account=account, market=make_market("90"))
    assert (found.approved, found.reason_code) == (False, "price_band")


HALF = LimitRules(max_gross_exposure=Decimal("0.5"))
STOPPED = ProtectionRule(StopRule.STOP_LOSS)


@pytest.mark.parametrize(
    ("code", "circumstances"),
    [
        ("halted", {"halt": HALT}),
        ("daily_loss", {"account": make_account(day_equity=11_000 * UNITS)}),
        ("max_drawdown", {"account": make_account(peak_equity=14_000 * UNITS)}),
        ("cooldown", {"account": make_account(losses_in_a_row=3, last_loss_at=NOON)}),
        ("max_trades_per_day", {"account": make_account(trades_today=200)}),
        ("max_open_positions", {"account": make_account(held={f"C{number}USDT": 1 for number in range(10)})}),
        ("price_band", {"market": make_market("106")}),
        ("model_too_old", {"model_age": 15 * DAY}),
        ("size_unknown", {"agent": make_agent(SizingMethod.RISK_PER_TRADE), "market": make_market(half_range="0")}),
        ("size_unknown", {"agent": make_agent(SizingMethod.VOLATILITY_TARGET)}),
        ("size_unknown", {"agent": make_agent(SizingMethod.KELLY), "prediction": replace(KNOWING, class_returns=None)}),
        ("size_zero", {"agent": make_agent(SizingMethod.KELLY, allow_short=True), "side": Side.SELL}),
        ("insufficient_cash", {"account": make_account(cash=0, held={"ETHUSDT": 1})}),
        ("max_gross_exposure", {"agent": make_agent(limits=HALF), "account": make_account(4_000, {"ETHUSDT": 60})}),
        ("volume_share", {"market": make_market(volume="0")}),
        ("below_minimum_notional", {"account": make_account(cash=19)}),
        ("stop_unknown", {"agent": make_agent(protection=STOPPED), "market": make_market(bars=14)}),
    ],
)
def test_review_entry_is_refused_by_the_first_check_that_fails(code: str, circumstances: dict[str, Any]) -> None:
    found = review(**circumstances)
    failed = [check for check in found.checks if not check.passed]
    assert (found.is_entry, found.approved, found.reason_code, found.budget) == (True, False, code, 0)
    assert (failed[0].code, failed[0].detail) == (found.reason_code, found.reason)
    assert [one.replace("size_zero", "size_unknown") for one in codes(found)][:10] == ENTRY_CODES[:10]


def test_review_symbol_exposure_counts_the_dust_of_the_symbol() -> None:
    account = make_account(cash=5_000, held={"BTCUSDT": 50})
    dusty = replace(account, portfolio=account.portfolio.to_dust("BTCUSDT"))
    limits = LimitRules(max_symbol_exposure=Decimal("0.6"))
    found = review(make_agent(limits=limits), account=dusty)
    assert (found.approved, found.budget) == (True, 1_000 * UNITS)
    assert review(
        make_agent(limits=replace(limits, max_symbol_exposure=Decimal("0.4"))), account=dusty
    ).reason_code == ("max_symbol_exposure")


def test_review_many_limits_broken_shows_all_and_names_the_first() -> None:
    found = review(account=make_account(**BREAKING_EVERYTHING), model_age=100 * DAY, market=make_market("120"))
    assert found.reason_code == "daily_loss"
    assert codes(found) == ENTRY_CODES
    failed = [check.code for check in found.checks if not check.passed]
    assert failed == ["daily_loss", "max_drawdown", "cooldown", "max_trades_per_day", "price_band", "model_too_old"]


def test_review_limits_of_zero_run_no_check() -> None:
    none = Decimal(0)
    off = LimitRules(none, none, none, none, none, 0, 0, 0, 0, none)
    found = review(make_agent(limits=off), account=make_account(**BREAKING_EVERYTHING), market=make_market("150"))
    assert codes(found) == [
        *(
            "halted",
            "short_not_allowed",
            "model_too_old",
            "size_unknown",
            "insufficient_cash",
            "below_minimum_notional",
        ),
    ]
    assert (found.approved, found.quantity_cap) == (True, UNLIMITED)
    assert make_agent(limits=off).find_halt(make_standing(make_account(**BREAKING_EVERYTHING)), NOON) is None


def test_review_volume_cap_shrinks_the_entry() -> None:
    found = review(market=make_market(volume="50"))
    assert (found.approved, found.budget, found.quantity_cap) == (True, 500 * UNITS, 5 * UNITS)
    assert "cut from 2500 to 500" in next(check for check in found.checks if check.code == "volume_share").detail


def test_find_halt_from_the_drawdown_limit_on_unless_it_is_halted_already() -> None:
    agent = make_agent()
    fallen = make_account(cash=7_500, peak_equity=10_000 * UNITS)
    assert agent.find_halt(make_standing(fallen), NOON) == Halt(
        "max_drawdown", "Equity is 25 % below its peak; from 25 % on trading halts (MAX_DRAWDOWN).", NOON
    )
    assert agent.find_halt(make_standing(fallen, HALT), NOON) is None
    nearly = make_account(cash=7_501, peak_equity=10_000 * UNITS)
    assert agent.find_halt(make_standing(nearly), NOON) is None


def test_review_drawdown_is_seen_at_the_quote() -> None:
    account = make_account(cash=0, held={"BTCUSDT": 100})
    dusty = replace(account, portfolio=account.portfolio.to_dust("BTCUSDT"))
    limits = LimitRules(max_daily_loss=Decimal(0))
    for quote, passed in (("75.01", True), ("75", False)):
        found = review(make_agent(limits=limits), account=dusty, market=make_market(quote, close=quote))
        assert next(check for check in found.checks if check.code == "max_drawdown").passed is passed


def test_review_on_a_new_day_counts_from_the_evening_before_and_no_trades() -> None:
    account = replace(
        make_account(cash=5_000, held={"ETHUSDT": 1}, day_equity=20_000 * UNITS, trades_today=999), at=NOON - DAY
    )
    assert review(account=account).approved
    held = replace(make_account(cash=0, held={"BTCUSDT": 100}), at=NOON - DAY)
    assert review(account=held, side=Side.SELL, market=make_market("96")).approved
    dusty = replace(held, portfolio=held.portfolio.to_dust("BTCUSDT"))
    found = review(account=dusty, market=make_market("94", close="94"))
    assert found.reason_code == "daily_loss", "what was lost over night is a loss of the new day"


def test_review_risk_per_trade_sizes_by_the_stop_that_it_places() -> None:
    found = review(make_agent(SizingMethod.RISK_PER_TRADE))  # ATR 2, so the stop is 4 away
    assert (found.budget, found.stop_distance) == (1_250 * UNITS, 4 * UNITS)
    assert codes(found) == [*ENTRY_CODES, "stop_unknown"]
    trailing = ProtectionRule(StopRule.TRAILING_STOP, Decimal(1), Decimal(3))
    found = review(make_agent(SizingMethod.RISK_PER_TRADE, protection=trailing))
    assert (found.budget, found.stop_distance) == (2_500 * UNITS, 0)
    assert (found.trail_fraction, found.target_distance) == (Decimal("0.02"), 6 * UNITS)


def test_review_protection_needs_no_sizing_by_it() -> None:
    stop = review(make_agent(protection=ProtectionRule(StopRule.STOP_LOSS, Decimal("1.5"))))
    assert (stop.budget, stop.stop_distance, stop.target_distance) == (2_500 * UNITS, 3 * UNITS, 0)
    target = review(make_agent(protection=ProtectionRule(target_atr_multiple=Decimal(2))))
    assert (target.stop_distance, target.target_distance) == (0, 4 * UNITS)


def test_review_volatility_target_measures_the_newest_sixty_returns() -> None:
    market = make_market(volume="100000000")
    moving = tuple(
        replace(candle, close=Decimal("100.1") if place % 2 else Decimal(100))
        for place, candle in enumerate(market.candles)
    )
    found = review(make_agent(SizingMethod.VOLATILITY_TARGET), market=replace(market, candles=moving))
    # Log returns of +-0.0009995, sample deviation 0.00100793, times sqrt(525 600): 0.730735 a year.
    assert found.budget == 273_696 * UNITS // 100
    wild = tuple(replace(candle, close=Decimal(50)) for candle in moving[:-WINDOW_BARS]) + moving[-WINDOW_BARS:]
    again = review(make_agent(SizingMethod.VOLATILITY_TARGET), market=replace(market, candles=wild))
    assert again.budget == found.budget


def test_review_measures_nothing_across_a_gap() -> None:
    market = make_market()
    moved = tuple(replace(candle, open_time=candle.open_time - Interval.M1.duration) for candle in market.candles[:-14])
    gap = replace(market, candles=[*moved, *market.candles[-14:]])
    assert review(make_agent(SizingMethod.RISK_PER_TRADE), market=gap).reason_code == "size_unknown"


def test_review_kelly_reads_the_prediction() -> None:
    assert review(make_agent(SizingMethod.KELLY)).budget == 2_500 * UNITS, "two thirds, capped at a quarter"


def test_review_unknown_age_of_the_model_is_no_check() -> None:
    assert "model_too_old" not in codes(review(model_age=None))


@given(
    cash=st.integers(0, 10**7),
    held=st.dictionaries(st.sampled_from(["ETHUSDT", "SOLUSDT", "ADAUSDT"]), st.integers(1, 10**4)),
    method=st.sampled_from(SizingMethod),
    volume=st.integers(0, 10**6),
    share=st.integers(1, 10_000),
)
def test_review_entry_keeps_to_cash_and_caps(
    cash: int, held: dict[str, int], method: SizingMethod, volume: int, share: int
) -> None:
    cap = Decimal(share).scaleb(-4)
    limits = LimitRules(max_symbol_exposure=cap, max_gross_exposure=cap, max_volume_share=cap)
    account = make_account(cash, held)
    found = review(make_agent(method, limits), account=account, market=make_market(volume=str(volume)))
    assert 0 <= found.budget <= account.portfolio.available
    if found.approved:
        most = account.equity * share // 10_000
        assert found.budget + account.equity - account.portfolio.cash <= most
        assert found.budget <= worth(found.quantity_cap, 100 * UNITS)
        assert found.quantity_cap * PPM <= volume * UNITS * share * 100
    assert found.approved is all(check.passed for check in found.checks)


@given(
    held=st.integers(-(10**4), 10**4).filter(bool),
    cash=st.integers(-(10**6), 10**6),
    losses=st.integers(0, 10),
    trades=st.integers(0, 10**6),
    peak=st.integers(1, 10**18),
    age=st.integers(0, 10**4),
)
def test_review_exit_is_never_held_up_by_what_limits_entries(
    held: int, cash: int, losses: int, trades: int, peak: int, age: int
) -> None:
    account = make_account(
        cash,
        {"BTCUSDT": held},
        peak_equity=peak,
        day_equity=peak,
        losses_in_a_row=losses,
        last_loss_at=NOON,
        trades_today=trades,
    )
    side = Side.SELL if held > 0 else Side.BUY
    assert review(side=side, account=account, model_age=age * DAY, market=make_market(volume="0")).approved


def test_make_risk_default_settings_are_the_rules_own_defaults() -> None:
    agent = make_risk(Settings(_env_file=None))
    assert (agent._sizing, agent._limits, agent._protection) == (SizingRule(), LimitRules(), ProtectionRule())
    assert not agent._allow_short


def test_make_risk_hands_every_setting_to_its_rule() -> None:
    parts = [Decimal(number).scaleb(-2) for number in range(10, 20)]
    settings = Settings(
        _env_file=None,
        sizing=SizingMethod.KELLY,
        order_cash_fraction=parts[0],
        risk_per_trade=parts[1],
        volatility_target=parts[2],
        kelly_cap=parts[3],
        max_symbol_exposure=parts[4],
        max_gross_exposure=parts[5],
        max_volume_share=parts[6],
        max_daily_loss=parts[7],
        max_drawdown=parts[8],
        cooldown_losses=4,
        cooldown_minutes=5,
        max_trades_per_day=6,
        max_open_positions=7,
        price_band_percent=parts[9],
        model_maximum_age_days=8,
        stop_rule=StopRule.TRAILING_STOP,
        stop_atr_multiple=Decimal(9),
        take_profit_atr_multiple=Decimal(10),
        allow_short=True,
    )
    agent = make_risk(settings)
    assert agent._sizing == SizingRule(SizingMethod.KELLY, *parts[:4])
    assert agent._limits == LimitRules(parts[4], parts[5], parts[6], parts[7], parts[8], 4, 5, 6, 7, parts[9], 8 * DAY)
    assert agent._protection == ProtectionRule(StopRule.TRAILING_STOP, Decimal(9), Decimal(10))
    assert agent._allow_short
