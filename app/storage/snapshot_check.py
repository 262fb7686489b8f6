"""Computes the snapshots of a run again from its fills and prices, and tells which are not what follows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from app.domain.money import plain, to_units
from app.domain.portfolio import Exit, Portfolio, find_contradictions, worth
from app.domain.standing import Snapshot, open_snapshot
from app.storage.account_tables import snapshots
from app.storage.opening import follow_fills
from app.storage.rebuild import Step, compare, replay_fills
from app.storage.standings import SNAPSHOT_COLUMNS, Account, snapshot_from_row

_CHUNK = 2_000
_OF_BOOKING = (snapshots.c.number, snapshots.c.last_trade_id, snapshots.c.symbol, snapshots.c.price)
_AMOUNTS = ("equity", "peak_equity", "day_equity")


class SnapshotCheck:
    """Walks along the fills of a run and its snapshots together, oldest first.

    Each snapshot is computed from the one before as that was computed, not as it is stored: one that was changed makes
    no other wrong. A snapshot that tells of no booking and is what follows has set right what was wrong before it.

    Args:
        connection: Where to read.
        account: Whose.
        last_trade: The newest fill to look at.
        last_snapshot: The newest snapshot to look at.
    """

    def __init__(self, connection: Connection, account: Account, last_trade: int, last_snapshot: int) -> None:
        self._connection = connection
        self._account = account
        self._last_snapshot = last_snapshot
        self._steps = replay_fills(connection, account, has_exits=last_snapshot > 0, last=last_trade)
        self._ahead: deque[Step] = deque()
        self._portfolio = Portfolio(to_units(account.run.initial_cash))
        self._fills = 0
        self.followed: Snapshot | None = None
        self.wrong_fills: list[str] = []
        self.wrong_snapshots: list[str] = []
        self.set_right = 0

    def run(self) -> Iterator[int]:
        """Look at one snapshot after another; tells how many fills there were so far."""
        for row in self._rows():
            stored = _read(row)
            group = self._take(row.last_trade_id or 0, stored, row.taken_at)
            before, self.followed = self.followed, self._follow(group, stored, row)
            differences = ["it cannot be read"] if stored is None else _find_differences(stored, self.followed)
            if differences:
                self.wrong_snapshots += [f"snapshot {row.number}: {words}" for words in differences]
            elif row.symbol is None and before is not None and self.followed.at > before.at:
                self.set_right += len(self.wrong_snapshots)
                self.wrong_snapshots.clear()
            yield self._fills
        self._finish()
        yield self._fills

    def _rows(self) -> Iterator[Any]:
        after = 0
        statement = (
            select(*_OF_BOOKING, *SNAPSHOT_COLUMNS)
            .where(snapshots.c.account_id == self._account.id, snapshots.c.number <= self._last_snapshot)
            .order_by(snapshots.c.number)
            .limit(_CHUNK)
        )
        while rows := self._connection.execute(statement.where(snapshots.c.number > after)).all():
            yield from rows
            after = rows[-1].number

    def _next(self) -> Step | None:
        """The next step, without taking it."""
        if not self._ahead:
            found = next(self._steps, None)
            if found is None:
                return None
            self._ahead.append(found[0])
            self.wrong_fills += found[1]
        return self._ahead[0]

    def _take(self, last_trade: int, stored: Snapshot | None, at: datetime) -> list[Step]:
        """The steps of the booking behind a snapshot.

        A move of dust stands behind the newest fill, which may be an earlier booking's: one at the end belongs here
        where it leads to what is stored, or else where it is no later.
        """
        group: list[Step] = []
        while (step := self._next()) is not None and (
            step.trade_id < last_trade or (step.trade_id == last_trade and step.is_fill)
        ):
            group.append(self._ahead.popleft())
        behind: list[Step] = []
        while (step := self._next()) is not None and step.trade_id == last_trade:
            behind.append(self._ahead.popleft())
        portfolios = [group[-1].portfolio if group else self._portfolio, *(step.portfolio for step in behind)]
        if stored is not None and stored.portfolio in portfolios:
            count = portfolios.index(stored.portfolio)
        else:
            count = sum(step.at <= at for step in behind)
        self._ahead.extendleft(reversed(behind[count:]))
        group += behind[:count]
        self._fills += sum(step.is_fill for step in group)
        if group:
            self._portfolio = group[-1].portfolio
        return group

    def _follow(self, group: Sequence[Step], stored: Snapshot | None, row: Any) -> Snapshot:  # noqa: ANN401 - a row
        at, before = row.taken_at, self.followed
        if before is None:
            opened = open_snapshot(to_units(self._account.run.initial_cash), self._account.run.opened_at)
            return follow_fills(opened, self._portfolio, at) if group else opened
        if row.symbol is not None and row.price is not None:
            prices = {row.symbol: to_units(row.price)}
            exits: list[tuple[Exit, int]] = [(step.exit, step.fee) for step in group if step.exit is not None]
            decided = sum(step.is_decided for step in group)
            return before.followed_by(self._portfolio, prices, at, exits, decided)
        resumed = replace(before, peak_equity=before.equity)
        return resumed if stored == resumed else follow_fills(before, self._portfolio, at)

    def _finish(self) -> None:
        newest: Step | None = None
        while self._next() is not None:
            newest = self._ahead.popleft()
            self._fills += newest.is_fill
        if newest is not None:
            self._portfolio = newest.portfolio
        if newest is not None and self.followed is not None:
            self.wrong_snapshots.append(f"no snapshot was taken after trade {newest.trade_id}, the newest")
            self.followed = follow_fills(self.followed, self._portfolio, newest.at)
        self.wrong_fills += find_contradictions(self._portfolio, to_units(self._account.run.initial_cash))


def _read(row: Any) -> Snapshot | None:  # noqa: ANN401 - a row
    try:
        return snapshot_from_row(row[len(_OF_BOOKING) :])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None


def _find_differences(stored: Snapshot, expected: Snapshot) -> list[str]:
    """Where a snapshot differs from the one that follows, in words."""
    if stored == expected:
        return []
    found = compare(stored.portfolio, expected.portfolio)
    held = [worth(stored.portfolio.holding(symbol), price) for symbol, price in stored.marks.items()]
    value = stored.portfolio.cash + sum(held)
    if value != stored.equity:
        found.append(f"its equity is {plain(stored.equity)}, and its cash and what it holds are worth {plain(value)}")
    for name in (field.name for field in fields(Snapshot) if field.name != "portfolio"):
        one, other = getattr(stored, name), getattr(expected, name)
        if one != other:
            words = (plain(one), plain(other)) if name in _AMOUNTS else (str(one), str(other))
            found.append(f"{name} is recorded as {words[0]}, and {words[1]} follows")
    return found or ["what it holds is not what follows"]
