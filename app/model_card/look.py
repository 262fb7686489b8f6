"""How every page of HTML looks: colours that follow the reader's light or dark screen, sheets, tables."""

from __future__ import annotations

from typing import Final

LOOK: Final = """
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
@media (max-width: 30rem) { body { padding: .6rem; } section, .verdict, .warnings { padding: .8rem .85rem; } }
.scroll { overflow-x: auto; margin: 0 0 .75rem; }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { color: var(--soft); font-weight: 600; text-align: left; vertical-align: bottom; }
th, td { white-space: nowrap; }
td:first-child { min-width: 7.4rem; white-space: normal; }
td:first-child, th:first-child { position: sticky; left: 0; background: var(--sheet); }
"""
"""The style sheet that every page begins with; `--tone` is the colour of a verdict, which the page sets."""
