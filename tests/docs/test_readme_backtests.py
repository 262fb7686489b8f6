"""The backtests that the README shows run, offline, and print what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.commands import run

pytestmark = pytest.mark.usefixtures("compiled_kernel", "computed_here")

README = Path(__file__).parents[2] / "README.md"
ID = re.compile(r"[0-9a-f]{32}")


def blocks() -> list[str]:
    """The code blocks of the section."""
    section = README.read_text(encoding="utf-8").partition("### Backtests")[2]
    return re.findall(r"^```\w+\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def test_backtests_print_what_is_shown(tmp_path: Path) -> None:
    commands, *shown = blocks()[:3]
    assert len(commands.splitlines()) == len(shown)
    for command, wanted in zip(commands.splitlines(), shown, strict=True):
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "app"]
        ended = run(tmp_path, *words[3:], TRAINING_KLINES="10000", MODEL_HORIZON_BARS="60")
        assert ended.code == 0, ended.err
        assert ID.sub("ID", ended.out) == ID.sub("ID", wanted)
