"""HTTP as the API server speaks it: a request, its answer read up to a limit, and streams of lines or bytes.

Whatever goes wrong on the way is :class:`worker.cluster.responses.ClusterUnavailableError`.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import aiohttp

from worker.cluster.responses import (
    ClusterUnavailableError,
    RequestInfo,
    Response,
    ResponseTooLargeError,
    decode_response,
    not_from_api_server,
)

#: What is read of an answer, and of a line of a watch: etcd takes objects of some 1.5 MB.
_MAX_RESPONSE_BYTES: Final = 16 * 1024 * 1024
#: Of an answer that is an error only so much is read.
_MAX_ERROR_BYTES: Final = 1024 * 1024

#: aiohttp's own; a ValueError is a header, host or URL that cannot be sent, an EOFError a broken compressed body.
_TRANSPORT_ERRORS: Final = (aiohttp.ClientError, OSError, TimeoutError, ValueError, EOFError)


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, apart from credentials."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    content_type: str = "application/json"
    max_bytes: int = _MAX_RESPONSE_BYTES

    @property
    def target(self) -> str:
        return self.path + (f"?{urlencode(self.query)}" if self.query else "")

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@contextmanager
def translated(request: Request) -> Iterator[None]:
    try:
        yield
    except _TRANSPORT_ERRORS as error:
        raise ClusterUnavailableError(f"{request}: {str(error) or type(error).__name__}") from error


async def read_response(request: Request, response: aiohttp.ClientResponse) -> Response:
    is_error = response.status >= 300
    max_bytes = _MAX_ERROR_BYTES if is_error else request.max_bytes
    body = bytearray()
    async for data in response.content.iter_any():
        body += data
        if len(body) > max_bytes:
            response.close()
            if is_error:
                break  # what has come will do to say what it is
            raise ResponseTooLargeError(f"{request}: an answer of more than {max_bytes} bytes")
    headers = response.headers
    return Response(response.status, headers.get("Content-Type", ""), bytes(body), headers.get("Retry-After", ""))


async def check_stream(info: RequestInfo, request: Request, response: aiohttp.ClientResponse) -> None:
    """Whether it is a watch, or a log: those of the API come with 200 and their own content type."""
    if response.status != 200:
        answer = await read_response(request, response)
        if response.status >= 300:
            decode_response(info, answer)
        raise not_from_api_server(answer)
    kind = response.headers.get("Content-Type", "")
    if not kind.startswith("application/json" if info.verb == "watch" else "text/plain"):
        start = await response.content.readany()
        raise not_from_api_server(Response(response.status, kind, start))


async def lines_of(request: Request, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    buffer = bytearray()
    async for data in chunks_of(request, response):
        buffer += data
        if b"\n" in data:
            *lines, rest = bytes(buffer).split(b"\n")
            buffer = bytearray(rest)
            for line in lines:
                if line:
                    yield line
        if len(buffer) > _MAX_RESPONSE_BYTES:
            raise ClusterUnavailableError(f"{request}: a line of more than {_MAX_RESPONSE_BYTES} bytes")


async def chunks_of(request: Request, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    pieces = response.content.iter_any()
    while True:
        with translated(request):
            data = await anext(pieces, b"")
        if not data:
            return
        yield data
