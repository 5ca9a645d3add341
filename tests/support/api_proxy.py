"""A proxy to the API server that can be made to misbehave."""

import asyncio
import json
import random
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict


@dataclass(frozen=True, slots=True)
class Page:
    """What somebody on the way answers in place of the API server."""

    status: int
    content_type: str = "text/html"
    body: bytes = b"<html><head><title>Sign in</title></head><body><h1>nginx</h1></body></html>"
    location: str = ""


def _status(code: int, reason: str, message: str, details: Any = None) -> Page:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "details": details or {}}
    body |= {"message": message, "reason": reason}
    return Page(code, "application/json", json.dumps(body).encode())


#: Answers that say nothing about any object, by what they are.
PAGES: Final = {
    **{f"html{code}": Page(code) for code in (200, 201, 400, 401, 403, 404, 409, 410, 413, 422, 500, 502, 503)},
    "empty200": Page(200, "application/json", b""),
    "empty204": Page(204, "", b""),
    "empty404": Page(404, "", b""),
    "foreign200": Page(200, "application/json", b'{"status":"ok"}'),
    "foreign404": Page(404, "application/json", b'{"error":"no Route matched with those values"}'),
    "list200": Page(200, "application/json", b"[]"),
    "null200": Page(200, "application/json", b"null"),
    "bytes200": Page(200, "application/json", b"\xff\xfe\x00"),
    "cut200": Page(
        200, "application/json", b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"it'
    ),
    "bare200": Page(200, "application/json", b'{"kind":"PodList","apiVersion":"v1"}'),
    "deep200": Page(200, "application/json", b"[" * 200_000),
    "huge200": Page(200, "application/json", b" " * (70 * 1024 * 1024)),
    "huge404": Page(404, "text/html", b"x" * (20 * 1024 * 1024)),
    "redirect302": Page(302, location="http://127.0.0.1:9/sign-in"),
    "redirect307": Page(307, location="/elsewhere"),
    "path404": _status(404, "NotFound", "the server could not find the requested resource"),
    "rancher403": _status(403, "Forbidden", 'clusters "c" is forbidden', {"kind": "clusters", "name": "c"}),
    "anonymous403": _status(403, "Forbidden", 'forbidden: User "system:anonymous" cannot get path "/"'),
    "starting503": _status(503, "ServiceUnavailable", "the server is currently unable to handle the request"),
}

#: What the kubelet, or what stands before it, answers in place of a log.
LOG_PAGES: Final = {
    "sentence": Page(200, "text/plain", b"unable to retrieve container logs for containerd://0a1b2c3d"),
    "restarting": _status(
        404,
        "NotFound",
        "the server could not find the requested resource ( pods/log job)",
        {"name": "job", "kind": "pods/log"},
    ),
    "path404": PAGES["path404"],
    "tls500": _status(500, "", 'Get "https://node:10250/containerLogs/…": remote error: tls: internal error'),
    "html200": PAGES["html200"],
    "html502": PAGES["html502"],
}

#: A refusal for good that comes as if it were none.
TOO_LARGE: Final = _status(500, "", "etcdserver: request is too large")


