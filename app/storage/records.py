"""Rows to domain objects and back: what is read equals what was written, to the last digit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Select, func, select

from app.domain.candle import Candle, Interval
from app.domain.cycle import (
    CycleReport,
    CycleStatus,
    Decision,
    Execution,
    ExecutionStatus,
    LogLine,
    MarketView,
    Trade,
)
from app.domain.cycle_record import CandleReference
from app.domain.market import Indicators
from app.domain.order import Check, Order, Origin, Side
from app.domain.record import canonical, from_microseconds, from_plain, microseconds, to_plain
from app.domain.signal import Edge, Signal
from app.domain.standing import Run, RunKey
from app.storage.account_tables import accounts, closed_trades
from app.storage.tables import cycles, decisions, trades

# The decision behind a trade: not that of the cycle, where the cycle's trade is an earlier one's.
_decisions_of_trades = decisions.alias("decisions_of_trades")

# In the order of the fields of Run; they may follow other columns.
RUN_COLUMNS = (
    accounts.c.source,
    accounts.c.strategy,
    accounts.c.name,
    accounts.c.generation,
    accounts.c.initial_cash,
    accounts.c.created_at,
)
# In the order of the fields of Trade, as far as these are of its own.
TRADE_COLUMNS = (
    trades.c.id,
    trades.c.cycle_id,
    trades.c.symbol,
    trades.c.interval,
    accounts.c.source,
    trades.c.side,
    trades.c.quantity,
    trades.c.price,
    trades.c.notional,
    trades.c.fee,
    trades.c.slippage_bps,
    trades.c.confidence,
    trades.c.model_id,
    trades.c.candle_open_time,
    trades.c.executed_at,
    trades.c.reason,
    trades.c.cash_after,
    trades.c.position_after,
    _decisions_of_trades.c.edge,
    trades.c.order_id,
    trades.c.origin,
    closed_trades.c.profit,
    *RUN_COLUMNS,
)
_DECISION_COLUMNS = (
    decisions.c.action,
    decisions.c.confidence,
    decisions.c.p_buy,
    decisions.c.p_sell,
    decisions.c.p_hold,
    decisions.c.reason_code,
    decisions.c.reason,
    decisions.c.model_id,
    decisions.c.expected_return,
    decisions.c.edge,
    decisions.c.drift,
)
_CYCLE_COLUMNS = (
    cycles.c.number,
    cycles.c.id,
    accounts.c.source,
    cycles.c.symbol,
    cycles.c.interval,
    cycles.c.status,
    cycles.c.started_at,
    cycles.c.finished_at,
    cycles.c.candle_open_time,
    cycles.c.market,
    cycles.c.execution_status,
    cycles.c.execution_reason_code,
    cycles.c.execution_reason,
    cycles.c.duplicate_of,
    cycles.c.reason_code,
    cycles.c.reason,
    cycles.c.logs,
    cycles.c.checks,
    cycles.c.orders,
    *RUN_COLUMNS,
)
_DECISION_START = len(_CYCLE_COLUMNS)
_TRADE_START = _DECISION_START + len(_DECISION_COLUMNS)

SELECT_TRADES: Select[Any] = (
    select(*TRADE_COLUMNS)
    .join_from(trades, accounts)
    .outerjoin(
        _decisions_of_trades,
        (_decisions_of_trades.c.cycle_id == trades.c.cycle_id) & trades.c.confidence.is_not(None),
    )
    .outerjoin(closed_trades, closed_trades.c.trade_id == trades.c.id)
)

SELECT_CYCLES: Select[Any] = (
    select(*_CYCLE_COLUMNS, *_DECISION_COLUMNS, *TRADE_COLUMNS)
    .join_from(cycles, accounts, cycles.c.account_id == accounts.c.id)
    .outerjoin(decisions, decisions.c.cycle_id == cycles.c.id)
    .outerjoin(
        trades,
        (trades.c.cycle_id == func.coalesce(cycles.c.duplicate_of, cycles.c.id)) & trades.c.confidence.is_not(None),
    )
    .outerjoin(_decisions_of_trades, _decisions_of_trades.c.cycle_id == trades.c.cycle_id)
    .outerjoin(closed_trades, closed_trades.c.trade_id == trades.c.id)
)


def trade_from_row(row: Sequence[Any]) -> Trade:
    """The trade in a row of `TRADE_COLUMNS`."""
    number, cycle_id, symbol, interval, source, side, *rest = row[:18]
    edge, order_id, origin, profit, *run = row[18:]
    told = (*rest, _edge(edge), run_from_row(run).id, order_id, Origin(origin), profit)
    return Trade(number, cycle_id, symbol, None if interval is None else Interval(interval), source, Side(side), *told)


def run_from_row(row: Sequence[Any]) -> Run:
    """The run in a row of `RUN_COLUMNS`."""
    source, strategy, name, *rest = row
    return Run(RunKey(source, strategy, name), *rest)


def _edge(name: str | None) -> Edge | None:
    return None if name is None else Edge(name)


def report_from_row(row: Sequence[Any]) -> CycleReport:
    """The report in a row of `SELECT_CYCLES`; its fills, and most often its candles, stand elsewhere."""
    (_, cycle_id, source, symbol, interval, status, started_at, finished_at, candle_open_time, market) = row[:10]
    execution_status, execution_reason_code, execution_reason, duplicate_of, reason_code, reason, logs = row[10:17]
    checks, changed, *run = row[17:_DECISION_START]
    execution = None
    if execution_status is not None:
        execution = Execution(
            ExecutionStatus(execution_status),
            execution_reason_code,
            execution_reason,
            trade=None if row[_TRADE_START] is None else trade_from_row(row[_TRADE_START:]),
            duplicate=duplicate_of is not None,
        )
    return CycleReport(
        id=cycle_id,
        source=source,
        symbol=symbol,
        interval=Interval(interval),
        status=CycleStatus(status),
        started_at=started_at,
        finished_at=finished_at,
        logs=tuple(LogLine(from_microseconds(time), agent, message) for time, agent, message in logs),
        market=None if market is None else _market_from_json(market, candle_open_time),
        decision=_decision_from_row(row[_DECISION_START:_TRADE_START]),
        execution=execution,
        reason_code=reason_code,
        reason=reason,
        run=run_from_row(run).id,
        checks=_unpack(tuple[Check, ...], checks),
        orders=_unpack(tuple[Order, ...], changed),
    )


def cycle_values(report: CycleReport, account_id: int, seen: CandleReference | None = None) -> dict[str, Any]:
    """The row of `cycles` for a report; `seen` names the candles that it shows, where they are kept elsewhere."""
    market, execution = report.market, report.execution
    values: dict[str, Any] = {
        "id": report.id,
        "account_id": account_id,
        "symbol": report.symbol,
        "interval": report.interval.value,
        "status": report.status.value,
        "started_at": report.started_at,
        "finished_at": report.finished_at,
        "candle_open_time": None if market is None else market.candle_open_time,
        "market": None if market is None else _market_to_json(market, seen),
        "reason_code": report.reason_code,
        "reason": report.reason,
        "checks": _pack(report.checks),
        "orders": _pack(report.orders),
        "logs": [[microseconds(line.time), line.agent, line.message] for line in report.logs],
        "execution_status": None,
        "execution_reason_code": None,
        "execution_reason": None,
        "duplicate_of": None,
    }
    if execution is not None:
        values["execution_status"] = execution.status.value
        values["execution_reason_code"] = execution.reason_code
        values["execution_reason"] = execution.reason
        values["duplicate_of"] = execution.trade.cycle_id if execution.duplicate and execution.trade else None
    return values


def decision_values(cycle_id: str, decision: Decision) -> dict[str, Any]:
    """The row of `decisions` for a cycle's decision."""
    return {
        "cycle_id": cycle_id,
        "action": decision.action.value,
        "confidence": decision.confidence,
        "p_buy": decision.probabilities[Signal.BUY],
        "p_sell": decision.probabilities[Signal.SELL],
        "p_hold": decision.probabilities[Signal.HOLD],
        "reason_code": decision.reason_code,
        "reason": decision.reason,
        "model_id": decision.model_id,
        "expected_return": decision.expected_return,
        "edge": decision.edge,
        "drift": decision.drift,
    }


