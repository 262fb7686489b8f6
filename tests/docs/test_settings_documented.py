"""`.env.example` shows every setting with its sentence and its default, and nothing else."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.settings import Settings

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / ".env.example"
ASSIGNMENT = re.compile(r"# ([A-Z][A-Z0-9_]*)=(.*)")


def shown(value: object) -> str:
    """A default as one writes it in `.env`."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def expected_blocks() -> dict[str, str]:
    """What `.env.example` must say of each setting, by the setting's name."""
    return {
        name.upper(): f"# {field.description}\n# {name.upper()}={shown(field.default)}"
        for name, field in Settings.model_fields.items()
    }


def written_blocks() -> dict[str, str]:
    """What `.env.example` says of each setting, by the setting's name."""
    blocks = {}
    for block in EXAMPLE.read_text(encoding="utf-8").strip().split("\n\n"):
        assignment = ASSIGNMENT.fullmatch(block.splitlines()[-1])
        if assignment is not None:
            blocks[assignment[1]] = block
    return blocks


@pytest.mark.parametrize("name", expected_blocks())
def test_env_example_setting_has_its_sentence_and_default(name: str) -> None:
    expected = expected_blocks()[name]
    assert written_blocks().get(name) == expected, f"put this into .env.example:\n\n{expected}\n"


def test_env_example_names_are_settings_in_their_order() -> None:
    assert list(written_blocks()) == list(expected_blocks())


def test_env_example_every_sentence_is_whole() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, f"{name} has no sentence"
        assert field.description.endswith("."), f"the sentence of {name} has no full stop"


def test_env_example_uncommented_equals_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    active = [line.removeprefix("# ") for line in EXAMPLE.read_text().splitlines() if ASSIGNMENT.fullmatch(line)]
    env_file = tmp_path / ".env"
    env_file.write_text("\n".join(active))
    assert Settings(_env_file=env_file) == Settings(_env_file=None)


def test_env_example_copied_as_it_is_sets_nothing() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
