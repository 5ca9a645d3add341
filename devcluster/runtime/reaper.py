"""The reaper: ends the processes of a starter that was killed, e.g. a server's containers.

A small process of its own reads from a pipe which processes run. When the pipe ends, the starter is gone, and it ends
those that are left. PR_SET_PDEATHSIG would do so only on Linux, for direct children, when the forking thread ends.
"""

import contextlib
import os
import subprocess
import sys
from typing import Self

#: How long the helper itself may take to end, beside the grace that it gives.
_ENDS_WITHIN_S = 10

_PROGRAM = """
import os, shutil, signal, sys, time
grace_s, directories = float(sys.argv[1]), sys.argv[2:]
held = set()
for line in sys.stdin:
    pid = int(line[1:])
    held.add(pid) if line[0] == "+" else held.discard(pid)
def reaches(send, pid, number):
    try:
        send(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
if grace_s:
    held = {pid for pid in held if reaches(os.kill, pid, signal.SIGTERM)}
    until = time.monotonic() + grace_s
    while held and time.monotonic() < until:
        time.sleep(0.1)
        held = {pid for pid in held if reaches(os.kill, pid, 0)}
for pid in held:
    reaches(os.killpg, pid, signal.SIGKILL)
    reaches(os.kill, pid, signal.SIGKILL)
for path in directories:
    shutil.rmtree(path, ignore_errors=True)
"""


class Reaper:
    """The starter's end of the pipe; use as a context manager, or close it.

    Args:
        directories: removed once the starter is gone.
        grace_s: how long processes have to end after TERM. Those that are left, or with 0 all, are killed, with the
            whole process group where they lead one.
    """

    def __init__(self, *directories: str, grace_s: float = 0) -> None:
        self._grace_s = grace_s
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, str(grace_s), *directories],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def hold(self, pid: int) -> None:
        """End this process when the starter is gone."""
        self._send(b"+%d\n" % pid)

    def release(self, pid: int) -> None:
        """Let go of a process that is dead: its number may be used again."""
        self._send(b"-%d\n" % pid)

    def close(self) -> None:
        """End what is still held, and wait for the helper to have done so."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=self._grace_s + _ENDS_WITHIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, line: bytes) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), line)
