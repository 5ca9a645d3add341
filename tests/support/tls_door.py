"""A server that speaks TLS before a Redis that does not, or before nothing: it keeps what it is sent."""

import select
import socket
import ssl
import threading
from contextlib import suppress
from typing import Self


class TlsDoor:
    """Listens on a port of the loopback interface. Use with ``with``.

    Attributes:
        context: what new connections are met with; ``target``: the port to which they are forwarded, None: nowhere.
        heard: all that was sent through TLS.
        ends: how each handshake ended, in order: "" or why it failed.
    """

    def __init__(self, context: ssl.SSLContext, target: int | None = None) -> None:
        self.context = context
        self.target = target
        self.heard = b""
        self.ends: list[str] = []
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End every connection."""
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def wait_for_handshakes(self, number: int, *, within_s: float = 60) -> None:
        """Wait until so many have come and ended in whatever way."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.ends) >= number, within_s), self.ends

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(accepted, self.context), daemon=True).start()

    def _serve(self, accepted: socket.socket, context: ssl.SSLContext) -> None:
        self._open.add(accepted)
        try:
            shaken = context.wrap_socket(accepted, server_side=True)
        except OSError as error:
            self._ended(str(error) or type(error).__name__)
            accepted.close()
            return
        finally:
            self._open.discard(accepted)
        self._ended("")
        self._open.add(shaken)
        with shaken, suppress(OSError):
            self._forward(shaken)
        self._open.discard(shaken)

    def _ended(self, how: str) -> None:
        with self._changed:
            self.ends.append(how)
            self._changed.notify_all()

    def _forward(self, shaken: ssl.SSLSocket) -> None:
        if self.target is None:
            while data := shaken.recv(65536):
                self.heard += data
            return
        with socket.create_connection(("127.0.0.1", self.target)) as beyond:
            while True:
                ready, _, _ = select.select([shaken, beyond], [], [], 0 if shaken.pending() else None)
                if shaken.pending() or shaken in ready:
                    data = shaken.recv(65536)
                    self.heard += data
                    if not data:
                        return
                    beyond.sendall(data)
                if beyond in ready:
                    data = beyond.recv(65536)
                    if not data:
                        return
                    shaken.sendall(data)
