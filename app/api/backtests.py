"""Backtests over the wire: what was asked for, what it ran on, what it came to, and whether that may be luck."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AliasPath, BeforeValidator, ConfigDict, Field

from app.api import backtest_examples
from app.api.performance import Count, NotNegative, Numbers
from app.api.portfolio import PositionSide
from app.api.schemas import Answer, Fraction, Moment, Money
from app.domain.candle import Interval
from app.domain.order import Side
from app.domain.risk import SizingMethod, StopRule
from app.domain.signal import Signal
from app.research.backtest.request import Driver
from app.risk.significance import CONFIDENCE

_NEXT = "Send it as `cursor` for the next page; null on the last."


def _to_days(age: object) -> object:
    return age / timedelta(days=1) if isinstance(age, timedelta) else age


def _at(*path: str) -> Any:  # noqa: ANN401 - pydantic types a field by its annotation
    return Field(validation_alias=AliasPath(*path))


def _of_training(name: str) -> Any:  # noqa: ANN401 - as above
    return Field(None, validation_alias=AliasPath("walk_forward", name))


class Asked(Answer):
    """Everything that was asked for; `POST /backtest/run` takes it again as it is.

    The settings of the service have their names, in small letters. Those from `training_klines` on are null where no
    forest was trained on the way.
    """

    symbols: list[str]
    interval: Interval
    since: Moment
    until: Moment
    strategy: str
    parameters: dict[str, float]
    model_id: str | None
    window_bars: Count
    latency_bars: Count
    seed: Count
    driver: Driver
    initial_cash: Money
    fee_bps: Money = _at("terms", "fee_bps")
    slippage_bps: Money = _at("terms", "slippage_bps")
    allow_short: bool = _at("terms", "allow_short")
    sizing: SizingMethod = _at("sizing", "method")
    order_cash_fraction: Money = _at("sizing", "cash_fraction")
    risk_per_trade: Money = _at("sizing", "risk_fraction")
    volatility_target: Money = _at("sizing", "volatility_target")
    kelly_cap: Money = _at("sizing", "kelly_cap")
    stop_rule: StopRule = _at("protection", "stop")
    stop_atr_multiple: Money = _at("protection", "stop_atr_multiple")
    take_profit_atr_multiple: Money = _at("protection", "target_atr_multiple")
    max_symbol_exposure: Money = _at("limits", "max_symbol_exposure")
    max_gross_exposure: Money = _at("limits", "max_gross_exposure")
    max_volume_share: Money = _at("limits", "max_volume_share")
    max_daily_loss: Money = _at("limits", "max_daily_loss")
    max_drawdown: Money = _at("limits", "max_drawdown")
    cooldown_losses: Count = _at("limits", "cooldown_losses")
    cooldown_minutes: Count = _at("limits", "cooldown_minutes")
    max_trades_per_day: Count = _at("limits", "max_trades_per_day")
    max_open_positions: Count = _at("limits", "max_open_positions")
    price_band_percent: Money = _at("limits", "price_band_percent")
    model_maximum_age_days: Annotated[NotNegative, BeforeValidator(_to_days)] = _at("limits", "model_maximum_age")
    min_confidence: Fraction = _at("gate", "min_confidence")
    require_edge: bool = _at("gate", "require_edge")
    require_positive_return: bool = _at("gate", "require_positive_return")
    training_klines: Count | None = _of_training("train_bars")
    step_bars: Count | None = _of_training("step_bars")
    model_label_rule: str | None = _of_training("label_kind")
    model_volatility_multiple: float | None = _of_training("volatility_multiple")
    model_class_weight: str | None = _of_training("class_weight")
    model_calibration: str | None = _of_training("calibration")


class Instrument(Answer):
    """The exchange's rules that were traded by; those of a file are the finest there can be."""

    symbol: str
    base_asset: str
    quote_asset: str
    tick_size: Money
    lot_step: Money
    minimum_notional: Money


class SeriesData(Answer):
    """The candles of one symbol, those before the first cycle included."""

    symbol: str
    first: Moment
    last: Moment
    bars: Count
    missing: Count
    refused_rows: Count = Field(description="Rows of a file that were left out.")
    candle_hash: str = Field(description="What tells these candles from all others.")
    instrument: Instrument


