"""How the service is: for people, for supervisors and for Prometheus. Without a key, and never shed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from app.api import schemas
from app.api.deps import ReadinessCheck, RunningService, Service
from app.api.errors import answer
from app.api.problems import Problem, documented
from app.observability import metrics

router = APIRouter(tags=["operations"])

_PATIENCE_SECONDS = 5.0


@router.get(
    "/health",
    operation_id="get_health",
    summary="Show the state of things",
    response_model=schemas.Health,
    responses=documented(),
)
async def get_health(service: RunningService) -> dict[str, Any]:
    """Version, source of market data, model, database and last cycle, for people. Always 200 while it runs."""
    return dict(await service.health())


@router.get(
    "/livez",
    operation_id="get_liveness",
    summary="Say whether the process answers",
    response_model=schemas.Liveness,
    responses=documented(),
)
async def get_liveness() -> schemas.Liveness:
    """Always 200 while the process answers; says nothing about the exchange or the database."""
    return schemas.Liveness()


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Say whether a cycle could run now",
    response_model=schemas.Readiness,
    responses=documented(503),
)
async def get_readiness(service: RunningService, request: Request) -> Any:  # noqa: ANN401 - an answer or a problem
    """200 when every check passes; otherwise 503 with the names of those that fail."""
    checks = await _checks(service)
    failing = [check for check in checks if not check.ok]
    if checks and not failing:
        return {"checks": list(checks)}
    names = ", ".join(check.name for check in failing) or "checks"
    facts = {"checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks]}
    problem = Problem(503, "not_ready", f"Not ready: {names}.", retry_after_seconds=1, facts=facts)
    return answer(problem, request)


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Show metrics to Prometheus",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text format."},
        **documented(),
    },
)
async def get_metrics(service: RunningService) -> Response:
    """Cycles, upstream calls, requests, ages and readiness."""
    await _checks(service)
    return Response(service.metrics.render(), media_type=metrics.CONTENT_TYPE)


async def _checks(service: Service) -> Sequence[ReadinessCheck]:
    """All checks, also counted; none when they do not come back in time."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            checks = await service.checks()
    except TimeoutError:
        checks = ()
    service.metrics.set_ready(ready=bool(checks) and all(check.ok for check in checks))
    return checks
