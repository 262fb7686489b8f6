"""Everything that can be wrong with an answer: each fault turns a good JSON body into what goes over the wire."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from itertools import repeat
from typing import Any

JSON = "application/json;charset=UTF-8"
HTML_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>secret-page</body></html>"
RESTRICTED = "Service unavailable from a restricted location according to 'b. Eligibility'."
_MEGABYTE = 1 << 20


class Ending(Enum):
    """What becomes of the connection after an answer."""

    KEEP = auto()
    CLOSE = auto()
    RESET = auto()
    HANG = auto()


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes to send, each after a wait in seconds, and how it ends; what is not KEPT is sent as it stands."""

    pieces: Iterable[tuple[float, bytes]]
    ending: Ending = Ending.KEEP

    @property
    def whole(self) -> bytes | None:
        """All bytes, where they go at once and the connection stays; else None."""
        is_whole = isinstance(self.pieces, list) and len(self.pieces) == 1 and self.ending is Ending.KEEP
        return next(iter(self.pieces))[1] if is_whole else None


Fault = Callable[[bytes], Reply]
Rows = list[list[Any]]


def response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole HTTP response; given headers win over the usual ones."""
    fields = {"Content-Type": JSON, "Content-Length": str(len(body)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Answer\r\n{lines}\r\n".encode("latin-1") + body


def status(code: int, body: object = b"", **headers: str) -> Fault:
    """Answer with a status; a body that is not bytes is sent as JSON, `retry_after=7` as `Retry-After: 7`."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    if content.startswith(b"<"):
        named.setdefault("Content-Type", "text/html; charset=iso-8859-1")
    return lambda _good: Reply([(0.0, response(code, content, named))])


def body(content: bytes, **headers: str) -> Fault:
    """Answer with status 200 and another body."""
    return status(200, content, **headers)


def rows(change: Callable[[Rows], object]) -> Fault:
    """Answer with rows of klines that `change` returned."""
    return lambda good: Reply([(0.0, response(200, json.dumps(change(json.loads(good))).encode()))])


def value(index: int, wrong: object, *, row: int = -2) -> Fault:
    """Answer with one field of one row replaced; row -2 is the newest closed one."""

    def change(content: Rows) -> Rows:
        content[row][index] = wrong
        return content

    return rows(change)


def shifted(milliseconds: int) -> Fault:
    """Answer with all times of the rows moved."""
    return rows(lambda content: [[r[0] + milliseconds, *r[1:6], r[6] + milliseconds, *r[7:]] for r in content])


