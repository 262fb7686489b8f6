"""One HTTP GET that cannot hang, cannot flood the memory and cannot be misread."""

from __future__ import annotations

import asyncio
import json
import ssl
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache
from typing import NoReturn

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from app.errors import DataQualityError, UpstreamError, UpstreamTimeoutError

MAXIMUM_BODY_BYTES = 4 * 1024 * 1024
QUOTE_CHARACTERS = 80

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "papertape"}


class ConnectionLostError(UpstreamError):
    """Connections that had been made were reset or closed before an answer began, twice: aiohttp asks again at once."""

    code = "upstream_unreachable"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response; `body` is decoded and at most `MAXIMUM_BODY_BYTES` long."""

    status: int
    headers: httpx.Headers
    body: bytes


class HttpSource:
    """A pool of connections; redirects and proxies from the environment are not followed.

    Args:
        connect_timeout_seconds: For the name, the connection and the TLS handshake.
        attempt_timeout_seconds: For a whole request, from the first byte sent to the last received.
        maximum_connections: How many requests may be under way at once.
    """

    def __init__(
        self, *, connect_timeout_seconds: float, attempt_timeout_seconds: float, maximum_connections: int
    ) -> None:
        self._attempt_timeout_seconds = attempt_timeout_seconds
        self._client = httpx.AsyncClient(
            headers=_HEADERS,
            # Reading has no limit of its own: that would be one per read, which a slow drip never meets.
            timeout=httpx.Timeout(None, connect=connect_timeout_seconds),
            # httpx's own transport takes three times the processor time of aiohttp's for the same request.
            transport=AiohttpTransport(
                verify=_trusted_authorities(), client=lambda: _open_session(maximum_connections)
            ),
            trust_env=False,
            follow_redirects=False,
        )

    async def get(self, url: str) -> Answer:
        """Fetch `url` whole.

        Raises:
            UpstreamError: `upstream_unreachable`; as `ConnectionLostError` where a connection had been made.
            UpstreamTimeoutError: The answer was not complete in time.
            DataQualityError: The answer is cut, garbled or larger than `MAXIMUM_BODY_BYTES`.
        """
        try:
            async with asyncio.timeout(self._attempt_timeout_seconds):
                return await self._exchange(httpx.Request("GET", url, headers=self._client.headers))
        except TimeoutError:
            raise UpstreamTimeoutError(
                f"{_host(url)} did not answer within {self._attempt_timeout_seconds:g} seconds; try again later."
            ) from None
        except (httpx.HTTPError, aiohttp.ClientError) as error:
            raise _translated(error, _host(url)) from None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _exchange(self, request: httpx.Request) -> Answer:
        response = await self._client.send(request, stream=True)
        try:
            body = await _read_body(response)
        except DataQualityError:
            # An error status tells enough without its body.
            if response.status_code < 400:
                raise
            body = b""
        finally:
            await response.aclose()
        return Answer(response.status_code, response.headers, body)


def parse_json(answer: Answer) -> object:
    """Read a body as strict JSON: UTF-8, no NaN or Infinity, no bottomless nesting.

    Raises:
        DataQualityError: It is something else.
    """
    try:
        content: object = _DECODER.decode(answer.body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise bad_data("sent something that is not JSON", answer) from None
    return content


def bad_data(problem: str, answer: Answer | None = None, *, code: str = "upstream_bad_data") -> DataQualityError:
    """Describe an unusable answer; a text body is quoted, an HTML page never is."""
    quoted = quote(answer) if answer else ""
    return DataQualityError(
        f"The exchange {problem}{f' ({quoted})' if quoted else ''}; nothing was done, try again later.",
        code=code,
        context={"quote": quoted} if quoted else None,
    )


def quote(answer: Answer) -> str:
    """The first printable characters of a JSON or text body, at most 80; empty for HTML and binary bodies."""
    kind = answer.headers.get("content-type", "").lower()
    text = answer.body[: 4 * QUOTE_CHARACTERS].decode("utf-8", "replace").strip()
    if "html" in kind or text.startswith("<") or "\ufffd" in text.rstrip("\ufffd"):
        return ""
    return "".join(character if character.isprintable() else " " for character in text)[:QUOTE_CHARACTERS]


def _open_session(maximum_connections: int) -> aiohttp.ClientSession:
    # A cycle a minute should find its connection still open.
    connector = aiohttp.TCPConnector(limit=maximum_connections, keepalive_timeout=90, ssl=_trusted_authorities())
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


@cache
def _trusted_authorities() -> ssl.SSLContext:
    """The usual certificate authorities; reading them takes longer than all the rest of a client."""
    return httpx.create_ssl_context(trust_env=False)


def _refuse_constant(token: str) -> NoReturn:
    raise ValueError(token)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


async def _read_body(response: httpx.Response) -> bytes:
    encoding = response.headers.get("content-encoding", "identity").lower()
    chunks = response.aiter_raw()
    if encoding == "gzip":
        return await _read_gzip(chunks)
    if encoding != "identity":
        raise bad_data(f"encoded its answer as {encoding[:QUOTE_CHARACTERS]!r}, which was not asked for")
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > MAXIMUM_BODY_BYTES:
            raise _too_large()
    return bytes(body)


async def _read_gzip(chunks: AsyncIterator[bytes]) -> bytes:
    # httpx would decode each chunk whole, and 64 KiB of gzip can hold 64 MiB.
    decoder = zlib.decompressobj(_GZIP_WINDOW)
    body = bytearray()
    try:
        async for chunk in chunks:
            body += decoder.decompress(chunk, MAXIMUM_BODY_BYTES + 1 - len(body))
            if len(body) > MAXIMUM_BODY_BYTES:
                raise _too_large()
    except zlib.error:
        raise bad_data("sent garbled gzip") from None
    if not decoder.eof or decoder.unused_data:
        raise bad_data("sent gzip that is cut short or runs on")
    return bytes(body)


def _too_large() -> DataQualityError:
    return bad_data(f"sent more than {MAXIMUM_BODY_BYTES >> 20} MiB")


def _translated(error: httpx.HTTPError | aiohttp.ClientError, host: str) -> UpstreamError:
    # The transport has one name for a refused connection and for a broken one; its cause tells them apart.
    cause = error.__cause__ if isinstance(error, httpx.HTTPError) else error
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL):
        return UpstreamError(
            f"{host} cannot be reached; check the network, the name and BINANCE_BASE_URL.",
            code="upstream_unreachable",
            context={"host": host},
        )
    if isinstance(cause, aiohttp.ClientPayloadError | aiohttp.ClientResponseError):
        return bad_data("sent an answer that breaks HTTP or ends too soon")
    return ConnectionLostError(f"The connection to {host} broke; try again later.", context={"host": host})


def _host(url: str) -> str:
    return httpx.URL(url).netloc.decode("ascii", "replace")
