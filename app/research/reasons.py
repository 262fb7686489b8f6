"""Why a trade was made: what the model saw, the gate's arithmetic, the checks, the order and the price."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from app.broker import fill_rules, order_rules
from app.domain.candle import Candle
from app.domain.cycle import Decision, Trade
from app.domain.explanation import Explanation
from app.domain.money import PPM, from_units, to_units
from app.domain.order import Check, Order, OrderKind, Origin, Side
from app.domain.ports import Ledger
from app.domain.signal import Edge, Signal
from app.errors import ConflictError, NotFoundError, StorageError
from app.research.replay import RecordedCycle, Replayer, Rules
from app.storage.database import Database
from app.storage.standings import find_orders
from app.strategies.explanation import explain_signal
from ml.bundle import Bundle

_SIDES = {Side.BUY: order_rules.BUY, Side.SELL: order_rules.SELL}


@dataclass(frozen=True, slots=True)
class ClassShare:
    """One thing the model could say: how likely it was, and the mean return that followed it in training."""

    signal: Signal
    probability: float
    mean_return: float


@dataclass(frozen=True, slots=True)
class GateArithmetic:
    """How the gate judged a decision; returns and costs are fractions.

    `expected_return` is the sum of each class's probability times its mean return (with the other sign for a SELL),
    less `round_trip_cost`.
    """

    signal: Signal
    confidence: float
    min_confidence: float
    edge: Edge | None
    require_edge: bool
    classes: tuple[ClassShare, ...]
    round_trip_cost: float
    expected_return: float
    require_positive_return: bool


@dataclass(frozen=True, slots=True)
class PriceArithmetic:
    """How the price of a fill came about, in quote units; `slippage_bps` and `fee_bps` are what the rules ask for.

    `reference` is the quote; of a resting order that was reached, its price or, where that was worse (of a limit:
    better), the open of the candle. With slippage, and on the tick against the account, it is the trade's price.
    """

    reference: Decimal
    slippage_bps: Decimal
    tick: Decimal
    fee_bps: Decimal


@dataclass(frozen=True, slots=True)
class TradeReason:
    """Everything that is known of why a trade was made.

    `summary` says it in a sentence, `notes` what is not known. `candle` is the one that a resting order was judged on.
    """

    trade: Trade
    summary: str
    notes: tuple[str, ...] = ()
    order: Order | None = None
    candle: Candle | None = None
    decision: Decision | None = None
    explanation: Explanation | None = None
    gate: GateArithmetic | None = None
    checks: tuple[Check, ...] = ()
    price: PriceArithmetic | None = None


@dataclass(frozen=True, slots=True)
class ReasonFinder:
    """Finds out why trades were made.

    Attributes:
        database: An open database.
        ledger: Where trades are read.
        replayer: Knows what their cycles came from.
    """

    database: Database
    ledger: Ledger
    replayer: Replayer

    async def find(self, trade_id: int) -> TradeReason:
        """Why a trade was made; raises NotFoundError `trade_not_found`."""
        trade = await self.ledger.get_trade(trade_id)
        order = None
        if trade.order_id is not None:
            order_id = trade.order_id
            order = await self.database.read(lambda connection: find_orders(connection, [order_id]).get(order_id))
        summary = _summarise(trade, order)
        if trade.cycle_id is None:
            return TradeReason(trade, summary, order=order)
        try:
            recorded = await self.replayer.load(trade.cycle_id)
        except (ConflictError, NotFoundError, StorageError) as error:
            cycle = await self.ledger.get_cycle(trade.cycle_id)
            decision = cycle.decision if trade.confidence is not None else None
            return TradeReason(trade, summary, (error.message,), order, decision=decision, checks=cycle.checks)
        return await self._tell(trade, order, summary, recorded)

    async def _tell(self, trade: Trade, order: Order | None, summary: str, recorded: RecordedCycle) -> TradeReason:
        notes: list[str] = []
        rules: Rules | None = None
        price = explanation = gate = None
        try:
            rules = self.replayer.get_rules(recorded)
            price = _explain_price(trade, order, recorded, rules)
        except ConflictError as error:
            notes.append(error.message)
        decision = recorded.report.decision if trade.origin is Origin.SIGNAL else None
        if decision is None:
            candle = _find_candle(trade, recorded)
            return TradeReason(trade, summary, tuple(notes), order, candle, price=price)
        try:
            bundle = await self.replayer.load_model(recorded)
            explanation = explain_signal(bundle, recorded.inputs.features, decision.action)
            gate = None if rules is None else _explain_gate(decision, rules, bundle)
        except ConflictError as error:
            notes.append(error.message)
        checks = recorded.report.checks
        told = (decision, explanation, gate, checks, price)
        return TradeReason(trade, summary, tuple(notes), order, None, *told)


def _summarise(trade: Trade, order: Order | None) -> str:
    kind = "market order" if order is None or order.kind is OrderKind.MARKET else order.kind.value.replace("_", " ")
    if trade.origin is Origin.SIGNAL:
        confidence = "" if trade.confidence is None else f" with {trade.confidence:.1%}"
        return f"The model {trade.model_id} said {trade.side}{confidence}, and the gate and every check let it pass."
    if trade.origin is Origin.PERSON and kind == "market order":
        return "A person asked for it."
    candle = "" if trade.candle_open_time is None else f" by the candle of {trade.candle_open_time.isoformat()}"
    trigger = "" if order is None or order.price is None else f" at {order.price.normalize():f}"
    if trade.origin is Origin.PERSON:
        return f"A person's {kind}{trigger} was reached{candle}."
    if trade.origin is Origin.LIQUIDATION:
        return f"The short had lost most of its margin: its liquidation{trigger} was reached{candle}."
    return f"The {kind}{trigger} that guarded the position was reached{candle}."


def _find_candle(trade: Trade, recorded: RecordedCycle) -> Candle | None:
    return next((candle for candle in recorded.candles if candle.open_time == trade.candle_open_time), None)


def _explain_gate(decision: Decision, rules: Rules, bundle: Bundle) -> GateArithmetic:
    returns = bundle.card["class_returns"]
    classes = tuple(
        ClassShare(signal, share, float(returns[signal.value])) for signal, share in decision.probabilities.items()
    )
    move = sum(one.probability * one.mean_return for one in classes)
    cost = 2.0 * float(bundle.card["side_cost"])
    return GateArithmetic(
        signal=decision.action,
        confidence=decision.confidence,
        min_confidence=rules.gate.min_confidence,
        edge=decision.edge,
        require_edge=rules.gate.require_edge,
        classes=classes,
        round_trip_cost=cost,
        expected_return=(move if decision.action is Signal.BUY else -move) - cost,
        require_positive_return=rules.gate.require_positive_return,
    )


def _explain_price(trade: Trade, order: Order | None, recorded: RecordedCycle, rules: Rules) -> PriceArithmetic | None:
    candle, reference = recorded.candles[-1], recorded.inputs.quote.price
    slips = True
    if order is not None and order.kind is not OrderKind.MARKET:
        judged = _find_candle(trade, recorded)
        if judged is None or order.price is None:
            return None
        candle, slips = judged, order.kind in (OrderKind.STOP_LOSS, OrderKind.TRAILING_STOP)
        rule = order_rules.stop_price if slips else order_rules.limit_price
        prices = (to_units(price) for price in (order.price, judged.open, judged.high, judged.low))
        reference = from_units(rule(_SIDES[order.side], *prices))
    shape = (to_units(candle.high), to_units(candle.low), to_units(candle.close))
    numerator, denominator = fill_rules.slippage_ratio(*shape, rules.terms.slippage_ppm) if slips else (0, PPM)
    slippage = (Decimal(numerator) * 10_000 / Decimal(denominator)).quantize(Decimal("0.0001"))
    return PriceArithmetic(reference, slippage, recorded.inputs.instrument.tick_size, rules.terms.fee_bps)
