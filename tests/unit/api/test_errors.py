"""The table from errors to answers covers the whole tree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.api.errors import INTERNAL, STATUS_BY_ERROR, problem_of, status_of
from app.errors import ConfigurationError, DataQualityError, ServiceError, UpstreamError


def tree(root: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    if root.__module__ == "app.errors":
        yield root
    for child in root.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_status_every_class_of_the_tree_is_in_the_table(kind: type[ServiceError]) -> None:
    assert kind in STATUS_BY_ERROR
    assert status_of(kind("Message.")) == STATUS_BY_ERROR[kind]
    assert 400 <= STATUS_BY_ERROR[kind] <= 599


def test_status_subclass_that_is_not_named_has_its_parents() -> None:
    class StaleDataError(DataQualityError):
        """A class that an adapter might add."""

    assert status_of(StaleDataError("Old.")) == 502


@pytest.mark.parametrize("kind", [ServiceError, ConfigurationError])
def test_problem_of_a_fault_of_ours_tells_nothing(kind: type[ServiceError]) -> None:
    assert problem_of(kind("secret", context={"password": "secret"})) is INTERNAL


def test_problem_keeps_code_facts_and_wait() -> None:
    error = UpstreamError("Down.", code="upstream_unreachable", retry_after_seconds=1.2, context={"host": "a"})

    problem = problem_of(error)

    assert (problem.status, problem.code, problem.detail) == (502, "upstream_unreachable", "Down.")
    assert problem.facts == {"host": "a"}
    assert ("retry-after", "2") in problem.header_lines()
