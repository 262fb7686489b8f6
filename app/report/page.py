"""A page of HTML with charts, whole by itself: it runs nothing but its own two scripts and asks for nothing.

The charts are Plotly's, whose script stands in the page. A page is built of blocks of plain text and numbers; here
alone they become HTML, so that what a user named stays text, in the charts as well.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any, Final, TypeAlias

from app.model_card.look import LOOK
from app.model_card.wording import plain

Figure: TypeAlias = dict[str, Any]
"""A figure as Plotly takes it: `data`, a list of traces, and `layout`; plain values, no NaN."""

_MARKUP: Final = ("<br>", "<extra></extra>")
"""The markup that texts of a figure may have; Plotly would take more of it for markup."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, under a heading of its own.

    Attributes:
        title: The heading, and its name for those who cannot see it.
        figure: What is drawn.
        note: What must be known to read it.
        least_width: How wide it is at least, in pixels; a narrower screen scrolls it.
    """

    title: str
    figure: Figure
    note: str = ""
    least_width: int = 0


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under their headings: the first column to the left, all others, which are numbers, to the right."""

    heads: tuple[str, ...]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and what they stand for."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page under its heading."""

    title: str
    blocks: Sequence[Chart | Words | Table | Facts]


@dataclass(frozen=True, slots=True)
class Tile:
    """A number that is seen first, with what it is beside."""

    name: str
    value: str
    beside: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Everything a page says, the most important first.

    Attributes:
        title: Its name.
        subtitle: What stands below it.
        tone: The colour of the verdict: `good`, `fair` or `bad`.
        verdict: What a person should take away, a paragraph each.
        tiles: The numbers that are seen first.
        caveats: What must be known before anything is believed.
        sections: Everything else.
    """

    title: str
    subtitle: str
    tone: str = "fair"
    verdict: Sequence[str] = ()
    tiles: Sequence[Tile] = ()
    caveats: Sequence[str] = ()
    sections: Sequence[Section]


def render_page(page: Page) -> str:
    """Write a page that can be opened from disk."""
    charts = [block for section in page.sections for block in section.blocks if isinstance(block, Chart)]
    numbers = {id(chart): number for number, chart in enumerate(charts)}
    scripts = (_read_plotly(), _read("page.js"))
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_make_policy(scripts)}">',
        f"<title>{_text(page.title)}</title>\n<style>{LOOK}{_read('page.css')}</style>\n</head>\n<body>\n<main>",
        f'<h1>{_text(page.title)}</h1>\n<p class="below">{_text(page.subtitle)}</p>',
        *_head(page),
        "<noscript><p>The charts are drawn by a script within this page; the tables need none.</p></noscript>",
        *(_section(section, numbers) for section in page.sections),
        f'</main>\n<script type="application/json" id="figures">{_write_figures(charts)}</script>',
        *(f"<script>{script}</script>" for script in scripts if charts),
        "</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _head(page: Page) -> list[str]:
    """The verdict, the caveats and the tiles, as far as there are any."""
    parts = []
    if page.verdict:
        words = "".join(f"<p>{_text(paragraph)}</p>" for paragraph in page.verdict)
        parts.append(f'<div class="verdict {_text(page.tone)}">{words}</div>')
    if page.tiles:
        parts.append(f'<dl class="tiles">{"".join(map(_tile, page.tiles))}</dl>')
    if page.caveats:
        lines = "".join(f"<li>{_text(caveat)}</li>" for caveat in page.caveats)
        parts.append(f'<div class="warnings"><h2>Before you believe it</h2><ul>{lines}</ul></div>')
    return parts


def _tile(tile: Tile) -> str:
    beside = f"<dd>{_text(tile.beside)}</dd>" if tile.beside else ""
    return f"<div><dt>{_text(tile.name)}</dt><dd>{_text(tile.value)}</dd>{beside}</div>"


def _section(section: Section, numbers: dict[int, int]) -> str:
    blocks = "".join(_block(block, numbers) for block in section.blocks)
    return f"<section>\n<h2>{_text(section.title)}</h2>\n{blocks}</section>"


def _block(block: Chart | Words | Table | Facts, numbers: dict[int, int]) -> str:
    match block:
        case Words(text):
            return f"<p>{_text(text)}</p>\n"
        case Table(heads, rows):
            lines = _row(heads, "th") + "".join(_row(row, "td") for row in rows)
            return f'<div class="scroll" tabindex="0"><table>{lines}</table></div>\n'
        case Facts(rows):
            return f'<table class="facts">{"".join(_row(row, "td", "") for row in rows)}</table>\n'
        case Chart():
            return _chart(block, numbers[id(block)])


def _chart(chart: Chart, number: int) -> str:
    name, height = _text(chart.title), int(chart.figure["layout"]["height"])
    note = f"<figcaption>{_text(chart.note)}</figcaption>" if chart.note else ""
    style = f"min-height:{height}px;min-width:{chart.least_width}px"
    place = f'<div id="chart-{number}" role="img" aria-label="{name}" style="{style}"></div>'
    return f'<h3>{name}</h3>\n<figure><div class="scroll">{place}</div>{note}</figure>\n'


def _row(cells: Sequence[str], tag: str, later: str = ' class="number"') -> str:
    kinds = ["", *[later] * (len(cells) - 1)]
    return f"<tr>{''.join(f'<{tag}{kind}>{_text(cell)}</{tag}>' for cell, kind in zip(cells, kinds, strict=True))}</tr>"


def _text(words: str) -> str:
    """Words as HTML that shows them letter by letter."""
    return escape(plain(words))


def _write_figures(charts: Sequence[Chart]) -> str:
    """The figures as JSON that nothing within ends the element it stands in."""
    # Loaded where a page is written: the service and the other commands need no charts.
    import plotly.graph_objects as graphs  # noqa: PLC0415

    # Plotly refuses what it does not know, where its script would leave it out without a word.
    figures = [graphs.Figure(_tame(chart.figure), layout_template="none").to_plotly_json() for chart in charts]
    document = json.dumps(figures, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return document.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _tame(value: Any) -> Any:  # noqa: ANN401 - plain JSON
    """A figure whose texts hold no markup but `_MARKUP`."""
    if isinstance(value, dict):
        return {name: _tame(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_tame(part) for part in value]
    if not isinstance(value, str):
        return value
    tamed = escape(plain(value), quote=False)
    for markup in _MARKUP:
        tamed = tamed.replace(escape(markup), markup)
    return tamed


def _make_policy(scripts: Sequence[str]) -> str:
    """Nothing is fetched, and no script runs but these; Plotly writes styles, and pictures into addresses."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return (files("app.report") / name).read_text("utf-8")


@cache
def _read_plotly() -> str:
    return (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")
