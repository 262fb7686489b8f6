"""Parity with life: recorded cycles run again by the backtest, trade by trade."""
