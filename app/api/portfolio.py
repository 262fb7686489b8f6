"""The account over the wire: what is asked of it, and what it answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field

from app.api import examples
from app.api.requests import Amount, Time
from app.api.schemas import Answer, Moment, Money, Order, Trade
from app.domain.order import OrderKind, Side
from app.engine.portfolio_desk import OrderRequest
from app.setting_kinds import SYMBOL_PATTERN

_MAXIMUM_AMOUNT = Decimal(10) ** 10
_MAXIMUM_CASH = Decimal(10) ** 9
_DECIMALS = 8
_TRAIL_DECIMALS = 6


def _to_amount(value: str | float) -> Decimal:
    return _bounded(Decimal(str(value)), _MAXIMUM_AMOUNT, _DECIMALS)


def _to_cash(value: str | float) -> Decimal:
    return _bounded(Decimal(str(value)), _MAXIMUM_CASH, _DECIMALS)


def _to_fraction(value: str | float) -> Decimal:
    fraction = _bounded(Decimal(str(value)), Decimal(1), _TRAIL_DECIMALS)
    if fraction == 1:
        raise ValueError("must be less than 1")
    return fraction


def _bounded(amount: Decimal, maximum: Decimal, decimals: int) -> Decimal:
    if not 0 < amount <= maximum:
        raise ValueError(f"must be above 0 and at most {maximum}")
    if amount != round(amount, decimals):
        raise ValueError(f"must have at most {decimals} decimals")
    return amount


OrderAmount = Annotated[Amount, AfterValidator(_to_amount)]
CashAmount = Annotated[Amount, AfterValidator(_to_cash)]
TrailFraction = Annotated[Amount, AfterValidator(_to_fraction)]


class NewOrder(BaseModel):
    """An order of your own. Amounts are exact as text; a JSON number does where it is short."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [examples.NEW_ORDER]})

    symbol: Annotated[str, Field(strict=True, pattern=SYMBOL_PATTERN)]
    side: Side
    quantity: OrderAmount = Field(description="In base units, whole lots.")
    kind: OrderKind = OrderKind.MARKET
    price: OrderAmount | None = Field(
        None, description="The limit, the target or the trigger in quote units; not for MARKET and TRAILING_STOP."
    )
    trail_fraction: TrailFraction | None = Field(
        None, description="TRAILING_STOP only: how far it stays from the best price, above 0 and below 1."
    )
    expires_at: Time | None = Field(None, description="Until when it rests; not for MARKET.")
    reduce_only: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="true: it may make a position smaller and nothing else."
    )

    def to_domain(self) -> OrderRequest:
        """The order as the portfolio desk takes it."""
        values: Any = {name: getattr(self, name) for name in type(self).model_fields}
        return OrderRequest(**values)


class NewRun(BaseModel):
    """What a new run starts with."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"cash": "10000"}]})

    cash: CashAmount | None = Field(None, description="In quote units; INITIAL_CASH when left out.")

    def to_domain(self, default: Decimal) -> Decimal:
        """The cash, or `default` where it was left out."""
        cash: Any = self.cash
        return default if cash is None else Decimal(cash)


class HaltRequest(BaseModel):
    """Why trading is halted."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "The news."}]})

    reason: Annotated[str, Field(strict=True, min_length=1, max_length=500)] | None = None


def _side(is_long: object) -> object:
    return {True: "LONG", False: "SHORT"}.get(is_long, is_long) if isinstance(is_long, bool) else is_long


PositionSide = Annotated[Literal["LONG", "SHORT"], BeforeValidator(_side)]
_Next = Field(description="Send it as `cursor` for the next page; null on the last.")


class AccountOrder(Order):
    """An order, and the run it belongs to."""

    run: str
    source: str


class Posting(Answer):
    """One side of a double entry."""

    account: str = Field(description="`cash`, `fees`, `profit` or `position:SYMBOL`.")
    amount: Money = Field(description="In quote units; debits are positive.")


class Fill(Trade):
    """One simulated fill with its double entry, whose amounts sum to zero."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.FILL]})

    postings: list[Posting]


class ClosedTrade(Answer):
    """An exit held against its average entry."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.CLOSED_TRADE]})

    trade_id: int = Field(ge=1, description="The fill that closed it.")
    run: str
    source: str
    symbol: str
    side: PositionSide = Field(validation_alias="is_long")
    quantity: Money
    entry_price: Money = Field(description="The average entry price.")
    exit_price: Money
    entry_notional: Money
    profit: Money = Field(description="What the exit brought less what the entry cost, before fees.")
    fees: Money = Field(description="Those of the exit and the entry's share.")
    net_profit: Money
    net_return: float = Field(description="Profit after fees over what the entry was worth.")
    opened_at: Moment
    closed_at: Moment
    reason: str