def scaled_times(multiply: int, divide: int = 1) -> Fault:
    """Answer with times in another unit."""

    def change(content: Rows) -> Rows:
        return [[r[0] * multiply // divide, *r[1:6], ((r[6] + 1) * multiply - 1) // divide, *r[7:]] for r in content]

    return rows(change)


def scaled_prices(factor: float, *, row: int = -2) -> Fault:
    """Answer with one row whose prices are multiplied."""

    def change(content: Rows) -> Rows:
        content[row][1:5] = [f"{float(price) * factor:.8f}" for price in content[row][1:5]]
        return content

    return rows(change)


def differing_duplicate(content: Rows) -> Rows:
    """Repeat the newest closed row with another volume."""
    return [*content[:-1], [*content[-2][:5], "987654.00000000", *content[-2][6:]], content[-1]]


def with_gap(content: Rows) -> Rows:
    """Leave five rows out, ten before the end."""
    return [*content[:-15], *content[-10:]]


def swapped_high_and_low(content: Rows) -> Rows:
    """Exchange high and low of the newest closed row."""
    row = content[-2]
    row[2], row[3] = row[3], row[2]
    return content


def silent(_good: bytes) -> Reply:
    """Never answer."""
    return Reply([], Ending.HANG)


def slow_headers(good: bytes) -> Reply:
    """Send the head byte by byte, a tenth of a second each."""
    return Reply(_drip(response(200, good)), Ending.CLOSE)


def slow_drip(good: bytes) -> Reply:
    """Send the body byte by byte, a tenth of a second each."""
    head, _, rest = response(200, good).partition(b"\r\n\r\n")
    return Reply(_drip(rest, first=head + b"\r\n\r\n"), Ending.CLOSE)


def cut_body(good: bytes) -> Reply:
    """Promise the whole body, send half and close."""
    whole = response(200, good)
    return Reply([(0.0, whole[: -len(good) // 2])], Ending.CLOSE)


def reset_in_body(good: bytes) -> Reply:
    """Send half the body, then reset the connection."""
    return Reply(cut_body(good).pieces, Ending.RESET)


def bad_chunks(_good: bytes) -> Reply:
    """Announce chunks and send something else."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Reply([(0.0, head + b"zz\r\nnot a chunk\r\n")], Ending.CLOSE)


def gzip_cut(good: bytes) -> Reply:
    """Send half of the compressed body under its own right length."""
    packed = gzip.compress(good)
    return Reply([(0.0, response(200, packed[: len(packed) // 2], {"Content-Encoding": "gzip"}))])


def gzip_bomb(_good: bytes) -> Reply:
    """Send 256 MiB of spaces, packed into 256 KiB."""
    return Reply([(0.0, response(200, _bomb(), {"Content-Encoding": "gzip"}))])


def endless(_good: bytes) -> Reply:
    """Send a body without length that never ends."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n["
    return Reply(_endless(head), Ending.CLOSE)


FAULTS: dict[str, Fault] = {
    "no_answer": silent,
    "slow_headers": slow_headers,
    "slow_drip": slow_drip,
    "reset": lambda _good: Reply([], Ending.RESET),
    "disconnect": lambda _good: Reply([], Ending.CLOSE),
    "reset_in_body": reset_in_body,
    "cut_body": cut_body,
    "bad_chunks": bad_chunks,
    "bad_http": lambda _good: Reply([(0.0, b"SMTP ready, go ahead\r\n\r\n")], Ending.CLOSE),
    "gzip_noise": body(b"\x1f\x8b this is not gzip", content_encoding="gzip"),
    "gzip_cut": gzip_cut,
    "gzip_trailing": lambda good: Reply(
        [(0.0, response(200, gzip.compress(good) + b"more", {"Content-Encoding": "gzip"}))]
    ),
    "gzip_bomb": gzip_bomb,
    "unknown_encoding": body(b"[]", content_encoding="br"),
    "huge_body": body(b"[" + b" " * 5 * _MEGABYTE + b"]"),
    "endless_body": endless,
    "cut_json": lambda good: Reply([(0.0, response(200, good[: len(good) // 2]))]),
    "html": body(HTML_PAGE),
    "html_called_json": body(HTML_PAGE, content_type=JSON),
    "empty": body(b""),
    "null": body(b"null"),
    "empty_object": body(b"{}"),
    "text": body(b'"ok"'),
    "number": body(b"17"),
    "error_object": status(200, {"code": -1121, "msg": "Invalid symbol."}),
    "deep_nesting": body(b"[" * 100_000),
    "nan_token": lambda good: Reply([(0.0, response(200, good.replace(b'"', b"NaN,", 1)))]),
    "infinity_token": body(b"[Infinity]"),
    "latin_1": body('["é"]'.encode("latin-1")),
    "utf_16": body('["ok"]'.encode("utf-16")),
    "control_characters": body(b"\x1b[31mred\x1b[0m\nforged line " + b"x" * 500, content_type="text/plain"),
    "redirect": status(302, b"", location="http://127.0.0.1:9/elsewhere"),
    "not_found": status(404, HTML_PAGE),
    "forbidden": status(403, HTML_PAGE),
    "restricted": status(451, {"code": 0, "msg": RESTRICTED}),
    "rate_limited": status(429, {"code": -1003, "msg": "Too much request weight used."}, retry_after="35"),
    "rate_limited_without_header": status(429, {"code": -1003, "msg": "Too much request weight used."}),
    "banned": status(418, {"code": -1003, "msg": "Way too much request weight used."}, retry_after="720"),
    "internal_error": status(500, {"code": -1001, "msg": "Internal error."}),
    "bad_gateway": status(502, b"<html><h1>502 Bad Gateway</h1></html>"),
    "busy": status(503, {"code": -1008, "msg": "Server is currently overloaded."}),
    "gateway_timeout": status(504, b""),
    "unknown_error": status(400, {"code": -1000, "msg": "An unknown error occurred."}),
    "inner_timeout": status(408, {"code": -1007, "msg": "Timeout waiting for response."}),
    "unread_parameter": status(400, {"code": -1104, "msg": "Not all sent parameters were read."}),
    "no_rows": body(b"[]"),
    "eleven_fields": rows(lambda content: [row[:11] for row in content]),
    "thirteen_fields": rows(lambda content: [[*row, "new"] for row in content]),
    "row_objects": rows(lambda content: [{"open": row[1]} for row in content]),
    "number_prices": rows(lambda content: [[row[0], *map(float, row[1:6]), *row[6:]] for row in content]),
    "text_times": rows(lambda content: [[str(row[0]), *row[1:]] for row in content]),
    "null_price": value(4, None),
    "empty_price": value(4, ""),
    "text_price": value(4, "much"),
    "nan_price": value(4, "NaN"),
    "infinite_price": value(4, "Infinity"),
    "exponent_price": value(4, "1e3"),
    "wide_digits": value(4, "\uff11\uff12\uff13"),
    "zero_price": value(4, "0.00000000"),
    "negative_price": value(4, "-5.00000000"),
    "huge_price": value(4, "1" + "0" * 30),
    "tiny_price": rows(
        lambda content: [*content[:-2], [content[-2][0], *["0.00000001"] * 4, *content[-2][5:]], content[-1]]
    ),
    "spike": scaled_prices(10),
    "negative_volume": value(5, "-1.00000000"),
    "high_below_low": rows(swapped_high_and_low),
    "close_above_high": value(2, "0.01000000"),
    "duplicated": rows(lambda content: [*content[:-1], content[-2], content[-1]]),
    "differing_duplicate": rows(differing_duplicate),
    "reversed": rows(lambda content: content[::-1]),
    "gap": rows(with_gap),
    "few_rows": rows(lambda content: content[-4:]),
    "stale": shifted(-86_400_000),
    "future": shifted(86_400_000),
    "misaligned": shifted(17_000),
    "seconds": scaled_times(1, 1_000),
    "microseconds": scaled_times(1_000),
    "longer_interval": rows(
        lambda content: [[*row[:6], row[6] + 4 * (row[6] - row[0] + 1), *row[7:]] for row in content]
    ),
    "other_symbol": body(b'{"symbol":"XXXUSDT","price":"1.00000000"}'),
    "zero_ticker": lambda good: Reply([(0.0, response(200, _ticker(good, 0.0)))]),
    "far_ticker": lambda good: Reply([(0.0, response(200, _ticker(good, 1.5)))]),
    "nan_ticker": lambda good: Reply([(0.0, response(200, _ticker(good, float("nan"))))]),
}


def _ticker(good: bytes, factor: float) -> bytes:
    ticker = json.loads(good)
    return json.dumps({**ticker, "price": f"{float(ticker['price']) * factor:.8f}"}).encode()


def _drip(content: bytes, first: bytes = b"") -> Iterator[tuple[float, bytes]]:
    yield 0.0, first
    for byte in content:
        yield 0.1, bytes([byte])


def _endless(head: bytes) -> Iterator[tuple[float, bytes]]:
    yield 0.0, head
    yield from repeat((0.0, b" " * 65_536))


@lru_cache
def _bomb() -> bytes:
    """256 MiB of spaces in gzip, less the trailer, which nobody will reach."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    spaces = b" " * _MEGABYTE
    first = packer.compress(spaces) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush the packer remembers nothing, so that the same text packs into the same bytes.
    return first + 255 * (packer.compress(spaces) + packer.flush(zlib.Z_FULL_FLUSH))
