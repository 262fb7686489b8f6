"""A result read back is the result that was written, to the last digit."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

from app.errors import StorageError
from app.research.backtest.books import find_first_difference
from app.research.backtest.stored import pack_books, read_result, read_run, unpack_books, write_run
from tests.support.backtests import Fill, make_books, make_request, make_result, make_said

ROWS: list[Fill] = [
    (1, 1, "2", "100", "0.2", "0", "0", "2"),
    (2, -1, "2", "110", "0.22", "20", "0.2", "0"),
]


@pytest.mark.parametrize("fields", [{}, {"strategy": "forest"}])
def test_result_comes_back_as_it_was(fields: dict[str, Any]) -> None:
    books = make_books(["10000", "-92233720368.54775808", "92233720368.54775807", "0.00000001"], ROWS)
    benchmark = np.array([2**63 - 1, -(2**63), 0, 1], dtype=np.int64)
    result = make_result(books, benchmark, make_request(**fields))
    found = read_result(write_run(result.run), pack_books(books, benchmark, result.said))
    assert found.run == result.run
    assert find_first_difference(found.books, books) is None
    assert found.benchmark_equity.tolist() == benchmark.tolist()
    assert found.books.outcomes.dtype == np.int8
    assert found.said.signals.tolist() == result.said.signals.tolist()
    assert found.said.confidences.tolist() == result.said.confidences.tolist()


def test_books_of_an_hour_a_bar_take_few_bytes() -> None:
    books = make_books(["10000"] * 8_760)
    assert len(pack_books(books, books.equity, make_said(8_760))) < 4_000


@pytest.mark.parametrize("document", ["", "{}", "[]", '{"id": 5}', "null"])
def test_document_that_is_no_run_is_refused(document: str) -> None:
    with pytest.raises(StorageError) as caught:
        read_run(document)
    assert caught.value.code == "backtest_unreadable"


@pytest.mark.parametrize("packed", [b"", b"x", *map(zlib.compress, (b"", b"PK\x03\x04 no zip", b"\x80\x04."))])
def test_bytes_that_are_no_books_are_refused(packed: bytes) -> None:
    with pytest.raises(StorageError) as caught:
        unpack_books(packed)
    assert caught.value.code == "backtest_unreadable"
