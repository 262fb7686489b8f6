"""NautilusTrader at the common work: its BacktestEngine on bars, the low-level interface."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, RiskEngineConfig
from nautilus_trader.indicators import SimpleMovingAverage
from nautilus_trader.model.currencies import BTC, USDT
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import CurrencyPair
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

from benchmarks.peers import work

VENUE = Venue("SIM")
INSTRUMENT_ID = InstrumentId(Symbol("BTCUSDT"), VENUE)
BAR_TYPE = BarType.from_str(f"{INSTRUMENT_ID}-1-MINUTE-LAST-EXTERNAL")


class Cross(Strategy):
    """All in when the fast average crosses above the slow one, out when it crosses below."""

    def __init__(self) -> None:
        super().__init__()
        self.fast = SimpleMovingAverage(work.FAST_BARS)
        self.slow = SimpleMovingAverage(work.SLOW_BARS)
        self.was_above = True

    def on_start(self) -> None:
        """Ask for the bars."""
        self.instrument = self.cache.instrument(INSTRUMENT_ID)
        self.account = self.cache.account_for_venue(VENUE)
        self.register_indicator_for_bars(BAR_TYPE, self.fast)
        self.register_indicator_for_bars(BAR_TYPE, self.slow)
        self.subscribe_bars(BAR_TYPE)

    def on_bar(self, bar: Bar) -> None:
        """Trade a cross; an order is filled at this close, which is the next open."""
        if not self.slow.initialized:
            return
        is_above = self.fast.value > self.slow.value
        if is_above == self.was_above:
            return
        self.was_above = is_above
        if is_above:
            cash = float(self.account.balance_free(USDT))
            self.trade(OrderSide.BUY, Quantity(cash / (float(bar.close) * (1 + work.COST)) - 5e-9, 8))
        elif self.portfolio.is_net_long(INSTRUMENT_ID):
            self.trade(OrderSide.SELL, Quantity(self.portfolio.net_position(INSTRUMENT_ID), 8))

    def trade(self, side: OrderSide, quantity: Quantity) -> None:
        """Send a market order."""
        self.submit_order(self.order_factory.market(INSTRUMENT_ID, side, quantity))


def instrument() -> CurrencyPair:
    fee = Decimal(repr(work.COST))
    return CurrencyPair(
        instrument_id=INSTRUMENT_ID,
        raw_symbol=INSTRUMENT_ID.symbol,
        base_currency=BTC,
        quote_currency=USDT,
        price_precision=work.PRICE_DIGITS,
        size_precision=8,
        price_increment=Price(10.0**-work.PRICE_DIGITS, work.PRICE_DIGITS),
        size_increment=Quantity(1e-8, 8),
        maker_fee=fee,
        taker_fee=fee,
        ts_event=0,
        ts_init=0,
    )


def measure(candles: work.Candles, repeats: int) -> dict[str, Any]:
    bars = [
        Bar(BAR_TYPE, *(Price(value, work.PRICE_DIGITS) for value in prices), Quantity(volume, 8), known, known)
        for *prices, volume, known in zip(
            *(column.tolist() for column in candles[1:]),
            ((candles.open_time_ms + 60_000) * 1_000_000).tolist(),  # a bar is known when it closes
            strict=True,
        )
    ]
    pair = instrument()
    quiet = LoggingConfig(bypass_logging=True)
    engine = BacktestEngine(BacktestEngineConfig(logging=quiet, risk_engine=RiskEngineConfig(bypass=True)))
    engine.add_venue(
        VENUE, OmsType.NETTING, AccountType.CASH, starting_balances=[Money(work.CASH, USDT), Money(0, BTC)]
    )
    engine.add_instrument(pair)
    engine.add_data(bars)
    timing = work.best_seconds(engine.run, repeats, before=lambda: start_anew(engine))
    cash = float(engine.cache.account_for_venue(VENUE).balance_total(USDT))
    held = float(engine.portfolio.net_position(INSTRUMENT_ID))
    outcome = work.Outcome(cash + held * float(candles.close[-1]), len(engine.cache.orders()))
    return {"NautilusTrader": work.report(len(bars), timing, outcome)}


def start_anew(engine: BacktestEngine) -> None:
    engine.reset()
    engine.clear_strategies()
    engine.add_strategy(Cross())


if __name__ == "__main__":
    work.main(measure)
