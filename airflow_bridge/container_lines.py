r"""Whole lines of what a job's containers wrote, from chunks that may end anywhere. Pure.

Unfinished lines are kept back, and from :meth:`LineAssembler.resumable` another reader (a triggerer restarts) gets
exactly the lines that were not told. Nothing is kept that grows without bound: a longer line is told in pieces that are
marked, and of a line that a program writes over and over with ``\r`` (a progress bar) only the state that stands.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dispatcher.channel import id_order
from dispatcher.events import Cursor, LogChunk

#: A longer line is told in pieces.
MAX_LINE_BYTES = 256 * 1024
#: They are marked, so that nobody takes them for lines of their own.
GOES_ON, CONTINUED = " …(the line goes on)", "(the line continues)… "

#: A progress bar is shown while it moves: at first each second, later more seldom, so that hours make some hundred
#: lines and not thousands.
FIRST_PAUSE_S, PAUSE_OF_AGE = 1.0, 0.05

_Stream = tuple[int, str]


@dataclass(frozen=True, slots=True)
class ContainerLine:
    """A line that a container wrote. Bytes that are no UTF-8 are shown as KPO shows them."""

    container: str
    text: str


@dataclass(slots=True)
class _Line:
    """A line that is not finished: what is not told of it.

    ``log_id``: the cursor's before the chunk in which ``rest`` began; ``told``: the last state that was told.
    """

    began_at: datetime
    log_id: str
    rest: bytes = b""
    is_continued: bool = False
    told: bytes | None = None
    told_at: datetime | None = None

    def finished(self, data: bytes) -> list[str]:
        """Return the rest of the line, whose end has come; ``data``: all that is not told of it."""
        state = _state(data)
        return [] if not state or state == self.told else self._pieces(state, at_least=0)

    def untold(self) -> bytes:
        r"""Return what a successor needs of ``rest``: not the state that was told when its ``\r`` came."""
        written, ending, begun = self.rest.rpartition(b"\r")
        return begun if ending and _state(written) == self.told else self.rest

    def went_on(self, data: bytes, at: datetime) -> list[str]:
        """Keep what may still change, and return what is to be told already."""
        stands_from = _stands_from(data)
        self.rest = data[stands_from:]
        state = _state(data if b"\r" in self.rest else data[:stands_from])
        told = []
        if state and state != self.told and self._is_due(at):
            self.told, self.told_at = state, at
            told = [_text(state)]
        return told + self._pieces(self.rest, at_least=1)

    def _is_due(self, at: datetime) -> bool:
        pause = max(timedelta(seconds=FIRST_PAUSE_S), (at - self.began_at) * PAUSE_OF_AGE)
        return self.told_at is None or at - self.told_at >= pause

    def _pieces(self, data: bytes, *, at_least: int) -> list[str]:
        """Cut into pieces of the greatest length; keep the last one, or tell it too (``at_least`` 0)."""
        pieces = []
        while len(data) > MAX_LINE_BYTES:
            cut = _before_a_character(data, MAX_LINE_BYTES)
            pieces.append(self._marked(data[:cut]) + GOES_ON)
            data, self.is_continued = data[cut:], True
        self.rest = data
        return pieces if at_least else [*pieces, self._marked(data)]

    def _marked(self, data: bytes) -> str:
        return (CONTINUED if self.is_continued else "") + _text(data)


class LineAssembler:
    """The lines of one job's containers, as their chunks arrive. Empty ones are left out, as in KPO."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[_Stream, _Line] = {}

    def feed(self, chunk: LogChunk, log_id_before: str, at: datetime) -> list[ContainerLine]:
        """Return the lines that this chunk finishes, and what is to be told of the one after them.

        Args:
            chunk: the next one of its container.
            log_id_before: the cursor's before it.
            at: when it was published.
        """
        stream = (chunk.attempt, chunk.container)
        line = self._lines.pop(stream, None) or _Line(at, log_id_before)
        *whole, last = (line.rest + chunk.data).split(b"\n")
        told = []
        for data in whole:
            told += line.finished(data)
            line = _Line(at, log_id_before)
        told += line.went_on(last, at)
        if len(line.rest) <= len(chunk.data):
            line.log_id = log_id_before
        if line.rest or line.is_continued:
            self._lines[stream] = line
        return [ContainerLine(chunk.container, text) for text in told]

    def flush(self, *, before_attempt: int | None = None) -> list[ContainerLine]:
        """Return the unfinished lines, of all attempts or only of earlier ones, and forget them."""
        ended = [s for s in self._lines if before_attempt is None or s[0] < before_attempt]
        lines = [(stream[1], self._lines.pop(stream)) for stream in ended]
        return [ContainerLine(container, text) for container, line in lines for text in line.finished(line.rest)]

    def resumable(self, cursor: Cursor) -> Cursor:
        """Return the cursor from which a successor gets the unfinished lines whole; ``cursor``: the reader's own."""
        kept = {stream: line for stream, line in self._lines.items() if line.untold()}
        if not kept:
            return cursor
        ends = tuple((a, c, end - len(kept[a, c].untold()) if (a, c) in kept else end) for a, c, end in cursor.ends)
        log_id = min((line.log_id for line in kept.values()), key=id_order)
        return replace(cursor, log_id=log_id, ends=ends)


def _stands_from(data: bytes) -> int:
    """Return where the state begins that stands of a line that was written over: the last one that is not blank."""
    return data.rfind(b"\r", 0, len(data.rstrip(b"\r\t "))) + 1


def _state(data: bytes) -> bytes:
    return data[_stands_from(data) :].partition(b"\r")[0]


def _before_a_character(data: bytes, limit: int) -> int:
    """Return where to cut so that no character of UTF-8 is cut in two: at ``limit`` or just before it."""
    starts = (at for at in range(limit, limit - 4, -1) if data[at] & 0xC0 != 0x80)
    return next(starts, limit)


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="backslashreplace")
