"""What the commands on backtests can be told, and the requests that come of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from app.choices import ask_backtest, make_backtest_request
from app.command_running import check_symbols, parse_moment
from app.domain.candle import Interval
from app.domain.record import from_microseconds
from app.domain.risk import SizingMethod, StopRule
from app.errors import InvalidInputError
from app.research.backtest.keeper import Candles
from app.research.backtest.request import LEAST_BARS, BacktestRequest, Driver
from app.research.backtest.speaking import count_warm_up_bars
from app.research.candle_files import FileCandles, read_candles
from app.settings import Settings

_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What candles are traded, by which rules, and how that is shown; what is left out is as the service trades."""

    symbol: Annotated[
        list[str] | None,
        typer.Option(help="Such as BTCUSDT; several share one account. DEFAULT_SYMBOL when not given."),
    ] = None
    interval: Annotated[Interval | None, typer.Option(help="The candle interval; DEFAULT_INTERVAL.")] = None
    since: Annotated[
        str | None, typer.Option(help="Date or time, UTC, of the first trade; 30 days, or 1,000 candles, before.")
    ] = None
    until: Annotated[str | None, typer.Option(help="Date or time, UTC, that the last candle opens before; now.")] = None
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Candles from a CSV, Parquet or Feather file in place of the market's."),
    ] = None
    allow_gaps: Annotated[bool, typer.Option("--allow-gaps", help="With --file: keep gaps, which stay gaps.")] = False
    drop_bad_rows: Annotated[
        bool, typer.Option("--drop-bad-rows", help="With --file: leave out rows that cannot be true.")
    ] = False
    cash: Annotated[str | None, typer.Option(help="What the account starts with; INITIAL_CASH.")] = None
    fee_bps: Annotated[str | None, typer.Option(help="The fee in basis points; FEE_BPS.")] = None
    slippage_bps: Annotated[str | None, typer.Option(help="The least slippage in basis points; SLIPPAGE_BPS.")] = None
    sizing: Annotated[SizingMethod | None, typer.Option(help="What an entry spends; SIZING.")] = None
    cash_fraction: Annotated[
        str | None, typer.Option(help="fixed_fraction: the share of the cash; ORDER_CASH_FRACTION.")
    ] = None
    stop_rule: Annotated[StopRule | None, typer.Option(help="What takes a losing entry out; STOP_RULE.")] = None
    own: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SETTING=VALUE", help="Any other setting for this alone, max_drawdown=0.3."),
    ] = None
    latency_bars: Annotated[
        int, typer.Option(min=0, help="How many candles late a signal is traded, beside the next open.")
    ] = 0
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Fixes everything that is drawn.")] = 0
    driver: Annotated[Driver, typer.Option(help="engine is the live engine, to the same result.")] = Driver.COMPILED
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of tables.")] = False
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it with pictures to this file, as one page as well.")
    ] = None

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that are named; none where the service's is meant."""
        return tuple(self.symbol or ())

    def find_settings(self) -> dict[str, object]:
        """Settings of the service that these backtests have their own of; raises InvalidInputError `invalid_option`."""
        named: dict[str, object] = {
            "initial_cash": self.cash,
            "fee_bps": self.fee_bps,
            "slippage_bps": self.slippage_bps,
            "sizing": self.sizing,
            "order_cash_fraction": self.cash_fraction,
            "stop_rule": self.stop_rule,
        }
        others = {name.lower(): value for name, value in parse_pairs(self.own or (), "--set").items()}
        return {name: value for name, value in named.items() if value is not None} | others


def read_file(options: Options, now: datetime) -> FileCandles | None:
    """The candles of the file, if one is named; raises InvalidInputError as `read_candles`, or `options_conflict`."""
    if options.file is None:
        if options.allow_gaps or options.drop_bad_rows:
            raise InvalidInputError("--allow-gaps and --drop-bad-rows are for --file.", code="options_conflict")
        return None
    if len(options.symbols) > 1:
        raise InvalidInputError("--file has the candles of one --symbol.", code="options_conflict")
    return read_candles(
        options.file, options.interval, now, allow_gaps=options.allow_gaps, drop_bad_rows=options.drop_bad_rows
    )


def ask(
    options: Options,
    settings: Settings,
    now: datetime,
    found: FileCandles | None,
    **asked: Any,  # noqa: ANN401
) -> tuple[BacktestRequest, Candles | None]:
    """The request, and the candles of the file that it is about.

    Args:
        options: What is said.
        settings: Those of the service.
        now: The time.
        found: The candles of the file; None for the market's.
        asked: What the options do not say, as `choices.make_backtest_request` takes it.

    Raises:
        InvalidInputError: It makes no sense; the code says why.
    """
    symbols, own = options.symbols or (settings.default_symbol,), options.find_settings()
    check_symbols(symbols)
    since, until = parse_moment(options.since, "--since"), parse_moment(options.until, "--until")
    fields: dict[str, Any] = {
        "symbols": symbols,
        "latency_bars": options.latency_bars,
        "seed": options.seed,
        "driver": options.driver,
        **asked,
    }
    if found is None:
        interval = options.interval or settings.default_interval
        return ask_backtest(settings, own, now, since=since, until=until, interval=interval, **fields), None
    opens = found.bars.open_time_ms
    first, end = _moment(opens[0]), _moment(opens[-1]) + found.interval.duration
    request = make_backtest_request(
        settings,
        own,
        since=since or first,
        until=min(until or end, end),
        source=str(options.file),
        interval=found.interval,
        **fields,
    )
    if since is None:
        needed = count_warm_up_bars(request)
        if len(opens) < needed + LEAST_BARS:
            raise InvalidInputError(
                f"The file has {len(opens):,} candles, and the strategy looks at {needed:,} before it begins; take a "
                "longer one, or say --since to begin without them.",
                code="too_few_candles",
            )
        request = replace(request, since=_moment(opens[needed]))
    return request, Candles({symbols[0]: found.bars}, {symbols[0]: found.dropped_rows})


def parse_strategy(text: str) -> tuple[str, dict[str, float]]:
    """A strategy and its parameters, as `NAME` or `NAME:fast_bars=5,slow_bars=20`; raises InvalidInputError.

    >>> parse_strategy("moving-average-cross:fast_bars=5,slow_bars=20")
    ('moving-average-cross', {'fast_bars': 5.0, 'slow_bars': 20.0})
    """
    name, _, rest = text.partition(":")
    return name, parse_parameters(rest.split(",") if rest else (), "--strategy")


def parse_parameters(texts: Sequence[str], option: str) -> dict[str, float]:
    """Parameters, each as `NAME=NUMBER`; raises InvalidInputError `invalid_option`.

    >>> parse_parameters(["fast_bars=5"], "--parameter")
    {'fast_bars': 5.0}
    """
    pairs = parse_pairs(texts, option)
    for name, value in pairs.items():
        if not _NUMBER.fullmatch(value):
            raise _no_pair(f"{name}={value}", option, "fast_bars=5")
    return {name: float(value) for name, value in pairs.items()}


def parse_pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """Names and values, each as `NAME=VALUE`; raises InvalidInputError `invalid_option`."""
    pairs = [text.partition("=") for text in texts]
    for text, (name, equals, _) in zip(texts, pairs, strict=True):
        if not equals or not name:
            raise _no_pair(text, option, "NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _no_pair(text: str, option: str, example: str) -> InvalidInputError:
    return InvalidInputError(f"{option}: {text[:60]!r} is not as {example}.", code="invalid_option")


def _moment(milliseconds: int) -> datetime:
    return from_microseconds(int(milliseconds) * 1_000)
