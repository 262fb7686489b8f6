"""How results look in a terminal: tables for people on standard output, JSON for machines, progress on stderr."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.api import performance, schemas, track_record
from app.bootstrap import Service
from app.demo import DemoResult
from app.domain.cycle import CycleReport, Trade
from app.domain.events import Event, to_document
from app.errors import InvalidInputError, ServiceError
from app.model_card.content import render_markdown
from app.readiness import Check
from app.research.history import Download
from app.research.performance import PerformanceReport
from app.research.track_record import TrackRecord

_SHOWN_DEMO_TRADES = 20
_SHOWN_GAPS = 20
_PAGE_RIGHTS = 0o644
_REMEDIES = {
    "market": "Check the network, BINANCE_BASE_URL and BINANCE_FALLBACK_URL, or set MARKET_SOURCE=simulated.",
    "clock": "Set this machine's clock, for instance by switching NTP on.",
    "database": "Check DATABASE_URL, the disk's free space and the rights on the file.",
    "ledger": "The books were changed from outside; restore a backup of the database.",
    "model": "python -m app train",
}


def print_banner(console: Console, address: str, service: Service) -> None:
    """Say, once the service answers, where it is, what it trades on and what to try."""
    simulated = service.market.source == "simulated"
    market = "SIMULATED (profits on it mean nothing)" if simulated else f"{service.market.source}"
    bundle = service.strategy.bundle
    model = bundle.model_id if bundle else "none yet: training in the background, see /readyz"
    console.print(
        f"\nPapertape is listening on {address} - paper trading only, not advice", highlight=False, soft_wrap=True
    )
    console.print(f"  market  {market}", style="bold yellow" if simulated else None, highlight=False)
    console.print(f"  model   {model}", highlight=False, markup=False)
    console.print(f"  docs    {address}/docs", highlight=False)
    console.print(
        f"  try     curl -X POST '{address}/trading/run-cycle?symbol={service.settings.default_symbol}'\n",
        highlight=False,
        soft_wrap=True,
    )
    sys.stdout.flush()


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """A bar on standard error; the callback takes what is being done and how far it is, 0 to 1."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Starting", total=1.0)
        yield lambda words, share: progress.update(task, description=escape(words), completed=share)


def print_cycle(report: CycleReport, *, as_json: bool) -> None:
    """One cycle: its line, what its candles did to resting orders and the limits it met, or all of it as JSON."""
    if as_json:
        _print_json_text(TypeAdapter(schemas.Cycle).dump_json(schemas.Cycle.model_validate(report), by_alias=True))
        return
    if report.decision is None or report.execution is None:
        return
    outcome = report.execution.status.value.lower()
    _plain(
        f"{report.finished_at:%Y-%m-%d %H:%M:%SZ}  {report.symbol} ({report.source})  {report.decision.action} "
        f"{report.decision.confidence:.1%}  {outcome}: {report.execution.reason}{_count_checks(report)}"
    )
    for trade in report.fills:
        if trade.confidence is None:
            _plain(f"  filled  {trade.origin.value} order: {trade.reason}")
    for check in [check for check in report.checks if not check.passed][1:]:  # the first is the line's own reason
        _plain(f"  failed  {check.code}: {check.detail}")


def print_trades(trades: Sequence[Trade], *, as_json: bool) -> None:
    """A table of trades, or the items of `GET /trading/trades`."""
    if as_json:
        items = [schemas.Trade.model_validate(trade) for trade in trades]
        _print_json_text(TypeAdapter(list[schemas.Trade]).dump_json(items, by_alias=True))
    elif not trades:
        _plain("No trades yet.")
    else:
        _print(_trade_table(trades))


def print_event(event: Event, *, as_json: bool) -> None:
    """One event: a line for people, or its JSON on a line."""
    if as_json:
        _print_json_text(json.dumps(to_document(event), ensure_ascii=False).encode())
    else:
        about = f"{event.symbol}  " if event.symbol else ""
        _plain(f"{event.at:%Y-%m-%d %H:%M:%SZ}  {event.type.value:<17}  {about}{event.message}")


def print_card(card: dict[str, Any], *, as_json: bool) -> None:
    """A model card: laid out on a terminal, as Markdown into a pipe or file, or all of it as JSON."""
    if as_json:
        _print_json(card)
        return
    words, console = render_markdown(card), Console()
    if console.is_terminal:
        from rich.markdown import Markdown  # noqa: PLC0415 - the other commands need not load a parser

        console.print(Markdown(words, hyperlinks=False))
    else:
        sys.stdout.write(words)