class Data(Answer):
    """What a backtest ran on."""

    source: str = Field(description="The market (of the simulated one with its seed), or `file`.")
    interval: Interval
    candle_hash: str = Field(description="That of the one symbol, or of the hashes of all.")
    bars: Count
    series: list[SeriesData]


class Bounds(Answer):
    """The ends of a 95 % interval."""

    low: float
    high: float


class Intervals(Answer):
    """95 % intervals by a block bootstrap of the days; null where there are too few."""

    sharpe: Bounds | None
    total_return: Bounds | None
    cagr: Bounds | None
    maximum_drawdown: Bounds | None = Field(description="How deep days such as these may well fall in another order.")


class Significance(Answer):
    """Whether a result is more than luck, by everything that was tried on these candles until now."""

    verdict: str = Field(description="What it comes to, in a sentence.")
    significant: bool | None = Field(
        description=f"Whether `deflated_sharpe` is above {CONFIDENCE}; null where too few days moved the account."
    )
    days: Count
    moved_days: Count = Field(description="Days with a return other than 0.")
    independent_days: NotNegative = Field(description="How many independent ones they are worth.")
    sharpe: float | None = Field(description="A year.")
    probabilistic_sharpe: Fraction | None = Field(
        description="The probability that the true Sharpe ratio is above 0, were this the only trial."
    )
    deflated_sharpe: Fraction | None = Field(description="The probability that it is above `expected_maximum_sharpe`.")
    trials: Count = Field(description="How many different things were tried on candles that these share any with.")
    expected_maximum_sharpe: float | None = Field(description="What the best of so many comes to by luck, a year.")
    minimum_track_record_length: float | None = Field(
        description="Days after which `sharpe` would be significant, were this the only trial; null without gain."
    )
    intervals: Intervals


class CostCase(Answer):
    """The same run with fee and slippage times `multiple`."""

    multiple: Count
    total_return: float | None
    sharpe: float | None
    fills: Count


class MonthlyReturn(Answer):
    """What a UTC month brought, a fraction; null where nothing was left before it."""

    year: int
    month: int = Field(ge=1, le=12)
    account: float | None
    benchmark: float | None = Field(description="Buy-and-hold.")


class CalibrationBin(Answer):
    """Predictions whose confidence was from `low` to below `high`, and what came of them."""

    low: Fraction
    high: Fraction
    count: Count
    stated: Fraction | None = Field(description="Their mean confidence; null without one.")
    came_true: Fraction | None = Field(description="The share of them that was right; null without one.")


class Caveat(Answer):
    """What must be known before a result is believed."""

    code: str
    message: str


class Summary(Answer):
    """A backtest in a line; `deflated_sharpe` and `trials` are those of when it was computed."""

    model_config = ConfigDict(json_schema_extra={"examples": [backtest_examples.SUMMARY]})

    id: str
    created_at: Moment
    source: str = _at("data", "source")
    symbols: list[str] = _at("request", "symbols")
    interval: Interval = _at("request", "interval")
    since: Moment = _at("request", "since")
    until: Moment = _at("request", "until")
    strategy: str = _at("request", "strategy")
    parameters: dict[str, float] = _at("request", "parameters")
    initial_cash: Money = _at("request", "initial_cash")
    final_equity: Money
    total_return: float | None = _at("performance", "total_return")
    benchmark_return: float | None = _at("benchmark", "total_return")
    sharpe: float | None = _at("performance", "sharpe")
    maximum_drawdown: NotNegative | None = _at("performance", "maximum_drawdown")
    fills: Count
    closed_trades: Count
    significant: bool | None = _at("significance", "significant")
    deflated_sharpe: Fraction | None = _at("significance", "deflated_sharpe")
    trials: Count = _at("significance", "trials")


class SummaryPage(Answer):
    """Backtests, newest first."""

    items: list[Summary]
    next_cursor: str | None = Field(description=_NEXT)
    unreadable: list[str] = Field(
        description="Backtests that belong on this page and cannot be read, as another version wrote them; delete them."
    )


