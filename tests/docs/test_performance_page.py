"""`docs/performance.md` names every field of the answer once, and the least number of days."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from app.api import performance
from app.research.performance import Answer
from app.risk.comparison import LEAST_DAYS
from tests.support.performances import REPORT

PAGE = (Path(__file__).parents[2] / "docs" / "performance.md").read_text(encoding="utf-8")


def test_every_field_is_in_one_table() -> None:
    rows = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    listed = Counter(name for row in rows for name in re.findall(r"[a-z_]+", row))
    document = performance.describe(REPORT).model_dump()
    books = document["shadow_books"]
    own = Counter(document.keys() - {"shadow_books", "verdict"})
    of_books = Counter(books["always_flat"].keys()) + Counter(books["always_flat"]["comparison"].keys())

    assert listed == own + of_books + Counter(books.keys()) + Counter(Answer)
    assert all(f"`{name}`" in PAGE for name in document["verdict"])


def test_least_days_are_those_of_the_comparison() -> None:
    assert {int(number) for number in re.findall(r"(?:below|fewer than) (\d\d+) days", PAGE)} == {LEAST_DAYS}
