"""Opens accounts, and checks on every start that what is stored follows from the fills."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import structlog
from sqlalchemy import Connection

from app.domain.money import to_units
from app.domain.portfolio import Portfolio
from app.domain.standing import RunKey, Snapshot, Standing, open_snapshot
from app.errors import StorageError
from app.storage import bookings, standings
from app.storage.rebuild import compare, replay_fills
from app.storage.rebuild import rebuild as rebuild_account
from app.storage.standings import Account

log = structlog.get_logger()


def open_account(connection: Connection, key: RunKey, cash: Decimal, at: datetime) -> Standing:
    """The account of `key`, checked against its fills; a new one with `cash` where there is none.

    Balances come from the fills: a changed `cash` is not applied to an account that exists. One of an older version,
    which kept no snapshots, is given one.

    Raises:
        StorageError: `ledger_mismatch`, the fills contradict each other or what is stored.
    """
    standings.lock_key(connection, key)
    account = standings.find_account(connection, key)
    if account is None:
        return open_run(connection, key, 1, cash, at)
    if standings.find_snapshot(connection, account) is None:
        _take_over(connection, account, at)
    differences = find_differences(connection, account)
    if differences:
        log.error("ledger.mismatch", run=account.run.id, differences=differences[:10])
        raise StorageError(
            f"The books of {account.run.id} do not add up: {'; '.join(differences[:5])}. Nothing is traded until they "
            "do; `python -m app verify` tells all that differs and how to repair it.",
            code="ledger_mismatch",
            context={"run": account.run.id, "differences": differences[:20]},
        )
    if account.run.initial_cash != cash:
        log.warning("account.initial_cash_ignored", run=account.run.id, opened_with=str(account.run.initial_cash))
    return standings.load_standing(connection, account)


def open_run(connection: Connection, key: RunKey, generation: int, cash: Decimal, at: datetime) -> Standing:
    """A new run of `key`."""
    account = standings.create_account(connection, key, generation, cash, at)
    standings.save_snapshot(connection, account, open_snapshot(to_units(cash), at))
    return standings.load_standing(connection, account)


def find_differences(connection: Connection, account: Account) -> list[str]:
    """Where the account contradicts itself or its fills, in words; empty where the books add up."""
    followed, wrong = rebuild_account(connection, account)
    snapshot = standings.find_snapshot(connection, account)
    return wrong + (["it has no snapshot"] if snapshot is None else compare(snapshot.portfolio, followed))


def _take_over(connection: Connection, account: Account, at: datetime) -> None:
    """Give an account of an older version its closed trades and its first snapshot."""
    portfolio = Portfolio(to_units(account.run.initial_cash))
    newest = open_snapshot(portfolio.cash, account.run.opened_at)
    for step, wrong in replay_fills(connection, account, has_exits=False):
        if wrong:
            return  # the check that follows tells
        portfolio, at = step.portfolio, max(at, step.at)
        if step.exit is not None:
            bookings.save_exit(connection, step.trade_id, step.exit)
    last = bookings.find_last_trade(connection, account)
    standings.save_snapshot(connection, account, follow_fills(newest, portfolio, at), last_trade_id=last)


def follow_fills(newest: Snapshot, portfolio: Portfolio, at: datetime) -> Snapshot:
    """The snapshot after `newest` of an account that holds `portfolio` by its fills, without a booking behind it."""
    # What has no known price is worth its cost until the next cycle sees one.
    costs = {symbol: one.average_price for symbol, one in (*portfolio.dust.items(), *portfolio.positions.items())}
    return newest.followed_by(portfolio, {**costs, **newest.marks}, max(at, newest.at), (), 0)
