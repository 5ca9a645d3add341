"""The OOM killer: kills a container that uses more memory than its limit, without cgroups.

A small process of its own checks every few milliseconds, however busy the server is, and stops a container on the spot;
the server then kills it and knows why.
"""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress

from devcluster.runtime.process import ProcessContainer

_PROGRAM = """
import os, select, signal, sys
PAGE = os.sysconf("SC_PAGE_SIZE")
def resident(pid):
    try:
        with open(f"/proc/{pid}/statm") as f:
            pages = int(f.read().split()[1])
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return pages * PAGE + sum(resident(int(child)) for child in f.read().split())
    except (OSError, IndexError):
        return 0
def send(pid, number):
    try:
        os.killpg(pid, number)
    except OSError:
        pass
limits, rest = {}, b""
while True:
    if select.select([0], [], [], 0.002 if limits else None)[0]:
        data = os.read(0, 65536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\\n")
        for line in lines:
            pid, limit = map(int, line.split())
            if limit:
                limits[pid] = limit
                send(pid, signal.SIGCONT)
            else:
                limits.pop(pid, None)
    for pid, limit in list(limits.items()):
        if resident(pid) > limit:
            send(pid, signal.SIGSTOP)
            del limits[pid]
            os.write(1, b"%d\\n" % pid)
"""


class OomKiller:
    """The OOM killer. Containers without a limit cost nothing."""

    def __init__(self) -> None:
        self._watched: dict[int, ProcessContainer] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def watch(self, container: ProcessContainer, limit_bytes: int) -> None:
        """Hold a container that was just started to its limit. It is stopped until the helper process watches it."""
        pid = container.pid
        self._watched[pid] = container
        container.ended.add_done_callback(lambda _done: self._forget(pid))
        with suppress(OSError):
            os.killpg(pid, signal.SIGSTOP)
            # On a busy machine the checks come late: the container must come later still.
            os.setpriority(os.PRIO_PGRP, pid, 19)
        self._send(pid, limit_bytes)

    def stop(self) -> None:
        """End the process."""
        self._watched.clear()
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asyncio.get_running_loop().remove_reader(self._process.stdout.fileno())
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=10)
        self._process = None

    def _forget(self, pid: int) -> None:
        if self._watched.pop(pid, None) is not None:
            self._send(pid, 0)

    def _send(self, pid: int, limit_bytes: int) -> None:
        process = self._process or self._start()
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            os.write(process.stdin.fileno(), b"%d %d\n" % (pid, limit_bytes))

    def _start(self) -> "subprocess.Popen[bytes]":
        self._process = subprocess.Popen(
            [sys.executable, "-E", "-S", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        assert self._process.stdout is not None
        asyncio.get_running_loop().add_reader(self._process.stdout.fileno(), self._receive)
        return self._process

    def _receive(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), 4096)
        if not data:
            asyncio.get_running_loop().remove_reader(self._process.stdout.fileno())
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if container := self._watched.get(int(line)):
                container.oom_kill()
