"""How verifications, replays, parity and the reasons behind trades look in a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal

from rich.console import Console
from rich.table import Table

from app.api import parity, records
from app.research.parity.report import Cause, ParityReport, TradeParity
from app.research.reasons import GateArithmetic, PriceArithmetic, TradeReason
from app.research.replay import NotReplayed, Replay
from app.storage.verification import Verification

_PIPE_WIDTH = 120
_SHOWN = 20
_FACTS = (
    "Fills, orders, records, candles and settings are facts: what was changed by hand can only come back from a copy "
    "of the database."
)


def print_verifications(found: Sequence[Verification], repaired: Sequence[str], *, as_json: bool) -> None:
    """What was looked at, what is wrong, and what to do about it."""
    if as_json:
        runs = [_verification_document(one, repaired) for one in found]
        _print_json({"sound": all(one.is_sound for one in found), "checked": runs})
        return
    table = Table("run", "what", "looked at", "wrong")
    for one in found:
        for what, count in {**dict.fromkeys(one.found, 0), **one.counted}.items():
            wrong = one.found.get(what, 0)
            table.add_row(one.run or "all runs", what, f"{count:,}" if count else "", f"{wrong:,}" if wrong else "-")
    console = _console()
    console.print(table)
    for line in _verdict(found, repaired):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_replay(found: Replay, *, as_json: bool) -> None:
    """What came of one replay."""
    if as_json:
        _print_json(_replay_document(found))
        return
    _plain(f"{found.cycle_id}: {_say_replay(found)}")


def print_replays(equal: int, other: Sequence[Replay | NotReplayed], *, as_json: bool) -> None:
    """What came of many replays: how many were equal, and each other one."""
    different = [one for one in other if isinstance(one, Replay)]
    missing = [one for one in other if isinstance(one, NotReplayed)]
    if as_json:
        left_out = [{"cycle_id": one.cycle_id, "code": one.code, "reason": one.reason} for one in missing]
        documents = [_replay_document(one) for one in different]
        _print_json({"equal": equal, "different": documents, "not_replayed": left_out})
        return
    _plain(f"{equal:,} cycles came out the same, byte for byte; {len(different):,} did not.")
    for one in different[:_SHOWN]:
        _plain(f"  {one.cycle_id}: {_say_replay(one)}")
    for code in sorted({one.code for one in missing}):
        of_code = [one for one in missing if one.code == code]
        _plain(f"{len(of_code):,} were not replayed [{code}], such as {of_code[0].cycle_id}: {of_code[0].reason}")


def print_parity(report: ParityReport, *, as_json: bool) -> None:
    """Whether the backtest confirms life: the totals, each trade, and what differs."""
    if as_json:
        sys.stdout.write(parity.Parity.model_validate(report).model_dump_json(indent=1) + "\n")
        return
    for line in _parity_totals(report):
        _plain(line)
    if report.rows:
        table = Table("time", "symbol", "side", "live", "backtest", "equal or why not", "at next open", "bps")
        for row in report.rows:
            table.add_row(*_parity_cells(row))
        _console().print(table)
    other = [one for one in report.differences if one.cause is not Cause.PERSON_ACTED]
    for one in other[:_SHOWN]:
        at = f"{one.at:%Y-%m-%d %H:%M:%SZ}" if one.at else "at an unknown time"
        _plain(f"{one.cause}: {at} {one.symbol or ''} cycle {one.cycle_id}: {one.what}")
    if len(other) > _SHOWN:
        _plain(f"and {len(other) - _SHOWN:,} more, which --json lists")


def print_reason(found: TradeReason, *, as_json: bool) -> None:
    """Why a trade was made."""
    if as_json:
        sys.stdout.write(records.Reason.model_validate(found).model_dump_json(indent=1) + "\n")
        return
    trade, console = found.trade, _console()
    console.print(f"Trade {trade.id}: {trade.reason}", markup=False, highlight=False, soft_wrap=True)
    console.print(found.summary, markup=False, highlight=False, soft_wrap=True, style="bold")
    for heading, lines in _sections(found):
        console.print(f"\n{heading}", markup=False, highlight=False, style="cyan")
        for line in lines:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _parity_totals(report: ParityReport) -> Iterator[str]:
    named = ", ".join(f"{count:,} {cause}" for cause, count in report.causes.items())
    yield (
        f"{report.equal:,} of {report.trades:,} trades equal with the live quotes"
        f"{f' ({named})' if named else ''}; {report.cycles:,} cycles of {len(report.runs):,} "
        f"{'run' if len(report.runs) == 1 else 'runs'} were run again."
    )
    other = report.next_open
    if other.mean_bps is not None and other.largest_bps is not None:
        yield (
            f"Filled at the next open instead: {other.matched:,} of them too, {other.only_live:,} only in life, "
            f"{other.only_backtest:,} only there ({other.without_cycle:,} on candles without a cycle); life paid "
            f"{other.mean_bps:+.2f} bps a trade, {other.largest_bps:+.2f} at most."
        )
    for one in report.stretches:
        yield (
            f"  {one.run} {one.since:%Y-%m-%d %H:%M} to {one.until:%Y-%m-%d %H:%M} ({one.start}): equity "
            f"{_number(one.equity_live)} in life, {_number(one.equity_next_open)} at the next open"
        )
    if not report.is_explained:
        yield f"{report.unexplained:,} differences are unexplained: the books or the code changed since."


def _parity_cells(row: TradeParity) -> Iterator[str]:
    told = row.live or row.backtest
    yield f"{row.at:%Y-%m-%d %H:%M:%S}"
    yield row.symbol
    yield told.side.value if told else ""
    for facts in (row.live, row.backtest):
        yield f"{_number(facts.quantity)} at {_number(facts.price)}" if facts else "-"
    yield row.cause.value if row.cause else "equal"
    yield _number(row.next_open_price) if row.next_open_price is not None else "-"
    yield f"{row.difference_bps:+.2f}" if row.difference_bps is not None else "-"


def _sections(found: TradeReason) -> Iterator[tuple[str, list[str]]]:
    if found.explanation is not None:
        one = found.explanation
        moved = sum(each.contribution for each in one.contributions)
        summed = f"{one.bias:.1%} before any feature {moved:+.1%} by them {one.calibration:+.1%} by calibration"
        yield (
            f"What the model saw ({one.model_id})",
            [*one.reasons, f"{summed} = {one.probability:.1%} for {one.signal}"],
        )
    if found.gate is not None:
        yield "The gate", list(_gate_lines(found.gate))
    if found.checks:
        yield (
            "The checks",
            [
                f"{'ok    ' if one.passed else 'FAILED'}  {one.code}: {one.value} (limit {one.limit})  {one.detail}"
                for one in found.checks
            ],
        )
    if found.order is not None:
        one_order = found.order
        price = "" if one_order.price is None else f" at {_number(one_order.price)}"
        what = f"{one_order.id}: {one_order.kind} {one_order.side} of {_number(one_order.quantity)}{price}"
        yield "The order", [f"{what}, placed {one_order.created_at:%Y-%m-%d %H:%M:%SZ}, {one_order.status}"]
    if found.candle is not None:
        candle = found.candle
        prices = ", ".join(f"{name} {_number(getattr(candle, name))}" for name in ("open", "high", "low", "close"))
        yield "The candle", [f"{candle.open_time:%Y-%m-%d %H:%M:%SZ}: {prices}"]
    if found.price is not None:
        yield "The price", list(_price_lines(found.price, found))
    if found.notes:
        yield "What is not known", list(found.notes)


def _gate_lines(gate: GateArithmetic) -> Iterator[str]:
    yield f"confidence {gate.confidence:.2%}, and {gate.min_confidence:.2%} is needed (MIN_CONFIDENCE)"
    sign = 1.0 if gate.signal.value == "BUY" else -1.0
    for one in gate.classes:
        share = sign * one.probability * one.mean_return
        yield f"{one.signal:<4} {one.probability:7.2%} x {sign * one.mean_return:+.4%} = {share:+.4%}"
    yield f"less the round trip's costs, {gate.round_trip_cost:.4%}"
    needed = ", and above zero is needed" if gate.require_positive_return else ", which is not asked for"
    yield f"expected return {gate.expected_return:+.4%}{needed} (REQUIRE_POSITIVE_RETURN)"
    edge = gate.edge.value if gate.edge else "unknown"
    yield f"edge out of sample: {edge}{', and one is needed' if gate.require_edge else ''} (REQUIRE_EDGE)"


def _price_lines(price: PriceArithmetic, found: TradeReason) -> Iterator[str]:
    trade = found.trade
    yield (
        f"{_number(price.reference)} and {_number(price.slippage_bps)} bps of slippage, on the tick of "
        f"{_number(price.tick)} against the account: {_number(trade.price)}"
    )
    yield f"{_number(trade.quantity)} x {_number(trade.price)} = {_number(trade.notional)}"
    yield f"fee {_number(price.fee_bps)} bps of that: {_number(trade.fee)}"


def _verdict(found: Sequence[Verification], repaired: Sequence[str]) -> Iterator[str]:
    for one in found:
        name = one.run or "all runs"
        for kind, lines in one.wrong.items():
            yield from (f"{name}: {line}" for line in lines)
            if one.found[kind] > len(lines):
                yield f"{name}: and {one.found[kind] - len(lines):,} more about {kind}"
        yield from (f"{name}: {note}" for note in one.notes)
    yield from (f"{run}: repaired; a snapshot that follows from the fills was written." for run in repaired)
    if all(one.is_sound for one in found):
        yield "All is well."
        return
    if any(one.can_be_repaired for one in found):
        yield "Where the fills are sound, `python -m app verify --repair` writes a snapshot that follows from them."
    if any(set(one.found) - {"snapshots"} for one in found):
        yield _FACTS


def _verification_document(one: Verification, repaired: Sequence[str]) -> dict[str, object]:
    return {
        "run": one.run,
        "sound": one.is_sound,
        "counted": one.counted,
        "found": dict(one.found),
        "wrong": one.wrong,
        "notes": one.notes,
        "repaired": one.run in repaired,
    }


def _replay_document(found: Replay) -> dict[str, object]:
    versions = {"recorded": found.recorded_version, "replayed": found.replayed_version}
    return {"cycle_id": found.cycle_id, "equal": found.equal, "difference": found.difference, "versions": versions}


def _say_replay(found: Replay) -> str:
    if found.difference is None:
        return "the replay is equal, byte for byte."
    is_other = found.recorded_version != found.replayed_version
    versions = f" (run by version {found.recorded_version}, replayed by {found.replayed_version})" if is_other else ""
    return f"the replay differs{versions} in {found.difference}"


def _number(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)


def _plain(text: str) -> None:
    Console(soft_wrap=True).print(text, markup=False, highlight=False)


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
