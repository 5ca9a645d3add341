"""A server that speaks TLS before a Redis that does not, or before nothing: it keeps what it is sent."""

import select
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, slots=True)
class Played:
    """Who the door plays, and what was seen of those that came meanwhile."""

    context: ssl.SSLContext
    target: int | None
    heard: bytearray = field(default_factory=bytearray)
    ends: list[str] = field(default_factory=list)


class TlsDoor:
    """Listens on a port of the loopback interface. Use with ``with``.

    Args:
        context: what connections are met with.
        target: the port to which they are forwarded; None: nowhere.
    """

    def __init__(self, context: ssl.SSLContext, target: int | None = None) -> None:
        self._played = Played(context, target)
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()

    @property
    def heard(self) -> bytes:
        """All that was sent through TLS by those that have come since the last :meth:`play`."""
        return bytes(self._played.heard)

    @property
    def ends(self) -> list[str]:
        """How each of their handshakes ended, in order: "" or why it failed."""
        return self._played.ends

    @property
    def context(self) -> ssl.SSLContext:
        return self._played.context

    def play(self, context: ssl.SSLContext, target: int | None = None) -> None:
        """Be another server for whoever comes from now on; those that are there are cut off."""
        self._played = Played(context, target)
        self.cut()

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
                threading.Thread(target=self._serve, args=(accepted, self._played), daemon=True).start()

    def _serve(self, accepted: socket.socket, played: Played) -> None:
        self._open.add(accepted)
        try:
            shaken = played.context.wrap_socket(accepted, server_side=True)
        except OSError as error:
            self._ended(played, str(error) or type(error).__name__)
            accepted.close()
            return
        finally:
            self._open.discard(accepted)
        self._ended(played, "")
        self._open.add(shaken)
        with shaken, suppress(OSError):
            self._forward(shaken, played)
        self._open.discard(shaken)

    def _ended(self, played: Played, how: str) -> None:
        with self._changed:
            played.ends.append(how)
            self._changed.notify_all()

    @staticmethod
    def _forward(shaken: ssl.SSLSocket, played: Played) -> None:
        if played.target is None:
            while data := shaken.recv(65536):
                played.heard.extend(data)
            return
        with socket.create_connection(("127.0.0.1", played.target)) as beyond:
            while True:
                ready, _, _ = select.select([shaken, beyond], [], [], 0 if shaken.pending() else None)
                if shaken.pending() or shaken in ready:
                    data = shaken.recv(65536)
                    played.heard.extend(data)
                    if not data:
                        return
                    beyond.sendall(data)
                if beyond in ready:
                    data = beyond.recv(65536)
                    if not data:
                        return
                    shaken.sendall(data)
