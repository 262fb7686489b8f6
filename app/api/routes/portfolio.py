"""The account: what it holds and did, and what people do to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response

from app.api import portfolio
from app.api.csv_pages import CSV_ANSWER, AsListing
from app.api.deps import IdempotencyHeader, RunningService, no_body
from app.api.problems import documented
from app.api.requests import Time, text_schema
from app.api.routes.events import SinceFilter
from app.api.routes.trading import REPLAYED_HEADER, Cursor, Limit, SourceFilter, SymbolFilter
from app.api.strict import StrictRoute
from app.domain.action import ActionKind, ActionReport
from app.domain.order import OrderStatus
from app.domain.ports import Selection
from app.domain.record import canonical, to_plain
from app.domain.statement import AccountOrder, summarize_account

router = APIRouter(route_class=StrictRoute)

RUN_PATTERN = r"^[a-z0-9_-]{1,32}\.[a-z0-9_-]{1,32}\.[a-z0-9_-]{1,32}\.[1-9][0-9]{0,8}$"

RunFilter = Annotated[
    str | None,
    Query(pattern=RUN_PATTERN, description="Only this run, such as binance.forest.main.1."),
    text_schema(pattern=RUN_PATTERN, examples=["binance.forest.main.1"]),
]
UntilFilter = Annotated[
    Time | None,
    Query(description="Only what happened before this time."),
    text_schema(format="date-time"),
]
StatusFilter = Annotated[
    OrderStatus | None,
    Query(description="Only this status."),
    text_schema(enum=[status.value for status in OrderStatus]),
]
OrderId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,80}$", description="The order's id.")]
_LISTED: dict[int | str, dict[str, Any]] = {200: CSV_ANSWER}


async def _of_runs(
    source: SourceFilter = None, run: RunFilter = None, since: SinceFilter = None, until: UntilFilter = None
) -> Selection:
    return Selection(None, source, run, since, until)


WantedRuns = Annotated[Selection, Depends(_of_runs)]


async def _of_symbol(wanted: WantedRuns, symbol: SymbolFilter = None) -> Selection:
    return replace(wanted, symbol=symbol)


Wanted = Annotated[Selection, Depends(_of_symbol)]


@router.get(
    "/portfolio/summary",
    tags=["portfolio"],
    operation_id="get_portfolio",
    summary="Show the account",
    response_model=portfolio.Summary,
    responses={200: {"content": CSV_ANSWER["content"]}, **documented(404, 503)},
)
async def get_portfolio(service: RunningService, listing: AsListing, run: RunFilter = None) -> Any:  # noqa: ANN401 - or CSV
    """The account in a few numbers: that of the present run, or of the `run` that is named."""
    standing = await service.portfolio_views.load_standing(service.key, run)
    return listing.answer_one(portfolio.Summary, summarize_account(standing, service.clock.now()))


@router.get(
    "/portfolio/positions",
    tags=["portfolio"],
    operation_id="list_positions",
    summary="List positions",
    response_model=portfolio.HoldingPage,
    responses=_LISTED | documented(404, 503),
)
async def list_positions(
    service: RunningService, listing: AsListing, wanted: Wanted, limit: Limit = 100, cursor: Cursor = None
) -> Any:  # noqa: ANN401 - a page, or CSV
    """What the present run holds, or the `run` that is named; `since` and `until` are about when it was opened."""
    page = await service.portfolio_views.list_positions(service.key, limit=limit, cursor=cursor, wanted=wanted)
    return listing.answer(portfolio.HoldingPage, page)


@router.get(
    "/portfolio/orders",
    tags=["portfolio"],
    operation_id="list_orders",
    summary="List orders",
    response_model=portfolio.OrderPage,
    responses=_LISTED | documented(503),
)
async def list_orders(
    service: RunningService,
    listing: AsListing,
    wanted: Wanted,
    limit: Limit = 100,
    cursor: Cursor = None,
    status: StatusFilter = None,
) -> Any:  # noqa: ANN401 - a page, or CSV
    """Orders of every run, by when they were placed, newest first."""
    views = service.portfolio_views
    page = await views.list_orders(limit=limit, cursor=cursor, wanted=wanted, status=status)
    return listing.answer(portfolio.OrderPage, page)


@router.get(
    "/portfolio/orders/{order_id}",
    tags=["portfolio"],
    operation_id="get_order",
    summary="Get an order",
    response_model=portfolio.AccountOrder,
    responses=documented(404, 503),
)
async def get_order(service: RunningService, order_id: OrderId) -> AccountOrder:
    """One order, of any run."""
    return await service.portfolio_views.get_order(order_id)


@router.get(
    "/portfolio/fills",
    tags=["portfolio"],
    operation_id="list_fills",
    summary="List fills",
    response_model=portfolio.FillPage,
    responses=_LISTED | documented(503),
)
async def list_fills(
    service: RunningService, listing: AsListing, wanted: Wanted, limit: Limit = 100, cursor: Cursor = None
) -> Any:  # noqa: ANN401 - a page, or CSV
    """Fills of every run with their double entry, newest first."""
    page = await service.portfolio_views.list_fills(limit=limit, cursor=cursor, wanted=wanted)
    return listing.answer(portfolio.FillPage, page)


@router.get(
    "/portfolio/closed-trades",
    tags=["portfolio"],
    operation_id="list_closed_trades",
    summary="List closed trades",
    response_model=portfolio.ClosedTradePage,
    responses=_LISTED | documented(503),
)
async def list_closed_trades(
    service: RunningService, listing: AsListing, wanted: Wanted, limit: Limit = 100, cursor: Cursor = None
) -> Any:  # noqa: ANN401 - a page, or CSV
    """What each exit closed, in every run, by when it was closed, newest first."""
    page = await service.portfolio_views.list_closed_trades(limit=limit, cursor=cursor, wanted=wanted)
    return listing.answer(portfolio.ClosedTradePage, page)


@router.get(
    "/portfolio/equity",
    tags=["portfolio"],
    operation_id="list_equity",
    summary="List equity",
    response_model=portfolio.EquityPage,
    responses=_LISTED | documented(503),
)
async def list_equity(
    service: RunningService, listing: AsListing, wanted: Wanted, limit: Limit = 100, cursor: Cursor = None
) -> Any:  # noqa: ANN401 - a page, or CSV
    """The account after each booking, in every run, newest first; `symbol` is that of the booking."""
    page = await service.portfolio_views.list_equity(limit=limit, cursor=cursor, wanted=wanted)
    return listing.answer(portfolio.EquityPage, page)


@router.get(
    "/portfolio/runs",
    tags=["portfolio"],
    operation_id="list_runs",
    summary="List runs",
    response_model=portfolio.RunPage,
    responses=_LISTED | documented(503),
)
async def list_runs(
    service: RunningService, listing: AsListing, wanted: WantedRuns, limit: Limit = 100, cursor: Cursor = None
) -> Any:  # noqa: ANN401 - a page, or CSV
    """Runs by when they were opened, newest first: each reset of an account starts one."""
    page = await service.portfolio_views.list_runs(limit=limit, cursor=cursor, wanted=wanted)
    return listing.answer(portfolio.RunPage, page)


@router.post(
    "/portfolio/orders",
    tags=["portfolio"],
    operation_id="place_order",
    summary="Place an order of your own",
    status_code=201,
    response_model=portfolio.ActionAnswer,
    response_description="A MARKET order was filled; any other rests.",
    responses={
        201: {
            "headers": {
                **REPLAYED_HEADER,
                "Location": {"description": "The order's address.", "schema": {"type": "string"}},
            }
        },
        **documented(404, 409, 502, 504, writes=True),
    },
)
async def place_order(
    service: RunningService, response: Response, key: IdempotencyHeader, body: portfolio.NewOrder
) -> ActionReport:
    """Buy or sell on paper at the market, or let a limit, a stop or a target rest; no real order is ever sent.

    Your orders take no part in the limits of decisions, but a halt holds entries back, and what the account cannot pay
    for is refused. Stops and targets can only make a position smaller. Resting orders are judged on closed candles, by
    each cycle of the symbol and before each order of yours: where that leaves this order nothing to do, `reason_code`
    says so.
    """
    asked = body.to_domain()
    report, replayed = await service.portfolio.place(asked, key.bind("place-order", canonical(to_plain(asked))))
    own = next((order for order in report.orders if order.id.startswith(report.id)), None)
    if own is not None:
        response.headers["Location"] = f"/portfolio/orders/{own.id}"
    _tell_replay(response, replayed=replayed)
    return report


@router.delete(
    "/portfolio/orders/{order_id}",
    tags=["portfolio"],
    operation_id="cancel_order",
    summary="Cancel an order",
    dependencies=[Depends(no_body)],
    response_model=portfolio.AccountOrder,
    responses=documented(404, 409, writes=True),
)
async def cancel_order(service: RunningService, order_id: OrderId) -> AccountOrder:
    """Cancel an order that rests, also one that protects a position; only a short's liquidation must stay."""
    await service.portfolio.cancel(order_id)
    return await service.portfolio_views.get_order(order_id)


