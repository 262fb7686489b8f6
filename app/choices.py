"""What the settings choose: the market, what its model must be, and what a trade may risk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from pydantic import ValidationError
from stamina.instrumentation import set_on_retry_hooks

from app.agents.decision_making import Gate
from app.agents.risk import RiskAgent
from app.broker.desk import Terms
from app.domain.candle import Interval
from app.domain.ports import Clock, MarketData
from app.errors import ConflictError, InvalidInputError, NotReadyError, UpstreamError, UpstreamRateLimitError
from app.exchanges.binance import BinanceMarketDataClient
from app.exchanges.simulated import SimulatedMarketData
from app.observability.metrics import Metrics
from app.research.backtest.request import BacktestRequest, WalkForwardRule
from app.research.model_keeper import ModelSpec
from app.research.optimization.space import Axis, Range, find_start, make_axis
from app.research.replay import Rules
from app.risk.limits import LimitRules
from app.risk.protection import ProtectionRule
from app.risk.sizing import SizingRule
from app.setting_kinds import MarketSource
from app.settings import Settings
from app.storage.waits import SqlWaits
from app.strategies.forest import FOREST
from app.strategies.moving_average_cross import MOVING_AVERAGE_CROSS
from app.strategies.registry import get_rule
from ml.labels import LabelRule

log = structlog.get_logger()

_OF_THE_MACHINE = {
    "allow_keyless",
    "allowed_hosts",
    "api_key",
    "binance_base_url",
    "binance_fallback_url",
    "cors_origins",
    "database_url",
    "event_log_file",
    "host",
    "log_format",
    "log_level",
    "model_path",
    "port",
    "training_backend",
}

TUNED: Final = MOVING_AVERAGE_CROSS.name
"""The strategy that is optimised where none is named: a trial of the forest takes a thousand times as long."""

BACKTEST_SETTINGS: Final = (
    "initial_cash",
    "fee_bps",
    "slippage_bps",
    "sizing",
    "order_cash_fraction",
    "risk_per_trade",
    "volatility_target",
    "kelly_cap",
    "stop_rule",
    "stop_atr_multiple",
    "take_profit_atr_multiple",
    "allow_short",
    "max_symbol_exposure",
    "max_gross_exposure",
    "max_volume_share",
    "max_daily_loss",
    "max_drawdown",
    "cooldown_losses",
    "cooldown_minutes",
    "max_trades_per_day",
    "max_open_positions",
    "price_band_percent",
    "min_confidence",
    "require_edge",
    "require_positive_return",
    "default_klines_limit",
    "training_klines",
    "model_horizon_bars",
    "model_threshold_percent",
    "model_label_rule",
    "model_volatility_multiple",
    "model_class_weight",
    "model_calibration",
    "model_maximum_age_days",
)
"""The settings that a backtest may have its own of, checked as the service's are."""

_LEAST_STEPS = 10
"""A piece that one model speaks of is at least so small a share of what it learns from."""


_USUAL_SPAN = timedelta(days=30)
_LEAST_CANDLES = 1_000
_USUAL_DAYS = timedelta(days=180)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def choose_market(settings: Settings, clock: Clock, waits: SqlWaits, metrics: Metrics) -> MarketData:
    """The market that `MARKET_SOURCE` names; with auto, the simulated one where no Binance host answers."""
    if settings.market_source is MarketSource.SIMULATED:
        return SimulatedMarketData(clock, settings.simulated_seed)
    set_on_retry_hooks([])  # the client logs each failure itself
    binance = BinanceMarketDataClient(
        settings.binance_base_url,
        settings.binance_fallback_url,
        clock,
        waits=waits,
        on_call=metrics.observe_upstream,
    )
    if settings.market_source is MarketSource.BINANCE:
        return binance
    try:
        await binance.probe()
    except UpstreamRateLimitError:
        return binance  # it answers: it says that we must wait
    except (UpstreamError, NotReadyError) as error:
        await binance.aclose()
        log.warning(
            "market.simulated",
            detail="No Binance host answers, so THE MARKET IS SIMULATED until the next start.",
            reason=error.message,
        )
        return SimulatedMarketData(clock, settings.simulated_seed)
    return binance


