"""The OpenAPI document: what FastAPI writes, with the problem schema and, where there is one, the key."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from app.api.problems import SCHEMA_NAME, FieldError, ProblemDocument

DESCRIPTION = """Papertape predicts BUY, SELL or HOLD for crypto with a random forest and trades on paper.

**Paper trading only, not advice.** No real order is ever sent. Money travels as exact decimal strings,
times as RFC 3339 in UTC, failures as `application/problem+json` (RFC 9457) with a stable `code`."""

TAGS = [
    {"name": "trading", "description": "Cycles, the simulated trades they book, and the market they look at."},
    {
        "name": "portfolio",
        "description": "The account: what it holds, how it did, its orders and fills, and orders of your own.",
    },
    {"name": "parity", "description": "Life held against the backtest, trade by trade."},
    {"name": "events", "description": "What happened, as a list and as a live stream."},
    {"name": "model", "description": "The model's card, track record, predictions and training."},
    {"name": "backtest", "description": "Strategies on past candles, by the rules of the live service."},
    {"name": "optimize", "description": "Parameters of a strategy, and whether what was found can be believed."},
    {"name": "jobs", "description": "Long work, such as trainings and backtests."},
    {"name": "operations", "description": "Health, readiness and metrics; without a key."},
]
_TEMPLATE = "#/components/schemas/{model}"


def install_openapi(app: FastAPI, *, with_key: bool) -> None:
    """Complete the document of `app`; with `with_key`, its POST and DELETE operations ask for the X-API-Key header."""
    generate = app.openapi

    def complete() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if SCHEMA_NAME not in schemas:
            _add_problem(schemas)
            if with_key:
                _add_key(document)
        return document

    app.openapi = complete  # type: ignore[method-assign]


def _add_problem(schemas: dict[str, Any]) -> None:
    _, generated = models_json_schema(
        [(ProblemDocument, "serialization"), (FieldError, "serialization")], ref_template=_TEMPLATE
    )
    definitions = generated["$defs"]
    schemas[SCHEMA_NAME] = definitions.pop(ProblemDocument.__name__)
    schemas.update(definitions)


def _add_key(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = {
        "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The API_KEY of the service."}
    }
    for operations in document["paths"].values():
        for method in operations.keys() & {"post", "delete"}:
            operations[method]["security"] = [{"ApiKey": []}]
