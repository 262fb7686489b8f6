"""Cycles replayed from their records, and the reasons behind trades."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from app.api import records
from app.api.deps import RunningService
from app.api.problems import documented
from app.api.strict import StrictRoute
from app.research.reasons import TradeReason

router = APIRouter(route_class=StrictRoute, tags=["trading"])


@router.get(
    "/trading/cycles/{cycle_id}/replay",
    operation_id="replay_cycle",
    summary="Replay a cycle",
    response_model=records.Replay,
    responses=documented(404, 409, 503),
)
async def replay_cycle(
    service: RunningService, cycle_id: Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
) -> dict[str, Any]:
    """Compute a cycle again from its record alone, and compare it with what is stored, byte for byte.

    Nothing is booked. A cycle that was refused or that is older than records are, and one whose model or settings are
    missing, is a conflict.
    """
    found = await service.replayer.replay(cycle_id)
    versions = {"recorded": found.recorded_version, "replayed": found.replayed_version}
    return {"cycle_id": found.cycle_id, "equal": found.equal, "difference": found.difference, "versions": versions}


@router.get(
    "/trading/trades/{trade_id}/why",
    operation_id="explain_trade",
    summary="Explain a trade",
    response_model=records.Reason,
    responses=documented(404, 503),
)
async def explain_trade(service: RunningService, trade_id: Annotated[int, Path(ge=1, le=2**63 - 1)]) -> TradeReason:
    """Why a trade was made.

    For a decision: the model's reasons, the gate's arithmetic and every check. For an order that was reached: the order
    and the candle. For a person's: that a person asked for it.
    """
    return await service.reasons.find(trade_id)