def check_page(file: Path) -> None:
    """See that a page could be written, before the work that it is about; raises as `save_page`."""
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise InvalidInputError(
            f"The page cannot be written to {file}: name a file in a folder that is there.", code="file_not_writable"
        )


def save_page(page: str, file: Path, *, is_told: bool = True) -> None:
    """Write a page of HTML, so that it is there as a whole or not at all, and say where unless told not to.

    Raises:
        InvalidInputError: The page cannot be written there.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".writing-", delete=False) as scratch:
            try:
                scratch.write(page.encode())
                scratch.flush()
                os.fsync(scratch.fileno())
                Path(scratch.name).chmod(_PAGE_RIGHTS)
                Path(scratch.name).replace(file)
            except BaseException:
                Path(scratch.name).unlink()
                raise
    except OSError as error:
        raise InvalidInputError(
            f"The page cannot be written to {file}: {error.strerror}.", code="file_not_writable"
        ) from error
    if is_told:
        _plain(f"Wrote {file.resolve()}")


def print_track_record(records: Sequence[TrackRecord], *, as_json: bool) -> None:
    """A table of how each model's decisions came out, or the items of `GET /model/track-record`."""
    if as_json:
        items = [track_record.TrackRecord.model_validate(record) for record in records]
        _print_json_text(TypeAdapter(list[track_record.TrackRecord]).dump_json(items, by_alias=True))
        return
    if not records:
        _plain("No decision has settled yet; one does when the candle at the model's horizon has closed.")
        return
    table = Table("model", "settled", "log-loss", "class shares", "skill", "calibration error", "passed gate", "hits")
    for record in records:
        gate = record.gate
        table.add_row(
            record.model_id,
            f"{record.count:,}",
            f"{record.log_loss:.4f}",
            f"{record.prior_log_loss:.4f}",
            "-" if record.skill is None else f"{record.skill:+.2%}",
            f"{record.calibration_error:.1%}",
            f"{gate.count:,}",
            "-" if gate.rate is None else f"{gate.rate:.1%} ({gate.low:.1%} to {gate.high:.1%})",
        )
    _print(table)


def print_performance(report: PerformanceReport, *, as_json: bool) -> None:
    """Tables of what an account did and of its shadow books, and the verdict, or `GET /portfolio/performance`."""
    answer = performance.describe(report)
    if as_json:
        _print_json_text(answer.model_dump_json().encode())
        return
    numbers = Table("number", "value")
    for name, value in performance.flatten(answer.model_dump(mode="json", exclude={"shadow_books", "verdict"})):
        numbers.add_row(name, "-" if value is None else f"{value:,.6g}" if isinstance(value, float) else str(value))
    _print(numbers)
    books = Table("shadow book", "equity", "return", "the account beyond it, a day", "95 % interval")
    for book in report.shadow_books:
        told = book.comparison
        books.add_row(
            book.name.replace("_", " "),
            f"{book.equity:,.2f}",
            f"{book.total_return:+.2%}",
            "-" if told is None else f"{told.difference:+.3%}",
            "-" if told is None else f"{told.low:+.3%} to {told.high:+.3%}",
        )
    _print(books)
    _plain(f"Is it any good? {report.verdict.reason}")


def print_download(report: Download, *, as_json: bool) -> None:
    """What is kept of a span now, and where the exchange has nothing."""
    if as_json:
        gaps = [{"since": _iso(gap.since), "until": _iso(gap.until), "missing": gap.missing} for gap in report.gaps]
        _print_json(
            {
                "source": report.source,
                "symbol": report.symbol,
                "interval": report.interval.value,
                "since": _iso(report.since),
                "until": _iso(report.until),
                "fetched": report.fetched,
                "stored": report.stored,
                "gaps": gaps,
            }
        )
        return
    _plain(
        f"{report.symbol} {report.interval} from {report.source}, {_iso(report.since)} to {_iso(report.until)}: "
        f"{report.stored:,} candles kept, {report.fetched:,} fetched now"
    )
    for gap in report.gaps[:_SHOWN_GAPS]:
        _plain(f"Gap: {_iso(gap.since)} to {_iso(gap.until)}, {gap.missing:,} candles the exchange does not have")
    if len(report.gaps) > _SHOWN_GAPS:
        _plain(f"(the first {_SHOWN_GAPS} of {len(report.gaps)} gaps; --json lists all)")


