"""A proxy to Redis that can be made to misbehave."""

import asyncio
from contextlib import suppress
from typing import Self


class RedisProxy:
    """Forwards a port of the loopback interface to Redis' own. Use with ``async with``.

    Attributes:
        target: the port to which new connections are forwarded.
        delay_s: how long everything is held up.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.delay_s = 0.0

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

    def cut(self) -> None:
        """End every connection; what was under way is lost in whatever direction."""
        for writer in list(self._writers):
            writer.transport.abort()

    def swallow(self) -> None:
        """Nothing passes any more on the connections that are open, and nobody is told; new ones work."""
        self._flows.clear()
        self._flows = asyncio.Event()
        self._flows.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        flows = self._flows
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        await asyncio.gather(self._forward(reader, to_writer, flows), self._forward(to_reader, writer, flows))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
        self._writers.add(writer)
        try:
            with suppress(OSError):
                while data := await reader.read(65536):
                    await flows.wait()
                    if self.delay_s:
                        await asyncio.sleep(self.delay_s)  # plays a slow server
                    writer.write(data)
                    await writer.drain()
        finally:
            self._writers.discard(writer)
            writer.close()
