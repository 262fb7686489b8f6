"""A model's card as one page of HTML that needs nothing else: no script, no font, no request."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from html import escape
from typing import Any

from markdown_it import MarkdownIt

from app.model_card.content import Section, describe_sections, describe_verdict, describe_warnings
from app.model_card.look import LOOK
from app.model_card.pictures import PICTURES
from app.model_card.wording import plain

_KNOWN_EDGES = ("none", "statistical", "tradable")

_STYLE = """
.none { --tone: var(--bad); } .statistical { --tone: var(--fair); } .tradable { --tone: var(--good); }
svg { display: block; width: 100%; max-width: 34rem; height: auto; margin: .75rem 0 .25rem; }
svg text { font-size: 13px; fill: var(--soft); }
svg .title, svg .count { fill: var(--ink); font-weight: 600; }
svg .share { fill: var(--ink); }
svg .label.own { fill: var(--ink); font-weight: 600; }
.grid { stroke: var(--rule); } .zero { stroke: var(--soft); } .ideal { stroke: var(--soft); stroke-dasharray: 5 4; }
.spread { stroke-width: 2.5; } .spread.own { stroke: var(--own); } .spread.other { stroke: var(--other); }
.dot.own { fill: var(--own); } .dot.other { fill: var(--other); }
.bar { fill: var(--own); } .whisker { stroke: var(--ink); stroke-width: 1.5; }
.cell { fill: var(--other); } .cell.right { fill: var(--own); }
"""


def render_html(card: Mapping[str, Any]) -> str:
    """Write a whole model card as a page that can be opened from disk; what the card holds stays text."""
    title, edge = escape(plain(card["model_id"])), card["metrics"]["edge"]
    warnings = describe_warnings(card)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{title}</title>\n<style>{LOOK}{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>",
        f'<div class="verdict {edge if edge in _KNOWN_EDGES else "none"}">{_markdown(describe_verdict(card))}</div>',
        f'<div class="warnings">{_markdown(warnings)}</div>' if warnings else "",
        *(_section(section, card) for section in describe_sections(card)),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _section(section: Section, card: Mapping[str, Any]) -> str:
    pictures = "".join(PICTURES[name](card) for name in section.pictures)
    return f"<section>\n<h2>{escape(section.title)}</h2>\n{_markdown(section.body)}{pictures}\n</section>"


def _markdown(words: str) -> str:
    return str(_parser().render(words))


@cache
def _parser() -> MarkdownIt:
    """CommonMark with tables; HTML in the text is shown as text, links and images are not made."""
    parser = (
        MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "image", "autolink", "reference"])
    )
    parser.add_render_rule("table_open", lambda *_: '<div class="scroll" tabindex="0"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser
