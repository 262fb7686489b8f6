"""What a page of HTML holds, for tests that read it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

_WITHOUT_END = {"meta"}


class ReadPage(HTMLParser):
    """The tags, attributes, words and scripts of a page; refuses one whose elements do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag not in _WITHOUT_END:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)
            return
        self.words.append(data)
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1].append(data)

    @property
    def figures(self) -> list[dict[str, Any]]:
        """The figures that its script draws."""
        found: list[dict[str, Any]] = json.loads(self.scripts[0])
        return found

    @property
    def policy(self) -> str:
        """What it may load and run."""
        return next(value or "" for name, value in self.attributes if name == "content" and "default-src" in str(value))
