"""A model's card as one page of HTML that needs nothing else: no script, no font, no request."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from html import escape
from typing import Any

from markdown_it import MarkdownIt

from app.model_card.content import Section, describe_sections, describe_verdict, describe_warnings
from app.model_card.pictures import PICTURES
from app.model_card.wording import plain

_KNOWN_EDGES = ("none", "statistical", "tradable")

_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --sheet: #fff; --ink: #1c2430; --soft: #5a6575; --rule: #dde1e7;
  --own: #1f5fbf; --other: #7b8696; --good: #197a4b; --fair: #94610a; --bad: #b3382c; }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --sheet: #1a2029; --ink: #e6eaf0; --soft: #a3adbb;
  --rule: #323b48; --own: #79aef5; --other: #8d98a8; --good: #5cc492; --fair: #e0ad55; --bad: #f08a7e; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; }
h1 { margin: .5rem 0 1rem; font-size: 1.35rem; line-height: 1.3; overflow-wrap: anywhere; }
h2 { margin: 0 0 .5rem; font-size: 1.1rem; }
p, ul { margin: 0 0 .75rem; }
ul { padding-left: 1.2rem; }
li, p { overflow-wrap: anywhere; }
section, .verdict, .warnings { margin: 0 0 1rem; padding: 1rem 1.1rem; background: var(--sheet);
  border: 1px solid var(--rule); border-radius: .5rem; }
.verdict { border-left: .35rem solid var(--tone); font-size: 1.1rem; font-weight: 600; }
.verdict p, .warnings ul, section > :last-child { margin-bottom: 0; }
.warnings { border-left: .35rem solid var(--fair); }
.none { --tone: var(--bad); } .statistical { --tone: var(--fair); } .tradable { --tone: var(--good); }
@media (max-width: 30rem) { body { padding: .6rem; } section, .verdict, .warnings { padding: .8rem .85rem; } }
.scroll { overflow-x: auto; margin: 0 0 .75rem; }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { color: var(--soft); font-weight: 600; text-align: left; vertical-align: bottom; }
th, td { white-space: nowrap; }
td:first-child { min-width: 7.4rem; white-space: normal; }
td:first-child, th:first-child { position: sticky; left: 0; background: var(--sheet); }
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
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>",
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
