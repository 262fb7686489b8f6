"""What a model's card says, in the order in which a person wants to know it, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.model_card.wording import (
    NOTHING,
    counts,
    estimate,
    moment,
    number,
    p_value,
    pairs,
    paragraphs,
    plain,
    table,
    text,
)

LEAST_BLOCKS: Final = 30
"""As in `ml.evaluation`, which is not imported here because it loads SciPy."""

NAMES: Final = {
    "model": "this model",
    "class_prior": "class shares",
    "always_hold": "always HOLD",
    "last_label": "last label",
    "buy_and_hold": "buy and hold",
    "random": "random",
}
"""What the card calls a competitor, and what people read."""

_VERDICTS = {
    "none": "No edge: on data it had never seen, this model was not shown to tell BUY from SELL better than chance.",
    "statistical": "A statistical edge only: on data it had never seen, this model told BUY from SELL better than "
    "chance, but trading on it was not shown to earn anything after fee and slippage.",
    "tradable": "An edge on paper: on data it had never seen, this model told BUY from SELL better than chance, and "
    "trading on it earned more than fee and slippage cost. That is the past, not a promise.",
}

_PREDICTING = {"log_loss": ".4f", "brier": ".4f", "accuracy": ".1%", "balanced_accuracy": ".1%", "mcc": "z.2f"}


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the card under its own heading.

    Attributes:
        title: The heading, plain text.
        body: What stands below it, Markdown.
        pictures: The names of the pictures that show the same, in `app.model_card.pictures.PICTURES`.
    """

    title: str
    body: str
    pictures: tuple[str, ...] = ()


def render_markdown(card: Mapping[str, Any]) -> str:
    """Write a whole model card as Markdown; only its drift reference and isotonic knots are left out."""
    parts = [f"# {text(card['model_id'])}", f"**{describe_verdict(card)}**"]
    if warnings := describe_warnings(card):
        parts.append(warnings)
    for section in describe_sections(card):
        parts += [f"## {section.title}", section.body]
    return "\n\n".join(parts) + "\n"


def describe_verdict(card: Mapping[str, Any]) -> str:
    """What a person should take away, in Markdown."""
    metrics = card["metrics"]
    blocks = metrics["verdict"]["blocks"]
    if metrics["edge"] == "none" and blocks < LEAST_BLOCKS:
        words = f"No edge can be claimed: {blocks:,} independent stretches of data are too few to judge by."
    else:
        words = _VERDICTS.get(metrics["edge"]) or text(metrics["edge"])
    if metrics["verdict"]["p_log_loss"] < metrics["verdict"]["significance"] <= metrics["verdict"]["p_direction"]:
        words += " It does tell busy hours from quiet ones, but not which way the price goes."
    simulated = " The market was SIMULATED: whatever worked on it means nothing for a real one."
    return words + (simulated if card["source"] == "simulated" else "")


def describe_warnings(card: Mapping[str, Any]) -> str:
    """Every warning of the card as a line of a list, in Markdown; empty when there is none."""
    return "\n".join(f"- Warning: {text(warning)}" for warning in card["warnings"])


def describe_sections(card: Mapping[str, Any]) -> list[Section]:
    """The parts of the card, the most important first."""
    metrics = card["metrics"]
    sections = [
        Section("Is there an edge?", _edge(metrics)),
        Section("What it was trained on", _training(card)),
        Section("Predicting, beside baselines", _predicting(metrics), ("log_loss",)),
        Section("Trading on paper, beside baselines", _trading(metrics), ("net_return",)),
        Section("Does its confidence come true?", _calibration(metrics["calibration"]), ("reliability",)),
        Section("The gate", _gate(metrics["gate"])),
        Section("What it said and what came", _confusion(card["classes"], metrics["confusion"]), ("confusion",)),
        Section("What it looks at", _importances(card["importances"]), ("importances",)),
    ]
    if card["comparison"] is not None:
        sections.insert(4, Section("Beside the model in use", _comparison(card["comparison"])))
    return sections


