"""Papertape: a prediction microservice for crypto that trades on paper."""

__version__ = "0.2.1"