def make_spec(settings: Settings) -> ModelSpec:
    """What the settings ask a model to be."""
    rule = LabelRule(
        horizon_bars=settings.model_horizon_bars,
        threshold_percent=settings.model_threshold_percent,
        kind=settings.model_label_rule.value,
        volatility_multiple=settings.model_volatility_multiple,
    )
    return ModelSpec(
        folder=settings.model_path,
        symbols=settings.training_symbols or (settings.default_symbol,),
        interval=settings.default_interval,
        label_rule=asdict(rule),
        forest={"class_weight": settings.model_class_weight.value, "calibration": settings.model_calibration.value},
        training_bars=settings.training_klines,
        gate={
            "min_confidence": settings.min_confidence,
            "fee_bps": float(settings.fee_bps),
            "slippage_bps": float(settings.slippage_bps),
            "require_positive_return": settings.require_positive_return,
        },
        backend=settings.training_backend,
        maximum_age=timedelta(days=settings.model_maximum_age_days),
        retrain_every=timedelta(hours=settings.retrain_hours) if settings.retrain_hours else None,
    )


def make_sizing(settings: Settings) -> SizingRule:
    """How entries are sized."""
    return SizingRule(
        method=settings.sizing,
        cash_fraction=settings.order_cash_fraction,
        risk_fraction=settings.risk_per_trade,
        volatility_target=settings.volatility_target,
        kelly_cap=settings.kelly_cap,
    )


def make_limits(settings: Settings) -> LimitRules:
    """What entries must keep to."""
    return LimitRules(
        max_symbol_exposure=settings.max_symbol_exposure,
        max_gross_exposure=settings.max_gross_exposure,
        max_volume_share=settings.max_volume_share,
        max_daily_loss=settings.max_daily_loss,
        max_drawdown=settings.max_drawdown,
        cooldown_losses=settings.cooldown_losses,
        cooldown_minutes=settings.cooldown_minutes,
        max_trades_per_day=settings.max_trades_per_day,
        max_open_positions=settings.max_open_positions,
        price_band_percent=settings.price_band_percent,
        model_maximum_age=timedelta(days=settings.model_maximum_age_days),
    )


def make_protection(settings: Settings) -> ProtectionRule:
    """How entries are protected."""
    return ProtectionRule(settings.stop_rule, settings.stop_atr_multiple, settings.take_profit_atr_multiple)


def make_risk(settings: Settings) -> RiskAgent:
    """The seat that sizes entries and holds them to the limits."""
    return RiskAgent(
        make_sizing(settings), make_limits(settings), make_protection(settings), allow_short=settings.allow_short
    )


def make_gate(settings: Settings) -> Gate:
    """What a BUY or SELL must have to be traded."""
    return Gate(settings.min_confidence, settings.require_edge, settings.require_positive_return)


def make_terms(settings: Settings) -> Terms:
    """What trading on paper costs, and what of it is possible."""
    return Terms(settings.fee_bps, settings.slippage_bps, settings.max_volume_share, settings.allow_short)


def read_rules(document: Mapping[str, Any]) -> Rules:
    """The rules of a cycle from the settings that it ran with, as `describe_settings` wrote them.

    Neither the environment nor `.env` has a say: a setting that was not there yet has its default.

    Raises:
        ConflictError: `settings_unreadable`, this version cannot read them.
    """
    try:
        defaults = {name: field.default for name, field in Settings.model_fields.items()}
        settings = Settings.model_validate({**defaults, **document, "_env_file": None})
    except ValidationError as error:
        fields = ", ".join(sorted({str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}))
        raise ConflictError(
            f"This version cannot read the settings that the cycle ran with ({fields}).", code="settings_unreadable"
        ) from error
    return Rules(
        make_gate(settings),
        make_terms(settings),
        make_sizing(settings),
        make_limits(settings),
        make_protection(settings),
    )