def print_checks(service: Service, checks: Sequence[Check], *, as_json: bool) -> None:
    """What was checked, what was found, and what to do about it."""
    if as_json:
        found = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks]
        _print_json({"source": service.market.source, "checks": found})
        return
    _plain(f"Market source: {service.market.source} (MARKET_SOURCE={service.settings.market_source})")
    for check in checks:
        _plain(f"{'ok ' if check.ok else 'NOT OK'}  {check.name}: {check.detail}")
        if not check.ok:
            _plain(f"        -> {_REMEDIES[check.name]}")


def print_demo(result: DemoResult, *, as_json: bool) -> None:
    """The trades of a demonstration and what the account came to."""
    change = result.equity / result.initial_cash - 1
    if as_json:
        trades = TypeAdapter(list[schemas.Trade]).dump_python(
            [schemas.Trade.model_validate(trade) for trade in result.trades], mode="json"
        )
        money = schemas.render_money
        _print_json(
            {
                "seed": result.seed,
                "source": "simulated",
                "model_id": result.card["model_id"],
                "cycles": result.cycles,
                "trades": trades,
                "initial_cash": money(result.initial_cash),
                "cash": money(result.cash),
                "position": money(result.position),
                "price": money(result.price),
                "equity": money(result.equity),
                "fees": money(result.fees),
                "round_trips": result.round_trips,
            }
        )
        return
    if result.trades:
        _print(_trade_table(result.trades[-_SHOWN_DEMO_TRADES:]))
        if len(result.trades) > _SHOWN_DEMO_TRADES:
            _plain(f"(the last {_SHOWN_DEMO_TRADES} of {len(result.trades)} trades)")
    base = result.symbol.removesuffix("USDT")
    skill = result.card["metrics"]["direction_skill"]["value"]
    _plain(f"Model     {result.card['model_id']}, direction skill {'-' if skill is None else f'{skill:+.1%}'}")
    _plain(f"Cycles    {result.cycles}, trades {len(result.trades)}, round trips {result.round_trips}")
    held = f"{result.position.normalize():f} {base} at {result.price.normalize():f}"
    _plain(f"Cash      {result.cash.normalize():f} USDT, and {held}")
    gain = f"{change:+.2%} of {result.initial_cash.normalize():f}"
    _plain(f"Equity    {result.equity:.2f} USDT ({gain}), fees {result.fees:.2f}")
    _plain("The market was SIMULATED and has a pattern built in: profits on it mean nothing.")


def print_missed(count: int) -> None:
    """Say that a round took longer than its time."""
    print(f"The last round took too long: {count} skipped.", file=sys.stderr)  # noqa: T201 - this is the terminal


def print_error(error: ServiceError, symbol: str | None = None) -> None:
    """One line on standard error (one a setting, where several are wrong)."""
    prefix = f"{symbol}: " if symbol else ""
    print(f"{prefix}{error.message} [{error.code}]", file=sys.stderr)  # noqa: T201 - this is the terminal


def _count_checks(report: CycleReport) -> str:
    passed = sum(check.passed for check in report.checks)
    return f" ({passed} of {len(report.checks)} checks passed)" if report.checks else ""


def _trade_table(trades: Sequence[Trade]) -> Table:
    table = Table(
        "id", "executed at", "symbol", "side", "quantity", "price", "fee", "confidence", "cash after", "source"
    )
    for trade in trades:
        table.add_row(
            str(trade.id),
            f"{trade.executed_at:%Y-%m-%d %H:%M:%SZ}",
            trade.symbol,
            trade.side.value,
            f"{trade.quantity.normalize():f}",
            f"{trade.price.normalize():f}",
            f"{trade.fee:.4f}",
            "-" if trade.confidence is None else f"{trade.confidence:.1%}",
            f"{trade.cash_after:.2f}",
            trade.source,
        )
    return table


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def _plain(text: str) -> None:
    Console(soft_wrap=True).print(text, markup=False, highlight=False)


def _print_json(value: object) -> None:
    _print_json_text(json.dumps(value, indent=1).encode())


def _print_json_text(text: bytes) -> None:
    sys.stdout.buffer.write(text + b"\n")
    sys.stdout.flush()
