"""Money and moments on their way into a database and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Dialect, make_url

from app.errors import StorageError
from app.storage.column_types import MAXIMUM_UNITS, ExactNumber, Money, UtcDateTime, exact, from_units, to_units

DIALECTS: list[Dialect] = [make_url(url).get_dialect()() for url in ("sqlite://", "postgresql+asyncpg://")]
AMOUNTS = st.integers(-MAXIMUM_UNITS, MAXIMUM_UNITS).map(from_units)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=ZONES)  # noqa: DTZ001 - gets a zone


@given(AMOUNTS)
def test_to_units_any_storable_amount_comes_back_equal(amount: Decimal) -> None:
    assert from_units(to_units(amount)) == amount


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1E+2", "100.00000000"), ("-0", "0E-8"), ("0.1", "0.10000000"), ("1.000000000000", "1.00000000")],
)
def test_exact_spelling_becomes_eight_decimals(text: str, expected: str) -> None:
    assert str(exact(Decimal(text))) == expected


@pytest.mark.parametrize(
    "amount",
    [
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("0.000000001"),
        Decimal("0.123456780000000000000000000001"),
        from_units(MAXIMUM_UNITS) + Decimal("1e-8"),
        Decimal("-1E+11"),
        Decimal("1E+400"),
        1.5,
        7,
    ],
    ids=str,
)
def test_to_units_unstorable_amount_is_refused(amount: Decimal) -> None:
    with pytest.raises(StorageError) as caught:
        to_units(amount)
    assert caught.value.code == "amount_not_storable"
    assert len(caught.value.message) < 160


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@given(amount=AMOUNTS)
def test_money_comes_back_equal(dialect: Dialect, amount: Decimal) -> None:
    kept = Money().process_bind_param(amount, dialect)
    assert Money().process_result_value(kept, dialect) == amount
    assert isinstance(kept, int) is (dialect.name == "sqlite")


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@given(moment=MOMENTS)
def test_moment_comes_back_equal_and_in_utc(dialect: Dialect, moment: datetime) -> None:
    column = UtcDateTime()
    found = column.process_result_value(column.process_bind_param(moment, dialect), dialect)
    assert found is not None
    assert found == moment
    assert found.tzinfo is UTC


@given(first=MOMENTS, second=MOMENTS)
def test_moment_as_text_sorts_like_time(first: datetime, second: datetime) -> None:
    texts = [UtcDateTime().process_bind_param(moment, DIALECTS[0]) for moment in (first, second)]
    assert (str(texts[0]) < str(texts[1])) is (first < second)
    assert len(str(texts[0])) == len(str(texts[1])) == 32


def test_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(StorageError) as caught:
        UtcDateTime().process_bind_param(datetime(2026, 1, 1), DIALECTS[0])  # noqa: DTZ001 - that is the point
    assert caught.value.code == "naive_datetime"


def test_nothing_stays_nothing() -> None:
    for column in (Money(), UtcDateTime()):
        for dialect in DIALECTS:
            assert column.process_bind_param(None, dialect) is None
            assert column.process_result_value(None, dialect) is None


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@given(number=st.decimals(allow_nan=False, allow_infinity=False))
def test_exact_number_of_any_size_comes_back_equal(dialect: Dialect, number: Decimal) -> None:
    kept = ExactNumber().process_bind_param(number, dialect)
    assert ExactNumber().process_result_value(kept, dialect) == number


@pytest.mark.parametrize(
    ("text", "kept"),
    [("67000.12000000", "67000.12"), ("9E+13", "90000000000000"), ("1E-12", "0.000000000001"), ("100.000", "100")],
)
def test_exact_number_is_the_shortest_plain_text_on_sqlite(text: str, kept: str) -> None:
    assert ExactNumber().process_bind_param(Decimal(text), DIALECTS[0]) == kept


@pytest.mark.parametrize("number", ["NaN", "-Infinity"])
def test_exact_number_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(StorageError) as caught:
        ExactNumber().process_bind_param(Decimal(number), DIALECTS[0])
    assert caught.value.code == "amount_not_storable"
