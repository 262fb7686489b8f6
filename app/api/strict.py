"""Routes that take requests at their word: strict JSON, and no query parameter that is unknown or doubled."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

_MAXIMUM_DIGITS = 20


def parse_strict_json(body: bytes) -> object:
    """Parse JSON as RFC 8259 has it, and no more.

    Raises:
        json.JSONDecodeError: For what Python's parser lets pass as well: NaN and infinities, numbers out of
            range, names that occur twice, another encoding than UTF-8, endless nesting.
    """
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:
        reason = str(error)
    raise json.JSONDecodeError(reason, "", 0)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return result


def _whole(digits: str) -> int:
    if len(digits) > _MAXIMUM_DIGITS:
        raise ValueError("a number is out of range")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_whole, parse_float=_finite, parse_constant=_refuse_constant
)


class StrictRequest(Request):
    """A request whose body is parsed by `parse_strict_json`."""

    async def json(self) -> object:
        """The body."""
        return parse_strict_json(await self.body())


class StrictRoute(APIRoute):
    """A route that refuses unknown or doubled query parameters and bodies that are not JSON.

    A misspelt `symobl=` on a call that trades would otherwise trade the default symbol.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function that serves a request."""
        handle = super().get_route_handler()
        known = frozenset(_query_names(self.dependant))

        async def handle_strictly(request: Request) -> Response:
            _check_query(request, known)
            _check_media_type(request)
            return await handle(StrictRequest(request.scope, request.receive))

        return handle_strictly


def _query_names(dependant: Dependant) -> Iterator[str]:
    for parameter in dependant.query_params:
        yield parameter.alias
    for dependency in dependant.dependencies:
        yield from _query_names(dependency)


def _check_query(request: Request, known: frozenset[str]) -> None:
    errors = []
    seen: set[str] = set()
    for name, _value in request.query_params.multi_items():
        if name not in known:
            errors.append(_query_error(name, "extra_forbidden", "This parameter is not known here"))
        elif name in seen:
            errors.append(_query_error(name, "duplicate", "This parameter may be given once only"))
        seen.add(name)
    if errors:
        raise RequestValidationError(errors)


def _query_error(name: str, kind: str, message: str) -> dict[str, Any]:
    return {"type": kind, "loc": ("query", name), "msg": message, "input": None}


def _check_media_type(request: Request) -> None:
    length = request.headers.get("content-length", "0")
    if length == "0" and "transfer-encoding" not in request.headers:
        return
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415)
