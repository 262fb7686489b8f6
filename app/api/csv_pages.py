"""Listings as CSV (RFC 4180), for those who ask for it: the columns are the members of the JSON items."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Annotated, Any, cast
from urllib.parse import urlencode

from fastapi import Depends, Request, Response
from pydantic import BaseModel

MEDIA_TYPE = "text/csv"
CSV_ANSWER: dict[str, Any] = {
    "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    "headers": {
        "Link": {"description": 'The next page as `rel="next"`, where there is one.', "schema": {"type": "string"}}
    },
}
"""How a listing that can be CSV is documented."""

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def wants_csv(accept: str) -> bool:
    """Whether an Accept header asks for CSV rather than JSON, which is sent where both will do.

    >>> wants_csv("text/csv"), wants_csv("*/*"), wants_csv("text/csv, application/json;q=0.5"), wants_csv("")
    (True, False, True, False)
    """
    weights: dict[str, float] = {}
    for choice in accept.lower().split(","):
        name, *parameters = (part.strip() for part in choice.split(";"))
        found = [re.fullmatch(r"q=([01](?:\.[0-9]{0,3})?)", parameter) for parameter in parameters]
        weights[name] = next((float(match[1]) for match in found if match), 1.0)
    json_weight = max((weights.get(name, 0.0) for name in ("application/json", "application/*", "*/*")), default=0.0)
    return weights.get(MEDIA_TYPE, 0.0) > json_weight


async def _listing(request: Request) -> Listing:
    return Listing(request)


class Listing:
    """Answers a listing as its caller asked for it.

    Args:
        request: What was asked for.
    """

    def __init__(self, request: Request) -> None:
        self._request = request

    def answer(self, kind: type[BaseModel], page: object) -> Any:  # noqa: ANN401 - an answer, or what FastAPI makes one of
        """The page as CSV, or as it is, for FastAPI to make JSON of it by `kind`."""
        if not wants_csv(self._request.headers.get("accept", "")):
            return page
        validated = kind.model_validate(page)
        response = _csv_response(to_csv(validated))
        next_cursor = getattr(validated, "next_cursor", None)
        if next_cursor is not None:
            query = urlencode({**self._request.query_params, "cursor": next_cursor})
            response.headers["Link"] = f'<{self._request.url.path}?{query}>; rel="next"'
        return response

    def answer_one(self, kind: type[BaseModel], item: object) -> Any:  # noqa: ANN401 - as above
        """One item as a listing of itself."""
        if not wants_csv(self._request.headers.get("accept", "")):
            return item
        return _csv_response(_write(kind, [kind.model_validate(item).model_dump(mode="json")]))


def _csv_response(text: str) -> Response:
    return Response(text, media_type=f"{MEDIA_TYPE}; charset=utf-8; header=present")


AsListing = Annotated[Listing, Depends(_listing)]


def to_csv(page: BaseModel) -> str:
    """A page as CSV: a line with the names, then one for each item; what is no plain value is JSON in its cell."""
    items = page.model_dump(mode="json")["items"]
    return _write(cast("Any", type(page).model_fields["items"].annotation).__args__[0], items)


def _write(kind: type[BaseModel], items: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(kind.model_fields)
    writer.writerows([_cell(item[name]) for name in kind.model_fields] for item in items)
    return text.getvalue()


def _cell(value: Any) -> str:  # noqa: ANN401 - a value of JSON
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value, separators=(",", ":"))
    # A spreadsheet would run it: https://owasp.org/www-community/attacks/CSV_Injection
    return f"'{value}" if value.startswith(_FORMULA) and not _NUMBER.fullmatch(value) else value
