"""Backtests: the live rules over recorded candles, by the engine itself and compiled."""
