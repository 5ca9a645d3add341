"""From the log endpoint's stream (``timestamps=true``) to the container's own bytes, and back to the same place.

The kubelet puts a timestamp before each line; the payload is the rest, byte for byte: bad UTF-8, carriage returns,
lines of any length, no newline at the end. A stream may be cut anywhere, and a piece may end anywhere, also within a
line: the :class:`~dispatcher.record.Checkpoint` at its end says where the next connection goes on.

Resuming has one rule: the new stream must contain the checkpoint's line, and only what follows it is taken. The line
is the ``nth`` of consecutive lines that bear its timestamp, and its first ``line_bytes`` bytes hash to
``line_sha256``. Times are never compared, because a node's clock may step back. What this refuses to do: decide what
to try when the line is not there (the reader asks again without ``sinceTime``, then declares a gap).

The kubelet drops lines older than ``sinceTime`` one by one, so a clock that steps back by more than the second of
margin *while nobody reads* hides the lines written after it; only a reading of the whole log would show them.
"""

import hashlib
import itertools
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from dispatcher.record import Checkpoint, chain_next

_TIMESTAMP: Final = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d) "
_FIRST: Final = re.compile(_TIMESTAMP)

_UNFINISHED: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{0,9})?(?:Z|[+-][\d:]{0,5})?")

#: The longest timestamp with its space: ``2026-11-22T09:07:54.921679974+00:00 ``.
_MAX_PREFIX_BYTES: Final = 36

#: To tell the beginning of a timestamp from other text: 9 stands for any digit.
_SHAPE: Final = b"9999-99-99T99:99:99"
_DIGITS_TO_9: Final = bytes.maketrans(b"0123456789", b"9999999999")

#: A line this much younger than the checkpoint's hints that its line was passed.
_PASSED: Final = timedelta(seconds=2)

#: How much text in place of a log is kept.
_MAX_FOREIGN_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of the container and the checkpoint after them.

    Its ``end`` is ``start + len(data)``, its chain includes ``data``.
    """

    start: int
    data: bytes
    checkpoint: Checkpoint

    @property
    def size_bytes(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes that are missing: from ``start`` to the checkpoint's end, or nobody knows how many (``is_open``)."""

    start: int
    checkpoint: Checkpoint
    why: str
    is_open: bool = False

    @property
    def size_bytes(self) -> int:
        """What it holds of memory."""
        return 0


class _Search:
    """Looks for the checkpoint's line, keeping nothing of what it passes over."""

    def __init__(self, sought: Checkpoint) -> None:
        self.has_passed = False
        self.is_in_line = False  # once found: the line goes on
        self.line_hash = hashlib.sha256()
        self._sought = sought
        self._prefix = sought.timestamp.encode() + b" "
        self._nth = 0  # how many lines in a row bore the timestamp
        self._left = 0  # of the line that may be it: bytes still to be hashed
        self._skips_line = False

    def look(self, raw: bytearray) -> bool:
        """Remove from ``raw`` what lies before the place; True when the place was found and ``raw`` begins there."""
        at, is_found = 0, False
        while not is_found and at < len(raw):
            if self._left:
                at, is_found = self._compare(raw, at)
            elif self._skips_line:
                at = raw.find(b"\n", at) + 1 or len(raw)
                self._skips_line = raw[at - 1] != 0x0A
            elif raw.startswith(self._prefix, at):
                at += len(self._prefix)
                self._nth += 1
                self._skips_line = self._nth != self._sought.nth
                self._left = 0 if self._skips_line else self._sought.line_bytes
                self.line_hash = hashlib.sha256()
            elif len(raw) - at < len(self._prefix) and self._prefix.startswith(raw[at:]):
                break  # it may still become the timestamp
            else:
                self._nth = 0
                at = self._next_candidate(raw, at)
        del raw[:at]
        return is_found

    def _compare(self, raw: bytearray, at: int) -> tuple[int, bool]:
        newline = raw.find(b"\n", at, at + self._left)
        end = newline + 1 if newline >= 0 else min(len(raw), at + self._left)
        self.line_hash.update(raw[at:end])
        self._left -= end - at
        if newline < 0 and self._left:
            return end, False
        is_found = self._left == 0 and self.line_hash.hexdigest() == self._sought.line_sha256
        self._left = 0
        self.is_in_line = self._skips_line = newline < 0
        return end, is_found

    def _next_candidate(self, raw: bytearray, at: int) -> int:
        """Find the start of the next line with the timestamp, else of the last line, which may not be whole yet."""
        following = raw.find(b"\n" + self._prefix, at)
        if following >= 0:
            return following + 1
        newline = raw.rfind(b"\n", at)
        if newline < 0:
            self._skips_line = True
            return at
        last = raw.rfind(b"\n", at, newline) + 1 or at
        self.has_passed = self.has_passed or _is_much_younger(raw[last : last + 19], self._sought.timestamp[:19])
        return newline + 1


