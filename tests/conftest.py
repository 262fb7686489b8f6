"""What every test may use."""

from __future__ import annotations

import os

import pytest

from app.settings import Settings

# What this machine's user has set for a service of theirs is no part of a test.
for _name in list(os.environ):
    if _name.lower() in Settings.model_fields:
        del os.environ[_name]


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as the service does."""
    return "asyncio"
