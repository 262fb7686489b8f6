"""An order that comes to its end."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from app.domain.order import Order, OrderKind, OrderStatus, Origin, Side

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_order_that_ends_keeps_everything_but_how_it_ended() -> None:
    order = Order(
        id="order",
        symbol="BTCUSDT",
        side=Side.SELL,
        kind=OrderKind.TRAILING_STOP,
        quantity=Decimal(3),
        origin=Origin.PROTECTION,
        created_at=NOON,
        active_from=NOON + timedelta(minutes=1),
        price=Decimal(100),
        trail_fraction=Decimal("0.02"),
        reduce_only=True,
        expires_at=NOON + timedelta(days=1),
        cycle_id="cycle",
        filled_quantity=Decimal(1),
    )
    end = NOON + timedelta(hours=1)
    expected = {
        "status": OrderStatus.FILLED,
        "reason_code": "filled",
        "reason": "It was filled.",
        "filled_quantity": Decimal(2),
        "closed_at": end,
    }
    ended = order.ended(OrderStatus.FILLED, "filled", "It was filled.", end, Decimal(2))
    assert ended == replace(order, **expected)  # type: ignore[arg-type]
    kept = [getattr(order, field.name) for field in fields(Order) if field.name not in expected]
    assert len(set(kept)) == len(kept), "each value once, so that none can stand in another's place"
