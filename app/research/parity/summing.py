"""From what came of each account to one report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from app import __version__
from app.domain.money import from_units
from app.research.parity.comparing import AccountComparer
from app.research.parity.next_open import Assumed, LiveStretch, match_row
from app.research.parity.report import Cause, NextOpen, ParityReport, Stretch, TradeParity


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of an account; `equities` are those of life at the end of each stretch, in quote units."""

    comparer: AccountComparer
    stretches: Sequence[LiveStretch]
    assumed: Sequence[Assumed]
    equities: Sequence[Decimal]


def sum_up(created_at: datetime, since: datetime | None, accounts: Sequence[Compared]) -> ParityReport:
    """The report of all accounts; takes the prices at the next open out of each `Compared.assumed`."""
    rows = [row for account in accounts for row in _match_rows(account)]
    stretches = [stretch for account in accounts for stretch in _tell_stretches(account)]
    differences = [one for account in accounts for one in account.comparer.differences]
    return ParityReport(
        created_at=created_at,
        code_version=__version__,
        since=since,
        runs=tuple(account.comparer.run for account in accounts),
        cycles=sum(account.comparer.cycles for account in accounts),
        trades=len(rows),
        equal=sum(row.cause is None for row in rows),
        causes=dict(Counter(row.cause.value for row in rows if row.cause is not None)),
        unexplained=sum(one.cause is Cause.UNEXPLAINED for one in differences),
        differences=tuple(differences),
        next_open=_sum_next_open(rows, stretches, [one for account in accounts for one in account.assumed]),
        stretches=tuple(stretches),
        rows=tuple(rows),
    )


def _match_rows(account: Compared) -> list[TradeParity]:
    prices = {
        look.cycle_id: assumed.prices
        for stretch, assumed in zip(account.stretches, account.assumed, strict=True)
        for look in stretch.looks
    }
    return [match_row(row, prices.get(row.cycle_id or "", {})) for row in account.comparer.rows]


def _tell_stretches(account: Compared) -> list[Stretch]:
    return [
        Stretch(
            run=account.comparer.run,
            since=stretch.looks[0].at,
            until=stretch.looks[-1].at,
            start=stretch.start,
            cycles=len(stretch.looks),
            equity_live=equity,
            equity_next_open=from_units(assumed.equity),
        )
        for stretch, assumed, equity in zip(account.stretches, account.assumed, account.equities, strict=True)
    ]


def _sum_next_open(rows: Sequence[TradeParity], stretches: Sequence[Stretch], assumed: Sequence[Assumed]) -> NextOpen:
    """What the next open changes; the prices that are still there are of trades that nobody made in life."""
    differences = [row.difference_bps for row in rows if row.difference_bps is not None]
    alone = {(place, name): len(left) for place, one in enumerate(assumed) for name, left in one.prices.items() if left}
    return NextOpen(
        matched=len(differences),
        only_live=sum(row.live is not None and row.cause is not Cause.PERSON_ACTED for row in rows) - len(differences),
        only_backtest=sum(alone.values()),
        without_cycle=sum(count for (place, name), count in alone.items() if name in assumed[place].unseen),
        mean_bps=sum(differences) / len(differences) if differences else None,
        largest_bps=max(differences, key=abs) if differences else None,
        equity_difference=sum((one.equity_next_open - one.equity_live for one in stretches), Decimal(0)),
    )
