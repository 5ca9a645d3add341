"""Memory limits without cgroups: a container that uses more is killed, as the kernel's OOM killer does."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from devcluster.containers import ProcessContainer

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants; 0 where /proc is not there."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, IndexError):
        return 0
    return pages * _PAGE_BYTES + sum(resident_bytes(int(child)) for child in children)


class MemoryWarden:
    """Kills containers that use more memory than their limit, by looking at them often.

    Often means every 10 ms in a container's first two seconds and while it uses more than half of its limit, else every
    100 ms. Containers without a limit cost nothing.
    """

    QUICK_S = 0.01
    SLOW_EVERY = 10
    QUICK_ROUNDS = 200

    def __init__(self) -> None:
        self._watched: dict[ProcessContainer, tuple[int, int]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._round = 0

    def watch(self, container: ProcessContainer, limit_bytes: int) -> None:
        self._watched[container] = (limit_bytes, self._round + self.QUICK_ROUNDS)
        # On a busy machine the looks come late: what they look at must come later still.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, container.pid, 19)
        container.ended.add_done_callback(lambda _done: self._watched.pop(container, None))
        if self._timer is None:
            self._look()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._watched.clear()

    def _look(self) -> None:
        self._round += 1
        for container, (limit, quick_until) in list(self._watched.items()):
            if self._round < quick_until or self._round % self.SLOW_EVERY == 0:
                self._judge(container, limit)
        if not self._watched:
            self._timer = None
            return
        self._timer = asyncio.get_running_loop().call_later(self.QUICK_S, self._look)

    def _judge(self, container: ProcessContainer, limit: int) -> None:
        used = resident_bytes(container.pid)
        if used > limit:
            container.kill_for_memory()
        elif used > limit // 2:
            self._watched[container] = (limit, self._round + self.QUICK_ROUNDS)
