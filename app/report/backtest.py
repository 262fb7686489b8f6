"""The page of a backtest: its verdict, its charts, its numbers, and everything needed to run it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.domain.money import UNITS
from app.report import bars, heatmaps, market, timelines
from app.report.page import Chart, Facts, Page, Section, Table, Tile, Words, render_page
from app.report.wording import NOTHING, between, change, list_settings, moment, money, percent, ratio
from app.research.backtest.measuring import compute_daily, find_closed_trades
from app.research.backtest.request import STORE
from app.research.backtest.result import BacktestResult, BacktestRun
from app.risk.curves import compute_daily_curve, compute_daily_returns, find_utc_days
from app.risk.metrics import Performance
from app.risk.significance import Significance
from ml.bars import Bars, FloatArray

_UNJUDGED = "Whether this may be luck was not judged."


def render_backtest(result: BacktestResult, history: Mapping[str, Bars]) -> str:
    """Write a backtest as a page of HTML that can be opened from disk and asks for nothing.

    Args:
        result: The backtest.
        history: The candles it ran on, by symbol; of a symbol whose candles are not at hand none are drawn.
    """
    run = result.run
    page = Page(
        title=f"{run.request.strategy} on {', '.join(run.request.symbols)}, {run.request.interval} candles",
        subtitle=f"Backtest from {moment(run.request.since)} to {moment(run.request.until)}, candles from "
        f"{_name_source(run)}. All times are UTC.",
        tone=choose_tone(run.significance),
        verdict=_describe_verdict(run),
        tiles=_list_tiles(result),
        caveats=[caveat.message for caveat in run.caveats],
        sections=[one for one in _list_sections(result, history) if one.blocks],
    )
    return render_page(page)


def choose_tone(significance: Significance | None) -> str:
    """The colour of a verdict."""
    if significance is None or significance.significant is None:
        return "fair"
    return "good" if significance.significant else "bad"


def say_verdict(significance: Significance | None) -> str:
    """The verdict in one sentence."""
    return _UNJUDGED if significance is None else significance.verdict


def _describe_verdict(run: BacktestRun) -> list[str]:
    own, held = run.performance, run.benchmark
    words = (
        f"The account made {change(own.total_return)} where buy-and-hold with the same costs made "
        f"{change(held.total_return)}; at worst it stood {percent(own.maximum_drawdown)} below its peak, buy-and-hold "
        f"{percent(held.maximum_drawdown)}. That is the past on paper, not a promise."
    )
    return [say_verdict(run.significance), words]


def _list_tiles(result: BacktestResult) -> list[Tile]:
    run, quote = result.run, timelines.name_quote(result)
    own, held = run.performance, run.benchmark
    gained = "" if own.win_rate is None else f"{percent(own.win_rate)} gained"
    sharpe = None if run.significance is None else run.significance.intervals.sharpe
    return [
        Tile("Total return", change(own.total_return), f"buy-and-hold {change(held.total_return)}"),
        Tile("Worth at the end", money(run.final_equity, quote), f"of {money(run.request.initial_cash, quote)}"),
        Tile("Growth a year (CAGR)", change(own.cagr), f"buy-and-hold {change(held.cagr)}"),
        Tile("Sharpe ratio, a year", ratio(own.sharpe), f"95 % interval {between(sharpe, ratio)}" if sharpe else ""),
        Tile("Maximum drawdown", percent(own.maximum_drawdown), f"buy-and-hold {percent(held.maximum_drawdown)}"),
        Tile("Closed trades", f"{run.closed_trades:,}", gained),
        Tile("Costs paid", money(own.costs_paid, quote), f"{run.fills:,} fills"),
        Tile("Time in the market", percent(own.exposure)),
    ]


def _list_sections(result: BacktestResult, history: Mapping[str, Bars]) -> list[Section]:
    run = result.run
    return [
        Section("The account", [timelines.draw_account(result)] if len(result.books) else []),
        Section("Month by month", _keep(heatmaps.draw_months(run.monthly))),
        Section("Trades", _show_trades(result, history)),
        Section("Costs", _show_costs(result)),
        Section("How returns are spread", _show_spread(result)),
        Section("Confidence", _keep(bars.draw_calibration(run.calibration))),
        Section("Is it luck?", _show_significance(run)),
        Section("All numbers", _show_numbers(run, timelines.name_quote(result))),
        Section("What came of each cycle", _show_outcomes(run)),
        Section("Settings", [Facts(list_settings(run.request)), Words("A limit of 0 is switched off.")]),
        Section("What it ran on", [Facts(_list_origins(run))]),
    ]


def _keep(*charts: Chart | None) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def _show_trades(result: BacktestResult, history: Mapping[str, Bars]) -> list[Chart | Words]:
    if len(result.books.fills) == 0:
        return [Words("Nothing was bought or sold.")]
    charts = market.draw_markets(result, history)
    missing = [one.symbol for one in result.run.data.series if one.symbol not in history]
    said = [Words(f"The candles of {', '.join(missing)} are not at hand, and not drawn.")] if missing else []
    return [*charts, *said]


def _show_costs(result: BacktestResult) -> list[Chart | Words | Table]:
    run, quote = result.run, timelines.name_quote(result)
    if not any(one.fills for one in run.costs):
        return [Words("Nothing was paid, at these costs or at others.")]
    fees, slippages = (float(one.sum()) for one in timelines.find_costs(result.books))
    rows = [
        (
            "no costs" if one.multiple == 0 else f"{one.multiple}x",
            change(one.total_return),
            ratio(one.sharpe),
            f"{one.fills:,}",
        )
        for one in run.costs
    ]
    return [
        Words(
            f"Fees {money(fees, quote)}, slippage {money(slippages, quote)}, in all {money(fees + slippages, quote)}."
        ),
        *_keep(timelines.draw_costs_paid(result), bars.draw_cost_cases(run.costs, run.benchmark.total_return)),
        Table(("costs", "total return", "Sharpe ratio", "fills"), rows),
    ]


def _show_spread(result: BacktestResult) -> list[Chart]:
    own, held = find_daily_returns(result)
    trades = find_closed_trades(result.books)
    return _keep(bars.draw_daily_returns(own, held), bars.draw_trade_returns(trades.net_returns))


def find_daily_returns(result: BacktestResult) -> tuple[FloatArray, FloatArray]:
    """The return of each UTC day, a fraction, of the account and of buy-and-hold."""
    books, initial = result.books, float(result.run.request.initial_cash)
    held = compute_daily_curve(books.times_ms, result.benchmark_equity / UNITS, initial, find_utc_days(books.times_ms))
    return compute_daily(initial, books)[1], compute_daily_returns(held)


def _show_significance(run: BacktestRun) -> list[Words | Table | Facts]:
    found = run.significance
    if found is None:
        return [Words(_UNJUDGED)]
    needed = found.minimum_track_record_length
    bounds = found.intervals
    return [
        Words(found.verdict),
        Facts(
            [
                ("Sharpe ratio, a year", ratio(found.sharpe)),
                ("Probability that it is above 0, were this the only trial", percent(found.probabilistic_sharpe)),
                ("Trials on these candles, this one included", f"{found.trials:,}"),
                ("What the best of as many without skill comes to", ratio(found.expected_maximum_sharpe)),
                ("Probability that it is above that (deflated Sharpe ratio)", percent(found.deflated_sharpe)),
                ("Days", f"{found.days:,}, on {found.moved_days:,} of which the account moved"),
                ("Independent days they are worth", f"{found.independent_days:,.0f}"),
                ("Days it would take, were this the only trial", NOTHING if needed is None else f"{needed:,.0f}"),
            ]
        ),
        Words("What the same days, drawn again in blocks, come to in 95 of 100 cases:"),
        Facts(
            [
                ("Sharpe ratio, a year", between(bounds.sharpe, ratio)),
                ("Total return", between(bounds.total_return, change)),
                ("Growth a year", between(bounds.cagr, change)),
                ("Maximum drawdown", between(bounds.maximum_drawdown, percent)),
            ]
        ),
    ]


def _show_numbers(run: BacktestRun, quote: str) -> list[Table | Words]:
    own, held = (_list_numbers(one, quote) for one in (run.performance, run.benchmark))
    rows = [(name, value, held[name]) for name, value in own.items()]
    return [Table(("number", "account", "buy-and-hold"), rows)]


def _list_numbers(one: Performance, quote: str) -> dict[str, str]:
    days = NOTHING if one.drawdown_days is None else f"{one.drawdown_days:,} days"
    return {
        "Days": f"{one.days:,}",
        "Total return": change(one.total_return),
        "Growth a year (CAGR)": change(one.cagr),
        "Volatility a year": percent(one.volatility),
        "Sharpe ratio": ratio(one.sharpe),
        "Sortino ratio": ratio(one.sortino),
        "Calmar ratio": ratio(one.calmar),
        "Maximum drawdown": percent(one.maximum_drawdown),
        "From its peak to its recovery or the end": days,
        "Trades that gained": percent(one.win_rate),
        "Profit factor": ratio(one.profit_factor),
        "Mean profit of a closed trade": NOTHING if one.expectancy is None else money(one.expectancy, quote),
        "Time in the market": percent(one.exposure),
        "Turnover a year": ratio(one.turnover),
        "Costs paid": money(one.costs_paid, quote),
        "Beta to buy-and-hold": ratio(one.beta),
        "Alpha a year": change(one.alpha),
    }


def _show_outcomes(run: BacktestRun) -> list[Table]:
    whole = sum(run.outcomes.values())
    rows = [(code.replace("_", " "), f"{count:,}", percent(count / whole)) for code, count in run.outcomes.items()]
    return [Table(("outcome", "cycles", "share"), rows)] if rows else []


def _name_source(run: BacktestRun) -> str:
    """The market, or the file."""
    return run.data.source if run.request.source == STORE else run.request.source


def _list_origins(run: BacktestRun) -> list[tuple[str, str]]:
    data: list[tuple[str, str]] = [("candles from", _name_source(run)), ("candle hash", run.data.candle_hash)]
    for one in run.data.series:
        words = f"{one.bars:,} candles, {moment(one.first)} to {moment(one.last)}, {one.missing:,} missing"
        rules = one.instrument
        data.append((one.symbol, f"{words}, {one.refused_rows:,} rows refused"))
        data.append(
            (
                f"{one.symbol} rules",
                f"tick {rules.tick_size}, lot {rules.lot_step}, least order {rules.minimum_notional}",
            )
        )
    return [
        *data,
        ("models", ", ".join(run.model_ids) or "none: a rule"),
        ("code", run.code_version),
        ("run", run.id),
        ("computed", f"{moment(run.created_at)}, in {run.seconds:.2f} s, {run.bars_per_second:,.0f} candles a second"),
    ]


def name_runs(runs: Sequence[BacktestRun]) -> list[str]:
    """A short name for each run, no two alike: its strategy and parameters, and more where these are the same."""
    names = [_name_run(run) for run in runs]
    return [name if names.count(name) == 1 else f"{name} #{place + 1}" for place, name in enumerate(names)]


def _name_run(run: BacktestRun) -> str:
    parameters = ", ".join(f"{name} {value}" for name, value in run.request.parameters.items())
    return f"{run.request.strategy} ({parameters})" if parameters else run.request.strategy
