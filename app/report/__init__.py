"""Pages of HTML with charts, each whole by itself: what a backtest came to, and several side by side."""