@router.post(
    "/portfolio/close",
    tags=["portfolio"],
    operation_id="close_positions",
    summary="Close positions",
    dependencies=[Depends(no_body)],
    response_model=portfolio.ActionAnswer,
    responses={200: {"headers": REPLAYED_HEADER}, **documented(404, 409, 502, 504, writes=True)},
)
async def close_positions(
    service: RunningService, response: Response, key: IdempotencyHeader, symbol: SymbolFilter = None
) -> ActionReport:
    """Close the position in `symbol`, or without it every position, at the market and in one booking."""
    report, replayed = await service.portfolio.close(symbol, key.bind("close-positions", symbol or ""))
    _tell_replay(response, replayed=replayed)
    return report


@router.post(
    "/portfolio/reset",
    tags=["portfolio"],
    operation_id="reset_portfolio",
    summary="Start a new run",
    response_model=portfolio.ActionAnswer,
    response_description="`run` is the new one; `orders` are those of the old one that were cancelled.",
    responses={200: {"headers": REPLAYED_HEADER}, **documented(409, writes=True)},
)
async def reset_portfolio(
    service: RunningService, response: Response, key: IdempotencyHeader, body: portfolio.NewRun | None = None
) -> ActionReport:
    """Begin again with fresh cash. The old run stays readable by its name; a halt by a person stays in force."""
    cash = (body or portfolio.NewRun()).to_domain(service.settings.initial_cash)
    report, replayed = await service.portfolio.reset(cash, key.bind("reset-portfolio", to_plain(cash)))
    _tell_replay(response, replayed=replayed)
    return report


