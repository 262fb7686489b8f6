"""Records as bytes: the same facts give the same bytes in every process, on every day."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

from app.domain.candle import Candle

FIRST_LINK = "0" * 64
"""What stands for the link before the first."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_plain(value: Any) -> Any:  # noqa: ANN401 - any fact of the domain
    """A fact as plain JSON: amounts as the shortest exact text, moments in microseconds since 1970, fields by name.

    >>> to_plain({"amount": Decimal("1.50"), "at": datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), "rows": (1, None)})
    {'amount': '1.5', 'at': 1000000, 'rows': [1, None]}
    """
    kind = type(value)
    return (_CONVERSIONS.get(kind) or _learn(kind))(value)


def from_plain(kind: Any, document: Any) -> Any:  # noqa: ANN401 - the way back from `to_plain`
    """A fact of type `kind` from its plain JSON; raises KeyError, TypeError or ValueError where it is none.

    >>> from_plain(tuple[Decimal, ...], ["1.5"])
    (Decimal('1.5'),)
    """
    return _reader(kind)(document)


def canonical(document: object) -> str:
    """Plain JSON as its one text: names sorted, no blanks, no NaN.

    >>> canonical({"b": 1, "a": [1.5, None]})
    '{"a":[1.5,null],"b":1}'
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(text: str) -> str:
    """The SHA-256 of a text, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def next_link(previous: str, document: str, outcome: str) -> str:
    """The link of a chain: the hash of the link before, of what went into a booking, and of what came out."""
    return digest(f"{previous}\n{document}\n{outcome}")


def candle_digest(candle: Candle) -> bytes:
    """What a candle says, in 16 bytes."""
    return hashlib.sha256(canonical(to_plain(candle)).encode()).digest()[:16]


def microseconds(moment: datetime) -> int:
    """A moment in microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(count: int) -> datetime:
    """The moment, aware UTC, so many microseconds since 1970."""
    return _EPOCH + count * _MICROSECOND


def find_difference(first: Any, second: Any, path: str = "") -> str | None:  # noqa: ANN401 - plain JSON
    """Where two plain documents differ first, by name, with both values; None where they are equal.

    >>> find_difference({"a": [1, 2]}, {"a": [1, 3]})
    'a.1: 2 and 3'
    """
    if isinstance(first, dict) and isinstance(second, dict):
        pairs = [(name, first.get(name), second.get(name)) for name in sorted({*first, *second})]
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = [(str(place), *pair) for place, pair in enumerate(zip(first, second, strict=True))]
    else:
        return None if first == second and type(first) is type(second) else f"{path}: {first!r} and {second!r}"
    for name, one, other in pairs:
        found = find_difference(one, other, f"{path}.{name}" if path else name)
        if found is not None:
            return found
    return None


def _learn(kind: type) -> Callable[[Any], Any]:
    """How a fact of `kind` becomes plain JSON, kept for the next one."""
    convert: Callable[[Any], Any]
    if is_dataclass(kind):
        names = tuple(field.name for field in fields(kind))
        convert = lambda value: {name: to_plain(getattr(value, name)) for name in names}  # noqa: E731 - one of four
    elif issubclass(kind, Mapping):
        convert = lambda value: {str(name): to_plain(one) for name, one in value.items()}  # noqa: E731
    elif issubclass(kind, list | tuple):
        convert = lambda value: [to_plain(one) for one in value]  # noqa: E731
    elif issubclass(kind, str):
        convert = str  # an enum's value
    else:
        raise TypeError(f"{kind.__name__} is no fact that a record can hold")
    _CONVERSIONS[kind] = convert
    return convert


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:  # noqa: ANN401
    if kind in _READERS:
        return _READERS[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        inner = _reader(next(one for one in arguments if one is not type(None)))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        inner = _reader(arguments[0])
        return lambda value: tuple(inner(one) for one in value)
    if origin in (dict, Mapping):
        name, inner = _reader(arguments[0]), _reader(arguments[1])
        return lambda value: {name(one): inner(other) for one, other in value.items()}
    if is_dataclass(kind):
        build = cast("Callable[..., Any]", kind)
        readers = {name: _reader(hint) for name, hint in get_type_hints(kind).items()}
        return lambda value: build(**{name: read(value[name]) for name, read in readers.items()})
    return cast("Callable[[Any], Any]", kind)  # an enum


def _shortest(amount: Decimal) -> str:
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _same(value: Any) -> Any:  # noqa: ANN401
    return value


_CONVERSIONS: dict[type, Callable[[Any], Any]] = {
    str: _same,
    int: _same,
    float: _same,
    bool: _same,
    type(None): _same,
    Decimal: _shortest,
    datetime: microseconds,
    timedelta: lambda span: span // _MICROSECOND,
}

_READERS: dict[Any, Callable[[Any], Any]] = {
    Any: _same,
    str: _same,
    int: _same,
    float: _same,
    bool: _same,
    Decimal: Decimal,
    datetime: from_microseconds,
    timedelta: lambda count: count * _MICROSECOND,
}
