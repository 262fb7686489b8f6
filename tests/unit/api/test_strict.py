"""JSON is taken as RFC 8259 has it, and no more."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.strict import parse_strict_json

scalars = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    scalars | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(documents)
def test_parse_valid_json_gives_what_was_written(document: Any) -> None:
    assert parse_strict_json(json.dumps(document, allow_nan=False).encode()) == document


@given(st.binary())
def test_parse_any_bytes_gives_a_value_or_a_decode_error(body: bytes) -> None:
    with suppress(json.JSONDecodeError):
        parse_strict_json(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a": 1, "a": 1}', "a name occurs twice in one object"),
        (b'[{"x": {"a": 1, "b": 2, "a": 3}}]', "a name occurs twice in one object"),
        (b"NaN", "NaN and Infinity are not JSON"),
        (b"[-Infinity]", "NaN and Infinity are not JSON"),
        (b"1e999", "a number is out of range"),
        (b"123456789012345678901", "a number is out of range"),
        (b"\xff", "it is not UTF-8"),
        (b"[" * 60_000, "it is nested too deeply"),
    ],
    ids=["doubled", "doubled inside", "nan", "infinity", "float", "integer", "encoding", "depth"],
)
def test_parse_what_python_would_let_pass_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        parse_strict_json(body)

    assert caught.value.msg == reason
