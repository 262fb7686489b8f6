from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.broker.paper import Costs, PaperBroker
from app.domain.candle import Candle, Interval
from app.domain.cycle import ExecutionStatus
from app.domain.instrument import Instrument
from app.domain.market import MarketSnapshot, Quote
from app.domain.order import Side
from app.domain.portfolio import Portfolio

OPEN = datetime(2026, 1, 5, 12, tzinfo=UTC)
BITCOIN = Instrument("BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"), Decimal(5))
BROKER = PaperBroker(Costs(fee_bps=Decimal(2), slippage_bps=Decimal(3)), Decimal("0.25"))


def snapshot_at(price: str, *, high: str = "60000", low: str = "60000", close: str = "60000") -> MarketSnapshot:
    candle = Candle(
        OPEN,
        OPEN + timedelta(seconds=59, milliseconds=999),
        Decimal(close),
        Decimal(high),
        Decimal(low),
        Decimal(close),
        Decimal(1),
    )
    quote = Quote(Decimal(price), OPEN + timedelta(seconds=61))
    return MarketSnapshot("simulated", "BTCUSDT", Interval.M1, (candle,), quote, BITCOIN, quote.at, 0.0)


def test_buy_at_a_quiet_quote_pays_the_least_slippage_and_the_fee() -> None:
    settlement = BROKER.settle(Side.BUY, Portfolio(Decimal(10_000)), snapshot_at("60000"))

    assert settlement.status is ExecutionStatus.FILLED
    assert settlement.reason_code == "filled"
    fill = settlement.fill
    assert fill is not None
    assert fill.price == Decimal(60_018)  # 60000 x 1.0003
    assert fill.quantity == Decimal("0.04164")  # 2500 / (60018 x 1.0002), down to the lot
    assert fill.notional == Decimal("2499.14952")
    assert fill.fee == Decimal("0.49982991")  # up to the last unit
    assert fill.slippage_bps == 3.0


def test_buy_after_a_wide_candle_slips_by_fifteen_percent_of_its_range() -> None:
    market = snapshot_at("60000", high="60600", low="60000", close="60000")
    fill = BROKER.settle(Side.BUY, Portfolio(Decimal(10_000)), market).fill
    assert fill is not None
    assert fill.price == Decimal(60_090)  # 0.15 x 600 / 60000 = 15 bps
    assert fill.slippage_bps == 15.0


def test_sell_of_a_position_closes_it_whole_below_the_quote() -> None:
    held = Portfolio(Decimal(0), {"BTCUSDT": Decimal("0.04164")})
    fill = BROKER.settle(Side.SELL, held, snapshot_at("60000")).fill
    assert fill is not None
    assert fill.quantity == Decimal("0.04164")
    assert fill.price == Decimal(59_982)
    assert fill.notional == Decimal("2497.65048")
    assert fill.fee == Decimal("0.49953010")


@pytest.mark.parametrize(
    ("side", "portfolio", "price", "reason_code"),
    [
        (Side.BUY, Portfolio(Decimal(10_000), {"BTCUSDT": Decimal("0.1")}), "60000", "already_in_position"),
        (Side.BUY, Portfolio(Decimal("1.5")), "60000", "insufficient_cash"),
        (Side.BUY, Portfolio(Decimal(0)), "60000", "insufficient_cash"),
        (Side.BUY, Portfolio(Decimal(18)), "60000", "below_minimum_notional"),
        (Side.SELL, Portfolio(Decimal(10_000)), "60000", "no_position"),
        (Side.SELL, Portfolio(Decimal(10_000), {"ETHUSDT": Decimal(1)}), "60000", "no_position"),
        (Side.SELL, Portfolio(Decimal(0), {"BTCUSDT": Decimal("0.00001")}), "60000", "below_minimum_notional"),
        (Side.SELL, Portfolio(Decimal(0), {"BTCUSDT": Decimal("0.00001")}), "0.01", "price_not_positive"),
    ],
)
def test_order_that_cannot_fill_says_why(side: Side, portfolio: Portfolio, price: str, reason_code: str) -> None:
    settlement = BROKER.settle(side, portfolio, snapshot_at(price))
    assert settlement.status is ExecutionStatus.SKIPPED
    assert settlement.reason_code == reason_code
    assert settlement.fill is None
    assert settlement.reason.endswith(".")


@given(
    cash=st.decimals("0", "1000000000", places=8),
    price=st.decimals("0.01", "10000000", places=2),
    spread=st.decimals("0", "0.4", places=4),
    fraction=st.decimals("0.0001", "1", places=4),
)
def test_buy_with_any_cash_never_spends_more_than_its_share(
    cash: Decimal, price: Decimal, spread: Decimal, fraction: Decimal
) -> None:
    broker = PaperBroker(Costs(fee_bps=Decimal("7.5"), slippage_bps=Decimal("2.25")), fraction)
    market = snapshot_at(str(price), high=str(price * (1 + spread)), low=str(price), close=str(price))
    market = replace(market, quote=Quote(price, OPEN))
    fill = broker.settle(Side.BUY, Portfolio(cash), market).fill
    if fill is not None:
        assert fill.notional + fill.fee <= cash * fraction
        assert fill.price >= price
        assert fill.quantity % BITCOIN.lot_step == 0
        assert fill.price % BITCOIN.tick_size == 0
        assert fill.notional >= BITCOIN.minimum_notional
