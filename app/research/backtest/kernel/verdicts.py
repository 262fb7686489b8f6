"""What the gate says of the signals of a rule, compiled; of those of a model, `verdicts` says it in arrays."""

from __future__ import annotations

import numpy as np

from app.research.backtest.books import OUTCOMES, CodeArray
from app.research.backtest.native import compiled
from ml.labels import HOLD

_HOLD = OUTCOMES.index("hold_signal")


@compiled
def judge_rule(signals: CodeArray, otherwise: int, refusals: CodeArray, codes: CodeArray, sides: CodeArray) -> None:
    """Write the `verdicts.Verdicts` on what a rule says; numbers of eight bits, of which many are done at once.

    Args:
        signals: For each cycle, shape (n_cycles,).
        otherwise: What comes of one that is not HOLD.
        refusals: Why a cycle is refused, as `checked_bars.CheckedBars.find_refusals` has it, shape (n_cycles,).
        codes: Written over, shape (n_cycles,).
        sides: Written over, shape (n_cycles,).
    """
    for cycle in range(len(signals)):
        code = np.int8(_HOLD if signals[cycle] == HOLD else otherwise)
        codes[cycle], sides[cycle] = max(code, refusals[cycle]), signals[cycle] - np.int8(HOLD)
