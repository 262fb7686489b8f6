"""The compiled backtest: for strategies that say their signals as arrays, one pass over the bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache

import numpy as np

from app.domain.money import LARGEST, to_units
from app.domain.risk import SizingMethod, StopRule
from app.errors import InvalidInputError
from app.research.backtest.books import Books, Fills
from app.research.backtest.ground import Ground
from app.research.backtest.kernel import layout
from app.research.backtest.market import Prepared, prepare
from app.research.backtest.plan import Plan, Series
from app.risk.protection import to_hundredths
from app.risk.sizing import to_ppm

_MINUTE_MS = 60_000

_LOOKS = 64
"""At so many bars at once the kernel looks in advance: more would be too many where few of the signals are acted on."""


def name_wait() -> str:
    """What the first call of a process waits for, in words."""
    from app.research.backtest.native import is_compiled  # noqa: PLC0415 - loads numba, which only backtests need

    return "Loading the rules." if is_compiled() else "Compiling the rules: half a minute, once a version."


def run_compiled(plan: Plan, series: Sequence[Series]) -> Books:
    """Run a backtest in compiled code; its books equal those of `engine_driver.run_engine`.

    The first call of a process loads the compiled code, or compiles it (about a quarter of a minute, once a version).

    Raises:
        InvalidInputError: `beyond_64_bits`, an amount is beyond what 64 bits hold; `candle_not_positive`.
    """
    return run_prepared(plan, prepare(plan, series))


def run_prepared(plan: Plan, prepared: Prepared) -> Books:
    """Run a backtest on what was prepared for it; raises as `run_compiled`."""
    ground, verdicts = prepared.ground, prepared.market.verdicts
    count = len(ground.times_ms)
    cycles = make_cycles(prepared)._replace(
        outcomes=verdicts[:count].copy() if ground.is_single else verdicts[ground.cycle_bars],
        equity=np.empty(count, dtype=np.int64),
        held=np.empty(count, dtype=np.bool_),
    )
    capacity = 16 + 4 * len(prepared.busy)
    while True:
        state = run_pass(plan, prepared, cycles, capacity)
        fills = int(state.account["fills"][0])
        if fills <= capacity:
            return _close(ground, cycles, state)
        capacity = fills


def run_pass(plan: Plan, prepared: Prepared, cycles: layout.Cycles, capacity: int) -> layout.State:
    """Run the cycles once, with room for so many fills; raises as `run_compiled`."""
    from app.research.backtest.kernel.run import run_cycles  # noqa: PLC0415 - loads numba, which only backtests need

    state = _open_account(plan, prepared.ground, capacity)
    try:
        run_cycles(prepared.market, state, cycles)
    except OverflowError as error:
        raise _beyond() from error
    return state


def make_cycles(prepared: Prepared) -> layout.Cycles:
    """The cycles of a backtest of which no one asks what came of each."""
    ground, nothing = prepared.ground, np.zeros(0, dtype=np.int64)
    return layout.Cycles(
        series=nothing if ground.is_single else ground.cycle_series,
        bars=nothing if ground.is_single else ground.cycle_bars,
        busy=prepared.busy,
        sides=prepared.sides,
        day_ends=ground.day_ends,
        daily=np.empty(len(ground.day_ends), dtype=np.int64),
        outcomes=np.zeros(0, dtype=np.int8),
        equity=nothing,
        held=np.zeros(0, dtype=np.bool_),
    )


@lru_cache(maxsize=16)
def make_rules(plan: Plan) -> np.ndarray:
    """The rules of a plan in whole numbers; not to be written to."""
    sizing, limits, protection = plan.sizing, plan.limits, plan.protection
    method = {SizingMethod.FIXED_FRACTION: layout.FIXED, SizingMethod.RISK_PER_TRADE: layout.AT_RISK}
    return layout.make_record(
        layout.RULES,
        fee_ppm=plan.terms.fee_ppm,
        slippage_ppm=plan.terms.slippage_ppm,
        volume_share_ppm=plan.terms.volume_share_ppm,
        allow_short=plan.terms.allow_short,
        sizing=method.get(sizing.method, layout.PER_BAR),
        cash_ppm=to_ppm(sizing.cash_fraction),
        risk_ppm=to_ppm(sizing.risk_fraction),
        has_stop=protection.stop is not StopRule.NONE or sizing.method is SizingMethod.RISK_PER_TRADE,
        is_trailing=protection.stop is StopRule.TRAILING_STOP,
        stop_hundredths=to_hundredths(protection.stop_atr_multiple),
        target_hundredths=to_hundredths(protection.target_atr_multiple),
        max_symbol_ppm=to_ppm(limits.max_symbol_exposure),
        max_gross_ppm=to_ppm(limits.max_gross_exposure),
        max_volume_ppm=to_ppm(limits.max_volume_share),
        max_daily_loss_ppm=to_ppm(limits.max_daily_loss),
        max_drawdown_ppm=to_ppm(limits.max_drawdown),
        cooldown_losses=limits.cooldown_losses if limits.cooldown_minutes else 0,
        cooldown_ms=limits.cooldown_minutes * _MINUTE_MS,
        max_trades=limits.max_trades_per_day,
        max_positions=limits.max_open_positions,
        price_band_ppm=to_ppm(limits.price_band_percent / 100),
        window_bars=plan.window_bars,
    )


def _open_account(plan: Plan, ground: Ground, capacity: int) -> layout.State:
    cash = to_units(plan.initial_cash)
    if not 0 < cash <= LARGEST // 8:
        raise _beyond()
    return layout.State(
        rules=make_rules(plan),
        facts=ground.facts,
        account=layout.make_record(layout.ACCOUNT, cash=cash, peak=cash, day_equity=cash, equity=cash, halted_in=-1),
        holdings=np.zeros(len(ground.series), layout.HOLDING),
        progress=np.zeros(1, layout.PROGRESS),
        moment=np.zeros(1, layout.MOMENT),
        candle=np.zeros(1, layout.CANDLE),
        looks=np.zeros(_LOOKS, layout.CANDLE),
        fill=np.zeros(1, layout.FILL),
        fills=np.empty(capacity, layout.FILL),
    )


def _close(ground: Ground, cycles: layout.Cycles, state: layout.State) -> Books:
    rows = state.fills[: int(state.account["fills"][0])]
    return Books(
        times_ms=ground.times_ms,
        series=ground.cycle_series,
        first_bars=np.zeros(len(ground.series), dtype=np.int64),
        outcomes=cycles.outcomes,
        equity=cycles.equity,
        held=cycles.held,
        fills=Fills(*np.ascontiguousarray(rows.view(np.int64).reshape(-1, len(fields(Fills))).T)),
        halted_cycle=int(state.account["halted_in"][0]),
    )


def _beyond() -> InvalidInputError:
    return InvalidInputError(
        "An amount is beyond what compiled rules can count in 64 bits: take less cash, or the engine as the driver.",
        code="beyond_64_bits",
    )
