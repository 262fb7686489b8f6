"""The commands that look through the books: verify, replay and why. None of them needs the market."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from app import record_pages, terminal
from app.bootstrap import Service
from app.command_running import AsJson, be_quiet, check_symbols, open_books, parse_moment
from app.domain.ports import Selection
from app.errors import InvalidInputError, NotFoundError
from app.research.replay import NotReplayed, Replay
from app.settings import load_settings
from app.storage import verification
from app.storage.standings import Account
from app.storage.verification import Verification

_NOT_EQUAL = 3
_Hears = Callable[[str, float], None]


def verify(
    run: Annotated[str | None, typer.Option(help="Such as binance.forest.main.1; all of them when not given.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Write a snapshot where the fills are sound.")] = False,  # noqa: FBT002 - typer makes options of defaults
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Look through the books: fills, snapshots, orders and the chain of records. Exits 3 where not all is well."""
    settings = load_settings()
    be_quiet(settings)

    async def look() -> tuple[list[Verification], list[str]]:
        async with open_books(settings) as service:
            accounts = await service.database.read(partial(verification.list_accounts, run=run))
            if run is not None and not accounts:
                raise NotFoundError(f"There is no run {run[:80]!r}.", code="run_not_found")
            with terminal.progress_bar() as on_progress:
                return await _verify_all(service, accounts, on_progress, repair=repair)

    found, repaired = asyncio.run(look())
    record_pages.print_verifications(found, repaired, as_json=as_json)
    if not all(one.is_sound for one in found):
        raise typer.Exit(_NOT_EQUAL)


def replay(
    cycle_id: Annotated[str | None, typer.Argument(metavar="CYCLE_ID", help="The cycle.")] = None,
    every_cycle: Annotated[bool, typer.Option("--all", help="Replay every recorded cycle.")] = False,  # noqa: FBT002
    symbol: Annotated[str | None, typer.Option(help="With --all: only this symbol, such as BTCUSDT.")] = None,
    since: Annotated[
        str | None, typer.Option(help="With --all: only cycles that ended at this UTC time or later.")
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Compute cycles again from their records, and compare every byte. Exits 3 where not all are equal."""
    if (cycle_id is None) is not every_cycle:
        raise InvalidInputError("Give a CYCLE_ID or --all.", code="options_conflict")
    settings = load_settings()
    be_quiet(settings)
    if symbol is not None:
        check_symbols((symbol,))
    wanted = Selection(symbol=symbol, since=parse_moment(since, "--since"))

    async def work() -> bool:
        async with open_books(settings) as service:
            if cycle_id is not None:
                found = await service.replayer.replay(cycle_id)
                record_pages.print_replay(found, as_json=as_json)
                return found.equal
            with terminal.progress_bar() as on_progress:
                equal, other = await _replay_all(service, wanted, on_progress)
            record_pages.print_replays(equal, other, as_json=as_json)
            return all(isinstance(one, NotReplayed) and one.code == "cycle_refused" for one in other)

    if not asyncio.run(work()):
        raise typer.Exit(_NOT_EQUAL)


def why(
    trade_id: Annotated[int, typer.Argument(metavar="TRADE_ID", min=1, help="The number of the trade.")],
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Say why a trade was made: what the model saw, the gate's arithmetic, the checks, the order and the price."""
    settings = load_settings()
    be_quiet(settings)

    async def show() -> None:
        async with open_books(settings) as service:
            record_pages.print_reason(await service.reasons.find(trade_id), as_json=as_json)

    asyncio.run(show())


async def _verify_all(
    service: Service, accounts: list[Account], on_progress: _Hears, *, repair: bool
) -> tuple[list[Verification], list[str]]:
    found, repaired = [], []
    for account in accounts:
        result = await _verify(service, account, on_progress)
        if repair and result.can_be_repaired:
            job = partial(verification.repair, account=account, now=service.clock.now(), verified=result)
            if await service.database.write(job):
                repaired.append(account.run.id)
                result = await _verify(service, account, on_progress)
        found.append(result)
    shared = partial(verification.verify_shared, on_progress=_in_shares(on_progress, "all runs"))
    return [*found, await service.database.read(shared)], repaired


async def _verify(service: Service, account: Account, on_progress: _Hears) -> Verification:
    hears = _in_shares(on_progress, account.run.id)
    return await service.database.read(partial(verification.verify_account, account=account, on_progress=hears))


def _in_shares(on_progress: _Hears, name: str) -> verification.OnProgress:
    return lambda what, done, total: on_progress(f"{name}: {what}", done / max(total, 1))


async def _replay_all(
    service: Service, wanted: Selection, on_progress: _Hears
) -> tuple[int, list[Replay | NotReplayed]]:
    equal = 0
    other: list[Replay | NotReplayed] = []

    def settled(done: int, total: int) -> None:
        on_progress(f"{done:,} of {total:,} cycles", done / max(total, 1))

    async for found in service.replayer.replay_all(wanted, settled):
        if isinstance(found, Replay) and found.equal:
            equal += 1
        else:
            other.append(found)
    return equal, other
