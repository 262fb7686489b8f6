"""`docs/risk.md`: its example comes out as written, its tables name every code and every default."""

from __future__ import annotations

import doctest
import re
from decimal import Decimal
from pathlib import Path

from app.domain import money
from app.domain.risk import SizingMethod
from app.risk import limits, protection, sizing
from app.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "risk.md").read_text(encoding="utf-8")
NAMES = {**vars(money), **vars(limits), **vars(protection), **vars(sizing)}
LISTED = re.compile(r"^\| ((?:`[a-z_]+`(?:, )?)+) \(?", re.MULTILINE)
SOURCES = [Path(module.__file__ or "") for module in (limits, sizing)]


def test_example_comes_out_as_written() -> None:
    shown: list[str] = []
    found = doctest.DocTestParser().get_doctest(PAGE, dict(NAMES), "risk.md", None, 0)
    assert found.examples
    assert doctest.DocTestRunner(verbose=False).run(found, out=shown.append).failed == 0, "".join(shown)


def test_every_code_and_sizing_rule_is_listed() -> None:
    listed = {code for row in LISTED.findall(PAGE) for code in re.findall(r"[a-z_]+", row)}
    called = r'(?:Check|_below|_cap_exposure)\(\s*"([a-z_]+)"|"(size_zero)"|"(size_unknown)"'
    codes = {code for path in SOURCES for groups in re.findall(called, path.read_text()) for code in groups if code}
    assert len(codes) == 17
    assert listed == codes | set(SizingMethod)


def test_every_default_is_that_of_the_settings() -> None:
    rows = [row.strip("|").split(" | ") for row in PAGE.splitlines() if row.startswith("| `")]
    found: dict[str, str] = {}
    for row in rows:
        if len(row) == 5:
            found.update(zip(re.findall(r"[A-Z_]{4,}", row[3]), row[4].split(", "), strict=False))
        elif len(row) == 4:
            found.update(re.findall(r"`([A-Z_]{4,})` ([0-9.]+)", row[2]))
        else:
            found[row[0].strip(" `")] = row[1]
    defaults = {name: Settings.model_fields[name.lower()].default for name in found}
    assert len(found) == 20
    for name, written in found.items():
        default = defaults[name]
        shown = Decimal(written.strip()) if isinstance(default, Decimal | float) else written.strip().lower()
        assert shown == (default if isinstance(shown, Decimal) else str(default).lower()), name
