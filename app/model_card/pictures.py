"""The pictures of a model's card: SVG to stand within a page, whose style sheet gives the classes their colours.

A plotting library was weighed: matplotlib and what it needs are 24 MB of wheels, and its SVG has fixed colours, where
these follow the reader's light or dark screen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from app.model_card.content import NAMES
from app.model_card.wording import plain

_WIDTH = 440.0
_LEFT = 132.0
_RIGHT = 20.0
_TOP = 34.0
_ROW = 26.0
_LONGEST_NAME = 21


@dataclass(frozen=True, slots=True)
class Scale:
    """Places values along a stretch of the picture; a stretch that is all one value is widened."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> Scale:
        """The scale from the least to the greatest of `values`, with a little room on both sides."""
        low, high = min(values), max(values)
        room = 0.06 * (high - low) or 0.1 * abs(low) or 1.0
        return cls(low - room, high + room, start, end)

    def place(self, value: float) -> float:
        """Where `value` lies."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About five round values within the scale.

        >>> [round(tick, 9) for tick in Scale(0.93, 1.12, 0.0, 1.0).ticks()]
        [0.95, 1.0, 1.05, 1.1]
        """
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [number * step for number in range(first, last + 1)]


class Drawing:
    """Collects the shapes of one picture.

    Args:
        title: The heading within the picture, and its name for who cannot see it.
        height: How high it is, in the unit of its own coordinates.
    """

    def __init__(self, title: str, height: float) -> None:
        self._height = height
        self._title = title
        self._parts: list[str] = []
        self.text(0, 14, title, "title", "start")

    def line(self, start: tuple[float, float], end: tuple[float, float], kind: str) -> None:
        """A straight line."""
        (x1, y1), (x2, y2) = start, end
        self._parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def dot(self, x: float, y: float, kind: str) -> None:
        """A point."""
        self._parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')

    def box(self, corner: tuple[float, float], size: tuple[float, float], kind: str, strength: float = 1.0) -> None:
        """A filled rectangle; `strength` is how opaque it is, 0 to 1."""
        (x, y), (width, height) = corner, size
        self._parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill-opacity="{strength:.2f}"/>'
        )

    def text(self, x: float, y: float, words: str, kind: str = "label", anchor: str = "middle") -> None:
        """Words; `anchor` says which end of them stands at `x`."""
        self._parts.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def finish(self) -> str:
        """The picture as SVG."""
        return (
            f'<svg viewBox="0 0 {_WIDTH:.0f} {self._height:.0f}" role="img" aria-label="{escape(self._title)}">'
            f"{''.join(self._parts)}</svg>"
        )


def draw_reliability(card: Mapping[str, Any]) -> str:
    """What was stated against what came true, bin by bin, with intervals; the dashed line is where both are equal."""
    bins = [line for line in card["metrics"]["calibration"]["bins"] if line["came_true"]["value"] is not None]
    if not bins:
        return ""
    reached = [value for line in bins for value in (line["stated"], *_known(line["came_true"]))]
    shared = Scale.over(reached, 0.0, 1.0)
    low, high = max(0.0, shared.low), min(1.0, shared.high)
    across, up = Scale(low, high, 52.0, _WIDTH - _RIGHT), Scale(low, high, 350.0, _TOP)
    drawing = Drawing("Came true (upwards) against stated (across)", 390)
    for tick in across.ticks():
        drawing.line((across.place(tick), up.start), (across.place(tick), up.end), "grid")
        drawing.line((across.start, up.place(tick)), (across.end, up.place(tick)), "grid")
        drawing.text(across.place(tick), up.start + 18, f"{tick:.0%}")
        drawing.text(across.start - 8, up.place(tick) + 4, f"{tick:.0%}", anchor="end")
    drawing.line((across.start, up.start), (across.end, up.end), "ideal")
    drawing.text((across.start + across.end) / 2, up.start + 36, "stated confidence")
    for line in bins:
        x, found = across.place(line["stated"]), line["came_true"]
        if found["low"] is not None and found["high"] is not None:
            drawing.line((x, up.place(found["low"])), (x, up.place(found["high"])), "spread own")
        drawing.dot(x, up.place(found["value"]), "dot own")
    return drawing.finish()


def draw_log_loss(card: Mapping[str, Any]) -> str:
    """The log-loss of everyone who states probabilities, with intervals."""
    return _draw_competitors(card, "log_loss", "Log-loss: further left is better", None)


def draw_net_return(card: Mapping[str, Any]) -> str:
    """The net return of everyone, with intervals, beside zero."""
    return _draw_competitors(card, "net_return_bps", "Net return, bps a candle: further right is better", 0.0)


