"""Column types that keep money and numbers exact and times in UTC on every database."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, LargeBinary, Numeric, String, Text, TypeDecorator
from sqlalchemy.types import TypeEngine

from app.errors import StorageError

DECIMALS = 8
MAXIMUM_UNITS = 2**63 - 1

RowNumber = BigInteger().with_variant(Integer(), "sqlite")
"""A generated row number: SQLite counts up only in a column declared INTEGER."""


def to_units(amount: Decimal) -> int:
    """The amount in whole 1e-8 units.

    >>> to_units(Decimal("1.5"))
    150000000

    Raises:
        StorageError: `amount_not_storable`: not finite, finer than eight decimals or beyond 64 bits.
    """
    if not isinstance(amount, Decimal) or not amount.is_finite():
        raise _not_storable(amount, "it is no finite decimal number")
    units = int(amount.scaleb(DECIMALS))
    if abs(units) > MAXIMUM_UNITS:
        raise _not_storable(amount, "it is beyond 92 billion")
    if from_units(units) != amount:
        raise _not_storable(amount, f"it has more than {DECIMALS} decimals")
    return units


def from_units(units: int) -> Decimal:
    """The amount of `units` 1e-8 units, always written with eight decimals.

    >>> from_units(150000000)
    Decimal('1.50000000')
    """
    return Decimal(units).scaleb(-DECIMALS)


def exact(amount: Decimal) -> Decimal:
    """The amount as it will be read back: equal, and written with eight decimals; raises as `to_units`."""
    return from_units(to_units(amount))


def _not_storable(amount: object, why: str) -> StorageError:
    return StorageError(f"The amount {str(amount)[:60]} cannot be kept exactly: {why}.", code="amount_not_storable")


def _shortest(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


class Money(TypeDecorator[Decimal]):
    """An exact amount with eight decimals: NUMERIC(28, 8), or whole 1e-8 units where decimals are floats (SQLite).

    The bounds are the same everywhere: 64 bits of 1e-8 units. Sums and comparisons are exact in SQL; products
    and quotients belong in Python.
    """

    impl = Numeric(28, DECIMALS)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Whole numbers on SQLite."""
        return dialect.type_descriptor(BigInteger() if dialect.name == "sqlite" else Numeric(28, DECIMALS))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Decimal | int | None:
        """Check an amount and turn it into what the database keeps."""
        if value is None:
            return None
        units = to_units(value)
        return units if dialect.name == "sqlite" else from_units(units)

    def process_result_value(self, value: int | Decimal | None, dialect: Dialect) -> Decimal | None:
        """Turn what the database keeps into an amount."""
        if value is None or dialect.name != "sqlite":
            return cast("Decimal | None", value)
        return from_units(cast("int", value))


class ExactNumber(TypeDecorator[Decimal]):
    """A decimal number of any size, exact: NUMERIC, or plain decimal text where decimals are floats (SQLite).

    For what an exchange reports and nobody owns: a day's volume of a cheap coin is beyond the bounds of `Money`.
    Cast to text it reads the same on every database; sums and comparisons belong in Python.
    """

    impl = Numeric()
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else Numeric())

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Decimal | str | None:
        """Refuse what is no finite number; turn one into what the database keeps."""
        if value is None:
            return None
        if not value.is_finite():
            raise _not_storable(value, "it is no finite decimal number")
        return _shortest(f"{value:f}") if dialect.name == "sqlite" else value

    def process_result_value(self, value: str | Decimal | None, dialect: Dialect) -> Decimal | None:
        """Turn what the database keeps into a number."""
        if value is None or dialect.name != "sqlite":
            return cast("Decimal | None", value)
        return Decimal(cast("str", value))


class PackedText(TypeDecorator[str]):
    """A text that is kept compressed (zlib), at half its size or less."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - SQLAlchemy's
        """Compress a text."""
        return None if value is None else zlib.compress(value.encode())

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Turn what the database keeps into the text; raises StorageError `record_damaged` where it is none."""
        if value is None:
            return None
        try:
            return zlib.decompress(value).decode()
        except (zlib.error, UnicodeDecodeError) as error:
            raise StorageError("A record in the database is damaged.", code="record_damaged") from error


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC moment, to the microsecond: TIMESTAMP WITH TIME ZONE, or ISO 8601 text of one width on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite, which would drop the zone of a DateTime."""
        return dialect.type_descriptor(String(32) if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | str | None:
        """Refuse a naive moment; turn an aware one into what the database keeps."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise StorageError(f"The moment {value} has no time zone.", code="naive_datetime")
        moment = value.astimezone(UTC)
        return moment.isoformat(timespec="microseconds") if dialect.name == "sqlite" else moment

    def process_result_value(self, value: str | datetime | None, dialect: Dialect) -> datetime | None:
        """Turn what the database keeps into an aware UTC moment."""
        if value is None or dialect.name != "sqlite":
            return cast("datetime | None", value)
        return datetime.fromisoformat(cast("str", value))
