"""Decimals written one after the other become the floats that Python reads in each, to the last bit."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage.decimal_text import SEPARATOR, read_decimals

PLAIN = st.decimals(min_value=-(10**20), max_value=10**20, allow_nan=False, allow_infinity=False).map(
    lambda x: f"{x:f}"
)
OF_A_MARKET = st.builds(
    lambda units, places: f"{Decimal(units).scaleb(-places):f}", st.integers(0, 10**18), st.integers(0, 8)
)
OF_A_FLOAT = st.floats(allow_nan=False, allow_infinity=False).map(repr)
LONG = st.from_regex(r"[0-9]{1,40}(\.[0-9]{0,40})?", fullmatch=True)


@given(st.lists(PLAIN | OF_A_MARKET | OF_A_FLOAT | LONG, min_size=1, max_size=50))
def test_numbers_written_in_any_way_are_read_as_python_reads_them(texts: list[str]) -> None:
    expected = np.array([float(text) for text in texts])

    assert read_decimals(SEPARATOR.join(texts)).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "text",
    [
        "9007199254740992", "9007199254740993", "9007199254740991.5", "900719925474099.3", "0.00000000000000001",
        "999999999999999999", "9223372036854775807", "18446744073709551616", "0", "5.", ".5", "0.30000000000000004",
    ],
)  # fmt: skip
def test_numbers_at_the_edge_of_what_is_exact_are_the_nearest_floats(text: str) -> None:
    assert read_decimals(f"1 {text} 2").tolist() == [1.0, float(text), 2.0]


@pytest.mark.parametrize("text", ["damaged", "", ".", "1.2.3", "1,5", "0x10", "1e"])
def test_text_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        read_decimals(f"1.5 {text} 2")
