"""HTTP to the API server: a request, its response read up to a limit, and streams of lines or bytes.

Whatever goes wrong on the way is :class:`worker.cluster.responses.ClusterUnavailableError`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from dispatcher.version import VERSION
from worker.cluster.credentials import Access, Credentials
from worker.cluster.kubeconfig import ClusterConfiguration
from worker.cluster.responses import (
    ClusterUnavailableError,
    CredentialsError,
    RequestInfo,
    Response,
    ResponseTooLargeError,
    decode_response,
    not_from_api_server,
)

#: A short request that is not answered within this is tried again; a create may be answered late by slow admission.
REQUEST_S: Final = 30.0
#: What is read of an answer, and of a line of a watch: etcd takes objects of some 1.5 MB.
_MAX_RESPONSE_BYTES: Final = 16 * 1024 * 1024
#: Of an answer that is an error only so much is read.
_MAX_ERROR_BYTES: Final = 1024 * 1024

#: aiohttp's own; a ValueError is a header, host or URL that cannot be sent, an EOFError a broken compressed body.
_TRANSPORT_ERRORS: Final = (aiohttp.ClientError, OSError, TimeoutError, ValueError, EOFError)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """A request, apart from its credentials."""

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


class HttpTransport:
    """Sends requests with the worker's credentials. Belongs to one event loop.

    ``connections``: how many short requests may be under way at a time; ``on_refused`` is called each time the API
    server does not take the credentials, renewed ones neither.
    """

    def __init__(
        self,
        configuration: ClusterConfiguration,
        credentials: Credentials,
        *,
        connections: int,
        on_refused: Callable[[], None],
    ) -> None:
        self._configuration = configuration
        self._credentials = credentials
        self._on_refused = on_refused
        self._slots = asyncio.Semaphore(connections)
        self._session = aiohttp.ClientSession(
            # Log streams are many; short requests have slots of their own.
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "User-Agent": f"podrelay-worker/{VERSION}"},
            read_bufsize=2**21,
        )

    async def close(self) -> None:
        """End a renewal of credentials that is under way, and all connections."""
        await self._credentials.close()
        await self._session.close()

    async def call(
        self, info: RequestInfo, request: Request, *, may_send: Callable[[], bool] = lambda: True
    ) -> dict[str, Any]:
        """Send a short request and return the object that was asked for, once there is a slot.

        ``may_send`` is asked right before it is sent, after all waiting.

        Raises:
            ClusterRefusedError: the API server says no.
            ClusterUnavailableError: anything else, also where it may not be sent.
        """
        async with self._slots:
            return await self.call_without_slot(info, request, may_send=may_send)

    async def call_without_slot(
        self, info: RequestInfo, request: Request, *, may_send: Callable[[], bool] = lambda: True
    ) -> dict[str, Any]:
        """Send a short request at once, however many are under way."""

        async def ask(access: Access) -> dict[str, Any]:
            if not may_send():
                raise ClusterUnavailableError(f"{request}: not sent, the worker's lease was lost meanwhile")
            timeout = aiohttp.ClientTimeout(total=REQUEST_S, sock_connect=5)
            with _translated(request):
                async with await self._send(request, access, timeout) as response:
                    return decode_response(info, await _read_response(request, response))

        return await self._with_credentials(ask)

    @asynccontextmanager
    async def stream(
        self, info: RequestInfo, request: Request, *, read_s: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Return a response that streams; whoever reads it is told where it breaks off."""

        async def ask(access: Access) -> aiohttp.ClientResponse:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=read_s)
            with _translated(request):
                response = await self._send(request, access, timeout)
                try:
                    await _check_stream(info, request, response)
                except BaseException:
                    response.close()
                    raise
            return response

        response = await self._with_credentials(ask)
        try:
            yield response
        finally:
            response.close()

    async def _with_credentials(self, ask: Callable[[Access], Awaitable[T]]) -> T:
        """Send a request; where the API server refuses the credentials, renew them once."""
        try:
            access = await self._credentials.current()
            try:
                return await ask(access)
            except CredentialsError:
                renewed = await self._credentials.after_refusal(access)
                if renewed is access:
                    raise
                return await ask(renewed)
        except CredentialsError as error:
            self._on_refused()
            source = self._configuration.source
            raise CredentialsError(f"the worker's credentials ({source}) are not accepted: {error}") from error

    async def _send(self, request: Request, access: Access, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        headers = list(access.headers)
        if request.body is not None:
            headers.append(("Content-Type", request.content_type))
        return await self._session.request(
            request.method,
            URL(self._configuration.server + request.target, encoded=True),
            data=request.body,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,  # it would take the credentials somewhere else
            proxy=self._configuration.proxy,
            server_hostname=self._configuration.tls_server_name,
            ssl=access.tls or True,
        )


@contextmanager
def _translated(request: Request) -> Iterator[None]:
    try:
        yield
    except _TRANSPORT_ERRORS as error:
        raise ClusterUnavailableError(f"{request}: {str(error) or type(error).__name__}") from error


async def _read_response(request: Request, response: aiohttp.ClientResponse) -> Response:
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


async def _check_stream(info: RequestInfo, request: Request, response: aiohttp.ClientResponse) -> None:
    """Check that it is a watch or a log: those of the API come with 200 and their own content type."""
    if response.status != 200:
        answer = await _read_response(request, response)
        if response.status >= 300:
            decode_response(info, answer)
        raise not_from_api_server(answer)
    kind = response.headers.get("Content-Type", "")
    if not kind.startswith("application/json" if info.verb == "watch" else "text/plain"):
        start = await response.content.readany()
        raise not_from_api_server(Response(response.status, kind, start))


async def lines_of(request: Request, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the lines of a streamed response, empty ones left out.

    Raises:
        ClusterUnavailableError: the stream broke, or a line has no end.
    """
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
    """Yield the bytes of a streamed response as they come.

    Raises:
        ClusterUnavailableError: the stream broke.
    """
    pieces = response.content.iter_any()
    while True:
        with _translated(request):
            data = await anext(pieces, b"")
        if not data:
            return
        yield data
