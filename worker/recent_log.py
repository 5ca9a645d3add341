"""What was appended of one log in the last seconds: Redis may confirm it and lose it again, in a failover or when it is
emptied, and by then the pod may be gone."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from dispatcher.record import Checkpoint

#: How long it is kept. A replica lags by less than a second, or something else is wrong with it.
KEPT_S: Final = 2.0
KEPT_BYTES: Final = 512 * 1024


class Entry(Protocol):
    """``checkpoint`` is the place after it."""

    @property
    def checkpoint(self) -> Checkpoint: ...

    @property
    def size_bytes(self) -> int: ...


E = TypeVar("E", bound=Entry)


@dataclass(slots=True)
class RecentLog(Generic[E]):
    """Belongs to one event loop. Each entry stands with the place before it and the loop's time of its append."""

    _entries: "deque[tuple[float, Checkpoint, E]]" = field(default_factory=deque)
    _size_bytes: int = 0
    _timer: asyncio.TimerHandle | None = None

    def note(self, before: Checkpoint, entries: Sequence[E]) -> None:
        """These were appended, in order, after this place."""
        now = asyncio.get_running_loop().time()
        for entry in entries:
            self._entries.append((now, before, entry))
            self._size_bytes += entry.size_bytes
            before = entry.checkpoint
        while self._size_bytes > KEPT_BYTES:
            self._drop()
        self._wake_later()

    @property
    def start(self) -> Checkpoint | None:
        """The place before the oldest of it."""
        return self._entries[0][1] if self._entries else None

    def take(self, after: Checkpoint) -> list[E]:
        """Take out what was appended after this place; nothing where that is not known (any more)."""
        places = [before for _, before, _ in self._entries]
        if after not in places:
            return []
        taken = [entry for _, _, entry in self._entries][places.index(after) :]
        self.clear()
        return taken

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._size_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop(self) -> None:
        _, _, entry = self._entries.popleft()
        self._size_bytes -= entry.size_bytes

    def _wake_later(self) -> None:
        if self._timer is None and self._entries:
            self._timer = asyncio.get_running_loop().call_at(self._entries[0][0] + KEPT_S, self._forget_old)

    def _forget_old(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._entries and self._entries[0][0] + KEPT_S <= now:
            self._drop()
        self._wake_later()