class EquityPoint(Answer):
    """The account after one booking."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.EQUITY_POINT]})

    taken_at: Moment
    run: str
    source: str
    symbol: str | None = Field(description="What was booked; null where it was about no symbol.")
    price: Money | None = Field(description="The quote of the booking.")
    cash: Money
    equity: Money = Field(description="Cash and what everything held was worth at the newest prices.")
    drawdown: float = Field(description="How far equity was below its highest, a fraction.")
    day_profit: Money = Field(description="What the UTC day had brought by then.")


class RunEntry(Answer):
    """A run: an account from its opening to its reset."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.RUN]})

    id: str = Field(validation_alias=AliasPath("run", "id"))
    source: str = Field(validation_alias=AliasPath("run", "key", "source"))
    strategy: str = Field(validation_alias=AliasPath("run", "key", "strategy"))
    name: str = Field(validation_alias=AliasPath("run", "key", "name"))
    generation: int = Field(validation_alias=AliasPath("run", "generation"), ge=1)
    initial_cash: Money = Field(validation_alias=AliasPath("run", "initial_cash"))
    opened_at: Moment = Field(validation_alias=AliasPath("run", "opened_at"))
    ended_at: Moment | None = Field(description="When a reset ended it; null while it goes on.")


class Holding(Answer):
    """A position, or dust, at the newest price that a booking saw."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.HOLDING]})

    account: str = Field(description="`position:SYMBOL`, or `dust:SYMBOL`: too little to be sold by itself.")
    symbol: str
    side: PositionSide = Field(validation_alias="is_long")
    quantity: Money = Field(description="In base units; positive for a short, too.")
    average_price: Money = Field(description="The average entry price.")
    cost: Money = Field(description="What was paid for it without fees; negative for a short: what was got.")
    mark: Money = Field(description="The newest price that a booking saw.")
    market_value: Money = Field(description="Negative for a short.")
    unrealised_profit: Money = Field(description="Market value less cost, before fees.")
    entry_fees: Money
    opened_at: Moment
    order_ids: list[str] = Field(description="The resting orders that can only make it smaller.")


class Halt(Answer):
    """Why nothing is traded on decisions."""

    reason_code: str
    reason: str
    at: Moment


class Summary(Answer):
    """An account in a few numbers, at the newest prices that bookings saw."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SUMMARY]})

    run: str = Field(validation_alias=AliasPath("run", "id"))
    at: Moment = Field(description="When it was booked on last.")
    cash: Money
    available: Money = Field(description="The cash that no short holds.")
    margin_held: Money
    market_value: Money = Field(description="Of everything held; shorts count negative.")
    equity: Money = Field(description="Cash and market value; initial cash and both profits less the fees.")
    peak_equity: Money
    initial_cash: Money
    total_return: float = Field(description="Equity over initial cash, less 1.")
    realised_profit: Money = Field(description="Before fees.")
    unrealised_profit: Money = Field(description="Before fees.")
    fees: Money
    open_positions: int = Field(ge=0)
    open_orders: int = Field(ge=0)
    dust_value: Money = Field(description="The part of the market value that is too little to be sold by itself.")
    drawdown: float = Field(description="How far equity is below its highest, a fraction.")
    day_profit: Money = Field(description="Of this UTC day.")
    trades_today: int = Field(ge=0, description="Fills of decisions on this UTC day.")
    halt: Halt | None = Field(description="Null while decisions are traded.")


class ActionAnswer(Answer):
    """What came of it: orders that were placed or changed, and fills, in their order."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.ACTION]})

    id: str
    run: str
    at: Moment
    reason_code: str
    reason: str
    orders: list[Order]
    fills: list[Trade]


class HaltAnswer(Answer):
    """Whether decisions are traded."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.HALT]})

    halted: bool
    reason_code: str
    reason: str
    at: Moment


class OrderPage(Answer):
    """Orders, newest first."""

    items: list[AccountOrder]
    next_cursor: str | None = _Next


class FillPage(Answer):
    """Fills, newest first."""

    items: list[Fill]
    next_cursor: str | None = _Next


class ClosedTradePage(Answer):
    """Closed trades, newest first."""

    items: list[ClosedTrade]
    next_cursor: str | None = _Next


class EquityPage(Answer):
    """The account after each booking, newest first."""

    items: list[EquityPoint]
    next_cursor: str | None = _Next


class RunPage(Answer):
    """Runs, newest first."""

    items: list[RunEntry]
    next_cursor: str | None = _Next


class HoldingPage(Answer):
    """Positions by symbol, then dust by symbol."""

    items: list[Holding]
    next_cursor: str | None = _Next
