"""The file of events: whole lines, in order, a few files of bounded size, one writer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from app.observability.event_file import EventFile
from tests.support.events import make_events

LINE = 180


def write(file: EventFile, first: int, last: int) -> None:
    file.append([replace(event, sequence=first + place) for place, event in enumerate(make_events(last - first + 1))])


def sequences(path: Path) -> list[int]:
    return [json.loads(line)["sequence"] for line in path.read_text().splitlines()]


def test_file_goes_on_after_a_restart_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = EventFile(path)
    assert first.open() == 0
    write(first, 1, 3)
    first.close()

    second = EventFile(path)
    assert second.open() == 3
    write(second, 4, 4)
    second.close()

    assert sequences(path) == [1, 2, 3, 4]
    assert path.stat().st_mode & 0o777 == 0o600


def test_file_that_is_full_becomes_an_older_one_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file = EventFile(path, maximum_bytes=2 * LINE, files=3)
    file.open()
    write(file, 1, 7)
    file.close()

    names = [path, tmp_path / "events.jsonl.1", tmp_path / "events.jsonl.2"]
    assert [sequences(name) for name in names] == [[7], [5, 6], [3, 4]]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*(name.name for name in names), "events.jsonl.lock"]
    )


def test_file_that_was_just_turned_over_goes_on_after_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file = EventFile(path)
    file.open()
    write(file, 1, 2)
    path.rename(tmp_path / "events.jsonl.1")

    assert file.open() == 2
    file.close()


@pytest.mark.parametrize("torn", [b'{"sequence": 4, "at"', b"\0" * 500, '{"sequence":4,"message":"é'.encode()[:-1]])
def test_torn_line_is_taken_away(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "events.jsonl"
    file = EventFile(path)
    file.open()
    write(file, 1, 3)
    with path.open("ab") as other:
        other.write(torn)

    assert file.open() == 3
    write(file, 4, 4)
    file.close()

    assert sequences(path) == [1, 2, 3, 4]


def test_line_that_is_no_event_of_ours_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"sequence":2}\nnoted by hand\n[1]\n{}\n')
    file = EventFile(path)

    assert file.open() == 2
    file.close()
    assert "noted by hand" in path.read_text()


def test_file_has_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first, second = EventFile(path), EventFile(path)
    first.open()
    with pytest.raises(BlockingIOError):
        second.open()
    write(first, 1, 1)
    first.close()

    assert second.open() == 1
    second.close()