class ApiProxy:
    """Forwards HTTP to the API server. Use with ``async with``.

    ``tls``: it speaks TLS, as this context says. ``token``: what it shows the API server, in place of what it was
    shown.

    Attributes:
        page: answered in place of the API server (``log_page``: to requests for logs, ``create_page``: for a pod,
            ``list_page``: for a list of pods).
        accepts: whether it lets a bearer token in (401 else); None: that is left to the API server.
        heard: the headers of all requests, the last at the end.
        refusal: status to refuse with, and how often (0 to 1).
        delay_s: up to how long each request waits.
        is_down: nobody is answered.
        asked: requests that came while it was down, by method; those for logs as ``log``.
        log_cut_bytes: each log stream is cut off after at most so many bytes, within a line; None: not.
        answer_watch: answers watches in place of the API server; None: not.
    """

    def __init__(
        self, target: str, rng: random.Random, *, tls: ssl.SSLContext | None = None, token: str | None = None
    ) -> None:
        self._target = target
        self._rng = rng
        self._tls = tls
        self._token = token
        self.page: Page | None = None
        self.log_page: Page | None = None
        self.create_page: Page | None = None
        self.list_page: Page | None = None
        self.accepts: Callable[[str], bool] | None = None
        self.heard: list[CIMultiDict[str]] = []
        self.refusal: tuple[int, float] | None = None
        self.delay_s = 0.0
        self.is_down = False
        self.asked: Counter[str] = Counter()
        self.log_cut_bytes: int | None = None
        self.refused: Counter[int] = Counter()
        self.cut_streams = 0
        self.answer_watch: Callable[[], Awaitable[web.StreamResponse]] | None = None
        self._news = asyncio.Event()
        self._watches_flow = asyncio.Event()
        self._watches_flow.set()
        self._streams: set[asyncio.Transport] = set()

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.port: int = self._runner.addresses[0][1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watches_flow.set()
        self.cut()
        await self._runner.cleanup()
        await self._session.close()

    @property
    def open_streams(self) -> int:
        """Watches and logs that are open."""
        return len(self._streams)

    async def until(self, is_so: Callable[[], bool], *, within_s: float = 30) -> None:
        """Wait until it is so; looked at now, and whenever a request came, was refused or began or ended a stream."""
        async with asyncio.timeout(within_s):
            while not is_so():
                self._news.clear()
                await self._news.wait()

    def cut(self) -> None:
        """Break every stream off."""
        for transport in list(self._streams):
            transport.abort()

    def silence_watches(self, *, silent: bool) -> None:
        """Watches stay open and bring nothing."""
        if silent:
            self._watches_flow.clear()
        else:
            self._watches_flow.set()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self._news.set()
        if self.is_down:
            self.asked["log" if request.path.endswith("/log") else request.method] += 1
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)
        if self.delay_s:
            await asyncio.sleep(self._rng.uniform(0, self.delay_s))  # plays a slow server
        if self.refusal is not None and self._rng.random() < self.refusal[1]:
            status = self.refusal[0]
            self.refused[status] += 1
            headers = {"Retry-After": "1"} if status == 429 else {}
            return web.json_response(
                {"kind": "Status", "code": status, "message": "chaos"}, status=status, headers=headers
            )
        if (instead := self._instead(request)) is not None:
            return instead
        if self.answer_watch is not None and "watch" in request.query:
            return await self.answer_watch()
        headers = {k: v for k, v in request.headers.items() if k in ("Authorization", "Content-Type", "Accept")}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        timeout = aiohttp.ClientTimeout(total=None)
        url = f"{self._target}{request.path_qs}"
        try:
            async with self._session.request(
                request.method, url, data=body or None, headers=headers, timeout=timeout
            ) as answer:
                return await self._pass_on(request, answer)
        except (aiohttp.ClientError, ConnectionError):
            # Either side has gone: the other hears of it in the same way.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)

    def _instead(self, request: web.Request) -> web.Response | None:
        """What it answers itself."""
        self.heard.append(CIMultiDict(request.headers))
        page = self.page
        if page is None and request.path.endswith("/log"):
            page = self.log_page
        if page is None and request.method == "POST":
            page = self.create_page
        if page is None and request.method == "GET" and request.path.endswith("/pods") and "watch" not in request.query:
            page = self.list_page
        if page is None and self.accepts is not None:
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not self.accepts(token):
                page = _status(401, "Unauthorized", "Unauthorized")
        if page is None:
            return None
        self.refused[page.status] += 1
        headers = {"Content-Type": page.content_type} if page.content_type else {}
        headers |= {"Location": page.location} if page.location else {}
        return web.Response(status=page.status, body=page.body, headers=headers)

    async def _pass_on(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        is_watch, is_log = "watch" in request.query, request.path.endswith("/log")
        kind = {"Content-Type": answer.headers.get("Content-Type", "application/json")}
        if not (is_watch or is_log) or answer.status != 200:
            more = {k: v for k, v in answer.headers.items() if k == "Retry-After"}
            return web.Response(status=answer.status, body=await answer.read(), headers={**kind, **more})
        response = web.StreamResponse(status=200, headers=kind)
        await response.prepare(request)
        transport = request.transport
        assert transport is not None
        self._streams.add(transport)
        self._news.set()
        left = self._rng.randrange(1, self.log_cut_bytes) if is_log and self.log_cut_bytes else None
        try:
            async for data in answer.content.iter_any():
                if is_watch:
                    await self._watches_flow.wait()
                if left is not None and len(data) > left:
                    await response.write(data[:left])
                    self.cut_streams += 1
                    transport.abort()
                    return response
                left = None if left is None else left - len(data)
                await response.write(data)
            await response.write_eof()
            return response
        finally:
            self._streams.discard(transport)
            self._news.set()


def in_time(token: str) -> bool:
    """Whether a token ``t-<epoch>`` has not expired yet."""
    return token.startswith("t-") and float(token.removeprefix("t-")) > time.time()
