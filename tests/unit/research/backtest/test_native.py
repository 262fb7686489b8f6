"""Compiled arithmetic is exact, or says that it cannot be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain import money
from app.research.backtest import native

LARGEST = 2**63 - 1
amounts = st.integers(-LARGEST, LARGEST) | st.integers(-(10**17), 10**17) | st.integers(-1_000, 1_000)
divisors = st.integers(1, 2**62) | st.integers(1, 10**9)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    found: Callable[..., Any] = numba.njit(function)
    return found


@compiled
def multiply_divide(first: int, second: int, divisor: int) -> int:
    return money.multiply_divide(first, second, divisor)


@compiled
def multiply_divide_up(first: int, second: int, divisor: int) -> int:
    return money.multiply_divide_up(first, second, divisor)


@compiled
def is_product_greater(first: int, second: int, third: int, fourth: int) -> bool:
    return money.is_product_greater(first, second, third, fourth)


@compiled
def divide_quickly(first: int, second: int, divisor: int) -> int:
    return native.divide_quickly(first, second, divisor)


def or_overflow(function: Callable[..., Any], *arguments: int) -> Any:
    try:
        return function(*arguments)
    except OverflowError:
        return None


@settings(max_examples=1_000, deadline=None)
@given(first=amounts, second=amounts, divisor=divisors)
@example(first=2**56 - 1, second=2**56 - 1, divisor=2**62)
@example(first=-(2**56) + 1, second=2**56 - 1, divisor=2**62 - 1)
def test_multiply_divide_compiled_is_exact_or_overflows(first: int, second: int, divisor: int) -> None:
    exact, exact_up = first * second // divisor, -(-first * second // divisor)
    assert or_overflow(multiply_divide, first, second, divisor) in (exact, None)
    assert or_overflow(multiply_divide_up, first, second, divisor) in (exact_up, None)
    if abs(first * second) < 2**111 and abs(exact) < 2**61:
        assert multiply_divide(first, second, divisor) == exact
        assert multiply_divide_up(first, second, divisor) == exact_up


@settings(max_examples=5_000, deadline=None)
@given(first=amounts, quotient=st.integers(-(2**51), 2**51), divisor=divisors, off=st.integers(-1, 1))
@example(first=3, quotient=-7, divisor=2, off=0)
@example(first=2063687341301, quotient=2063687341301, divisor=31524, off=0)  # a hair too little in floats
@example(first=6, quotient=-30120505, divisor=33642889797, off=0)  # and a hair too much
def test_quick_division_is_exact_up_to_its_bound(first: int, quotient: int, divisor: int, off: int) -> None:
    second = quotient * divisor // (first or 1) + off  # near where the quotient goes from one number to the next
    exact, found = first * second // divisor, None
    if abs(second) <= LARGEST:
        found = divide_quickly(first, second, divisor)
        assert found == exact if abs(exact) < native.QUICKLY_DIVIDED else abs(found) >= native.QUICKLY_DIVIDED


@settings(max_examples=1_000, deadline=None)
@given(first=amounts, second=amounts, third=amounts, fourth=amounts)
def test_is_product_greater_compiled_is_exact_or_overflows(first: int, second: int, third: int, fourth: int) -> None:
    exact = first * second > third * fourth
    assert or_overflow(is_product_greater, first, second, third, fourth) in (exact, None)
    if abs(first * second) + abs(third * fourth) < 2**111:
        assert is_product_greater(first, second, third, fourth) == exact


@settings(max_examples=1_000, deadline=None)
@given(first=amounts, second=st.integers(1, 10**9), by=st.integers(1, 10**9), off=st.integers(-1, 1))
def test_is_product_greater_compiled_of_nearly_equal_products_is_exact(
    first: int, second: int, by: int, off: int
) -> None:
    third, fourth = first // by + off, second * by
    exact = first * second > third * fourth
    assert or_overflow(is_product_greater, first, second, third, fourth) in (exact, None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where compiled code would be kept."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    found = native._choose_cache()
    assert found is not None
    monkeypatch.setattr(native, "_CACHE", found)
    return found


def test_compiled_code_is_kept_in_the_users_cache_and_known_to_be_there(folder: Path, tmp_path: Path) -> None:
    assert folder.parent == tmp_path / "papertape"
    assert str(folder) == numba.config.CACHE_DIR  # type: ignore[attr-defined]
    assert not native.is_compiled()
    (folder / "kernel").mkdir()
    (folder / "kernel" / "run.1.nbc").touch()
    assert native.is_compiled()


def test_compiled_code_is_not_kept_where_there_is_no_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    assert native._choose_cache() is None
    (folder / "run.1.nbc").touch()
    assert native._choose_cache() == folder, "what is there already is read"


def test_compiled_code_is_not_kept_where_no_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert native._choose_cache() is None