class LogLines:
    """One container's log, fed with the bytes of one connection.

    Args:
        after: resume strictly after this place; None for a log of which nothing is published.
        is_gap: do not look for the checkpoint's line, which is gone: take all that the stream holds, counting on from
            ``after.end``.
    """

    def __init__(self, after: Checkpoint | None = None, *, is_gap: bool = False) -> None:
        self.foreign = b""  #: text in place of a log (no timestamp); not user output
        self._at = after or Checkpoint()
        self._raw = bytearray()
        self._is_in_line = False  # the next byte belongs to the line of self._at
        self._line_hash = hashlib.sha256()
        self._skips_line = False  # the next bytes, up to a newline, are foreign
        self._last_line = bytearray()  # the beginning of the stream's last line, as it came
        self._is_last_open = True  # no newline has ended it
        self._search = None if after is None or is_gap or not after.timestamp else _Search(after)

    @property
    def found(self) -> bool:
        """Whether the stream contained the checkpoint's line (or there was nothing to resume)."""
        return self._search is None

    @property
    def has_passed(self) -> bool:
        """Whether the checkpoint's line is not likely to come; a hint while not ``found``.

        Lines more than two seconds younger than it were read. Only the stream's end proves it.
        """
        return self._search is not None and self._search.has_passed

    @property
    def checkpoint(self) -> Checkpoint:
        """The place after the last piece that was taken."""
        return self._at

    @property
    def buffered_bytes(self) -> int:
        """What is held in memory, timestamps included."""
        return len(self._raw)

    @property
    def is_in_line(self) -> bool:
        """Whether the line of the last piece may go on."""
        return self._is_in_line

    @property
    def foreign_end(self) -> bytes:
        """The text without timestamp that the stream ends with, or what came of it.

        Then it is not the log's end: a log has no line without one.
        """
        line = bytes(self._last_line)
        bears_none = _FIRST.match(line) is None and not (self._is_last_open and _may_become_timestamp(line))
        return (self.foreign.strip() or line or b"an empty line") if bears_none else b""

    @property
    def is_cut(self) -> bool:
        """Whether the stream ended within a timestamp, or right after one: then it is not the log's end."""
        line = bytes(self._last_line)
        first = _FIRST.match(line)
        return self._is_last_open and bool(line) and (first is None or first.end() == len(line))

    def feed(self, data: bytes) -> None:
        """Take in the stream's next bytes."""
        self._raw += data
        self._note_last_line(data)
        if self._search is not None and self._search.look(self._raw):
            self._is_in_line = self._search.is_in_line
            self._line_hash = self._search.line_hash
            self._search = None

    def _note_last_line(self, data: bytes) -> None:
        if not data:
            return
        newline = data.rfind(b"\n", 0, len(data) - 1)
        if newline >= 0 or not self._is_last_open:
            self._last_line.clear()
        room = _MAX_FOREIGN_BYTES - len(self._last_line)
        self._last_line += data[newline + 1 : newline + 1 + room]
        self._is_last_open = not data.endswith(b"\n")

    def end(self) -> None:
        """End the stream: an unfinished timestamp at its end is dropped; the next connection brings it whole."""
        tail = self._raw.rfind(b"\n") + 1
        if tail == 0 and (self._is_in_line or self._skips_line):
            return
        first = _FIRST.match(self._raw, tail)
        is_empty_line = first is not None and first.end() == len(self._raw)
        if is_empty_line or (first is None and _may_become_timestamp(self._raw[tail:])):
            del self._raw[tail:]

    def take(self, max_bytes: int) -> Chunk | None:
        """Take the next at most ``max_bytes`` of payload, whole lines where one fits; None while there is nothing."""
        start = self._at.end
        data = self._advance(max_bytes)
        if not data:
            return None
        self._at = replace(self._at, chain=chain_next(self._at.chain, data))
        return Chunk(start, data, self._at)

    def _advance(self, max_bytes: int) -> bytes:
        """Remove payload from the buffer and move the place."""
        parts: list[bytes] = []
        room = max_bytes
        while self._search is None and room > 0 and (part := self._next_part(room, is_first=not parts)):
            parts.append(part)
            room -= len(part)
        return b"".join(parts)

    def _next_part(self, room: int, *, is_first: bool) -> bytes:
        while self._skips_line and self._raw:
            self._skip_line()
        if self._is_in_line:
            return self._rest_of_line(room)
        if lines := self._whole_lines(room):
            return lines
        # A line that does not fit begins a piece of its own; it is only cut where it is longer than a piece.
        if is_first and self._open_line():
            return self._next_part(room, is_first=True)
        return b""

    def _rest_of_line(self, room: int) -> bytes:
        newline = self._raw.find(b"\n", 0, room)
        data = bytes(self._raw[: room if newline < 0 else newline + 1])
        del self._raw[: len(data)]
        self._line_hash.update(data)
        self._is_in_line = newline < 0
        self._move(len(data), line_bytes=self._at.line_bytes + len(data))
        return data

    def _whole_lines(self, room: int) -> bytes:
        """Take as many whole lines as surely fit.

        Timestamps of one shape, the usual case, are checked and cut off at C speed; other lines one by one, up to
        foreign text.
        """
        end = self._raw.rfind(b"\n", 0, room) + 1
        if end == 0:
            return b""
        window = bytes(self._raw[:end])
        width = _prefix_end(window)
        lines = window.split(b"\n")
        lines.pop()
        shape = window[:width].translate(_DIGITS_TO_9)
        if width and b"".join([line[:width] for line in lines]).translate(_DIGITS_TO_9) == shape * len(lines):
            payload = b"\n".join([line[width:] for line in lines])
            return self._take_lines(window, payload + b"\n")
        own = [line + b"\n" for line in itertools.takewhile(_prefix_end, lines)]
        return self._take_lines(b"".join(own), b"".join([line[_prefix_end(line) :] for line in own])) if own else b""

    def _take_lines(self, window: bytes, payload: bytes) -> bytes:
        del self._raw[: len(window)]
        last = window.rfind(b"\n", 0, len(window) - 1) + 1
        prefix_end = last + _prefix_end(window[last : last + _MAX_PREFIX_BYTES])
        timestamp = window[last:prefix_end]
        line = window[prefix_end:]
        self._line_hash = hashlib.sha256(line)
        self._move(
            len(payload),
            timestamp=timestamp[:-1].decode(),
            nth=self._count(window, last, timestamp),
            line_bytes=len(line),
        )
        return payload

    def _count(self, window: bytes, last: int, timestamp: bytes) -> int:
        """How many lines in a row, up to the last, bear its timestamp, those of earlier pieces included."""
        nth = 1
        while last > 0:
            last = window.rfind(b"\n", 0, last - 1) + 1
            if not window.startswith(timestamp, last):
                return nth
            nth += 1
        return nth + (self._at.nth if self._at.timestamp == timestamp[:-1].decode() else 0)

    def _open_line(self) -> bool:
        """Take the timestamp of a line that is longer than the room, or not finished yet."""
        first = _FIRST.match(self._raw)
        if first is None:
            if not _may_become_timestamp(self._raw[:_MAX_PREFIX_BYTES]):
                self._skips_line = True
                return True
            return False
        if first.end() == len(self._raw):
            return False  # nothing of the line itself is here yet
        timestamp = self._raw[: first.end() - 1].decode()
        del self._raw[: first.end()]
        nth = self._at.nth + 1 if timestamp == self._at.timestamp else 1
        self._is_in_line = True
        self._line_hash = hashlib.sha256()
        self._at = replace(self._at, timestamp=timestamp, nth=nth, line_bytes=0)
        return True

    def _skip_line(self) -> None:
        """Put foreign text aside, up to a newline."""
        newline = self._raw.find(b"\n")
        end = len(self._raw) if newline < 0 else newline + 1
        self.foreign = (self.foreign + self._raw[:end])[:_MAX_FOREIGN_BYTES]
        del self._raw[:end]
        self._skips_line = newline < 0

    def _move(self, size: int, *, line_bytes: int, timestamp: str | None = None, nth: int | None = None) -> None:
        self._at = replace(
            self._at,
            end=self._at.end + size,
            timestamp=self._at.timestamp if timestamp is None else timestamp,
            nth=self._at.nth if nth is None else nth,
            line_bytes=line_bytes,
            line_sha256=self._line_hash.hexdigest(),
        )


def _prefix_end(line: bytes) -> int:
    """Where the payload of a line begins; 0 where it bears no timestamp."""
    first = _FIRST.match(line)
    return 0 if first is None else first.end()


def _may_become_timestamp(text: bytes | bytearray) -> bool:
    """Whether this beginning of a line may be that of a timestamp, when more has come."""
    if len(text) <= len(_SHAPE):
        return _SHAPE.startswith(bytes(text).translate(_DIGITS_TO_9))
    return len(text) < _MAX_PREFIX_BYTES and _UNFINISHED.fullmatch(text) is not None


def _is_much_younger(timestamp: bytes | bytearray, sought: str) -> bool:
    try:
        return datetime.fromisoformat(timestamp.decode()) > datetime.fromisoformat(sought) + _PASSED
    except ValueError:
        return False