def trade_values(trade: Trade, account_id: int) -> dict[str, Any]:
    """The row of `trades` for a trade, without the id, which the database gives it."""
    return {
        "cycle_id": trade.cycle_id,
        "account_id": account_id,
        "symbol": trade.symbol,
        "interval": trade.interval.value if trade.interval else None,
        "order_id": trade.order_id,
        "origin": trade.origin.value,
        "side": trade.side.value,
        "quantity": trade.quantity,
        "price": trade.price,
        "notional": trade.notional,
        "fee": trade.fee,
        "slippage_bps": trade.slippage_bps,
        "confidence": trade.confidence,
        "model_id": trade.model_id,
        "candle_open_time": trade.candle_open_time,
        "executed_at": trade.executed_at,
        "reason": trade.reason,
        "cash_after": trade.cash_after,
        "position_after": trade.position_after,
    }


def _decision_from_row(row: Sequence[Any]) -> Decision | None:
    action, confidence, p_buy, p_sell, p_hold, reason_code, reason, model_id, expected_return, edge, drift = row
    if action is None:
        return None
    probabilities = {Signal.BUY: p_buy, Signal.SELL: p_sell, Signal.HOLD: p_hold}
    told = (reason_code, reason, model_id, expected_return, _edge(edge), drift)
    return Decision(Signal(action), confidence, probabilities, *told)


def _pack(facts: Sequence[Any]) -> str | None:
    return canonical(to_plain(facts)) if facts else None


def _unpack(kind: Any, text: str | None) -> Any:  # noqa: ANN401 - of whatever kind is asked for
    return from_plain(kind, json.loads(text)) if text else ()


def find_seen(row: Sequence[Any]) -> CandleReference | None:
    """What names the candles of a report in a row of `SELECT_CYCLES`; None where they stand in the row itself."""
    market = row[9]
    return None if market is None or "seen" not in market else from_plain(CandleReference, market["seen"])


def _market_to_json(market: MarketView, seen: CandleReference | None) -> dict[str, Any]:
    indicators = market.indicators
    candles = {"candles": [_candle_to_json(candle) for candle in market.candles]}
    return {
        "price": str(market.price),
        "close_time": microseconds(market.candle_close_time),
        "indicators": [indicators.sma_10, indicators.sma_50, indicators.rsi_14, indicators.price_change_1m],
        **(candles if seen is None else {"seen": to_plain(seen)}),
    }


def _market_from_json(document: dict[str, Any], candle_open_time: datetime) -> MarketView:
    return MarketView(
        price=Decimal(document["price"]),
        candle_open_time=candle_open_time,
        candle_close_time=from_microseconds(document["close_time"]),
        indicators=Indicators(*document["indicators"]),
        candles=tuple(_candle_from_json(values) for values in document.get("candles", ())),
    )


def _candle_to_json(candle: Candle) -> list[Any]:
    prices = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    return [microseconds(candle.open_time), microseconds(candle.close_time), *map(str, prices)]


def _candle_from_json(values: Sequence[Any]) -> Candle:
    return Candle(from_microseconds(values[0]), from_microseconds(values[1]), *map(Decimal, values[2:]))