@router.post(
    "/trading/halt",
    tags=["trading"],
    operation_id="halt_trading",
    summary="Halt trading",
    response_model=portfolio.HaltAnswer,
    responses=documented(writes=True),
)
async def halt_trading(service: RunningService, body: portfolio.HaltRequest | None = None) -> dict[str, Any]:
    """Open nothing any more, also after a restart, until `POST /trading/resume`; exits, stops and closing go on."""
    reason = (body.reason if body is not None else None) or "It was halted on request."
    return _halt(await service.portfolio.set_halt(is_halted=True, reason=reason))


@router.post(
    "/trading/resume",
    tags=["trading"],
    operation_id="resume_trading",
    summary="Resume trading",
    dependencies=[Depends(no_body)],
    response_model=portfolio.HaltAnswer,
    responses=documented(writes=True),
)
async def resume_trading(service: RunningService) -> dict[str, Any]:
    """Trade on decisions again; after a halt by the drawdown limit, the drawdown counts from now on."""
    return _halt(await service.portfolio.set_halt(is_halted=False, reason="It was resumed on request."))


def _tell_replay(response: Response, *, replayed: bool) -> None:
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"


def _halt(report: ActionReport) -> dict[str, Any]:
    facts: dict[str, str | datetime] = {"reason_code": report.reason_code, "reason": report.reason, "at": report.at}
    return {"halted": report.kind is ActionKind.HALT, **facts}
