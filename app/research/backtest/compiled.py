"""The compiled backtest: for strategies that say their signals as arrays, one pass over the bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from app.domain.money import LARGEST, to_units
from app.domain.risk import SizingMethod, StopRule
from app.errors import InvalidInputError
from app.research.backtest.books import Books, Fills
from app.research.backtest.market import Prepared, prepare
from app.research.backtest.plan import Plan, Series
from app.risk.protection import to_hundredths
from app.risk.sizing import to_ppm

if TYPE_CHECKING:
    from app.research.backtest.kernel.layout import Cycles, Facts, Rules, State

_FILL_COLUMNS = 12
_MINUTE_MS = 60_000


def run_compiled(plan: Plan, series: Sequence[Series]) -> Books:
    """Run a backtest in compiled code; its books equal those of `engine_driver.run_engine`.

    The first call of a process loads the compiled code, or compiles it (about half a minute, once a version).

    Raises:
        InvalidInputError: `beyond_64_bits`, an amount is beyond what 64 bits hold; `candle_not_positive`.
    """
    return run_prepared(plan, prepare(plan, series))


def run_prepared(plan: Plan, prepared: Prepared) -> Books:
    """Run a backtest on what was prepared for it; raises as `run_compiled`."""
    from app.research.backtest.kernel.layout import FILLS, Cycles  # noqa: PLC0415 - loads numba, which only backtests need
    from app.research.backtest.kernel.run import run_cycles  # noqa: PLC0415

    facts, rules = _make_facts(prepared), make_rules(plan)
    count = len(prepared.cycle_bars)
    outcomes, equity, held = np.empty(count, np.int8), np.empty(count, np.int64), np.empty(count, np.bool_)
    cycles = Cycles(prepared.cycle_series, prepared.cycle_bars, outcomes, equity, held)
    capacity = 16 + 4 * int((prepared.market.verdicts == 0).sum())
    while True:
        state = _open_account(plan, prepared, capacity)
        try:
            run_cycles(prepared.market, facts, rules, state, cycles)
        except OverflowError as error:
            raise _beyond() from error
        if state.account[FILLS] <= capacity:
            return _close(prepared, cycles, state)
        capacity = int(state.account[FILLS])


def make_rules(plan: Plan) -> Rules:
    """The rules of a plan in whole numbers."""
    from app.research.backtest.kernel import layout  # noqa: PLC0415 - loads numba, which only backtests need

    sizing, limits, protection = plan.sizing, plan.limits, plan.protection
    method = {SizingMethod.FIXED_FRACTION: layout.FIXED, SizingMethod.RISK_PER_TRADE: layout.AT_RISK}
    return layout.Rules(
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


def _make_facts(prepared: Prepared) -> Facts:
    from app.research.backtest.kernel.layout import Facts  # noqa: PLC0415 - loads numba, which only backtests need

    instruments = [series.instrument for series in prepared.series]
    return Facts(
        tick=np.array([to_units(one.tick_size) for one in instruments], dtype=np.int64),
        lot=np.array([to_units(one.lot_step) for one in instruments], dtype=np.int64),
        minimum_notional=np.array([to_units(one.minimum_notional) for one in instruments], dtype=np.int64),
        first_bar=prepared.first_bars,
        duration_ms=np.array([series.interval.milliseconds for series in prepared.series], dtype=np.int64),
    )


def _open_account(plan: Plan, prepared: Prepared, capacity: int) -> State:
    from app.research.backtest.kernel import layout  # noqa: PLC0415 - loads numba, which only backtests need

    cash = to_units(plan.initial_cash)
    if not 0 < cash <= LARGEST // 8:
        raise _beyond()
    account = np.zeros(12, dtype=np.int64)
    account[[layout.CASH, layout.PEAK, layout.DAY_EQUITY, layout.EQUITY]] = cash
    account[layout.HALTED_IN] = -1
    if len(prepared.times_ms):
        account[layout.DAY_END] = (prepared.times_ms[0] // layout.DAY_MS + 1) * layout.DAY_MS
    count = len(prepared.series)
    return layout.State(
        account,
        np.zeros((count, 8), dtype=np.int64),
        np.zeros((count, 3, 6), dtype=np.int64),
        np.empty((capacity, _FILL_COLUMNS), dtype=np.int64),
        np.zeros(5, dtype=np.int64),
    )


def _close(prepared: Prepared, cycles: Cycles, state: State) -> Books:
    from app.research.backtest.kernel import layout  # noqa: PLC0415 - loads numba, which only backtests need

    rows = state.fills[: int(state.account[layout.FILLS])]
    return Books(
        times_ms=prepared.times_ms,
        series=prepared.cycle_series,
        bars=prepared.cycle_bars - prepared.first_bars[prepared.cycle_series],
        outcomes=cycles.outcomes,
        equity=cycles.equity,
        held=cycles.held,
        fills=Fills(*(np.ascontiguousarray(rows[:, column]) for column in range(_FILL_COLUMNS))),
        halted_cycle=int(state.account[layout.HALTED_IN]),
    )


def _beyond() -> InvalidInputError:
    return InvalidInputError(
        "An amount is beyond what compiled rules can count in 64 bits: take less cash, or the engine as the driver.",
        code="beyond_64_bits",
    )
