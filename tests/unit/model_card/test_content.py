"""The card as Markdown: every number is there, nothing stands where there is none, and text stays text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from app.model_card.content import LEAST_BLOCKS, NAMES, render_markdown
from app.model_card.wording import plain, text
from ml.evaluation import BASELINES
from ml.evaluation import LEAST_BLOCKS as LEAST_BLOCKS_OF_THE_VERDICT
from tests.support.cards import make_empty_card, make_metrics, make_whole_card, train_card

SHARES = "50.0% [47.0%, 53.0%] | 40.0% [39.0%, 41.0%]"
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def verdict_of(card: dict[str, Any]) -> str:
    return render_markdown(card).splitlines()[2]


def shown(markdown: str) -> tuple[str, set[str]]:
    """What a reader sees of Markdown, and the kinds of things it is made of."""
    tokens = [child for token in PARSER.parse(markdown) for child in (token.children or [token])]
    return "".join(token.content for token in tokens if token.type in ("text", "text_special")), {
        token.type for token in tokens
    }


def test_card_begins_with_its_name_its_verdict_and_its_warnings() -> None:
    lines = render_markdown(make_whole_card()).splitlines()

    assert lines[0] == "# forest-binance-1m-20261121T010203Z-0123abcd"
    assert lines[2].startswith("**A statistical edge only: ")
    assert lines[4] == "- Warning: The feature range_ratio never changes."


@pytest.mark.parametrize(
    "line",
    [
        "| three-class skill: tells SELL, HOLD and BUY apart | +3.10% [+2.10%, +4.10%] | < 0.001 | yes |",
        "| direction skill: tells BUY from SELL | +2.20% [+1.20%, +3.20%] | 0.012 | yes |",
        "| net return after fee and slippage, a candle | +0.250 [+0.125, +0.375] bps | 0.321 | no |",
        "- **market**: BTCUSDT, ETHUSDT, 1m candles from binance",
        "- **candles**: 9,876, 2026-11-01T00:00:00Z to 2026-11-20T23:59:00Z",
        "- **rows**: 9,543: SELL 2,000 (21.0%), HOLD 5,543 (58.1%), BUY 2,000 (21.0%)",
        "- **label**: BUY or SELL when the close 15 candles later is 0.3% away, else HOLD (fixed)",
        "- **mean move**: SELL -0.420%, HOLD +0.000%, BUY +0.430%",
        "- **cost**: 0.051% a side, fee and slippage",
        "- **forest**: trees 100, leaf_fraction 0.02",
        "- **calibration**: method temperature, direction 0.5, buy_share 0.5, beta 1.25",
        "| ETHUSDT | 2026-11-07T12:00:00Z | 42 |",
        f"| **this model** | 1.0000 [0.9500, 1.0500] | 0.6000 [0.5800, 0.6200] | {SHARES} | 0.10 [0.06, 0.14] |",
        f"| class shares | 1.0100 [0.9600, 1.0600] | 0.6100 [0.5900, 0.6300] | {SHARES} | 0.09 [0.05, 0.13] |",
        f"| last label | - | 0.6300 [0.6100, 0.6500] | {SHARES} | 0.07 [0.03, 0.11] |",
        "| random | -0.250 [-0.375, -0.125] | +7.00% | 0.0250 [0.0240, 0.0260] | 50.0% |",
        "| forest-old | 1.0456 |",
        "| 52.0% | 47.0% [42.0%, 52.0%] | 2,161 |",
        "| 40% | 61.0% [59.0%, 63.0%] | 47.0% | 44.0% [41.0%, 47.0%] |",
        "| 37.5% | 0.0% | - | - |",
        "| HOLD came | 300 | 1,700 | 321 |",
        "| return_50 | +0.01234 | 0.00056 |",
    ],
)
def test_number_of_the_card_stands_in_its_line(line: str) -> None:
    assert line in render_markdown(make_whole_card()).splitlines()


def test_drift_reference_is_left_out() -> None:
    assert "reference" not in render_markdown(make_whole_card())


def test_knots_of_an_isotonic_calibration_are_left_out() -> None:
    knots = [[[0.0, 0.25], [0.125, 0.75]]] * 3
    card = make_whole_card(calibration={"method": "isotonic", "direction": 1.0, "buy_share": 0.5, "knots": knots})

    assert "- **calibration**: method isotonic, direction 1, buy_share 0.5" in render_markdown(card).splitlines()


@pytest.mark.parametrize(
    ("metrics", "begins"),
    [
        ({"edge": "none"}, "**No edge: on data it had never seen"),
        ({"edge": "tradable"}, "**An edge on paper: on data it had never seen"),
        ({"edge": "<b>"}, r"**\<b\>**"),
    ],
)
def test_verdict_is_a_sentence_a_person_understands(metrics: dict[str, Any], begins: str) -> None:
    assert verdict_of(make_whole_card(metrics=make_metrics(**metrics))).startswith(begins)


def test_verdict_of_too_few_blocks_says_that_nothing_can_be_claimed() -> None:
    assert verdict_of(make_empty_card()) == (
        "**No edge can be claimed: 0 independent stretches of data are too few to judge by.**"
    )


def test_verdict_of_volatility_without_direction_keeps_the_two_apart() -> None:
    metrics = make_metrics(edge="none")
    metrics["verdict"]["p_direction"] = 0.4

    assert verdict_of(make_whole_card(metrics=metrics)).endswith(
        "It does tell busy hours from quiet ones, but not which way the price goes.**"
    )


def test_verdict_on_a_simulated_market_says_that_it_means_nothing() -> None:
    assert "The market was SIMULATED" in verdict_of(make_whole_card(source="simulated"))
    assert "SIMULATED" not in render_markdown(make_whole_card())


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("volatility", "the close 15 candles later is 1.0 times the volatility of that time away"),
        ("triple_barrier", "the price is first to move 1.0 times the volatility of 15 candles, within them"),
    ],
)
def test_label_rule_is_told_by_its_kind(kind: str, words: str) -> None:
    card = make_whole_card()
    card["label_rule"]["kind"] = kind

    assert f"- **label**: BUY or SELL when {words}, else HOLD ({kind})" in render_markdown(card).splitlines()


def test_card_without_numbers_shows_dashes() -> None:
    markdown = render_markdown(make_empty_card())

    assert "| direction skill: tells BUY from SELL | - | 1.000 | no |" in markdown
    assert "it was off by - (expected calibration error)" in markdown
    assert markdown.endswith("## What it looks at\n\n-\n")


def test_comparison_without_shared_rows_shows_dashes() -> None:
    card = make_whole_card(comparison={"champion": "forest-old", "rows": 0})

    assert "| forest-old | - |" in render_markdown(card)


def test_card_of_a_training_shows_what_was_measured(tmp_path: Path) -> None:
    card = train_card(tmp_path)
    markdown = render_markdown(card)

    model = card["metrics"]["competitors"]["model"]
    loss, rows = model["log_loss"], card["metrics"]["rows"]
    assert f"| **this model** | {loss['value']:.4f} [{loss['low']:.4f}, {loss['high']:.4f}] |" in markdown
    assert f"Judged on {rows:,} rows" in markdown
    assert f"Here: **{card['metrics']['edge']}**." in markdown
    assert [f"| {line['feature']} | " in markdown for line in card["importances"]] == [True] * len(card["importances"])
    assert all(f"- Warning: {warning}" in markdown for warning in card["warnings"])


def test_words_of_the_verdict_are_those_of_the_evaluation() -> None:
    assert LEAST_BLOCKS == LEAST_BLOCKS_OF_THE_VERDICT
    assert set(NAMES) == {"model", *BASELINES}


@given(st.text())
def test_text_in_a_paragraph_is_shown_letter_by_letter(given_text: str) -> None:
    words, kinds = shown(text(given_text))

    assert words == plain(given_text)
    assert kinds <= {"paragraph_open", "text", "text_special", "paragraph_close"}


@given(st.text(alphabet="ab1\\`*_~[](){}<>|&;#!-+=.: \n\x1b\u202e"))
def test_text_in_a_cell_is_shown_letter_by_letter(given_text: str) -> None:
    words, kinds = shown(f"| a | b |\n| --- | --- |\n| {text(given_text)} | c |")

    assert words == f"ab{plain(given_text)}c"
    assert kinds & {"html_inline", "link_open", "image", "em_open", "strong_open", "s_open", "code_inline"} == set()
