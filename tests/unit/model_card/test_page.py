"""The card as a page: whole by itself, with pictures, and what the card holds stays text."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from app.model_card.page import render_html
from tests.support.cards import NO_NUMBER, make_empty_card, make_metrics, make_whole_card, train_card

ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "main", "section", "div", "h1", "h2", "p", "ul", "li"),
    *("strong", "em", "table", "thead", "tbody", "tr", "th", "td", "svg", "text", "line", "circle", "rect"),
}
WITHOUT_END = {"meta", "line", "circle", "rect"}
HOSTILE = (
    "</title></text></svg><script>alert(1)</script><img src=x onerror=alert(2)> [a](http://evil.example) "
    "![b](http://evil.example/c.png) <http://evil.example> | `d` **e** &lt; \" ' \x1b[31m\u202e"
)
HARMLESS = HOSTILE.replace(" \x1b", " ").replace("\u202e", "")


class Page(HTMLParser):
    """What a page is made of; refuses one whose elements do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in WITHOUT_END:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in WITHOUT_END
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def names(self) -> list[str]:
        """What each picture is called for those who cannot see it."""
        return [value or "" for name, value in self.attributes if name == "aria-label"]


def make_hostile_card() -> dict[str, Any]:
    card = make_whole_card(
        model_id=HOSTILE,
        source=HOSTILE,
        symbols=[HOSTILE],
        interval=HOSTILE,
        trained_at=HOSTILE,
        warnings=[HOSTILE],
        hyperparameters={HOSTILE: HOSTILE},
        libraries={HOSTILE: HOSTILE},
        classes=[HOSTILE] * 3,
        class_returns={HOSTILE: 0.0},
        importances=[{"feature": HOSTILE, "log_loss_rise": 0.1, "spread": 0.0}],
        comparison={"champion": HOSTILE, "rows": 1},
    )
    card["metrics"] |= {"edge": HOSTILE, "class_counts": {HOSTILE: 1}}
    card["metrics"]["competitors"][HOSTILE] = card["metrics"]["competitors"]["random"]
    card["window"] |= {"first_open_time": HOSTILE, "class_counts": {HOSTILE: 1}}
    card["window"]["largest_gaps"][0] |= {"symbol": HOSTILE, "after": HOSTILE}
    card["label_rule"] |= {"kind": HOSTILE, "horizon_bars": HOSTILE, "threshold_percent": HOSTILE}
    card["calibration"] |= {"method": HOSTILE}
    return card


def test_page_asks_for_nothing_and_runs_nothing() -> None:
    page = render_html(make_whole_card())
    parsed = Page(page)

    assert set(parsed.tags) <= ALLOWED
    assert {name for name, _ in parsed.attributes} & {"src", "href", "srcset", "xlink:href", "data", "action"} == set()
    assert all(marker not in page for marker in ("http://", "https://", "url(", "@import", "//cdn"))
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in parsed.attributes


def test_page_shows_the_numbers_and_the_verdict() -> None:
    parsed = Page(render_html(make_whole_card()))

    assert parsed.words.count("forest-binance-1m-20261121T010203Z-0123abcd") == 2
    assert "1.0000 [0.9500, 1.0500]" in parsed.words
    assert "+3.10% [+2.10%, +4.10%]" in parsed.words
    assert ("class", "verdict statistical") in parsed.attributes


def test_page_has_every_picture() -> None:
    assert Page(render_html(make_whole_card())).names == [
        "Log-loss: further left is better",
        "Net return, bps a candle: further right is better",
        "Came true (upwards) against stated (across)",
        "What came (down) and what was said (across)",
        "Rise of the log-loss when the feature is shuffled",
    ]


def test_page_of_hostile_text_holds_it_as_text() -> None:
    parsed = Page(render_html(make_hostile_card()))

    assert set(parsed.tags) <= ALLOWED
    assert [name for name, _ in parsed.attributes if name.startswith("on") or name in ("src", "href")] == []
    assert ("class", "verdict none") in parsed.attributes
    assert HARMLESS.strip() in parsed.words
    assert f"Warning: {HARMLESS}".strip() in parsed.words


def test_page_without_numbers_has_no_pictures() -> None:
    parsed = Page(render_html(make_empty_card()))

    assert parsed.names == []
    assert ("class", "warnings") not in parsed.attributes


def test_page_draws_numbers_without_an_interval_as_points() -> None:
    metrics = make_metrics()
    for line in metrics["competitors"].values():
        line["net_return_bps"] = {"value": 0.0, "low": None, "high": None}
        line["log_loss"] = NO_NUMBER
    metrics["calibration"]["bins"] = [
        {"stated": 0.5, "came_true": {"value": 0.5, "low": None, "high": None}, "rows": 1}
    ]
    parsed = Page(render_html(make_whole_card(metrics=metrics)))

    assert "Log-loss: further left is better" not in parsed.names
    assert parsed.tags.count("circle") == 6 + 1
    assert [value for name, value in parsed.attributes if name == "class" and "spread" in (value or "")] == []


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-300, -5e6, 1e12])
def test_page_draws_any_number_alone(value: float) -> None:
    metrics = make_metrics()
    for line in metrics["competitors"].values():
        line["net_return_bps"] = line["log_loss"] = {"value": value, "low": value, "high": value}
    parsed = Page(render_html(make_whole_card(metrics=metrics)))

    assert parsed.tags.count("svg") == 5
    places = [float(value or "") for name, value in parsed.attributes if name in ("x", "x1", "x2", "cx", "cy")]
    assert [place for place in places if not 0 <= place <= 440] == []


def test_page_of_a_training_is_whole(tmp_path: Path) -> None:
    card = train_card(tmp_path)
    parsed = Page(render_html(card))

    assert set(parsed.tags) <= ALLOWED
    assert len(parsed.names) == 5
    error = card["metrics"]["calibration"]["error"]["value"]
    assert any(f"it was off by {error:.1%}" in words for words in parsed.words)
    assert parsed.words.count("time_sin") == 2