def make_backtest_request(
    settings: Settings,
    own: Mapping[str, object],
    *,
    step_bars: int | None = None,
    **asked: Any,  # noqa: ANN401
) -> BacktestRequest:
    """What a backtest is asked to be: everything that is left out is as the service trades.

    Args:
        settings: The service's.
        own: Settings of this backtest alone, by their names in small letters; those of `BACKTEST_SETTINGS`.
        step_bars: After how many candles a forest is trained anew; by default when a running service would, but not
            before a tenth of what it learns from.
        asked: The fields of `BacktestRequest` that no setting names. Without symbols, an interval and a strategy it is
            the forest on the service's market; without a model_id the forest is trained on the way.

    Raises:
        InvalidInputError: `invalid_request`; the message says what is wrong.
    """
    unknown = sorted({*own} - {*BACKTEST_SETTINGS})
    if unknown:
        raise InvalidInputError(f"A backtest has no setting {unknown[0][:60]!r}.", code="invalid_request")
    try:
        chosen = Settings.model_validate({**settings.model_dump(), **own, "_env_file": None})
    except ValidationError as error:
        words = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False))
        raise InvalidInputError(f"{words}.", code="invalid_request") from None
    defaults = {"symbols": (chosen.default_symbol,), "interval": chosen.default_interval, "strategy": FOREST.name}
    fields: dict[str, Any] = {**defaults, **asked}
    rule, values = get_rule(fields["strategy"]), dict(fields.get("parameters", {}))
    if rule is FOREST and fields.get("model_id") is None:
        fields["walk_forward"] = _walk_forward_rule(chosen, fields["interval"], step_bars)
        usual = {"horizon_bars": chosen.model_horizon_bars, "threshold_percent": chosen.model_threshold_percent}
        values = usual | values
    if rule is not FOREST or fields.get("model_id") is None:
        fields["parameters"] = values = rule.check_values(values)
    fields.setdefault("window_bars", max(chosen.default_klines_limit, rule.lookback(values)))
    return BacktestRequest(
        initial_cash=chosen.initial_cash,
        gate=make_gate(chosen),
        terms=make_terms(chosen),
        sizing=make_sizing(chosen),
        limits=make_limits(chosen),
        protection=make_protection(chosen),
        **fields,
    )


def ask_backtest(
    settings: Settings,
    own: Mapping[str, object],
    now: datetime,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    **asked: Any,  # noqa: ANN401
) -> BacktestRequest:
    """As `make_backtest_request`, of a span that may be left open: the last 30 days, or 1,000 candles if longer.

    Args:
        settings: The service's.
        own: Settings of this backtest alone.
        now: The time.
        since: The first moment of trading.
        until: The end; `now` where it lies before that.
        asked: As `make_backtest_request` takes it, `step_bars` included.

    Raises:
        InvalidInputError: As `make_backtest_request`.
    """
    interval: Interval = asked.get("interval", settings.default_interval)
    newest = now - (now - _EPOCH) % interval.duration
    if since is not None and since >= now:
        raise InvalidInputError(
            "since lies in the future: there are no candles yet.", code="invalid_request", context={"field": "since"}
        )
    until = min(until or newest, newest)
    if since is None:
        since = until - max(_USUAL_SPAN, _LEAST_CANDLES * interval.duration)
    return make_backtest_request(settings, own, since=since, until=until, **asked)


def choose_axes(
    settings: Settings, ranges: Mapping[str, Range], asked: Mapping[str, Any]
) -> tuple[tuple[Axis, ...], dict[str, Any]]:
    """What an optimisation varies, and the fields of `make_backtest_request` that every trial has besides.

    Args:
        settings: The service's.
        ranges: What varies, by name; everything that the strategy has, and `asked` does not give, where there is none.
        asked: The fields that are asked for, the strategy among them.

    Raises:
        InvalidInputError: As `make_axis` and `find_start`.
        NotFoundError: `unknown_strategy`.
    """
    strategy, fixed = asked["strategy"], asked.get("parameters", {})
    every = {one.name: Range() for one in get_rule(strategy).parameters if one.name not in fixed}
    chosen = ranges or (every if asked.get("model_id") is None else {})
    axes = tuple(make_axis(strategy, name, one) for name, one in chosen.items())
    if asked.get("model_id") is not None:
        return axes, dict(asked)
    parameters, lookback = find_start(strategy, fixed, axes)
    window = {"window_bars": max(settings.default_klines_limit, lookback)}
    return axes, {**window, **asked, "parameters": parameters}


def choose_days(now: datetime, since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    """The span of an optimisation, which counts in days: the last 180 whole ones where it is left open."""
    until = until or now.replace(hour=0, minute=0, second=0, microsecond=0)
    return since or until - _USUAL_DAYS, until


def _walk_forward_rule(settings: Settings, interval: Interval, step_bars: int | None) -> WalkForwardRule:
    usual = round(timedelta(days=settings.model_maximum_age_days) / interval.duration)
    return WalkForwardRule(
        train_bars=settings.training_klines,
        step_bars=max(usual, settings.training_klines // _LEAST_STEPS) if step_bars is None else step_bars,
        label_kind=settings.model_label_rule.value,
        volatility_multiple=settings.model_volatility_multiple,
        class_weight=settings.model_class_weight.value,
        calibration=settings.model_calibration.value,
    )


def describe_settings(settings: Settings) -> dict[str, object]:
    """The settings that a cycle depends on, as plain JSON: no secrets, and nothing about the machine it runs on."""
    return settings.model_dump(mode="json", exclude=_OF_THE_MACHINE)