def _edge(metrics: Mapping[str, Any]) -> str:
    verdict = metrics["verdict"]
    needed = f"{verdict['significance']:.2g}"
    claims = (
        ("three-class skill: tells SELL, HOLD and BUY apart", "skill", "+z.2%", "", "p_log_loss"),
        ("direction skill: tells BUY from SELL", "direction_skill", "+z.2%", "", "p_direction"),
        ("net return after fee and slippage, a candle", "net_return_bps", "+z.3f", " bps", "p_net_return"),
    )
    rows = [
        (
            claim,
            estimate(metrics[name], form) + unit,
            p_value(verdict[p]),
            "yes" if verdict[p] < verdict["significance"] else "no",
        )
        for claim, name, form, unit, p in claims
    ]
    return paragraphs(
        f"Judged on {metrics['rows']:,} rows, all of them newer than what taught the model that predicted them, in "
        f"{metrics['folds']:,} folds walking forward. Of them came {counts(metrics['class_counts'])}. Because "
        f"neighbouring rows share most of their future they count as {verdict['blocks']:,} independent blocks. "
        "Brackets hold the true value with 95% certainty.",
        table(("claim", "found", "p (by luck)", f"p below {needed}"), rows),
        "Skill is how much lower the log-loss is than that of always stating the class shares: 0% knows no more "
        "than they do. Telling busy hours from quiet ones gives three-class skill; only direction skill can be "
        "traded on.",
        f"The rule: *statistical* when both skills have a p below {needed} (5% shared among "
        f"{verdict['candidates']:,} tried), *tradable* when the net return has one, too; else, and always with "
        f"fewer than {LEAST_BLOCKS} blocks, *none*. Here: **{text(metrics['edge'])}**.",
    )


def _training(card: Mapping[str, Any]) -> str:
    window, calibration = card["window"], card["calibration"]
    scalars = {name: value for name, value in calibration.items() if not isinstance(value, list)}
    symbols = ", ".join(map(text, card["symbols"]))
    returns = ", ".join(f"{text(name)} {value:+z.3%}" for name, value in card["class_returns"].items())
    facts = {
        "market": f"{symbols}, {text(card['interval'])} candles from {text(card['source'])}",
        "candles": f"{window['candles']:,}, {moment(window['first_open_time'])} to {moment(window['last_open_time'])}",
        "gaps": f"{window['gaps']:,}",
        "label": _label(card["label_rule"]),
        "rows": f"{window['rows']:,}: {counts(window['class_counts'])}",
        "mean move": returns,
        "cost": f"{card['side_cost']:.3%} a side, fee and slippage",
        "trained at": moment(card["trained_at"]),
        "forest": pairs(card["hyperparameters"]),
        "calibration": pairs({name: _short(value) for name, value in scalars.items()}),
        "libraries": pairs(card["libraries"]),
    }
    parts = ["\n".join(f"- **{name}**: {fact}" for name, fact in facts.items())]
    if window["largest_gaps"]:
        rows = [(text(gap["symbol"]), moment(gap["after"]), f"{gap['missing']:,}") for gap in window["largest_gaps"]]
        parts += ["The largest gaps; nothing was learned across one:", table(("symbol", "after", "missing"), rows)]
    return "\n\n".join(parts)


def _label(rule: Mapping[str, Any]) -> str:
    kind, horizon, multiple = rule["kind"], text(rule["horizon_bars"]), text(rule["volatility_multiple"])
    if kind == "fixed":
        words = f"the close {horizon} candles later is {text(rule['threshold_percent'])}% away"
    elif kind == "volatility":
        words = f"the close {horizon} candles later is {multiple} times the volatility of that time away"
    else:
        words = f"the price is first to move {multiple} times the volatility of {horizon} candles, within them"
    return f"BUY or SELL when {words}, else HOLD ({text(kind)})"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else plain(value)


