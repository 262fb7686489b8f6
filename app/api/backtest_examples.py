"""Backtests as the documentation shows them."""

from __future__ import annotations

from typing import Any

NEW_BACKTEST: dict[str, Any] = {}
SUMMARY: dict[str, Any] = {}
BACKTEST: dict[str, Any] = {}
CURVE: dict[str, Any] = {}
TRADES: dict[str, Any] = {}
DECISIONS: dict[str, Any] = {}
STRATEGY: dict[str, Any] = {}
