"""Teaches numba the rules of the broker and of the limits, so that compiled code runs the very source that trades live.

Python's whole numbers never overflow, compiled ones have 64 bits. The three functions of `app.domain.money` through
which every product of two amounts goes have a compiled form here that is exact, or raises OverflowError where a result
is beyond 62 bits or a product beyond 112: nothing is ever wrong by having grown too large.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import cgutils
from numba.extending import intrinsic, overload, register_jitable
from numba.np.arrayobj import make_array

from app.broker import fill_rules, order_rules
from app.domain import money, portfolio
from app.research.backtest.units import nearest_units
from app.risk import limit_rules, protection, sizing

Function = TypeVar("Function", bound=Callable[..., object])

_LARGEST_PRODUCT = 2.0**112
_LARGEST_RESULT = 2.0**62
_LARGEST_AMOUNT = 2**62
QUICKLY_DIVIDED = 2**50
"""Up to here the quotient of two floats is off by less than one."""

_FAR_APART = 2.0**-50
"""Products that differ by a larger share of their sum differ by more than rounding."""

_LEAST_ROOM = 64 * 2**20
"""Bytes that must be free to keep compiled code, which has 5 MB: numba breaks off where it cannot write it."""

_RULES: tuple[Callable[..., object], ...] = (
    nearest_units,
    portfolio.worth,
    fill_rules.slippage_ratio,
    fill_rules.buy_price,
    fill_rules.sell_price,
    fill_rules.buy_notional,
    fill_rules.sell_notional,
    fill_rules.fee,
    fill_rules.affordable_quantity,
    order_rules.is_judged,
    order_rules.is_stop,
    order_rules.worse_price,
    order_rules.limit_price,
    order_rules.stop_price,
    order_rules.raw_price,
    order_rules.fill_price,
    order_rules.round_limit,
    order_rules.round_trigger,
    order_rules.best_price,
    order_rules.trailing_trigger,
    order_rules.volume_share,
    order_rules.fill_quantity,
    order_rules.short_collateral,
    order_rules.liquidation_price,
    order_rules.cover_cap,
    order_rules.fill_rank,
    limit_rules.loss_ppm,
    limit_rules.distance_ppm,
    limit_rules.least_cost,
    limit_rules.share_of_equity,
    limit_rules.cut_to_exposure,
    limit_rules.largest_of_volume,
    limit_rules.cut_to_quantity,
    protection.multiple_of,
    protection.trail_ppm,
    protection.are_placeable,
    sizing.share_at_risk,
    sizing.spend,
)


@register_jitable
def _subtract_products(first: np.int64, second: np.int64, third: np.int64, fourth: np.int64) -> np.int64:
    """`first` times `second` less `third` times `fourth`, where that fits, whether or not the products do.

    Without signs, as only then a number that is too large begins again at zero: LLVM takes it that one with a sign is
    never too large, and compares the products in place of their difference.
    """
    return np.int64(np.uint64(first) * np.uint64(second) - np.uint64(third) * np.uint64(fourth))


@overload(money.multiply_divide)
def _multiply_divide(first: int, second: int, divisor: int) -> Callable[[int, int, int], np.int64]:  # noqa: ARG001 - numba asks for the same names
    def compiled(first: int, second: int, divisor: int) -> np.int64:
        one, other, by = np.int64(first), np.int64(second), np.int64(divisor)
        product = np.float64(one) * np.float64(other)
        guess = product / np.float64(by)
        if not (abs(product) < _LARGEST_PRODUCT and abs(guess) < _LARGEST_RESULT):
            raise OverflowError("an amount is beyond 64 bits")
        # The guess is off by no more than rounding; the rest, computed modulo 2**64, fits and says by how much.
        quotient = np.int64(guess)
        rest = _subtract_products(one, other, quotient, by)
        if 0 <= rest < by:
            return quotient
        if -by <= rest < 0:
            return quotient - 1
        return quotient + rest // by

    return compiled


@register_jitable
def divide_quickly(first: int, second: int, divisor: int) -> int:
    """`money.multiply_divide` without a branch, so that the compiler does many at once.

    It is exact where it is nearer to nothing than `QUICKLY_DIVIDED`; where the true result is not, neither is this.
    """
    quotient = np.int64(np.floor(np.float64(first) * np.float64(second) / np.float64(divisor)))
    rest = _subtract_products(np.int64(first), np.int64(second), quotient, np.int64(divisor))
    return int(quotient + np.int64(rest >= divisor) - np.int64(rest < 0))


@overload(money.is_product_greater)
def _is_product_greater(first: int, second: int, third: int, fourth: int) -> Callable[[int, int, int, int], np.bool_]:  # noqa: ARG001
    def compiled(first: int, second: int, third: int, fourth: int) -> np.bool_:
        left = np.float64(np.int64(first)) * np.float64(np.int64(second))
        right = np.float64(np.int64(third)) * np.float64(np.int64(fourth))
        size = abs(left) + abs(right)
        if abs(left - right) > _FAR_APART * size:
            return left > right
        if size >= _LARGEST_PRODUCT:
            raise OverflowError("an amount is beyond 64 bits")
        return _subtract_products(np.int64(first), np.int64(second), np.int64(third), np.int64(fourth)) > 0

    return compiled


@register_jitable
def within_bounds(amount: int) -> int:
    """A sum of two amounts, each of which is within 62 bits, if it is, too; raises OverflowError where it is not."""
    if not -_LARGEST_AMOUNT < amount < _LARGEST_AMOUNT:
        raise OverflowError("an amount is beyond 64 bits")
    return amount


register_jitable(money.multiply_divide_up)
for rule in _RULES:
    register_jitable(rule)


def compiled(function: Function) -> Function:
    """Compile a function at its first call; what comes of that is kept for later processes where they can have it."""
    return cast("Function", numba.njit(cache=_CACHE is not None, nogil=True)(function))


def inner(function: Function) -> Function:
    """Compile a function as a part of those that call it."""
    return cast("Function", numba.njit(nogil=True)(function))


def inlined(function: Function) -> Function:
    """Write a function's code into those that call it: of what takes arrays and runs for each bar."""
    return cast("Function", numba.njit(nogil=True, inline="always")(function))


