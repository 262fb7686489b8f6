"""Answers as the documentation shows them."""

from __future__ import annotations

from typing import Any

TRADE: dict[str, Any] = {
    "id": 42,
    "cycle_id": "01KAX2J8Y7Q4M2V6ZC3N5T9B1D",
    "symbol": "BTCUSDT",
    "interval": "1m",
    "source": "binance",
    "side": "BUY",
    "quantity": "0.03906",
    "price": "63998.2",
    "notional": "2499.769692",
    "fee": "0.49995394",
    "slippage_bps": 3.1,
    "confidence": 0.47,
    "model_id": "forest-20261121T010000Z-5f2c9a",
    "candle_open_time": "2026-11-21T01:01:00.000Z",
    "executed_at": "2026-11-21T01:02:03.456Z",
    "reason": "BUY with a confidence of 0.47 passed the gate of 0.45.",
    "cash_after": "7499.73035406",
    "position_after": "0.03906",
    "edge": "none",
}
EVENT: dict[str, Any] = {
    "sequence": 1207,
    "at": "2026-11-21T01:02:03.456Z",
    "type": "trade.filled",
    "tags": ["trade"],
    "symbol": "BTCUSDT",
    "action": "BUY",
    "cycle_id": "01KAX2J8Y7Q4M2V6ZC3N5T9B1D",
    "message": "Bought 0.03906 at 63998.2.",
    "data": {"quantity": "0.03906", "price": "63998.2"},
}
_DECISION = {
    "action": "BUY",
    "confidence": 0.47,
    "probabilities": {"BUY": 0.47, "SELL": 0.2, "HOLD": 0.33},
    "reason_code": "confident",
    "reason": "The model finds BUY likeliest (0.47).",
    "model_id": "forest-20261121T010000Z-5f2c9a",
    "expected_return": -0.0004,
    "edge": "none",
    "drift": 0.6,
}
CYCLE: dict[str, Any] = {
    "cycle_id": "01KAX2J8Y7Q4M2V6ZC3N5T9B1D",
    "symbol": "BTCUSDT",
    "interval": "1m",
    "source": "binance",
    "status": "COMPLETED",
    "started_at": "2026-11-21T01:02:03.400Z",
    "finished_at": "2026-11-21T01:02:03.460Z",
    "duration_ms": 60.0,
    "market": {
        "price": "63979.01",
        "candle_open_time": "2026-11-21T01:01:00.000Z",
        "candle_close_time": "2026-11-21T01:01:59.999Z",
        "sma_10": 63940.2,
        "sma_50": 63890.7,
        "rsi_14": 56.3,
        "price_change_1m": 0.00031,
        "candles": [
            {
                "open_time": "2026-11-21T01:01:00.000Z",
                "close_time": "2026-11-21T01:01:59.999Z",
                "open": "63958.2",
                "high": "63985",
                "low": "63951.1",
                "close": "63978",
                "volume": "12.3456",
            }
        ],
    },
    "decision": _DECISION,
    "execution": {
        "status": "FILLED",
        "reason_code": "filled",
        "reason": "Bought 0.03906 at 63998.2.",
        "trade": TRADE,
        "duplicate": False,
    },
    "logs": [
        {"time": "2026-11-21T01:02:03.440Z", "agent": "market_monitoring", "message": "BTCUSDT trades at 63979.01."}
    ],
    "reason_code": None,
    "reason": None,
}
CYCLE_SUMMARY: dict[str, Any] = {
    "cycle_id": "01KAX2J8Y7Q4M2V6ZC3N5T9B1D",
    "symbol": "BTCUSDT",
    "interval": "1m",
    "source": "binance",
    "status": "COMPLETED",
    "started_at": "2026-11-21T01:02:03.400Z",
    "finished_at": "2026-11-21T01:02:03.460Z",
    "duration_ms": 60.0,
    "price": "63979.01",
    "candle_open_time": "2026-11-21T01:01:00.000Z",
    "action": "BUY",
    "confidence": 0.47,
    "execution_status": "FILLED",
    "trade_id": 42,
    "reason_code": "filled",
    "reason": "Bought 0.03906 at 63998.2.",
}
JOB: dict[str, Any] = {
    "id": "01KAX2M4R0",
    "kind": "training",
    "status": "RUNNING",
    "progress": 0.4,
    "message": "4,000 of 10,000 candles fetched",
    "error_code": None,
    "error_message": None,
    "result": None,
    "created_at": "2026-11-21T01:02:03.000Z",
    "started_at": "2026-11-21T01:02:03.010Z",
    "finished_at": None,
}
MODEL: dict[str, Any] = {
    "id": "forest-binance-1m-20261121T010000Z-5f2c9a01",
    "source": "binance",
    "interval": "1m",
    "state": "ACTIVE",
    "symbols": ["BTCUSDT"],
    "label_rule": {"horizon_bars": 60, "threshold_percent": 0.5, "kind": "fixed", "volatility_multiple": 1.0},
    "edge": "none",
    "skill": 0.0717,
    "direction_skill": -0.0002,
    "comparison": None,
    "sha256": "5f2c9a0100000000000000000000000000000000000000000000000000000000",
    "trained_at": "2026-11-21T01:00:00.000Z",
    "registered_at": "2026-11-21T01:00:04.000Z",
    "activated_at": "2026-11-21T01:00:04.000Z",
}
TRACK_RECORD: dict[str, Any] = {
    "model_id": "forest-binance-1m-20261121T010000Z-5f2c9a01",
    "count": 4,
    "first_settled_at": "2026-11-21T02:01:59.999Z",
    "last_settled_at": "2026-11-21T02:04:59.999Z",
    "log_loss": 1.021,
    "prior_log_loss": 1.0397,
    "skill": 0.018,
    "brier": 0.612,
    "calibration_error": 0.03,
    "class_counts": {"BUY": 1, "SELL": 1, "HOLD": 2},
    "gate": {"count": 1, "rate": 1.0, "low": 0.2065, "high": 1.0},
    "bins": [
        {
            "lower": 0.45,
            "upper": 0.5,
            "stated": 0.47,
            "hits": {"count": 4, "rate": 0.5, "low": 0.15, "high": 0.85},
        }
    ],
    "running": [{"settled_at": "2026-11-21T02:04:59.999Z", "log_loss": 1.021}],
}
HEALTH: dict[str, Any] = {
    "version": "0.1.0",
    "source": "binance",
    "simulated": False,
    "database": "/home/me/papertape/trading.db",
    "model": {
        "id": "forest-binance-1m-20261121T010000Z-5f2c9a01",
        "trained_at": "2026-11-21T01:00:00+00:00",
        "old": False,
        "phase": "ready",
        "progress": 1.0,
        "message": "Model forest-binance-1m-20261121T010000Z-5f2c9a01.",
    },
    "exchange": {"host": "api.binance.com", "clock_skew_seconds": 0.012},
    "last_cycle": None,
}
CANDLE_ROW: list[Any] = [1795222860000, "63958.2", "63985", "63951.1", "63978", "12.3456", 1795222919999]
