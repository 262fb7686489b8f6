"""A line is a line, whatever stands in it."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.observability.logging import Sanitizer, configure_logging, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("a\nb\r\n", "a\\nb\\r\\n"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\u202eleft", "\\u202eleft"),
        ("a\u2028b\x85c", "a\\u2028b\\x85c"),
        ("\ud800", "\\ud800"),
        ("Zürich ₿", "Zürich ₿"),
    ],
)
def test_printable_escapes_what_could_move_the_cursor(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(), max_size=400))
def test_printable_any_text_is_one_valid_line(text: str) -> None:
    shown = printable(text)

    assert shown.isprintable()
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert len(shown) <= 201 * 10


def test_sanitizer_masks_before_it_cuts() -> None:
    key = "k" * 12
    event = Sanitizer([key])(None, "info", {"event": "e", "text": "x" * 195 + key})

    assert event["text"] == "x" * 195 + "***"


@pytest.mark.parametrize("key", ["api_key", "password", "Authorization", "database_url", "token", "X-API-Key"])
def test_sanitizer_masks_whatever_stands_under_a_secret_name(key: str) -> None:
    assert Sanitizer()(None, "info", {key: "value"}) == {key: "***"}


def test_sanitizer_keeps_numbers_and_cuts_everything_else() -> None:
    event: dict[str, Any] = {
        "a": 1,
        "b": 1.5,
        "c": None,
        "d": True,
        "e": ["x\n"],
        "f": {"k": "v" * 900},
        "g": 10**5_000,
    }

    shown = Sanitizer()(None, "info", dict(event))

    assert {key: shown[key] for key in "abcd"} == {key: event[key] for key in "abcd"}
    assert shown["e"] == "['x\\n']"
    assert len(shown["f"]) == 201
    assert shown["g"] == "***"


@pytest.mark.parametrize("json_lines", [True, False])
def test_configure_sends_ours_and_others_through_one_chain(*, json_lines: bool) -> None:
    stream = io.StringIO()
    configure_logging("INFO", json_lines=json_lines, secrets=["hunter2"], stream=stream)

    structlog.contextvars.bind_contextvars(cycle_id="cycle-1")
    structlog.get_logger().info("cycle.finished", symbol="BTC\nUSDT")
    structlog.get_logger().debug("not.shown")
    logging.getLogger("other").warning("password is %s\x1b[2J", "hunter2")
    structlog.contextvars.clear_contextvars()

    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert "cycle-1" in lines[0]
    assert "BTC\\nUSDT" in lines[0].replace("\\\\", "\\")
    assert "password is ***" in lines[1]
    if json_lines:
        assert {"event", "level", "timestamp", "cycle_id", "symbol"} == set(json.loads(lines[0]))


def test_configure_console_traceback_lines_are_indented() -> None:
    stream = io.StringIO()
    configure_logging("INFO", stream=stream)

    structlog.get_logger().error("it.failed", exc_info=RuntimeError("first\n2026-11-21 [info] forged"))

    first, *others = stream.getvalue().splitlines()
    assert "it.failed" in first
    assert any("forged" in line for line in others)
    assert all(line.startswith("    ") for line in others if "forged" in line)


def test_configure_again_replaces_the_former_stream() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging("INFO", stream=first)
    configure_logging("WARNING", stream=second)

    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")

    assert first.getvalue() == ""
    assert "loud" in second.getvalue()
    assert "quiet" not in second.getvalue()
