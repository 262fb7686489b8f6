"""Where a training's folds are fitted: on this machine's cores, or on a Dask cluster through joblib."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, TypeVar

from joblib import Parallel, delayed, parallel_config

LOCAL: Final = "loky"
"""The backend that needs no address."""

LOKY_ROWS: Final = 200_000
"""From how many rows on processes pay: below, a forest's own threads use every core without copying rows."""

_CONNECT_SECONDS = 15

T = TypeVar("T")


class BackendError(Exception):
    """The backend cannot be used; the message says what to do."""


def run_calls(
    function: Callable[..., T], calls: Sequence[tuple[Any, ...]], backend: str, rows: int
) -> Generator[T, None, None]:
    """What `function` gives for each tuple of arguments, in their order, as soon as it is there.

    Args:
        function: Of a module, so that other processes find it.
        calls: The arguments of each call.
        backend: `LOCAL`, or the address of a Dask scheduler such as "tcp://10.0.0.5:8786", whose workers need this
            version of Papertape and its libraries.
        rows: How many rows the largest call is about; all of them together where each is too small for threads.

    Closing the generator cancels the calls that are still to come.

    Raises:
        BackendError: Dask is not installed, or nobody answers at the address.
    """
    work = [delayed(function)(*arguments) for arguments in calls]
    if backend == LOCAL:
        workers = min(len(calls), os.cpu_count() or 1) if rows >= LOKY_ROWS else 1
        yield from _pass_on(Parallel(n_jobs=workers, return_as="generator")(work))
        return
    with _connect(backend), parallel_config(backend="dask"):
        yield from _pass_on(Parallel(return_as="generator")(work))


def _pass_on(results: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same; whoever closes it early means to, and needs no warning that calls under way are cancelled."""
    try:
        for result in results:  # noqa: UP028 - `yield from` would close `results` outside the block below
            yield result
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results.close()


def _connect(address: str) -> Any:  # noqa: ANN401 - a client of a library that is not always there
    try:
        from distributed import Client  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise BackendError(
            "TRAINING_BACKEND names a Dask cluster, but Dask is not installed; pip install -r requirements-dask.txt."
        ) from error
    try:
        return Client(address, timeout=_CONNECT_SECONDS)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise BackendError(f"No Dask scheduler answers at TRAINING_BACKEND={address}: {error}.") from error
