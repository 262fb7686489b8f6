"""CSV: who gets it, and that no cell is a formula."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from app.api.csv_pages import to_csv, wants_csv


class Row(BaseModel):
    """What a listing may hold."""

    words: str
    amount: str = "-1.5"
    note: str | None = None
    flag: bool = True
    parts: list[str] = []


class Page(BaseModel):
    """A listing."""

    items: list[Row]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/csv", True),
        ("Text/CSV; charset=utf-8", True),
        ("text/csv, */*;q=0.8", True),
        ("application/json;q=0.5, text/csv;q=0.9", True),
        ("text/csv, application/json", False),
        ("text/csv;q=0", False),
        ("text/csv;q=0.1, application/*;q=0.2", False),
        ("*/*", False),
        ("text/html", False),
        ("", False),
        (";,;q=nothing", False),
    ],
)
def test_csv_is_for_those_who_prefer_it(accept: str, *, expected: bool) -> None:
    assert wants_csv(accept) is expected


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), max_size=5))
def test_table_reads_back_and_has_no_formula(texts: list[str]) -> None:
    page = Page(items=[Row(words=text) for text in texts])

    rows = list(csv.reader(io.StringIO(to_csv(page), newline="")))

    assert rows[0] == ["words", "amount", "note", "flag", "parts"]
    assert [row[0].removeprefix("'") for row in rows[1:]] == [text.removeprefix("'") for text in texts]
    assert all(row[1:] == ["-1.5", "", "true", "[]"] for row in rows[1:])


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-"])
def test_text_that_a_spreadsheet_would_run_is_quoted(text: str) -> None:
    assert f"'{text}" in next(
        csv.reader(io.StringIO(to_csv(Page(items=[Row(words=text)])).split("\r\n", 1)[1], newline=""))
    )
