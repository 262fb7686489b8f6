"""When a resting order fills on a closed candle, at what price and how much of it; on whole numbers only.

Units are those of `app.broker.fill_rules`: prices, money and quantities in 1e-8, rates in parts per million, moments in
milliseconds since 1970. A side is the side of the order: a SELL stop guards a long, a BUY stop a short. Plain functions
without classes, so that a compiled backtest can use this very source. `docs/orders.md` has each rule with an example.

What a candle cannot tell is decided against the account: the order in which its high and its low came, and the place in
the queue at a price.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.broker.fill_rules import buy_price, sell_price
from app.domain.money import LARGEST, PPM, UNITS, multiply_divide

BUY = 1
SELL = -1

LIMIT = 1
STOP_LOSS = 2
TAKE_PROFIT = 3
TRAILING_STOP = 4
LIQUIDATION = 5

NO_FILL = 0
"""The price of an order that does not fill."""

NEVER = 2**63 - 1
"""The expiry of an order that does not expire, in milliseconds."""

LIQUIDATION_PERCENT = 190
"""The value of a short, in percent of its entry cost, at which 90 % of its margin is lost."""


def is_judged(opened_ms: int, accepted_ms: int, expires_ms: int) -> bool:
    """Whether an order is judged on the candle that opens at `opened_ms`.

    Not on a candle that was open before the order was there, whose extremes may be older than the order; nor on one
    that opens at or after its expiry. The candle within which it expires still counts as a whole.

    >>> [is_judged(opened_ms, accepted_ms=60_001, expires_ms=180_000) for opened_ms in (60_000, 120_000, 180_000)]
    [False, True, False]
    """
    return accepted_ms <= opened_ms < expires_ms


def is_stop(kind: int) -> bool:
    """Whether an order of `kind` protects a position: it fills whole, as a market order, once its trigger is reached.

    >>> [is_stop(kind) for kind in (LIMIT, STOP_LOSS, TAKE_PROFIT, TRAILING_STOP, LIQUIDATION)]
    [False, True, False, True, True]
    """
    return kind in (STOP_LOSS, TRAILING_STOP, LIQUIDATION)


def worse_price(side: int, first: int, second: int) -> int:
    """The price of the two that is worse for `side`: the higher for a BUY, the lower for a SELL.

    >>> worse_price(BUY, 99, 101), worse_price(SELL, 99, 101)
    (101, 99)
    """
    return max(first, second) if side == BUY else min(first, second)


def limit_price(side: int, limit: int, opening: int, high: int, low: int) -> int:
    """Where a limit or a target fills: at its price, or at the open where that was better; `NO_FILL` if not.

    The market must go past the price. At the price itself others may have stood before us in the queue.

    >>> limit_price(BUY, limit=99, opening=100, high=101, low=99), limit_price(BUY, 99, 100, 101, low=98)
    (0, 99)
    >>> limit_price(BUY, limit=99, opening=97, high=101, low=96)
    97
    """
    passed = low < limit if side == BUY else high > limit
    return worse_price(-side, limit, opening) if passed else NO_FILL


def stop_price(side: int, trigger: int, opening: int, high: int, low: int) -> int:
    """Where a stop fills before slippage: at the worse of its trigger and the open; `NO_FILL` if not reached.

    Touching is enough.

    >>> stop_price(SELL, trigger=95, opening=100, high=101, low=96), stop_price(SELL, 95, 100, 101, low=95)
    (0, 95)
    >>> stop_price(SELL, trigger=95, opening=92, high=93, low=90)
    92
    """
    reached = high >= trigger if side == BUY else low <= trigger
    return worse_price(side, trigger, opening) if reached else NO_FILL


def raw_price(kind: int, side: int, price: int, opening: int, high: int, low: int) -> int:
    """Where an order fills on a candle, before slippage and ticks; `NO_FILL` if it does not.

    `price` is the limit, the target or the trigger. A trailing stop is judged with its trigger from before the candle
    (`trailing_trigger`), a liquidation with `liquidation_price`.

    >>> raw_price(STOP_LOSS, SELL, 95, opening=100, high=101, low=94), raw_price(TAKE_PROFIT, SELL, 110, 100, 111, 99)
    (95, 110)
    """
    if is_stop(kind):
        return stop_price(side, price, opening, high, low)
    return limit_price(side, price, opening, high, low)


def fill_price(kind: int, side: int, price: int, ratio: tuple[int, int], tick: int) -> int:
    """The price of the fill: `raw_price` with slippage for stops, on the tick against the account, above zero.

    `ratio` is `slippage_ratio` of the candle the order is judged on. A limit rested in the book and pays none.

    >>> fill_price(STOP_LOSS, SELL, 9_500, ratio=(300, PPM), tick=1)
    9497
    >>> fill_price(LIMIT, SELL, 9_500, ratio=(300, PPM), tick=1)
    9500
    """
    slipped = ratio if is_stop(kind) else (0, PPM)
    return max(tick, buy_price(price, slipped, tick) if side == BUY else sell_price(price, slipped, tick))


def round_limit(side: int, price: int, tick: int) -> int:
    """A limit or target on the tick, so that it never promises less than asked: a BUY down, a SELL up.

    Orders rest on the tick; a BUY below the first tick comes to zero, which never fills.

    >>> round_limit(BUY, 10_007, tick=10), round_limit(SELL, 10_007, tick=10)
    (10000, 10010)
    """
    return sell_price(price, (0, PPM), tick) if side == BUY else buy_price(price, (0, PPM), tick)


def round_trigger(side: int, price: int, tick: int) -> int:
    """A trigger on the tick, to the worse price: a SELL down, a BUY up.

    >>> round_trigger(SELL, 10_007, tick=10), round_trigger(BUY, 10_007, tick=10)
    (10000, 10010)
    """
    return buy_price(price, (0, PPM), tick) if side == BUY else sell_price(price, (0, PPM), tick)


def best_price(side: int, best: int, high: int, low: int) -> int:
    """The best price a trailing stop has seen, after a candle: the highest for a SELL, the lowest for a BUY.

    It starts with the price of the entry. Judge the candle first, with the trigger as it stood; then move it.

    >>> best_price(SELL, best=100, high=104, low=99), best_price(SELL, best=104, high=103, low=101)
    (104, 104)
    """
    return min(best, low) if side == BUY else max(best, high)


def trailing_trigger(side: int, best: int, distance_ppm: int, tick: int) -> int:
    """The trigger of a trailing stop: `distance_ppm` from the best price seen, on the tick to the worse price.

    >>> trailing_trigger(SELL, best=10_400, distance_ppm=20_000, tick=10)
    10190
    >>> trailing_trigger(BUY, best=10_400, distance_ppm=20_000, tick=10)
    10610
    """
    ratio = (distance_ppm, PPM)
    return buy_price(best, ratio, tick) if side == BUY else sell_price(best, ratio, tick)


def volume_share(volume: int, share_ppm: int, lot: int) -> int:
    """How much all limits and targets of a symbol may fill on a candle: a share of its volume, in whole lots.

    Of a volume, no more counts than the books hold, as in `app.risk.limit_rules.largest_of_volume`.

    >>> volume_share(volume=1_234, share_ppm=100_000, lot=10)
    120
    """
    return multiply_divide(min(volume, LARGEST), share_ppm, PPM) // lot * lot


def fill_quantity(kind: int, quantity: int, available: int) -> int:
    """How much of an open `quantity` fills: of a stop all, of a limit what is `available`; the rest goes on resting.

    `available` is `volume_share` less what earlier fills of the same candle took of it.

    >>> fill_quantity(STOP_LOSS, 500, available=120), fill_quantity(LIMIT, 500, available=120)
    (500, 120)
    """
    return quantity if is_stop(kind) else min(quantity, available)


def short_collateral(cost: int) -> int:
    """What is held while a short is open: the proceeds of its entry (`cost`) and as much again from the cash.

    >>> short_collateral(cost=1_000)
    2000
    """
    return 2 * cost


def liquidation_price(cost: int, quantity: int) -> int:
    """The trigger at which a short is bought back: its value is `LIQUIDATION_PERCENT` of its entry cost.

    Rounded down, so that it comes no later; need not be on the tick, as no order rests there.

    >>> liquidation_price(cost=1_000 * UNITS, quantity=10 * UNITS) // UNITS
    190
    """
    return multiply_divide(cost, LIQUIDATION_PERCENT * (UNITS // 100), quantity)


def cover_cap(collateral: int, quantity: int, fee_ppm: int, tick: int) -> int:
    """The highest price at which `quantity` can be bought back, fee included, with the `collateral` held for it.

    No cover costs more (the bankruptcy price): an exchange's insurance fund takes what is beyond it.

    >>> cover_cap(collateral=2_000 * UNITS, quantity=10 * UNITS, fee_ppm=0, tick=UNITS) // UNITS
    200
    >>> cover_cap(collateral=2_000 * UNITS, quantity=10 * UNITS, fee_ppm=1_000, tick=UNITS) // UNITS
    199
    """
    largest_notional = multiply_divide(collateral, PPM, PPM + fee_ppm)
    return multiply_divide(largest_notional, UNITS, quantity) // tick * tick


def judge_candle(
    kinds: Sequence[int], sides: Sequence[int], prices: Sequence[int], opening: int, high: int, low: int
) -> list[tuple[int, int]]:
    """Which of a symbol's orders fill on a candle, in the order in which that happens, each with its raw price.

    Stops and the liquidation come before targets and limits, also where the candle opened beyond a target. Among
    either, the price nearest the open comes first, as the market gets there first; at the same price the liquidation,
    then the older order. What an earlier fill left to close or to pay with is the caller's to look at.

    Args:
        kinds: The kind of each order, oldest first.
        sides: `BUY` or `SELL`.
        prices: The limit, target or trigger.
        opening: The open of the candle.
        high: Its high.
        low: Its low.

    Returns:
        The place of each order that fills, and its `raw_price`.

    >>> judge_candle([TAKE_PROFIT, LIMIT, STOP_LOSS], [SELL, BUY, SELL], [110, 99, 95], opening=100, high=112, low=94)
    [(2, 95), (1, 99), (0, 110)]
    """
    events = []
    for place in range(len(kinds)):
        price = raw_price(kinds[place], sides[place], prices[place], opening, high, low)
        if price != NO_FILL:
            events.append((fill_rank(kinds[place], price, opening, place), price))
    events.sort()
    return [(rank[3], price) for rank, price in events]


def fill_rank(kind: int, price: int, opening: int, place: int) -> tuple[int, int, int, int]:
    """When on a candle an order fills, among the others: the lowest comes first. What `judge_candle` sorts by.

    `price` is its raw price, `place` its place among the orders, the oldest first.

    >>> fill_rank(STOP_LOSS, price=95, opening=100, place=1) < fill_rank(TAKE_PROFIT, price=101, opening=100, place=0)
    True
    """
    later = 0 if is_stop(kind) else 1
    forced = 0 if kind == LIQUIDATION else 1
    return later, abs(price - opening), forced, place
