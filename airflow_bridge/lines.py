"""Lines for a task's log out of the bytes of a container's log.

A chunk may end within a line or within a UTF-8 character, and a reader may be replaced at any moment by another one (a
triggerer restarts). So what is not yet a whole line is kept back, and :meth:`LineAssembler.place` tells the place in
the channel from which a successor would get exactly the lines that were not told.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dispatcher.events import Cursor, LogChunk

#: A line longer than this is told in pieces.
MAX_LINE_BYTES = 256 * 1024

_Stream = tuple[int, str]


@dataclass(frozen=True, slots=True)
class ContainerLine:
    """One line that a container wrote, for people to read: bytes that are no UTF-8 are shown as KPO shows them."""

    container: str
    text: str


@dataclass(slots=True)
class _Rest:
    """What was written after the last newline; ``log_id``: the place before the chunk in which it began."""

    data: bytes
    log_id: str


class LineAssembler:
    """Cuts the logs of one job's containers into lines. Empty lines are left out, as KPO does."""

    __slots__ = ("_rests",)

    def __init__(self) -> None:
        self._rests: dict[_Stream, _Rest] = {}

    def feed(self, chunk: "LogChunk", log_id_before: str) -> list[ContainerLine]:
        """The lines that this chunk completes. ``log_id_before``: the reader's place before it."""
        stream = (chunk.attempt, chunk.container)
        known = self._rests.pop(stream, None)
        *whole, rest = ((known.data if known else b"") + chunk.data).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            whole, rest = [*whole, rest], b""
        if rest:
            began_here = bool(whole) or known is None
            self._rests[stream] = _Rest(rest, log_id_before if began_here or known is None else known.log_id)
        return [_line(chunk.container, data) for data in whole if data]

    def flush(self, *, before_attempt: int | None = None) -> list[ContainerLine]:
        """The unfinished lines: of every attempt, or only of those before this one."""
        ended = [s for s in self._rests if before_attempt is None or s[0] < before_attempt]
        return [_line(stream[1], self._rests.pop(stream).data) for stream in ended]

    def place(self, cursor: "Cursor") -> "Cursor":
        """The place from which a successor tells what was not told; ``cursor``: the reader's own place."""
        if not self._rests:
            return cursor
        lengths = {stream: len(rest.data) for stream, rest in self._rests.items()}
        ends = tuple((a, c, end - lengths.get((a, c), 0)) for a, c, end in cursor.ends)
        log_id = min((rest.log_id for rest in self._rests.values()), key=_id_key)
        return replace(cursor, log_id=log_id, ends=ends)


def _line(container: str, data: bytes) -> ContainerLine:
    return ContainerLine(container, data.decode("utf-8", errors="backslashreplace"))


def _id_key(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)
