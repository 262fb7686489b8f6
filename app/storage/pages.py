"""Listings, newest first, a page at a time, by keyset: a page costs the same however deep it lies."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, false, select
from sqlalchemy.sql.elements import ColumnElement

from app.domain.ports import Page, Selection
from app.errors import InvalidInputError
from app.storage.account_tables import accounts
from app.storage.column_types import MAXIMUM_UNITS

T = TypeVar("T")

MAXIMUM_LIMIT = 1_000
MAXIMUM_NUMBER = MAXIMUM_UNITS

_PARTS_OF_A_RUN = 4


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page of which listing: `limit` rows with numbers below `below` (None: the newest ones)."""

    kind: str
    limit: int
    below: int | None

    @classmethod
    def parse(cls, kind: str, limit: int, cursor: str | None) -> PageRequest:
        """Check what a caller asks for.

        Raises:
            InvalidInputError: `invalid_limit`, or `invalid_cursor`: it did not come from this listing.
        """
        if not 1 <= limit <= MAXIMUM_LIMIT:
            raise InvalidInputError(f"limit must be from 1 to {MAXIMUM_LIMIT}.", code="invalid_limit")
        return cls(kind, limit, None if cursor is None else _decode(kind, cursor))

    def fetch(
        self,
        connection: Connection,
        statement: Select[Any],
        number: ColumnElement[int],
        build: Callable[[Sequence[Any]], T],
    ) -> Page[T]:
        """The page of `statement`, whose first column is `number`; `build` makes an item of a row."""
        if self.below is not None:
            statement = statement.where(number < self.below)
        rows = connection.execute(statement.order_by(number.desc()).limit(self.limit + 1)).all()
        more = len(rows) > self.limit
        items = tuple(build(row) for row in rows[: self.limit])
        return Page(items, encode_cursor(self.kind, rows[self.limit - 1][0]) if more else None)


def narrow(
    statement: Select[Any],
    wanted: Selection,
    account_id: ColumnElement[int],
    symbol: ColumnElement[Any],
    moment: ColumnElement[Any],
) -> Select[Any]:
    """The rows of `statement` that are wanted, by the columns that tell."""
    if wanted.symbol is not None:
        statement = statement.where(symbol == _matchable(wanted.symbol))
    if wanted.run is not None:
        statement = statement.where(account_id == _accounts(wanted).scalar_subquery())
    elif wanted.source is not None:
        # Plus zero keeps SQLite from collecting and sorting all rows of these accounts for one page.
        statement = statement.where((account_id + 0).in_(_accounts(wanted)))
    if wanted.since is not None:
        statement = statement.where(moment >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(moment < wanted.until)
    return statement


def _accounts(wanted: Selection) -> Select[Any]:
    found = select(accounts.c.id)
    if wanted.source is not None:
        found = found.where(accounts.c.source == _matchable(wanted.source))
    if wanted.run is not None:
        parts = wanted.run.split(".")
        if len(parts) != _PARTS_OF_A_RUN or not is_plain(wanted.run) or not re.fullmatch(r"[1-9][0-9]{0,8}", parts[3]):
            return found.where(false())
        source, strategy, name, generation = parts
        found = found.where(
            accounts.c.source == source,
            accounts.c.strategy == strategy,
            accounts.c.name == name,
            accounts.c.generation == int(generation),
        )
    return found


def _matchable(text: str) -> str:
    return text if is_plain(text) else ""


def is_plain(text: str) -> bool:
    """Whether `text` is short printable ASCII, as every id and symbol of ours is; nothing else can match a row."""
    return re.fullmatch(r"[!-~]{1,128}", text) is not None


def encode_cursor(kind: str, last: object) -> str:
    """The cursor behind the row `last` of a listing of `kind`."""
    return urlsafe_b64encode(f"{kind}:{last}".encode()).decode().rstrip("=")


def decode_cursor(kind: str, cursor: str, pattern: str) -> str:
    """The row that a cursor names; raises `InvalidInputError` (`invalid_cursor`) where it does not fit `pattern`."""
    try:
        text = urlsafe_b64decode(cursor[:64] + "=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        text = ""
    found = re.fullmatch(f"{kind}:({pattern})", text)
    if found is None:
        raise _not_ours()
    return found[1]


def _decode(kind: str, cursor: str) -> int:
    number = int(decode_cursor(kind, cursor, "[1-9][0-9]{0,18}"))
    if number > MAXIMUM_NUMBER:
        raise _not_ours()
    return number


def _not_ours() -> InvalidInputError:
    return InvalidInputError(
        "cursor is not one that this listing gave out; leave it away to start at the newest.", code="invalid_cursor"
    )
