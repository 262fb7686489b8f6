"""`docs/significance.md`: its examples come out as written, its tables name every field, its rule is the code's."""

from __future__ import annotations

import doctest
import re
from dataclasses import fields
from pathlib import Path

from app.risk import intervals, overfitting, significance

PAGE = (Path(__file__).parents[2] / "docs" / "significance.md").read_text(encoding="utf-8")
NAMES = {**vars(overfitting), **vars(significance)}


def listed(heading: str) -> list[str]:
    """The fields that the first column of the table under a heading names."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", section, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"[a-z_]+", row)]


def test_examples_come_out_as_written() -> None:
    shown: list[str] = []
    found = doctest.DocTestParser().get_doctest(PAGE, dict(NAMES), "significance.md", None, 0)
    assert len(found.examples) > 10
    assert doctest.DocTestRunner(verbose=False).run(found, out=shown.append).failed == 0, "".join(shown)


def test_every_field_is_in_its_table() -> None:
    numbers = {field.name for field in fields(significance.Significance)} - {"significant"}
    assert sorted(listed("Numbers")) == sorted(numbers)
    assert sorted(listed("Intervals")) == sorted(field.name for field in fields(intervals.Intervals))
    assert sorted(listed("Overfitting of a sweep")) == sorted(field.name for field in fields(overfitting.Overfitting))
    assert "`significant`" in PAGE
    assert "`verdict`" in PAGE


def test_rule_is_that_of_the_code() -> None:
    rule = re.search(r"> .*above ([0-9.]+), of at least (\d+) days", PAGE)
    assert rule is not None
    assert (float(rule[1]), int(rule[2])) == (significance.CONFIDENCE, significance.LEAST_DAYS)
    assert {int(number) for number in re.findall(r"fewer than (\d\d) days (?!on)", PAGE)} == {significance.LEAST_DAYS}
    assert f"cut\ninto {overfitting.BLOCKS} blocks" in PAGE
