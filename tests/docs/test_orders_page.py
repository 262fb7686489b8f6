"""Each example of `docs/orders.md` comes out as the page says, and no rule is without one."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from types import FunctionType

import pytest

from app.broker import fill_rules, order_rules

PAGE = Path(__file__).parents[2] / "docs" / "orders.md"
SECTIONS = dict(
    re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
)
NAMES = {**vars(fill_rules), **vars(order_rules)}
INNER_RULES = {"fill_rank", "is_stop", "worse_price"}
"""Parts of the rules that the page needs not name."""


def examples(section: str) -> doctest.DocTest:
    """What the section shows at the prompt, as a doctest."""
    return doctest.DocTestParser().get_doctest(SECTIONS[section], dict(NAMES), section, str(PAGE), 0)


@pytest.mark.parametrize("section", SECTIONS)
def test_examples_of_a_section_come_out_as_written(section: str) -> None:
    shown: list[str] = []
    found = examples(section)
    assert found.examples
    assert doctest.DocTestRunner(verbose=False).run(found, out=shown.append).failed == 0, "".join(shown)


def test_every_rule_has_an_example() -> None:
    rules = {
        name
        for module in (fill_rules, order_rules)
        for name, rule in vars(module).items()
        if isinstance(rule, FunctionType) and rule.__module__ == module.__name__
    }
    shown = " ".join(example.source for section in SECTIONS for example in examples(section).examples)
    assert {name for name in rules if not re.search(rf"\b{name}\(", shown)} == INNER_RULES


@pytest.mark.parametrize("module", [fill_rules, order_rules], ids=["fill_rules", "order_rules"])
def test_examples_in_the_rules_themselves_come_out_as_written(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
