"""Logs and metrics: how the service tells what it does."""