def _competitor(name: str) -> str:
    words = NAMES.get(name) or text(name)
    return f"**{words}**" if name == "model" else words


def _predicting(metrics: Mapping[str, Any]) -> str:
    rows = [
        (_competitor(name), *(estimate(line[metric], form) for metric, form in _PREDICTING.items()))
        for name, line in metrics["competitors"].items()
    ]
    return paragraphs(
        "On the same rows. Log-loss and Brier: lower is better, and only who states probabilities has a log-loss. "
        "Balanced accuracy: 33.3% is chance. MCC: 0 is chance, 1 perfect.",
        table(("who", "log-loss", "Brier", "accuracy", "balanced accuracy", "MCC"), rows),
    )


def _trading(metrics: Mapping[str, Any]) -> str:
    rows = [
        (
            _competitor(name),
            estimate(line["net_return_bps"], "+z.3f"),
            f"{line['net_return']:+z.2%}",
            estimate(line["turnover"], ".4f"),
            f"{line['exposure']:.1%}",
        )
        for name, line in metrics["competitors"].items()
    ]
    return paragraphs(
        "On the same rows, after fee and slippage: in the market from a BUY to the next SELL that pass the gate. "
        "Random trades as often as this model. 1 bps is 0.01%; turnover 1 trades the whole stake.",
        table(("who", "net bps a candle", "net return in all", "turnover a candle", "in the market"), rows),
    )


def _comparison(comparison: Mapping[str, Any]) -> str:
    rows = [
        ("**this model**", number(comparison.get("log_loss"), ".4f")),
        (text(comparison["champion"]), number(comparison.get("champion_log_loss"), ".4f")),
    ]
    words = f"On the {comparison['rows']:,} rows that had taught neither; lower is better."
    return f"{words}\n\n{table(('model', 'log-loss'), rows)}"


def _calibration(calibration: Mapping[str, Any]) -> str:
    words = (
        f"Of what it says with 60% confidence, 60% should come true. On average it was off by "
        f"{estimate(calibration['error'], '.1%')} (expected calibration error)."
    )
    rows = [
        (f"{line['stated']:.1%}", estimate(line["came_true"], ".1%"), f"{line['rows']:,}")
        for line in calibration["bins"]
    ]
    return f"{words}\n\n{table(('stated', 'came true', 'rows'), rows)}" if rows else words


def _gate(gate: list[Mapping[str, Any]]) -> str:
    words = "Only BUY and SELL stated with a least confidence are traded on. What each least confidence lets pass:"
    rows = [
        (
            f"{100 * line['confidence']:.4g}%",
            estimate(line["coverage"], ".1%"),
            number(line["stated"], ".1%"),
            estimate(line["hit_rate"], ".1%"),
        )
        for line in gate
    ]
    if not rows:
        return NOTHING
    return f"{words}\n\n{table(('least confidence', 'rows that pass', 'stated', 'came true'), rows)}"


def _confusion(classes: list[str], confusion: list[list[int]]) -> str:
    names = [text(name) for name in classes]
    rows = [(f"{name} came", *(f"{count:,}" for count in line)) for name, line in zip(names, confusion, strict=False)]
    if not rows:
        return NOTHING
    heads = ("rows", *(f"said {name}" for name in names))
    return f"The diagonal is what it got right.\n\n{table(heads, rows)}"


def _importances(importances: list[Mapping[str, Any]]) -> str:
    if not importances:
        return NOTHING
    words = (
        "How much the log-loss on held-out rows rises when one feature is shuffled, with the spread of the repeats: "
        "near or below 0 the model does as well without it."
    )
    rows = [(text(line["feature"]), f"{line['log_loss_rise']:+z.5f}", f"{line['spread']:.5f}") for line in importances]
    return f"{words}\n\n{table(('feature', 'log-loss rise', 'spread'), rows)}"
