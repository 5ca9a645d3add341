"""One process of the local stack: started, listened to until it is ready, ended."""

import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

#: Takes the name of a process and one line that it wrote.
Sink = Callable[[str, str], None]
ENDS_WITHIN_S = 15.0


class ChildFailedError(Exception):
    """A process of the stack ended, or did not get ready. The message holds what it said last."""


class Child:
    """A Python module run as a process in a session of its own, so that Ctrl-C at the terminal does not reach it: the
    stack ends its processes itself, in order."""

    def __init__(self, name: str, module: Sequence[str], *, env: Mapping[str, str], sink: Sink, ready: str) -> None:
        self.name = name
        self._sink = sink
        self._ready_sign = ready
        self._last = deque[str](maxlen=20)
        self._news = threading.Condition()
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
        with self._news:
            self._news.wait_for(lambda: self._ready_line is not None or self._is_over, timeout_s)
            if self._ready_line is not None:
                return self._ready_line
            what = f"ended with code {self.process.wait()}" if self._is_over else f"is not ready after {timeout_s:g} s"
        raise ChildFailedError("\n".join([f"{self.name} {what}; it said:", *(f"  {line}" for line in self._last)]))

    def stop(self) -> None:
        """Ask it to end, and kill it if it does not."""
        self.process.terminate()
        try:
            self.process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._listener.join(ENDS_WITHIN_S)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for raw in output:
                line = raw.decode(errors="replace").rstrip()
                self._last.append(line)
                self._sink(self.name, line)
                if self._ready_line is None and self._ready_sign in line:
                    with self._news:
                        self._ready_line = line
                        self._news.notify_all()
        with self._news:
            self._is_over = True
            self._news.notify_all()
