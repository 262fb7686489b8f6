"""From an error to its HTTP answer: the one table, and the handlers that use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from app.api.problems import MAXIMUM_ERRORS, Problem, instance_of, request_id_of
from app.errors import (
    ConfigurationError,
    ConflictError,
    DataQualityError,
    InvalidInputError,
    NotFoundError,
    NotReadyError,
    ServiceError,
    StorageError,
    UpstreamError,
    UpstreamRateLimitError,
    UpstreamRestrictedError,
    UpstreamTimeoutError,
)
from app.observability.logging import printable

STATUS_BY_ERROR: dict[type[ServiceError], int] = {
    ServiceError: 500,
    ConfigurationError: 500,
    InvalidInputError: 422,
    NotFoundError: 404,
    ConflictError: 409,
    NotReadyError: 503,
    UpstreamError: 502,
    UpstreamTimeoutError: 504,
    UpstreamRateLimitError: 503,
    UpstreamRestrictedError: 503,
    DataQualityError: 502,
    StorageError: 503,
}
"""The status of each class of the error tree; a subclass that is not named has its parent's."""

INTERNAL = Problem(500, "internal_error", "The service failed; the log has the reason under this request's id.")
"""What a caller is told about an exception that nobody foresaw: nothing of its text."""

STOPPING = Problem(
    503,
    "service_stopping",
    "The service stops and gave this request up; ask again once it runs.",
    retry_after_seconds=5,
)
"""What a caller is told whose request outlasts the grace of a stop."""

_HTTP = {
    400: ("malformed_request", "The request could not be read."),
    404: ("route_not_found", "There is nothing at this address; /docs lists what there is."),
    405: ("method_not_allowed", "This address does not serve that method; the Allow header lists those it does."),
    413: ("body_too_large", "The body is larger than this service takes."),
    415: ("unsupported_media_type", "The body must be JSON, sent with Content-Type: application/json."),
}
_DEFAULT_RETRY_SECONDS = 1.0
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


def status_of(error: ServiceError) -> int:
    """The HTTP status of `error`: that of its own class or of the nearest parent in the table."""
    return next(STATUS_BY_ERROR[kind] for kind in type(error).__mro__ if kind in STATUS_BY_ERROR)


def problem_of(error: ServiceError) -> Problem:
    """What a caller is told about `error`."""
    status = status_of(error)
    if status == 500:
        return INTERNAL
    wait = error.retry_after_seconds
    if wait is None and status in (409, 503) and error.retryable:
        wait = _DEFAULT_RETRY_SECONDS
    return Problem(status, error.code, printable(error.message, 1_000), retry_after_seconds=wait, facts=error.context)


def install_error_handlers(app: FastAPI) -> None:
    """Make every failure of `app` a problem document."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


def answer(problem: Problem, request: Request) -> Response:
    """The response that carries `problem`."""
    request.scope.setdefault("state", {})["problem_code"] = problem.code
    response = Response(problem.body(instance_of(request.scope), request_id_of(request.scope)), problem.status)
    for name, value in problem.header_lines():
        response.headers[name] = value
    return response


async def _on_service_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ServiceError) or status_of(error) == 500:
        raise error
    return answer(problem_of(error), request)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    details: Sequence[Any] = error.errors() if isinstance(error, RequestValidationError) else ()
    errors = tuple(_field_error(detail) for detail in details[:MAXIMUM_ERRORS])
    first = f" {errors[0]['field']}: {errors[0]['message']}." if errors else ""
    problem = Problem(422, "invalid_input", f"The request is not valid.{first}", errors=errors)
    return answer(problem, request)


def _field_error(detail: Mapping[str, Any]) -> dict[str, str]:
    """One entry of `errors`, from pydantic's; the input stays out."""
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "json_invalid":
        message = f"{message}: {detail['ctx']['error']}"
    return {
        "field": printable(".".join(str(part) for part in detail["loc"])),
        "message": printable(message),
        "code": printable(str(detail["type"])),
    }


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers = {"Allow": _allowed(request)}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
    code, detail = _HTTP.get(error.status_code, ("request_failed", "The request could not be served."))
    return answer(Problem(error.status_code, code, detail, headers=tuple(headers.items())), request)


def _allowed(request: Request) -> str:
    """The Allow header: the methods of all routes of the address, and what comes with them (HEAD, OPTIONS)."""
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    names = {
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    }
    names = names or {"GET"}  # a mounted folder of files
    return ", ".join(sorted(names | {"OPTIONS"} | ({"HEAD"} if "GET" in names else set())))