class Backtest(Answer):
    """A backtest without its curves."""

    model_config = ConfigDict(json_schema_extra={"examples": [backtest_examples.BACKTEST]})

    id: str = Field(description="Made of the request, the candles and the version of the code.")
    created_at: Moment
    request: Asked
    data: Data
    code_version: str
    model_ids: list[str] = Field(description="Who spoke, oldest first.")
    seconds: NotNegative = Field(description="How long signals and driver took.")
    bars_per_second: NotNegative = Field(description="Of the driver alone.")
    final_equity: Money
    fills: Count
    closed_trades: Count
    performance: Numbers
    benchmark: Numbers = Field(description="Buy-and-hold: equal shares of all symbols, with the same costs.")
    significance: Significance
    costs: list[CostCase] = Field(description="The run at 0, 1, 2 and 5 times its costs.")
    monthly: list[MonthlyReturn] = Field(description="Oldest first.")
    outcomes: dict[str, Count] = Field(description="How many cycles came to what, by reason code, most frequent first.")
    calibration: list[CalibrationBin] = Field(description="The forest's stated confidence; empty for a rule.")
    caveats: list[Caveat]


class CurvePoint(Answer):
    """The account after a cycle."""

    time: Moment
    equity: Money
    benchmark: Money = Field(description="What buy-and-hold was worth then.")
    drawdown: NotNegative = Field(description="A fraction of the highest equity so far.")
    held: bool = Field(description="Whether a position was held from then on.")


class Curve(Answer):
    """Equity over time, oldest first; where it was thinned, each stretch kept its ends and its extremes."""

    model_config = ConfigDict(json_schema_extra={"examples": [backtest_examples.CURVE]})

    items: list[CurvePoint]
    cycles: Count = Field(description="How many points there are before thinning.")


class ClosedTrade(Answer):
    """An exit held against its average entry."""

    number: int = Field(ge=1)
    symbol: str
    side: PositionSide
    quantity: Money
    entry_price: Money = Field(description="The average entry price, rounded down.")
    exit_price: Money
    fees: Money = Field(description="Those of the exit, and the entry's share.")
    net_profit: Money
    net_return: float = Field(description="`net_profit` over what the entry was worth, a fraction.")
    opened_at: Moment = Field(description="When the newest entry was filled.")
    closed_at: Moment
    bars_held: Count
    closed_by: Literal["signal", "protection", "liquidation"]


class ClosedTradePage(Answer):
    """Closed trades, oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [backtest_examples.TRADES]})

    items: list[ClosedTrade]
    next_cursor: str | None = Field(description=_NEXT)


class CycleFill(Answer):
    """A fill of a cycle."""

    side: Side
    origin: Literal["signal", "protection", "liquidation"]
    quantity: Money
    price: Money
    fee: Money
    cash_after: Money
    position_after: Money = Field(description="Of the symbol, dust included.")


class Decision(Answer):
    """What a closed candle led to, at the open of the next."""

    number: int = Field(ge=1)
    time: Moment = Field(description="When the cycle ran: the open of the next candle.")
    symbol: str
    candle_open_time: Moment = Field(description="The candle that was decided on.")
    signal: Signal | None = Field(description="What the strategy said; null where it said nothing.")
    confidence: Fraction | None = Field(description="How sure it was; 1 for a rule.")
    outcome: str = Field(description="The reason code of the live service, such as `filled` or `hold_signal`.")
    equity: Money
    fills: list[CycleFill] = Field(description="Everything that was filled, orders that rested included.")


class DecisionPage(Answer):
    """Decisions, oldest first, one for each candle but the last."""

    model_config = ConfigDict(json_schema_extra={"examples": [backtest_examples.DECISIONS]})

    items: list[Decision]
    next_cursor: str | None = Field(description=_NEXT)


class Parameter(Answer):
    """A number that a strategy can be set by."""

    name: str
    kind: Literal["integer", "number"]
    low: float
    high: float
    default: float
    step: float = Field(description="How far apart values are worth trying.")
    description: str


class Strategy(Answer):
    """A strategy and the space of its parameters."""

    model_config = ConfigDict(json_schema_extra={"examples": [backtest_examples.STRATEGY]})

    name: str
    summary: str
    parameters: list[Parameter]
    is_learned: bool = Field(description="Whether a model must be taught before it says anything.")


class StrategyList(Answer):
    """Every strategy that can be asked for."""

    items: list[Strategy]
