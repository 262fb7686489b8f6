"""What the README and the other pages show exists: commands, options, settings, routes and linked files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

from app import cli
from app.broker import order_rules
from app.main import create_app
from app.settings import Settings

PROJECT = Path(__file__).parents[2]
README = PROJECT / "README.md"
PAGES = [
    *(README, PROJECT / ".env.example", PROJECT / "models" / "README.md", PROJECT / "benchmarks" / "README.md"),
    *sorted((PROJECT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)[^)]*\)")
ROUTE = re.compile(
    r"(?:\b(?P<method>GET|POST|PUT|PATCH|DELETE) +|http://(?:127\.0\.0\.1|localhost):8000)(?P<path>/[\w/{}.-]*)"
)
SETTING = re.compile(r"\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)=|\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b")

NOT_SETTINGS = frozenset(
    {"PYTHON", "UPGRADE", "BASE", "PRICE_FILTER", "LOT_SIZE", "TZ", "CI", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"}
)
"""Names in capitals that are no settings: make's, docker's and numba's arguments, and words of Binance."""


def code_in(page: Path) -> Iterator[str]:
    """The code blocks of `page`, then its inline code."""
    text = page.read_text(encoding="utf-8")
    yield from FENCE.findall(text)
    yield from INLINE.findall(FENCE.sub("", text))


def everywhere(pattern: re.Pattern[str]) -> list[tuple[str, re.Match[str]]]:
    """Each match of `pattern` in the code that the pages show, with the page's name."""
    return [
        (str(page.relative_to(PROJECT)), match)
        for page in PAGES
        for code in code_in(page)
        for match in pattern.finditer(code)
    ]


@cache
def subcommands() -> dict[str, set[str]]:
    """Each command of `python -m app`, and its options."""
    application = next(value for value in vars(cli).values() if isinstance(value, typer.Typer))
    commands = typer.main.get_group(application).commands
    return {
        name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for name, command in commands.items()
    }


@cache
def routes() -> dict[str, set[str]]:
    """Each path of the service as OpenAPI has it, and its methods; and the pages that are no operations."""
    paths = create_app(Settings(_env_file=None)).openapi()["paths"]
    operations = {path: {method.upper() for method in item} for path, item in paths.items()}
    return operations | {"/docs": {"GET"}, "/openapi.json": {"GET"}}


def find_route(path: str) -> set[str]:
    """The methods of the route that `path` names, where `{id}` or a number stands for any parameter; none if none."""
    wanted = path.rstrip("/").split("/")
    for template, methods in routes().items():
        parts = template.split("/")
        if len(parts) == len(wanted) and all(
            part == given or part.startswith("{") for part, given in zip(parts, wanted, strict=True)
        ):
            return methods
    return set()


def test_readme_first_screen_says_what_it_is_and_how_to_start() -> None:
    first_screen = "\n".join(README.read_text(encoding="utf-8").splitlines()[:40])
    assert "paper trading only, not advice" in first_screen.lower()
    assert "make run" in first_screen
    assert "make test" in first_screen


def test_pages_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    shown = everywhere(re.compile(r"(?:^|[\s;&$])make ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)*)", re.MULTILINE))
    assert shown
    assert [(page, match[0]) for page, match in shown if not set(match[1].split()) <= targets] == []


def test_pages_subcommands_exist_with_the_options_shown() -> None:
    shown = everywhere(re.compile(r"python3? -m app(?: ([a-z][a-z-]*)([^\n|#;&]*))?"))
    assert shown
    for page, match in shown:
        name, rest = match[1], match[2] or ""
        assert name is None or name in subcommands(), f"{page}: {match[0]}"
        options = set(re.findall(r"(?<!\S)\[?(--[a-z][a-z-]*)", rest))
        assert name is None or options - {"--help"} <= subcommands()[name], f"{page}: {match[0]}"


def test_pages_settings_exist() -> None:
    constants = {name for name in vars(order_rules) if name.isupper()}
    known = {name.upper() for name in Settings.model_fields} | NOT_SETTINGS | constants
    shown = [(page, match[1] or match[2]) for page, match in everywhere(SETTING)]
    assert [(page, name) for page, name in shown if name not in known] == []


def test_pages_routes_exist_with_their_methods() -> None:
    for page, match in everywhere(ROUTE):
        methods = find_route(match["path"])
        assert methods, f"{page}: {match[0]}"
        assert match["method"] is None or match["method"] in methods, f"{page}: {match[0]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_page_links_lead_to_files(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    assert [target for target in LINK.findall(text) if not (page.parent / target).exists()] == []
