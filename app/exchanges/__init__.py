"""Sources of market data, a venue per module."""
