"""What every test may use."""

from __future__ import annotations

import fcntl
import gc
import os
import sys
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import settings as hypothesis_settings

from app.settings import Settings
from tests.support.logs import logs_given_back

# What this machine's user has set for a service of theirs is no part of a test.
for _name in list(os.environ):
    if _name.lower() in Settings.model_fields:
        del os.environ[_name]

# Whoever wants no compiled Python kept has all of the service compiled anew in each of the many processes that tests
# start: half of some tests' time, and of the collecting.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Of a law that names no number of its own: half of Hypothesis's hundred, so that the suite ends within two minutes.
hypothesis_settings.register_profile("papertape", max_examples=50)
hypothesis_settings.load_profile("papertape")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process is left alone with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later garbage collection: that was a sixth of the tests' time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session")
def compiled_kernel(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What backtests run on is compiled: 20 seconds of work where nothing is kept, which one process does for all."""
    from tests.support.parity import make_world, run_if_countable  # noqa: PLC0415 - loads numba

    with (tmp_path_factory.getbasetemp().parent / "kernel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run_if_countable(make_world(Random(12))) is not None


@pytest.fixture
def computed_here() -> Iterator[pytest.MonkeyPatch]:
    """Backtests, optimisations and trainings of a test that is not about their processes run in its own."""
    from tests.support.children import replace_processes  # noqa: PLC0415 - loads numba

    with pytest.MonkeyPatch.context() as changed:
        replace_processes(changed)
        yield changed


@pytest.fixture
def own_process(computed_here: pytest.MonkeyPatch) -> None:
    """In a file whose tests compute in their own process: this one has them start another, as the service does."""
    computed_here.undo()


@pytest.fixture(autouse=True)
def _logs_are_given_back() -> Iterator[None]:
    """A command that a test runs in this process sets the process's logs; the next test finds them as they were."""
    with logs_given_back():
        yield
