"""Offline work on the live engine: training, and later backtests."""
