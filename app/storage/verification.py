"""Looks through everything that is kept of a run, and says in words what does not follow from what.

Nothing here trusts the triggers or the service: fills are added up again, snapshots computed again, and each link of
the chain of records hashed again from the cycle as it is read back. What is looked at ends where the run stood when it
began, so that a service may go on booking meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from app.domain.standing import Snapshot
from app.storage import bookings, standings
from app.storage.account_tables import accounts, orders, snapshots
from app.storage.archive import find_altered_settings
from app.storage.chain_check import Finding, check_chain, count_unrecorded
from app.storage.cycle_candles import find_altered
from app.storage.opening import follow_fills
from app.storage.order_check import check_dates, check_orders
from app.storage.snapshot_check import SnapshotCheck
from app.storage.standings import ACCOUNT_COLUMNS, Account, account_from_row
from app.storage.tables import cycle_candles, cycles, records, settings_documents, trades

SHOWN = 20
"""How many findings of a kind are told in full; the others are counted."""

_TOLD_EVERY = 200
_SECTIONS = {"fills": trades, "snapshots": snapshots, "orders": orders, "cycles": cycles, "records": records}

OnProgress = Callable[[str, int, int], None]
"""Hears what is looked at, how much of it has been, and how much there is."""


@dataclass(slots=True)
class Verification:
    """What was looked at of a run (or, without one, of what all runs share), and what is wrong.

    Attributes:
        run: The run; None for the candles and settings that all share.
        counted: What was looked at, and how many of each.
        found: How many findings there are of each kind.
        wrong: The first `SHOWN` of each kind, in words.
        notes: What is to be known beside that.
        followed: Where the run stands by its fills; None where they are not sound, or it has no snapshot yet.
        newest: The number of its newest snapshot.
    """

    run: str | None
    counted: dict[str, int]
    found: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    followed: Snapshot | None = None
    newest: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.found

    @property
    def can_be_repaired(self) -> bool:
        """Whether a snapshot that follows from the fills sets something right."""
        return self.followed is not None and self.found["snapshots"] > 0

    def add(self, findings: Iterable[Finding]) -> None:
        """Take note of what is wrong."""
        for kind, words in findings:
            self.found[kind] += 1
            if self.found[kind] <= SHOWN:
                self.wrong.setdefault(kind, []).append(words)


def list_accounts(connection: Connection, run: str | None = None) -> list[Account]:
    """The accounts, oldest first; of `run` alone where it is given."""
    rows = connection.execute(select(*ACCOUNT_COLUMNS).order_by(accounts.c.id)).all()
    found = [account_from_row(row) for row in rows]
    return [account for account in found if run in (None, account.run.id)]


def verify_account(connection: Connection, account: Account, on_progress: OnProgress) -> Verification:
    """Look through everything of one run."""
    newest, counted = _measure(connection, account)
    result = Verification(account.run.id, counted, newest=newest["snapshots"])
    check = SnapshotCheck(connection, account, newest["fills"], newest["snapshots"])
    for done, _ in enumerate(check.run()):
        if done % _TOLD_EVERY == 0:
            on_progress("fills and snapshots", done, counted["snapshots"])
    result.add(("fills", words) for words in check.wrong_fills)
    result.add(("snapshots", words) for words in check.wrong_snapshots)
    result.followed = None if check.wrong_fills else check.followed
    if check.set_right:
        result.notes.append(f"{check.set_right} things wrong about earlier snapshots were set right by a later one.")
    if counted["snapshots"] == 0:
        result.notes.append("It is of an older version; the next start of the service takes its first snapshot.")
    result.add(("orders", words) for words in check_orders(connection, account))
    result.add(("dates", words) for words in check_dates(connection, account))
    for done, findings in enumerate(check_chain(connection, account, newest["records"])):
        result.add(findings)
        if done % _TOLD_EVERY == 0:
            on_progress("records", done, counted["records"])
    older, missing = count_unrecorded(connection, account, newest["cycles"])
    result.add(("records", words) for words in missing)
    if older:
        result.notes.append(f"{older} cycles are older than records are; nothing is known of what they came from.")
    return result


def verify_shared(connection: Connection, on_progress: OnProgress) -> Verification:
    """Look through what the records of all runs share: candles and settings."""
    tables = {"candles": cycle_candles, "settings": settings_documents}
    counted = {
        name: connection.execute(select(func.count()).select_from(table)).scalar_one() for name, table in tables.items()
    }
    result = Verification(None, counted)
    for done, words in find_altered(connection):
        if words is not None:
            result.add([("candles", words)])
        if done % _TOLD_EVERY == 0:
            on_progress("candles", done, counted["candles"])
    altered = find_altered_settings(connection)
    result.add(("settings", f"The settings {name} are not those that were kept.") for name in altered)
    return result


def repair(connection: Connection, account: Account, now: datetime, verified: Verification) -> bool:
    """Write a snapshot that follows from the fills, as `verified` found it; True once that is done.

    False where the run has been booked on since then: verify it again.
    """
    standings.lock_key(connection, account.run.key)
    newest, _ = _measure(connection, account)
    if verified.followed is None or newest["snapshots"] != verified.newest:
        return False
    snapshot = follow_fills(verified.followed, verified.followed.portfolio, now)
    last = bookings.find_last_trade(connection, account)
    standings.save_snapshot(connection, account, snapshot, last_trade_id=last)
    return True


def _measure(connection: Connection, account: Account) -> tuple[dict[str, int], dict[str, int]]:
    """The newest number and how many there are of each kind of row of a run: one statement, so of one moment."""
    columns: list[Any] = []
    for table in _SECTIONS.values():
        number = table.c.id if table is trades else table.c.number
        of_run = (table.c.account_id == account.id,)
        columns.append(select(func.coalesce(func.max(number), 0)).where(*of_run).scalar_subquery())
        columns.append(select(func.count()).select_from(table).where(*of_run).scalar_subquery())
    row = connection.execute(select(*columns)).one()
    return dict(zip(_SECTIONS, row[::2], strict=True)), dict(zip(_SECTIONS, row[1::2], strict=True))
