"""Pages of listed origins may call the service; starlette does it, and we word its refusals."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import Problem, send_problem


class CrossOriginPages(CORSMiddleware):
    """CORS for explicit origins, without credentials, whose refusals are problem documents.

    Args:
        app: What to call.
        origins: Such as https://example.org; never `*`.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("Content-Type", "Idempotency-Key", "Last-Event-ID", "X-API-Key", "X-Request-ID"),
            expose_headers=("Idempotency-Replayed", "Link", "Location", "Retry-After", "X-Request-ID"),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        refused = scope["type"] == "http" and self._refuses_preflight(scope)
        if refused:
            detail = "That origin, method or header is not allowed here; CORS_ORIGINS lists the origins that are."
            await send_problem(Problem(400, "cross_origin", detail), scope, send)
        else:
            await super().__call__(scope, receive, send)

    def _refuses_preflight(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        if scope["method"] != "OPTIONS" or "origin" not in headers or "access-control-request-method" not in headers:
            return False
        answer: Response = self.preflight_response(request_headers=headers)
        return answer.status_code >= 400
