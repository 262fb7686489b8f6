"""Failures as RFC 9457 problem documents: how one is built, sent and documented."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Scope, Send

from app.observability.logging import VALUE_LIMIT, printable

MEDIA_TYPE = "application/problem+json"
SCHEMA_NAME = "Problem"
MAXIMUM_ERRORS = 20

_STANDARD = ("type", "title", "status", "detail", "instance", "code", "request_id", "errors")
_MAXIMUM_FACTS = 20


class FieldError(BaseModel):
    """One thing that is wrong with a request."""

    field: str = Field(description="Where: `query.limit`, `body.candles.3.open`.")
    message: str = Field(description="What is wrong, without repeating what was sent.")
    code: str = Field(description="The kind of mistake, in snake_case.")


class ProblemDocument(BaseModel):
    """Why a request failed (RFC 9457). Further members may give facts, such as the cycle's id."""

    model_config = ConfigDict(
        extra="allow",
        title=SCHEMA_NAME,
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:papertape:problem:stale_data",
                    "title": "Stale data",
                    "status": 502,
                    "detail": "The newest closed candle of BTCUSDT is 14 minutes old; nothing was traded.",
                    "instance": "/trading/run-cycle",
                    "code": "stale_data",
                    "request_id": "6f1c2a7be5d94b0f",
                    "cycle_id": "01KAX2J8Y7",
                }
            ]
        },
    )

    type: str = Field(description="`urn:papertape:problem:` and the code.")
    title: str = Field(description="The code in words.")
    status: int = Field(description="The HTTP status.", ge=400, le=599)
    detail: str = Field(description="What happened and what to do, in one or two sentences.")
    instance: str = Field(description="The path that was asked for.")
    code: str = Field(description="The machine-readable reason, in snake_case; stable.")
    request_id: str = Field(description="The id of this request in the log.")
    errors: list[FieldError] | None = Field(None, description="What is wrong with which part of the request.")


@dataclass(frozen=True, slots=True)
class Problem:
    """A failure, ready to be sent.

    `facts` become members of their own beside the standard ones, which they can not replace.
    """

    status: int
    code: str
    detail: str
    retry_after_seconds: float | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    errors: tuple[Mapping[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    def body(self, instance: str, request_id: str) -> bytes:
        """The JSON document, in ASCII."""
        document: dict[str, object] = {
            "type": f"urn:papertape:problem:{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "request_id": request_id,
        }
        if self.errors:
            document["errors"] = list(self.errors)
        for name, value in list(self.facts.items())[:_MAXIMUM_FACTS]:
            if name not in _STANDARD:
                document[name] = _fact(value)
        return json.dumps(document, allow_nan=False).encode("ascii")

    def header_lines(self) -> list[tuple[str, str]]:
        """The headers that belong to the answer, its media type included."""
        lines = [("content-type", MEDIA_TYPE), *self.headers]
        if self.retry_after_seconds is not None:
            lines.append(("retry-after", str(max(1, math.ceil(self.retry_after_seconds)))))
        return lines


def _fact(value: object) -> object:
    """A fact as JSON that is neither long nor unprintable."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)[:VALUE_LIMIT]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple | set | frozenset):
        return [_fact(item) for item in list(value)[:_MAXIMUM_FACTS]]
    if isinstance(value, Mapping):
        return {printable(str(name)): _fact(item) for name, item in list(value.items())[:_MAXIMUM_FACTS]}
    return printable(str(value))


def request_id_of(scope: Scope) -> str:
    """The id that the outermost middleware gave this request."""
    return str(scope.get("state", {}).get("request_id", "-"))


def instance_of(scope: Scope) -> str:
    """The path that was asked for, as it was sent (percent-encoded ASCII), cut to a sane length."""
    raw = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    return printable(raw.decode("ascii", "replace"))


async def send_problem(problem: Problem, scope: Scope, send: Send) -> None:
    """Answer a request with `problem`, and leave its code for the access log."""
    scope.setdefault("state", {})["problem_code"] = problem.code
    body = problem.body(instance_of(scope), request_id_of(scope))
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in problem.header_lines()]
    headers.append((b"content-length", str(len(body)).encode("ascii")))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_DESCRIPTIONS = {
    400: "The request is malformed, or its Host header is missing or doubled.",
    401: "The API key is missing or wrong.",
    403: "A browser sent this from another site.",
    404: "It does not exist.",
    409: "The present state forbids it, such as a cycle of the same symbol that runs.",
    413: "The body is larger than 64 KiB.",
    414: "The address is longer than 8 KiB.",
    415: "The body is not JSON.",
    421: "The Host header names a host this service does not answer for.",
    422: "The request is well-formed and wrong; `errors` says where.",
    429: "Too many wrong API keys came from this address.",
    500: "A fault of the service; the log has it under the request's id.",
    502: "The exchange failed, or its data is not fit to trade on.",
    503: "Not ready or overloaded; `Retry-After` says when to come back.",
    504: "The exchange did not answer in time.",
}
_READ = (400, 414, 421, 422, 500)
_WRITE = (400, 401, 403, 413, 414, 415, 421, 422, 429, 500, 503)


def documented(*statuses: int, writes: bool = False) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation: `statuses`, and those that any operation may answer.

    Args:
        statuses: What this operation answers beyond that.
        writes: Whether the operation is a POST or a DELETE, which may have a body, needs the key and may be shed.
    """
    everything: Iterable[int] = {*statuses, *(_WRITE if writes else _READ)}
    return {status: _response(status) for status in sorted(everything)}


def _response(status: int) -> dict[str, Any]:
    documentation: dict[str, Any] = {
        "description": _DESCRIPTIONS[status],
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{SCHEMA_NAME}"}}},
    }
    if status in (429, 503):
        documentation["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
        }
    return documentation
