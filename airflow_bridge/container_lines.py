"""Whole lines of what a job's containers wrote, from chunks that may end anywhere. Pure.

Unfinished lines are kept back, and from :meth:`LineAssembler.resumable` another reader (a triggerer restarts) gets exactly
the lines that were not told.
"""

from dataclasses import dataclass, replace

from dispatcher.channel import id_order
from dispatcher.events import Cursor, LogChunk

#: A longer line is written in pieces.
MAX_LINE_BYTES = 256 * 1024

_Stream = tuple[int, str]


@dataclass(frozen=True, slots=True)
class ContainerLine:
    """A line that a container wrote. Bytes that are no UTF-8 are shown as KPO shows them."""

    container: str
    text: str


@dataclass(slots=True)
class _Rest:
    """The start of an unfinished line; ``log_id``: the cursor's before the chunk in which it began."""

    data: bytes
    log_id: str


class LineAssembler:
    """The lines of one job's containers, as their chunks arrive. Empty ones are left out, as in KPO."""

    __slots__ = ("_rests",)

    def __init__(self) -> None:
        self._rests: dict[_Stream, _Rest] = {}

    def feed(self, chunk: LogChunk, log_id_before: str) -> list[ContainerLine]:
        """Return the lines that this chunk finishes. ``log_id_before``: the cursor's before it."""
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
        """Return the unfinished lines, of all attempts or only of earlier ones, and forget them."""
        ended = [s for s in self._rests if before_attempt is None or s[0] < before_attempt]
        return [_line(stream[1], self._rests.pop(stream).data) for stream in ended]

    def resumable(self, cursor: Cursor) -> Cursor:
        """Return the cursor from which a successor gets the unfinished lines whole; ``cursor``: the reader's own."""
        if not self._rests:
            return cursor
        lengths = {stream: len(rest.data) for stream, rest in self._rests.items()}
        ends = tuple((a, c, end - lengths.get((a, c), 0)) for a, c, end in cursor.ends)
        log_id = min((rest.log_id for rest in self._rests.values()), key=id_order)
        return replace(cursor, log_id=log_id, ends=ends)


def _line(container: str, data: bytes) -> ContainerLine:
    return ContainerLine(container, data.decode("utf-8", errors="backslashreplace"))
