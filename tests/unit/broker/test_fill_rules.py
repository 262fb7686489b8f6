from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from app.broker import fill_rules
from app.domain.money import LARGEST, PPM, UNITS

prices = st.integers(min_value=1, max_value=10**14)
ticks = st.sampled_from([1, 10, 100, 1_000, 10_000, 1_000_000, UNITS])
ratios = st.tuples(st.integers(0, 5_000), st.just(10_000))


@given(quote=prices, ratio=ratios, tick=ticks)
def test_buy_price_of_any_quote_is_the_least_tick_at_or_above_the_slipped_quote(
    quote: int, ratio: tuple[int, int], tick: int
) -> None:
    price = fill_rules.buy_price(quote, ratio, tick)
    exact = quote * (1 + Fraction(*ratio))
    assert price % tick == 0
    assert exact <= price < exact + tick


@given(quote=prices, ratio=ratios, tick=ticks)
def test_sell_price_of_any_quote_is_the_greatest_tick_at_or_below_the_slipped_quote(
    quote: int, ratio: tuple[int, int], tick: int
) -> None:
    price = fill_rules.sell_price(quote, ratio, tick)
    exact = quote * (1 - Fraction(*ratio))
    assert price % tick == 0
    assert exact - tick < price <= exact


@given(low=st.integers(1, 10**12), rise=st.integers(0, 10**12), place=st.fractions(0, 1), least=st.integers(0, 10**5))
def test_slippage_ratio_of_any_candle_is_the_larger_of_the_floor_and_its_range(
    low: int, rise: int, place: Fraction, least: int
) -> None:
    high = low + rise
    close = low + int(rise * place)
    ratio = Fraction(*fill_rules.slippage_ratio(high, low, close, least))
    assert ratio == max(Fraction(least, PPM), Fraction(15, 100) * Fraction(high - low, close))


@given(
    budget=st.integers(0, 10**17),
    price=st.integers(1, 10**13),
    lot=st.sampled_from([1, 10, 1_000, 1_000_000, UNITS]),
    fee_ppm=st.integers(0, 100_000),
)
def test_affordable_quantity_of_any_budget_is_the_most_whole_lots_that_fit(
    budget: int, price: int, lot: int, fee_ppm: int
) -> None:
    def cost(quantity: int) -> int:
        notional = fill_rules.buy_notional(price, quantity)
        return notional + fill_rules.fee(notional, fee_ppm)

    quantity = fill_rules.affordable_quantity(budget, price, lot, fee_ppm)
    assert quantity % lot == 0
    assert quantity == 0 or cost(quantity) <= budget
    assert cost(quantity + lot) > budget or quantity + lot > LARGEST


@given(price=prices, quantity=st.integers(1, 10**12), fee_ppm=st.integers(0, 100_000))
def test_notional_and_fee_of_any_fill_are_rounded_against_the_account(price: int, quantity: int, fee_ppm: int) -> None:
    exact = Fraction(price * quantity, UNITS)
    assert exact <= fill_rules.buy_notional(price, quantity) < exact + 1
    assert exact - 1 < fill_rules.sell_notional(price, quantity) <= exact
    notional = fill_rules.sell_notional(price, quantity)
    assert (
        Fraction(notional * fee_ppm, PPM) <= fill_rules.fee(notional, fee_ppm) < Fraction(notional * fee_ppm, PPM) + 1
    )
