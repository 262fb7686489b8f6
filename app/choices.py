"""What the settings choose: the market, and what its model must be."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

import structlog
from stamina.instrumentation import set_on_retry_hooks

from app.domain.ports import Clock, MarketData
from app.errors import NotReadyError, UpstreamError, UpstreamRateLimitError
from app.exchanges.binance import BinanceMarketDataClient
from app.exchanges.simulated import SimulatedMarketData
from app.observability.metrics import Metrics
from app.research.model_keeper import ModelSpec
from app.settings import MarketSource, Settings
from app.storage.waits import SqlWaits
from ml.labels import LabelRule

log = structlog.get_logger()


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
