"""What was appended of one log in the last seconds: Redis may confirm it and lose it again, in a failover or when it is
emptied, and by then the pod may be gone."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from dispatcher.record import Checkpoint

#: How far back it goes, counted from the last append that Redis took, which proves that what was before is there. A
#: replica lags by less than a second, or something else is wrong with it.
KEPT_S: Final = 2.0
#: Without a further append it is kept for this long.
IDLE_S: Final = 120.0
#: At most, of one log and of all; this much each keeps however much the others do.
KEPT_BYTES: Final = 4 * 1024 * 1024
ALL_BYTES: Final = 64 * 1024 * 1024
LEAST_BYTES: Final = 16 * 1024


class Entry(Protocol):
    """``checkpoint`` is the place after it."""

    @property
    def checkpoint(self) -> Checkpoint: ...

    @property
    def size_bytes(self) -> int: ...


E = TypeVar("E", bound=Entry)


@dataclass(slots=True)
class RecentBytes:
    """What all logs of this worker keep."""

    used: int = 0


@dataclass(slots=True)
class RecentLog(Generic[E]):
    """Belongs to one event loop. Each entry stands with the place before it and the loop's time of its append."""

    everybodys: RecentBytes
    _entries: "deque[tuple[float, Checkpoint, E]]" = field(default_factory=deque)
    _size_bytes: int = 0
    _timer: asyncio.TimerHandle | None = None

    def note(self, before: Checkpoint, entries: Sequence[E]) -> None:
        """These were appended, in order, after this place."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for entry in entries:
            self._entries.append((now, before, entry))
            self._count(entry.size_bytes)
            before = entry.checkpoint
        while self._entries and (self._entries[0][0] < now - KEPT_S or self._is_too_much):
            self._count(-self._entries.popleft()[2].size_bytes)
        if self._timer is None and self._entries:
            self._timer = loop.call_later(IDLE_S, self._forget_when_idle)

    @property
    def start(self) -> Checkpoint | None:
        """The place before the oldest of it."""
        return self._entries[0][1] if self._entries else None

    @property
    def entries(self) -> list[E]:
        """All of it, in order."""
        return [entry for _, _, entry in self._entries]

    def take(self, after: Checkpoint) -> list[E]:
        """Take out what was appended after this place; nothing where that is not known (any more)."""
        places = [before for _, before, _ in self._entries]
        if after not in places:
            return []
        taken = self.entries[places.index(after) :]
        self.clear()
        return taken

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._count(-self._size_bytes)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _is_too_much(self) -> bool:
        is_short = self.everybodys.used > ALL_BYTES
        return self._size_bytes > (LEAST_BYTES if is_short else KEPT_BYTES)

    def _count(self, size_bytes: int) -> None:
        self._size_bytes += size_bytes
        self.everybodys.used += size_bytes

    def _forget_when_idle(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        idle_s = loop.time() - self._entries[-1][0] if self._entries else IDLE_S
        if idle_s < IDLE_S:
            self._timer = loop.call_later(IDLE_S - idle_s, self._forget_when_idle)
        else:
            self.clear()
