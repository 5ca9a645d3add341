"""A container as a process, and the protocol that it shares with a simulation (``simulated``)."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from devcluster.runtime.logs import LogFile
from devcluster.runtime.reaper import Reaper

_READ_BYTES = 64 * 1024
_READS_AT_THE_END = 4096
_YOUNG_S = 1.0
_LOOK_AGAIN_S = 0.02


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended, in the kubelet's words."""

    code: int
    reason: str

    @classmethod
    def of(cls, code: int) -> "Exit":
        return cls(code, "Completed" if code == 0 else "Error")


class StartError(Exception):
    """A container that could not be started: ``StartError``, exit code 128, with this message."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create "
            f"failed: unable to start container process: {why}: unknown"
        )


class Container(Protocol):
    """A started container."""

    ended: asyncio.Future[Exit]

    def terminate(self) -> None:
        """Send TERM, as the kubelet does first."""

    def kill(self) -> None:
        """Send KILL, or shorten what is simulated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerConfig:
    """All that is needed to start a container."""

    command: Sequence[str]
    environment: Mapping[str, str]
    search_path: str
    directory: Path
    working_directory: str
    memory_limit_bytes: int = 0


def _executable(config: ContainerConfig) -> str:
    name = config.command[0]
    if "/" not in name:
        found = shutil.which(name, path=config.environment.get("PATH", config.search_path))
        if found is None:
            raise StartError(f'exec: "{name}": executable file not found in $PATH')
        return found
    path = name if name.startswith("/") else os.path.join(config.working_directory, name)
    if not os.path.exists(path):
        raise StartError(f'exec: "{name}": stat {name}: no such file or directory')
    if os.path.isdir(path) or not os.access(path, os.X_OK):
        raise StartError(f'exec: "{name}": permission denied')
    return path


class ProcessContainer:
    """A process in a session of its own, with its output going to a log."""

    def __init__(self, config: ContainerConfig, log: LogFile, reaper: Reaper) -> None:
        """Start the process.

        Raises:
            StartError: it cannot be started.
        """
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Exit] = self._loop.create_future()
        self._started_at = self._loop.time()
        self._log = log
        self._reaper = reaper
        self.out_of_memory = False
        self._pipes: dict[int, str] = {}
        executable = _executable(config)
        try:
            self._process = subprocess.Popen(
                list(config.command),
                executable=executable,
                env=dict(config.environment),
                cwd=config.working_directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                close_fds=False,
            )
        except OSError as error:
            raise StartError(f'exec: "{config.command[0]}": {(error.strerror or str(error)).lower()}') from error
        self.pid = self._process.pid
        reaper.hold(self.pid)
        self._open_pipes()
        self._watch_for_end()

    def terminate(self) -> None:
        """Send TERM to the main process, if it has a handler: without one, process 1 of a container ignores TERM.

        A process that has just started gets a second to install its handler: on a node, where containers start more
        slowly, it would have long done so.
        """
        if self.ended.done():
            return
        if _handles_term(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        elif self._loop.time() < self._started_at + _YOUNG_S:
            self._loop.call_later(_LOOK_AGAIN_S, self.terminate)

    def kill(self) -> None:
        if not self.ended.done():
            self._kill_group()

    def oom_kill(self) -> None:
        self.out_of_memory = True
        self.kill()

    def _open_pipes(self) -> None:
        for stream, pipe in (("stdout", self._process.stdout), ("stderr", self._process.stderr)):
            assert pipe is not None
            fd = pipe.fileno()
            os.set_blocking(fd, False)
            self._pipes[fd] = stream
            self._loop.add_reader(fd, self._read, fd)

    def _read(self, fd: int) -> bool:
        """Move what is there into the log; return False at the end of the stream or when nothing is there now."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._log.append(self._pipes[fd], data)
            return True
        self._loop.remove_reader(fd)
        return False

    def _watch_for_end(self) -> None:
        if hasattr(os, "pidfd_open"):
            pidfd = os.pidfd_open(self.pid)
            self._loop.add_reader(pidfd, self._ended_by_pidfd, pidfd)
        else:
            waiting = self._loop.run_in_executor(None, self._process.wait)
            waiting.add_done_callback(lambda _done: self._finish())

    def _ended_by_pidfd(self, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        os.close(pidfd)
        self._finish()

    def _finish(self) -> None:
        """Kill what is left of the container and read its output to the end: the main process is dead."""
        self._kill_group()
        code = self._process.wait()
        for fd in self._pipes:
            for _ in range(_READS_AT_THE_END):
                if not self._read(fd):
                    break
            self._loop.remove_reader(fd)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        self._log.end_of_stream()
        self._reaper.release(self.pid)
        if not self.ended.done():
            self.ended.set_result(self._exit(code))

    def _exit(self, code: int) -> Exit:
        if self.out_of_memory:
            return Exit(137, "OOMKilled")
        return Exit.of(128 - code if code < 0 else code)

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def _handles_term(pid: int) -> bool:
    """Return whether a process has a handler for TERM; True where that cannot be known."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "ffffffffffffffff")
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
