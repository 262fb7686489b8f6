"""Money and times have one spelling each."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.schemas import render_money, render_time


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("64000.10000000", "64000.1"),
        ("1E+3", "1000"),
        ("1E-8", "0.00000001"),
        ("0E-8", "0"),
        ("-0.00", "0"),
        ("100", "100"),
        ("-2.50", "-2.5"),
        ("12345678901234567890.12345678", "12345678901234567890.12345678"),
    ],
)
def test_render_money_gives_the_shortest_exact_text(value: str, text: str) -> None:
    assert render_money(Decimal(value)) == text


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=8))
def test_render_money_reads_back_to_the_same_value(value: Decimal) -> None:
    text = render_money(value)

    assert Decimal(text) == value
    assert re.fullmatch(r"-?[0-9]+(\.[0-9]*[1-9])?", text)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**9, places=8))
def test_render_money_does_not_depend_on_trailing_zeros(value: Decimal) -> None:
    assert render_money(value) == render_money(value.normalize())


def test_render_time_is_utc_with_milliseconds_from_any_zone() -> None:
    moment = datetime(2026, 11, 21, 1, 2, 3, 999_999, tzinfo=UTC)

    assert render_time(moment) == "2026-11-21T01:02:03.999Z"
    assert render_time(moment.astimezone(timezone(timedelta(hours=13)))) == "2026-11-21T01:02:03.999Z"
