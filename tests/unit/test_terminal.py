"""How a model's card leaves the service: into a pipe, onto a terminal, into a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.errors import InvalidInputError
from app.model_card.content import render_markdown
from app.model_card.page import render_html
from app.terminal import print_card, save_page
from tests.support.cards import make_whole_card


def test_card_into_a_pipe_is_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    print_card(make_whole_card(), as_json=False)

    assert capsys.readouterr().out == render_markdown(make_whole_card())


def test_card_on_a_terminal_is_laid_out(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    print_card(make_whole_card(warnings=["\x1b]0;owned\x07[link](http://evil.example)"]), as_json=False)

    shown = capsys.readouterr().out
    assert "| --- |" not in shown
    assert "1.0000 [0.9500, 1.0500]" in shown
    assert "\x1b]" not in shown
    assert "[link](http://evil.example)" in shown


def test_card_as_json_is_the_card(capsys: pytest.CaptureFixture[str]) -> None:
    print_card(make_whole_card(), as_json=True)

    assert json.loads(capsys.readouterr().out) == make_whole_card()


def test_page_replaces_an_older_one_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "card.html"
    file.write_text("old")
    save_page(make_whole_card(), file)

    assert file.read_text() == render_html(make_whole_card())
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]
    assert capsys.readouterr().out == f"Wrote {file}\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing/card.html", "No such file or directory"),
        ("file/card.html", "Not a directory"),
        ("folder", "directory"),
    ],
)
def test_page_that_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    with pytest.raises(InvalidInputError, match=said) as refused:
        save_page(make_whole_card(), tmp_path / name)
    assert refused.value.code == "file_not_writable"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
