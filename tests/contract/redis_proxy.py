"""A TCP proxy that can go silent as a half-open connection does: nothing is refused, nothing is answered."""

import asyncio
from contextlib import suppress
from typing import Self


class RedisProxy:
    """Listens on a free port of the loopback interface and forwards to another. Use with ``async with``."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def swallow_connections(self) -> None:
        """From now on nothing passes on the connections that are open; new ones work."""
        self._flows.clear()
        self._flows = asyncio.Event()
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        flows = self._flows
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
        pairs = ((reader, to_writer), (to_reader, writer))
        self._tasks |= {asyncio.create_task(_forward(a, b, flows)) for a, b in pairs}


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
    try:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                await flows.wait()
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
