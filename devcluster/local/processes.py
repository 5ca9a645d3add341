"""Child processes: their output is read, their readiness awaited, and they end with this process, the last first."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from devcluster.runtime.reaper import Reaper

#: Takes the name of a process and one line that it wrote.
Sink = Callable[[str, str], None]
ENDS_WITHIN_S = 15.0
#: How long they have to end by themselves when this process was killed.
GRACE_S = 10.0


class ChildFailedError(Exception):
    """A process ended too early, or did not get ready. The message has its last lines."""


class Child:
    """A Python module run as a process, in a session of its own: Ctrl-C at the terminal reaches only its starter."""

    def __init__(self, name: str, module: Sequence[str], *, env: Mapping[str, str], sink: Sink, ready: str) -> None:
        self.name = name
        self._sink = sink
        self._ready_mark = ready
        self._last_lines = deque[str](maxlen=20)
        self._changed = threading.Condition()
        self._ready_line: str | None = None
        self._is_over = False
        self.process = subprocess.Popen(
            [sys.executable, "-m", *module],
            env={**env, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, name=f"{name} output", daemon=True)
        self._listener.start()

    def wait_until_ready(self, timeout_s: float) -> str:
        """Wait for the line with the ready sign and return it.

        Raises:
            ChildFailedError: the process ended before, or the time is over.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready_line is not None or self._is_over, timeout_s)
            if self._ready_line is not None:
                return self._ready_line
            what = f"ended with code {self.process.wait()}" if self._is_over else f"is not ready after {timeout_s:g} s"
        raise ChildFailedError(self.report(what))

    def report(self, what: str) -> str:
        """Say what happened to it, with its last lines."""
        return "\n".join([f"{self.name} {what}; it said:", *(f"  {line}" for line in self._last_lines)])

    def stop(self) -> None:
        """Ask it to end, and kill it and whatever it left in its session if it does not."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(ENDS_WITHIN_S)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._listener.join(ENDS_WITHIN_S)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for raw in output:
                line = raw.decode(errors="replace").rstrip()
                self._last_lines.append(line)
                self._sink(self.name, line)
                if self._ready_line is None and self._ready_mark and self._ready_mark in line:
                    with self._changed:
                        self._ready_line = line
                        self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()


class Processes:
    """A context whose processes end with it, the last first, also when this process is killed.

    Attributes:
        directory: a temporary one, which ends too.
    """

    def __init__(self, sink: Sink) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="podrelay-"))
        self._sink = sink
        self._exits = ExitStack()
        self._exits.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self._reaper = self._exits.enter_context(Reaper(str(self.directory), grace_s=GRACE_S))

    def start(self, name: str, module: Sequence[str], env: Mapping[str, str], *, ready: str = "") -> Child:
        """Start ``python -m module…``. ``ready``: what stands in the line that says that it is ready."""
        child = Child(name, module, env=env, sink=self._sink, ready=ready)
        self._reaper.hold(child.process.pid)
        self._exits.callback(self._end, child)
        return child

    def _end(self, child: Child) -> None:
        child.stop()
        self._reaper.release(child.process.pid)

    def enter(self, server: AbstractContextManager[object]) -> None:
        """Start a server that is a context manager of its own. Ctrl-C does not reach its process either."""
        with _sigint_blocked():
            self._exits.enter_context(server)

    def hold(self, pid: int) -> None:
        """End this process too when this one is killed."""
        self._reaper.hold(pid)

    def release(self, pid: int) -> None:
        """Let go of a process that is about to end."""
        self._reaper.release(pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT for what is started meanwhile: Redis must outlive the worker, which hands over its jobs."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """End the context at SIGTERM as at Ctrl-C: with KeyboardInterrupt."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def ignore_signals() -> None:
    """Ignore signals from here on: a second Ctrl-C must not break off the end, which is limited in time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
