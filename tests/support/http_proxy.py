"""An HTTP proxy that knows one server only: wherever it is asked to go, it goes there."""

import asyncio
import ssl
from contextlib import suppress
from typing import Self


class HttpProxy:
    """Use with ``async with``. ``asked``: the first line of each request; ``credentials``: what it was shown."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = tls
        self.asked: list[str] = []
        self.credentials: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        scheme = "https" if self._tls else "http"
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.url = f"{scheme}://{self.address}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            self.asked.append(lines[0])
            self.credentials += [line.partition(": ")[2] for line in lines if line.startswith("Proxy-Authorization")]
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
            if lines[0].startswith("CONNECT "):
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                far_writer.write(head)
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
