"""Which database URLs are understood, and what is shown of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import ConfigurationError, StorageError
from app.storage.database import Database

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("url", "description"),
    [
        ("sqlite:////var/lib/papertape/trading.db", "/var/lib/papertape/trading.db"),
        ("sqlite:///./trading.db", str(Path("trading.db").absolute())),
        ("postgresql://me:s3cret@db.example:6543/books", "PostgreSQL database books at db.example:6543"),
        ("postgresql://me@db.example/books?sslmode=require", "PostgreSQL database books at db.example:5432"),
    ],
)
def test_database_description_says_where_and_no_secrets(url: str, description: str) -> None:
    assert Database(url).description == description


@pytest.mark.parametrize(
    "url",
    [
        "",
        "trading.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "sqlite+aiosqlite:///a.db",
        "mysql://me:s3cret@db/books",
        "postgresql://",
        "postgresql:///books",
        "postgresql://me:s3cret@db",
        "postgresql://me:s3cret@db:port/books",
        "postgresql://me:s3cret@db/books?host=elsewhere",
        "postgresql+psycopg://me:s3cret@db/books",
    ],
)
def test_database_unknown_url_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Database(url)
    assert caught.value.code == "database_url_invalid"
    assert "s3cret" not in caught.value.message


async def test_database_not_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        await Database(f"sqlite:///{tmp_path}/never-made.db").write(lambda _: None)
    assert _is_empty(tmp_path)


def _is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())
