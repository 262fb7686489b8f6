"""What is booked can be read back as it was."""

from __future__ import annotations

import json

from app.domain.booking import in_plain_numbers
from app.domain.cycle import Decision
from app.domain.record import canonical, to_plain
from app.domain.signal import Signal


def test_minus_zero_is_booked_as_zero_as_sqlite_keeps_no_other() -> None:
    probabilities = {Signal.HOLD: 1.0, Signal.SELL: -0.0, Signal.BUY: 0.0}
    decision = Decision(Signal.HOLD, 1.0, probabilities, "hold_signal", "No move.", "forest-1", -0.0, None, -0.0)

    plain = to_plain(in_plain_numbers(decision))

    assert "-0.0" not in canonical(plain)
    assert json.loads(canonical(plain))["probabilities"] == {"BUY": 0.0, "HOLD": 1.0, "SELL": 0.0}