def _borrow(_context: Any, arrays: Any) -> Any:  # noqa: ANN401 - numba's own types
    """A tuple of arrays that compiled code does not count the users of; who hands them over keeps them while it runs.

    Counting them at each look into a tuple would take several times what is done with them.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        (tuple_,) = arguments
        for place, kind in enumerate(arrays.types):
            array = make_array(kind)(context, builder, builder.extract_value(tuple_, place))  # type: ignore[no-untyped-call]
            array.meminfo = cgutils.get_null_value(array.meminfo.type)  # type: ignore[no-untyped-call]
            array.parent = cgutils.get_null_value(array.parent.type)  # type: ignore[no-untyped-call]
            tuple_ = builder.insert_value(tuple_, array._getvalue(), place)  # noqa: SLF001 - as numba's own code
        return tuple_

    return arrays(arrays), generate


borrowed: Any = intrinsic(_borrow)


def _choose_cache() -> Path | None:
    """Keep compiled code in a folder that is named after every source it comes from; None where there can be none.

    numba itself looks at the one file that a function stands in, and would go on with rules that have changed.
    """
    sources = hashlib.sha256()
    own = Path(__file__)
    for file in sorted({Path(rule.__code__.co_filename) for rule in _RULES} | {own, *own.parent.glob("kernel/*.py")}):
        sources.update(file.read_bytes())
    base = os.environ.get("NUMBA_CACHE_DIR") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = Path(base) / "papertape" / f"native-{sources.hexdigest()[:16]}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        room = shutil.disk_usage(folder).free
    except (OSError, RuntimeError):
        return None
    if not os.access(folder, os.W_OK) or (room < _LEAST_ROOM and not _has_code(folder)):
        return None
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return folder


def _has_code(folder: Path) -> bool:
    return any(folder.rglob("*.nbc"))


def is_compiled() -> bool:
    """Whether an earlier process left compiled code; without any, the first call waits for the compiler."""
    return _CACHE is not None and _has_code(_CACHE)


_CACHE = _choose_cache()
