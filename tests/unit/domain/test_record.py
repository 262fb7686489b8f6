"""Facts as bytes: what is read back is what was written, and every process writes the same."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.action import ActionReport
from app.domain.cycle import CycleReport, Execution, ExecutionStatus
from app.domain.cycle_record import CandleReference, CycleInputs, read_inputs, write_inputs, write_outcome
from app.domain.order import Order
from app.domain.record import (
    FIRST_LINK,
    candle_digest,
    canonical,
    digest,
    find_difference,
    from_microseconds,
    from_plain,
    microseconds,
    next_link,
    to_plain,
)
from app.domain.standing import Run, RunKey, Standing, open_snapshot
from tests.support.books import make_candle, make_draft, make_order

ROOT = Path(__file__).parents[3]
AMOUNTS = st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=-(10**9), max_value=10**9)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds
for _kind, _values in {
    Decimal: AMOUNTS,
    datetime: MOMENTS,
    float: st.floats(allow_nan=False, allow_infinity=False),
    timedelta: st.timedeltas(timedelta(0), timedelta(days=999)),
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
}.items():
    st.register_type_strategy(_kind, _values)


def mapping_as_dict(kind: Any) -> st.SearchStrategy[Any]:
    return st.dictionaries(*(st.from_type(argument) for argument in kind.__args__), max_size=2)


st.register_type_strategy(Mapping, mapping_as_dict)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("kind", [CycleReport, CycleInputs, ActionReport], ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_any_fact_comes_back_from_its_text_as_it_was(kind: type, data: st.DataObject) -> None:
    fact = data.draw(st.from_type(kind))
    text = canonical(to_plain(fact))
    again = from_plain(kind, json.loads(text))
    assert again == fact
    assert canonical(to_plain(again)) == text
    assert find_difference(json.loads(text), to_plain(again)) is None


def test_every_field_is_in_the_record() -> None:
    draft = make_draft(1)
    assert set(to_plain(make_order(draft, draft.started_at))) == {field.name for field in fields(Order)}


@pytest.mark.parametrize(
    ("fact", "plain"),
    [
        (Decimal("1.50000000"), "1.5"),
        (Decimal("-0"), "0"),
        (Decimal("1E+3"), "1000"),
        (Decimal("100"), "100"),
        (Decimal("0E-8"), "0"),
        (datetime(2026, 11, 21, 2, tzinfo=timezone(timedelta(hours=2))), 1_795_219_200_000_000),
        (timedelta(milliseconds=1), 1_000),
        ({"b": (1, None, True), "a": {}}, {"b": [1, None, True], "a": {}}),
        (RunKey("simulated"), {"source": "simulated", "strategy": "forest", "name": "main"}),
    ],
    ids=str,
)
def test_plain_form_is_one_and_short(fact: Any, plain: Any) -> None:
    assert to_plain(fact) == plain


def test_what_is_no_fact_is_refused() -> None:
    for strange in (b"bytes", {1, 2}, object()):
        with pytest.raises(TypeError, match="no fact"):
            to_plain(strange)
    with pytest.raises(ValueError, match="Out of range float"):
        canonical({"a": float("nan")})
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_inputs({"quote": {}})


def test_moments_are_whole_microseconds() -> None:
    moment = datetime(2026, 3, 29, 1, 2, 3, 456_789, tzinfo=UTC)
    assert from_microseconds(microseconds(moment)) == moment
    assert microseconds(datetime(1970, 1, 1, tzinfo=UTC)) == 0


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": 1}, {"a": 1.0}, "a: 1 and 1.0"),
        ({"a": 1}, {"b": 1}, "a: 1 and None"),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 3}]}}, "a.b.1.c: 2 and 3"),
        ([1, 2], [1], ": [1, 2] and [1]"),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}, "a: 1 and 2"),
    ],
    ids=str,
)
def test_first_difference_is_named(first: object, second: object, found: str | None) -> None:
    assert find_difference(first, second) == found


def test_link_depends_on_all_that_it_stands_for() -> None:
    assert next_link(FIRST_LINK, "a", "b") == hashlib.sha256(f"{'0' * 64}\na\nb".encode()).hexdigest()
    links = {next_link(*parts) for parts in ((FIRST_LINK, "a", "b"), (FIRST_LINK, "ab", ""), ("1" * 64, "a", "b"))}
    assert len(links) == 3
    assert len(digest("")) == 64


def test_candle_digest_tells_restated_candles_apart_and_not_how_they_are_written() -> None:
    candle = make_candle(1)
    assert len(candle_digest(candle)) == 16
    assert candle_digest(replace(candle, high=Decimal("65100.3"))) == candle_digest(candle)
    for name in (field.name for field in fields(candle)):
        value = getattr(candle, name)
        other = value + (timedelta(milliseconds=1) if isinstance(value, datetime) else Decimal("1e-8"))
        assert candle_digest(replace(candle, **{name: other})) != candle_digest(candle)


def make_texts() -> str:
    """Everything that a cycle is recorded by, as text."""
    draft = make_draft(1)
    standing = Standing(Run(draft.key, 1, Decimal(10), draft.started_at), open_snapshot(10, draft.started_at))
    inputs = write_inputs(draft, standing, CandleReference(((1, 2),), {"1": 3}, "00"))
    report = draft.finish(Execution(ExecutionStatus.SKIPPED, "hold", "No."), None, "run", draft.started_at)
    return f"{inputs}\n{write_outcome(report)}"


def test_another_process_with_another_hash_seed_writes_the_same_bytes() -> None:
    code = "import sys; from tests.unit.domain.test_record import make_texts; sys.stdout.write(make_texts())"
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONUTF8": "1", "TZ": "Pacific/Apia"}
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True)
    assert ended.stdout.decode() == make_texts()
    assert (
        read_inputs(json.loads(make_texts().splitlines()[0])).snapshot("s", "X", make_draft(1).interval, ()) is not None
    )
