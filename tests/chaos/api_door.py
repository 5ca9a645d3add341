"""A door to the API server that can be made to misbehave."""

import asyncio
import random
from collections import Counter
from typing import Self

import aiohttp
from aiohttp import web


class ApiDoor:
    """Forwards HTTP to the API server. Use with ``async with``.

    Attributes:
        refusal: status to refuse with, and how often (0 to 1).
        delay_s: up to how long each request waits.
        is_down: nobody is answered.
        asked: requests that came while it was down, by method; those for logs as ``log``.
        log_cut_bytes: each log stream is cut off after at most so many bytes, within a line; None: not.
    """

    def __init__(self, target: str, rng: random.Random) -> None:
        self._target = target
        self._rng = rng
        self.refusal: tuple[int, float] | None = None
        self.delay_s = 0.0
        self.is_down = False
        self.asked: Counter[str] = Counter()
        self.log_cut_bytes: int | None = None
        self.refused: Counter[int] = Counter()
        self.cut_streams = 0
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
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watches_flow.set()
        self.cut()
        await self._runner.cleanup()
        await self._session.close()

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
        if self.is_down:
            self.asked["log" if request.path.endswith("/log") else request.method] += 1
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)
        if self.delay_s:
            await asyncio.sleep(self._rng.uniform(0, self.delay_s))
        if self.refusal is not None and self._rng.random() < self.refusal[1]:
            status = self.refusal[0]
            self.refused[status] += 1
            headers = {"Retry-After": "1"} if status == 429 else {}
            return web.json_response(
                {"kind": "Status", "code": status, "message": "chaos"}, status=status, headers=headers
            )
        headers = {k: v for k, v in request.headers.items() if k in ("Authorization", "Content-Type", "Accept")}
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
