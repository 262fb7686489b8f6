"""What a person's order must be before anybody looks at the account."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from app.domain.order import OrderKind, Side
from app.engine.portfolio_desk import OrderRequest, check_order
from app.errors import InvalidInputError
from tests.support.standings import NOON, make_market

MARKET = make_market("100")
BUY = OrderRequest("BTCUSDT", Side.BUY, OrderKind.MARKET, Decimal("0.5"))
LATER = NOON + timedelta(minutes=1)


def ask(kind: OrderKind, side: Side = Side.BUY, price: str | None = None, trail: str | None = None) -> OrderRequest:
    """An order of half a coin."""
    return replace(
        BUY,
        kind=kind,
        side=side,
        price=None if price is None else Decimal(price),
        trail_fraction=None if trail is None else Decimal(trail),
    )


@pytest.mark.parametrize(
    "asked",
    [
        BUY,
        replace(BUY, quantity=Decimal("0.50000000")),
        replace(ask(OrderKind.LIMIT, price="90"), expires_at=LATER),
        ask(OrderKind.LIMIT, price="110"),
        ask(OrderKind.LIMIT, Side.SELL, "90.01"),
        ask(OrderKind.STOP_LOSS, Side.SELL, "99.99"),
        ask(OrderKind.STOP_LOSS, Side.BUY, "100.01"),
        ask(OrderKind.TAKE_PROFIT, Side.SELL, "100.01"),
        ask(OrderKind.TAKE_PROFIT, Side.BUY, "99.99"),
        ask(OrderKind.TRAILING_STOP, Side.SELL, trail="0.05"),
    ],
)
def test_order_that_makes_sense_is_let_through(asked: OrderRequest) -> None:
    check_order(asked, MARKET)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (replace(BUY, quantity=Decimal("0.000001")), "Quantity must be in whole lots of 0.00001."),
        (replace(BUY, quantity=Decimal(0)), "Quantity must be above zero, and no more than 92 billion."),
        (replace(BUY, quantity=Decimal(-1)), "Quantity must be above zero, and no more than 92 billion."),
        (replace(BUY, price=Decimal(100)), "A MARKET order fills at once: leave out price and expires_at."),
        (replace(BUY, expires_at=LATER), "A MARKET order fills at once: leave out price and expires_at."),
        (ask(OrderKind.LIMIT), "A LIMIT order needs a price."),
        (ask(OrderKind.LIMIT, price="90.001"), "Price must be in whole ticks of 0.01."),
        (ask(OrderKind.LIMIT, price="0"), "Price must be in whole ticks of 0.01."),
        (
            ask(OrderKind.STOP_LOSS, Side.SELL, "100.01"),
            "The price of a STOP_LOSS SELL must lie below the market, 100.",
        ),
        (ask(OrderKind.STOP_LOSS, Side.BUY, "99.99"), "The price of a STOP_LOSS BUY must lie above the market, 100."),
        (ask(OrderKind.STOP_LOSS, Side.SELL, "100"), "The price of a STOP_LOSS SELL must lie below the market, 100."),
        (ask(OrderKind.STOP_LOSS, Side.BUY, "100"), "The price of a STOP_LOSS BUY must lie above the market, 100."),
        (
            ask(OrderKind.TAKE_PROFIT, Side.SELL, "99"),
            "The price of a TAKE_PROFIT SELL must lie above the market, 100.",
        ),
        (
            ask(OrderKind.TRAILING_STOP, Side.SELL, "99", "0.05"),
            "A TRAILING_STOP follows the price: leave out price.",
        ),
        (ask(OrderKind.TRAILING_STOP, Side.SELL), "Trail_fraction belongs to a TRAILING_STOP, which needs it."),
        (ask(OrderKind.LIMIT, price="90", trail="0.05"), "Trail_fraction belongs to a TRAILING_STOP, which needs it."),
        (replace(ask(OrderKind.LIMIT, price="90"), expires_at=NOON), "Expires_at must lie in the future."),
    ],
)
def test_order_that_makes_no_sense_is_refused_with_the_reason(asked: OrderRequest, words: str) -> None:
    with pytest.raises(InvalidInputError, match=r".") as caught:
        check_order(asked, MARKET)

    assert caught.value.code == "order_invalid"
    assert caught.value.message == words
    assert caught.value.context == {"symbol": "BTCUSDT"}
