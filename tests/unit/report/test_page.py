"""A page is whole by itself, and what it is given stays text."""

from __future__ import annotations

import base64
import hashlib
import math
import re

import pytest

from app.report.drawing import make_figure
from app.report.page import Chart, Facts, Page, Section, Table, Tile, Words, render_page
from tests.support.pages import ReadPage

HOSTILE = (
    "</script></title><script>alert(1)</script><img src=x onerror=alert(2)><a href='http://evil.example'>&amp;\x1b"
)
SHOWN = HOSTILE[:-1]
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "main", "section", "div", "dl", "dt", "dd", "h1", "h2", "h3"),
    *("p", "ul", "li", "table", "tr", "th", "td", "figure", "figcaption", "noscript", "script"),
}


def make_page(text: str = "words") -> Page:
    trace = {"type": "scatter", "name": text, "x": [text], "y": [1.0], "text": [text], "hovertemplate": text}
    chart = Chart(text, make_figure([trace], 300, xaxis={"title": {"text": text}}), text)
    blocks = (chart, Words(text), Table((text, text), [(text, text)]), Facts([(text, text)]))
    return Page(
        title=text,
        subtitle=text,
        tone=text,
        verdict=[text],
        tiles=[Tile(text, text, text)],
        caveats=[text],
        sections=[Section(text, blocks)],
    )


def test_page_names_its_scripts_and_lets_nothing_else_in() -> None:
    page = ReadPage(render_page(make_page()))

    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in page.scripts[1:]
    ]
    assert len(hashes) == 2
    assert page.policy.split("; ") == [
        "default-src 'none'",
        f"script-src {' '.join(hashes)}",
        "style-src 'unsafe-inline'",
        "img-src data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_page_asks_for_nothing() -> None:
    page = ReadPage(render_page(make_page()))

    assert {name for name, _ in page.attributes} & {"src", "href", "srcset", "data", "action"} == set()
    own = [*page.words, page.scripts[2]]
    assert [part for part in own if re.search(r"https?:|url\(|@import|//cdn", part)] == []
    assert "showSendToCloud: false" in page.scripts[2]


def test_page_of_hostile_text_holds_it_as_text() -> None:
    page = ReadPage(render_page(make_page(HOSTILE)))

    assert set(page.tags) <= ALLOWED
    assert len(page.scripts) == 3
    assert [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")] == []
    assert page.words.count(SHOWN) == 18
    assert [row for row in page.rows if row != [SHOWN] * 2] == []


def test_chart_of_hostile_text_holds_it_as_text() -> None:
    (figure,) = ReadPage(render_page(make_page(HOSTILE))).figures

    trace = figure["data"][0]
    texts = [trace["name"], trace["x"][0], trace["text"][0], trace["hovertemplate"]]
    texts.append(figure["layout"]["xaxis"]["title"]["text"])
    assert [text for text in texts if "<" in text or "\x1b" in text] == []
    assert texts[0].startswith("&lt;/script&gt;")


def test_chart_keeps_line_breaks_and_hides_the_name_of_its_trace() -> None:
    (figure,) = ReadPage(render_page(make_page("one<br>two<extra></extra>"))).figures

    assert figure["data"][0]["hovertemplate"] == "one<br>two<extra></extra>"


def test_number_that_is_none_is_refused() -> None:
    chart = Chart("title", make_figure([{"type": "scatter", "y": [1.0, math.nan]}], 300))

    with pytest.raises(ValueError, match="not JSON compliant"):
        render_page(Page(title="t", subtitle="s", sections=[Section("s", [chart])]))


def test_property_that_plotly_does_not_know_is_refused() -> None:
    chart = Chart("title", make_figure([{"type": "scatter", "colour": "red"}], 300))

    with pytest.raises(ValueError, match="colour"):
        render_page(Page(title="t", subtitle="s", sections=[Section("s", [chart])]))


def test_page_without_charts_needs_no_script() -> None:
    page = render_page(Page(title="t", subtitle="s", sections=[Section("s", [Words("words")])]))

    assert len(ReadPage(page).scripts) == 1
    assert len(page) < 10_000