def _draw_competitors(card: Mapping[str, Any], metric: str, title: str, beside: float | None) -> str:
    found = {name: line[metric] for name, line in card["metrics"]["competitors"].items()}
    found = {name: given for name, given in found.items() if given["value"] is not None}
    if not found:
        return ""
    reached = [value for given in found.values() for value in _known(given)] + ([] if beside is None else [beside])
    across, bottom = Scale.over(reached, _LEFT, _WIDTH - _RIGHT), _TOP + _ROW * len(found)
    drawing = Drawing(title, bottom + 26)
    _draw_ticks(drawing, across, bottom)
    if beside is not None:
        drawing.line((across.place(beside), _TOP), (across.place(beside), bottom), "zero")
    for row, (name, given) in enumerate(found.items()):
        y, owner = _TOP + _ROW * (row + 0.5), "own" if name == "model" else "other"
        drawing.text(_LEFT - 12, y + 4, _fit(NAMES.get(name) or plain(name)), f"label {owner}", "end")
        if given["low"] is not None and given["high"] is not None:
            drawing.line((across.place(given["low"]), y), (across.place(given["high"]), y), f"spread {owner}")
        drawing.dot(across.place(given["value"]), y, f"dot {owner}")
    return drawing.finish()


def draw_importances(card: Mapping[str, Any]) -> str:
    """How much the log-loss rises when each feature is shuffled, with the spread of the repeats."""
    lines = card["importances"]
    if not lines:
        return ""
    reached = [line["log_loss_rise"] + sign * line["spread"] for line in lines for sign in (-1, 1)] + [0.0]
    across = Scale.over(reached, _LEFT + 40, _WIDTH - _RIGHT)
    bottom = _TOP + 20 * len(lines)
    drawing = Drawing("Rise of the log-loss when the feature is shuffled", bottom + 26)
    _draw_ticks(drawing, across, bottom)
    drawing.line((across.place(0.0), _TOP), (across.place(0.0), bottom), "zero")
    for row, line in enumerate(lines):
        y, rise, spread = _TOP + 20 * (row + 0.5), line["log_loss_rise"], line["spread"]
        left, right = sorted((across.place(0.0), across.place(rise)))
        drawing.text(_LEFT + 28, y + 4, _fit(plain(line["feature"]), 24), anchor="end")
        drawing.box((left, y - 6), (right - left, 12), "bar")
        drawing.line((across.place(rise - spread), y), (across.place(rise + spread), y), "whisker")
    return drawing.finish()


def draw_confusion(card: Mapping[str, Any]) -> str:
    """How many rows of each class were said to be which; the darker, the more of the rows that came so."""
    names, table = [_fit(plain(name), 8) for name in card["classes"]], card["metrics"]["confusion"]
    if not table:
        return ""
    left, side, height = 96.0, 104.0, 56.0
    drawing = Drawing("What came (down) and what was said (across)", _TOP + 24 + height * len(table))
    for column, name in enumerate(names):
        drawing.text(left + side * (column + 0.5), _TOP + 12, f"said {name}")
    for row, (name, line) in enumerate(zip(names, table, strict=False)):
        y, whole = _TOP + 20 + height * row, sum(line)
        drawing.text(left - 10, y + height / 2 + 4, f"{name} came", anchor="end")
        for column, count in enumerate(line):
            share, x = count / whole if whole else 0.0, left + side * column
            drawing.box(
                (x + 1, y + 1), (side - 2, height - 2), "cell right" if row == column else "cell", 0.06 + 0.5 * share
            )
            drawing.text(x + side / 2, y + height / 2, f"{count:,}", "count")
            drawing.text(x + side / 2, y + height / 2 + 16, f"{share:.0%}", "share")
    return drawing.finish()


def _draw_ticks(drawing: Drawing, across: Scale, bottom: float) -> None:
    for tick in across.ticks():
        drawing.line((across.place(tick), _TOP), (across.place(tick), bottom), "grid")
        drawing.text(across.place(tick), bottom + 18, f"{tick:.4g}" if abs(tick) > 1e-12 else "0")


def _known(given: Mapping[str, float | None]) -> list[float]:
    return [value for value in given.values() if value is not None]


def _fit(name: str, longest: int = _LONGEST_NAME) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


PICTURES: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    "log_loss": draw_log_loss,
    "net_return": draw_net_return,
    "reliability": draw_reliability,
    "confusion": draw_confusion,
    "importances": draw_importances,
}
"""Every picture by its name; each draws a card, or gives nothing where there is nothing to draw."""
