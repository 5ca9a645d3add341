"""Ends processes whose starter was killed itself.

A small process of its own reads from a pipe which processes live; when the pipe ends, because the starter is gone in
whatever way, it asks those that are left to end, and kills them if they do not. PR_SET_PDEATHSIG would be shorter, but
ends with the thread that forked and exists on Linux only.
"""

import contextlib
import os
import subprocess
import sys
from typing import Self

#: How long the processes have to end by themselves.
GRACE_S = 10

_PROGRAM = f"""
import os, shutil, signal, sys, time
living = []
for line in sys.stdin:
    pid = int(line[1:])
    living.append(pid) if line[0] == "+" else living.remove(pid)
def tell(number):
    for pid in list(living):
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            living.remove(pid)
tell(signal.SIGTERM)
until = time.monotonic() + {GRACE_S}
while living and time.monotonic() < until:
    time.sleep(0.1)
    tell(0)
tell(signal.SIGKILL)
for path in sys.argv[1:]:
    shutil.rmtree(path, ignore_errors=True)
"""


class Lifeline:
    """The starter's end of the pipe. ``directories`` are removed when the starter was killed."""

    def __init__(self, *directories: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, *directories],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def hold(self, pid: int) -> None:
        """This process lives."""
        self._tell(b"+%d\n" % pid)

    def release(self, pid: int) -> None:
        """This process is dead, and its number may be used again."""
        self._tell(b"-%d\n" % pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=2 * GRACE_S)

    def _tell(self, line: bytes) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), line)
