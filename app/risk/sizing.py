"""How much an entry may spend: each rule gives a share in whole parts per million, rounded down.

Whatever is a float on the way becomes a whole number in `floor_ppm`; everything after it is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from app.domain.money import PPM, is_product_greater, multiply_divide, plain
from app.domain.order import Check, Side
from app.domain.risk import SizingMethod
from app.domain.signal import Prediction, Signal

_YEAR = timedelta(days=365)
"""Crypto trades on every day of it."""

_LARGEST_SHARE = 1_000 * PPM
"""Far more than any account has, so that a size from almost no volatility is still a number."""

_NEEDS = {
    SizingMethod.RISK_PER_TRADE: "15 candles without a gap whose average true range is above zero",
    SizingMethod.VOLATILITY_TARGET: "15 candles without a gap whose price moved",
    SizingMethod.KELLY: "a model that knows the mean return of each signal",
}


@dataclass(frozen=True, slots=True)
class SizingRule:
    """How entries are sized; every share from 0 to 1.

    Attributes:
        method: Which of the rules.
        cash_fraction: The share of the cash that no short holds which a fixed fraction spends, fee included.
        risk_fraction: The share of equity that is lost when an entry meets its stop.
        volatility_target: The yearly volatility that an entry may bring to the account; it may be above 1.
        kelly_cap: The greatest share of equity that Kelly's rule may spend.
    """

    method: SizingMethod = SizingMethod.FIXED_FRACTION
    cash_fraction: Decimal = Decimal("0.25")
    risk_fraction: Decimal = Decimal("0.005")
    volatility_target: Decimal = Decimal("0.2")
    kelly_cap: Decimal = Decimal("0.25")


def to_ppm(share: Decimal) -> int:
    """A share in parts per million; exact for up to six decimals, finer ones are cut off.

    >>> to_ppm(Decimal("0.25"))
    250000
    """
    return int(share * PPM)


def floor_ppm(share: float) -> int:
    """A share from 0 on in whole parts per million, rounded down; what is beyond any account is cut to a thousand.

    >>> floor_ppm(0.1234567), floor_ppm(float("inf"))
    (123456, 1000000000)
    """
    return math.floor(min(share * PPM, _LARGEST_SHARE))


def share_at_risk(risk_ppm: int, price: int, stop_distance: int) -> int:
    """The share of equity that loses `risk_ppm` of it when the price moves `stop_distance` against it, in ppm.

    share = risk x price / stop_distance, before fee and slippage: with 0.5 % at risk and a stop 2 % away a quarter;
    never more than a thousand times the equity. Source: V. Tharp, Trade Your Way to Financial Freedom, 1999 (percent
    risk model).

    Args:
        risk_ppm: The share of equity at risk, in ppm.
        price: The entry price in 1e-8 quote units.
        stop_distance: How far the stop is from it, in 1e-8 quote units, above zero.

    >>> share_at_risk(5_000, price=10_000, stop_distance=200)
    250000
    """
    if is_product_greater(risk_ppm, price, _LARGEST_SHARE, stop_distance):
        return _LARGEST_SHARE
    return multiply_divide(risk_ppm, price, stop_distance)


def spend(base: int, share_ppm: int, most: int) -> int:
    """What a share of `base` comes to, in 1e-8 quote units, but no more than `most`.

    >>> spend(base=1_000, share_ppm=250_000, most=900), spend(base=1_000, share_ppm=250_000, most=100)
    (250, 100)
    """
    return most if is_product_greater(base, share_ppm, most, PPM) else multiply_divide(base, share_ppm, PPM)


def annualise(volatility: float, interval: timedelta) -> float:
    """The yearly volatility that goes with the standard deviation of the log returns of candles of `interval`.

    It grows with the root of time: volatility x sqrt(365 days / interval).

    >>> round(annualise(0.01, timedelta(days=1)), 4)
    0.191
    """
    return volatility * math.sqrt(_YEAR / interval)


def share_for_volatility(target: Decimal, volatility: float) -> int:
    """The share of equity whose volatility is `target` of the account's, in ppm, at most the whole.

    share = target / volatility, both yearly. Source: A. Moreira and T. Muir, Volatility-Managed Portfolios, Journal of
    Finance 72, 2017 (there with the variance).

    Args:
        target: The yearly volatility wanted, a fraction.
        volatility: The yearly volatility of the symbol, a fraction above zero.

    >>> share_for_volatility(Decimal("0.2"), 0.8), share_for_volatility(Decimal("0.2"), 0.1)
    (250000, 1000000)
    """
    return min(floor_ppm(float(target) / volatility), PPM)


def share_by_kelly(
    side: Side,
    probabilities: Mapping[Signal, float],
    class_returns: Mapping[Signal, float],
    round_trip_cost: float,
    cap: Decimal,
) -> int:
    """The share of equity by Kelly's rule, in ppm, from 0 to `cap`.

    f = E[g] / E[g^2], where g is the return of each class on this side after costs, by its probability: the optimum of
    the second-order approximation of expected logarithmic growth. It takes a class for its mean, so it knows less
    spread than there is and asks for too much rather than too little; that is what the cap is for.
    Sources: J. Kelly, A New Interpretation of Information Rate, 1956; E. Thorp, The Kelly Criterion in Blackjack,
    Sports Betting, and the Stock Market, 2006.

    Args:
        side: BUY, or SELL for a short, whose returns are the other way round.
        probabilities: Of each signal, calibrated.
        class_returns: The mean forward return of each signal in training, a fraction.
        round_trip_cost: What both sides of a trade cost, a fraction.
        cap: The largest share, 0 to 1.

    >>> said = {Signal.BUY: 0.5, Signal.SELL: 0.25, Signal.HOLD: 0.25}
    >>> moves = {Signal.BUY: 0.5, Signal.SELL: -0.5, Signal.HOLD: 0.0}
    >>> share_by_kelly(Side.BUY, said, moves, round_trip_cost=0.0, cap=Decimal(1))
    666666
    >>> share_by_kelly(Side.SELL, said, moves, round_trip_cost=0.0, cap=Decimal(1))
    0
    """
    sign = 1.0 if side is Side.BUY else -1.0
    gains = [(probabilities[one], sign * class_returns[one] - round_trip_cost) for one in Signal]
    mean = math.fsum(share * gain for share, gain in gains)
    square = math.fsum(share * gain * gain for share, gain in gains)
    if mean <= 0.0 or square == 0.0:
        return 0
    return min(floor_ppm(mean / square), to_ppm(cap))


@dataclass(frozen=True, slots=True)
class Basis:
    """What an entry is sized by.

    `price` and `stop_distance` are in 1e-8 quote units, `volatility` is yearly, a fraction; 0 where one of the last two
    is not known.
    """

    side: Side
    prediction: Prediction
    price: int
    stop_distance: int = 0
    volatility: float = 0.0


def find_share(rule: SizingRule, basis: Basis) -> int | None:
    """The share that `rule` gives an entry, in ppm: of the available cash for a fixed fraction, else of the equity.

    None where it cannot be computed.

    >>> from app.domain.signal import Edge
    >>> said = Prediction(Signal.BUY, {}, "forest-1", 0.0, Edge.NONE)
    >>> find_share(SizingRule(), Basis(Side.BUY, said, price=100))
    250000
    >>> find_share(SizingRule(SizingMethod.KELLY), Basis(Side.BUY, said, price=100)) is None
    True
    """
    prediction = basis.prediction
    match rule.method:
        case SizingMethod.FIXED_FRACTION:
            return to_ppm(rule.cash_fraction)
        case SizingMethod.RISK_PER_TRADE:
            if basis.stop_distance <= 0:
                return None
            return share_at_risk(to_ppm(rule.risk_fraction), basis.price, basis.stop_distance)
        case SizingMethod.VOLATILITY_TARGET:
            return share_for_volatility(rule.volatility_target, basis.volatility) if basis.volatility > 0 else None
        case SizingMethod.KELLY:
            returns, cost = prediction.class_returns, prediction.round_trip_cost
            if returns is None or cost is None:
                return None
            return share_by_kelly(basis.side, prediction.probabilities, returns, cost, rule.kelly_cap)


def size_entry(rule: SizingRule, basis: Basis, equity: int, available: int) -> tuple[Check, int]:
    """What an entry may spend, in 1e-8 quote units, and the check that says how that came.

    Args:
        rule: How entries are sized.
        basis: What they are sized by.
        equity: The account's equity in 1e-8 quote units.
        available: Its cash that no short holds, in 1e-8 quote units; never is more than that spent.

    >>> from app.domain.signal import Edge
    >>> said = Prediction(Signal.BUY, {}, "forest-1", 0.0, Edge.NONE)
    >>> size_entry(SizingRule(), Basis(Side.BUY, said, price=100), equity=900, available=800)[1]
    200
    """
    share, whole = find_share(rule, basis), max(available, 0)
    if share is None:
        words = f"SIZING={rule.method} cannot say how much to spend: it needs {_NEEDS[rule.method]}."
        return Check("size_unknown", passed=False, value="unknown", limit=plain(whole), detail=words), 0
    base, name = (whole, "available cash") if rule.method is SizingMethod.FIXED_FRACTION else (equity, "equity")
    wanted, budget = max(base, 0) * share // PPM, spend(max(base, 0), share, whole)
    words = f"SIZING={rule.method} spends {plain(share * 10_000)} % of the {name}, {plain(wanted)}"
    words += "." if wanted == budget else f": cut to the cash there is, {plain(budget)}."
    code = "size_unknown" if share else "size_zero"
    return Check(code, share > 0, plain(wanted), plain(whole), words), budget
