"""Kills the containers of a server that was killed itself.

A small process of its own reads from a pipe which process groups live; when the pipe ends, because the server is gone
in whatever way, it kills those that are left. PR_SET_PDEATHSIG would do this for direct children only, depends on the
thread that forked, and exists on Linux only.
"""

import contextlib
import os
import subprocess
import sys

_PROGRAM = """
import os, shutil, signal, sys
living = set()
for line in sys.stdin:
    group = int(line[1:])
    living.add(group) if line[0] == "+" else living.discard(group)
for group in living:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
if len(sys.argv) > 1:
    shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


class Undertaker:
    """The server's end of the pipe."""

    def __init__(self, *, temporary_directory: str = "") -> None:
        self._temporary_directory = temporary_directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._process is None:
            arguments = [self._temporary_directory] if self._temporary_directory else []
            self._process = subprocess.Popen(
                [sys.executable, "-E", "-S", "-c", _PROGRAM, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )

    def expect(self, group: int) -> None:
        """This process group lives."""
        self.start()
        self._tell(b"+%d\n" % group)

    def release(self, group: int) -> None:
        """This process group is dead and its number may be used again."""
        self._tell(b"-%d\n" % group)

    def dismiss(self) -> None:
        """Close the pipe and wait for the process to end."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(timeout=10)
            self._process = None

    def _tell(self, line: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), line)
