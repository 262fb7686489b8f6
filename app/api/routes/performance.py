"""How the account did, and whether that is any good."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.api import performance
from app.api.csv_pages import MEDIA_TYPE, wants_csv
from app.api.deps import RunningService
from app.api.problems import documented
from app.api.requests import text_schema
from app.api.routes.portfolio import RUN_PATTERN
from app.api.strict import StrictRoute

router = APIRouter(route_class=StrictRoute, tags=["portfolio"])

RunOrNewest = Annotated[
    str | None,
    Query(pattern=RUN_PATTERN, description="Such as binance.forest.main.1; the newest run when left out."),
    text_schema(pattern=RUN_PATTERN, examples=["binance.forest.main.1"]),
]


@router.get(
    "/portfolio/performance",
    operation_id="get_performance",
    summary="Show how the account did",
    response_model=performance.Performance,
    responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}, **documented(404, 503)},
)
async def get_performance(service: RunningService, request: Request, run: RunOrNewest = None) -> Any:  # noqa: ANN401 - two kinds of answers
    """Return, risk, trades, costs, and the three shadow books that the account is held against.

    With `Accept: text/csv` the same as lines of name and value.
    """
    answer = performance.describe(await service.performance.measure(run))
    if wants_csv(request.headers.get("accept", "")):
        return Response(performance.write_csv(answer), media_type=f"{MEDIA_TYPE}; charset=utf-8; header=present")
    return answer
