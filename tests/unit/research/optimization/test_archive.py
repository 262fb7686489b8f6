"""Trials outlive a crash: what is whole is read again, what is torn is cut off, and one process has them at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.errors import ConflictError
from app.research.optimization.archive import Archive, Trial
from app.research.optimization.space import Point


def make_trial(seed: int) -> Trial:
    return Trial(np.random.default_rng(seed).standard_normal(4), seed)


def read(path: Path) -> dict[Point, tuple[list[float], int]]:
    with Archive(path, 2, 3) as archive:
        return {point: (archive[point].curve.tolist(), archive[point].fills) for point in archive}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "trials.bin"
    with Archive(path, 2, 3) as archive:
        for number in range(3):
            archive.add((number, 9), make_trial(number))
    return path


def expected(count: int) -> dict[Point, tuple[list[float], int]]:
    return {(number, 9): (make_trial(number).curve.tolist(), number) for number in range(count)}


def test_trials_are_read_again_to_the_last_bit(path: Path) -> None:
    assert read(path) == expected(3)


@pytest.mark.parametrize("torn", [1, 20, 59])
def test_record_that_a_crash_has_torn_is_cut_off_and_written_anew(path: Path, torn: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-torn])
    with Archive(path, 2, 3) as archive:
        assert len(archive) == 2
        assert (2, 9) not in archive
        archive.add((2, 9), make_trial(2))
    assert path.read_bytes() == whole
    assert read(path) == expected(3)


def test_record_that_is_damaged_ends_what_is_believed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3 + 30] ^= 1
    path.write_bytes(bytes(content))
    assert read(path) == expected(1)


def test_file_of_something_else_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "trials.bin"
    path.write_bytes(b"nothing of ours" * 100)
    assert read(path) == {}
    assert path.read_bytes() == b""


def test_second_process_is_refused_until_the_first_is_done(path: Path) -> None:
    with Archive(path, 2, 3), pytest.raises(ConflictError) as caught:
        Archive(path, 2, 3)
    assert caught.value.code == "optimization_in_progress"
    assert len(read(path)) == 3
