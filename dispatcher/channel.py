"""A job's two streams in Redis, events and log: how log entries look on the wire, and how a reader digests them.

Whoever reads hands the entries of both streams, in any portions, to :class:`ChannelReader`. It puts them in order,
drops what the reader already has, turns what is missing into explicit gaps, checks the chained digest, and holds the
final event back until the log is read to the end that this event names.

Anybody may have written what is in a stream, so every field is checked here. An entry that cannot be read becomes a gap
or a notice, and reading goes on after it.
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from dispatcher.errors import PodrelayError
from dispatcher.events import (
    CONTAINER_NAME,
    MAX_EVENT_BYTES,
    MOST_PLACES,
    Cursor,
    Ended,
    JobUpdate,
    LogChunk,
    LogGap,
    Notice,
    StatusChanged,
    decode_event,
    unreadable_result,
)
from dispatcher.record import MAX_SECONDS, NO_CHAIN, as_datetime, chain_next, read_count, read_seconds, shown
from dispatcher.status import Status
from dispatcher.steps import Argument

#: One entry of a stream as redis-py gives it: id, fields.
Entry = tuple[bytes, dict[bytes, bytes]]

#: Below this size compression costs more than it saves.
COMPRESS_FROM_BYTES = 512

#: The most that one entry may hold, unpacked: far above what is written (16,000 bytes).
MAX_CHUNK_BYTES = 1024 * 1024

_ID = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")
_MAX_END = 2**53 - 1
_MAX_ATTEMPT = 10**9 - 1

#: Where a reader starts that wants the events only: after any log entry.
WITHOUT_LOG = Cursor(log_id="18446744073709551615-0")


def encode_chunk(*, container: str, attempt: int, start: int, data: bytes, chain: str) -> Sequence[Argument]:
    """Encode a chunk as a stream entry, compressed where it pays. ``chain``: the chained SHA-256 after this chunk."""
    coding, payload = "r", data
    if len(data) >= COMPRESS_FROM_BYTES:
        packed = zlib.compress(data, level=1)
        if len(packed) < 0.8 * len(data):
            coding, payload = "z", packed
    return ("c", container, "a", attempt, "s", start, "h", bytes.fromhex(chain), coding, payload)


def encode_gap(*, container: str, attempt: int, start: int, end: int | None, why: str) -> Sequence[Argument]:
    """Encode the mark of bytes that were lost before they could be published. ``end`` None: nobody knows how many."""
    return ("c", container, "a", attempt, "s", start, "e", "" if end is None else end, "g", why)


class ChannelReader:
    """Turns the entries of one job's streams into updates. Pure.

    Attributes:
        cursor: the place after everything that :meth:`take` returned.
        status: the last status returned; it never leaves a final one.
        is_done: the final event was returned.
    """

    def __init__(self, job_id: str, cursor: Cursor | None = None) -> None:
        self.job_id = job_id
        self.cursor = cursor or Cursor()
        self.status: Status | None = None
        self.is_done = False
        self._event_id = self.cursor.event_id
        self._places = {(attempt, container): (attempt, container, end) for attempt, container, end in self.cursor.ends}
        self._chains: dict[tuple[int, str], str | None] = {key: None for key in self._places}
        self._unread: set[tuple[int, str]] = set()  # a gap was told whose end the next chunk shows
        self._ended: tuple[bytes, Ended, datetime] | None = None
        self._reads_log_again = False  # the read under way is still after the place that was given up
        self._has_read_log_again = False

    @property
    def awaits_log(self) -> bool:
        """Whether the final event was read, and waits for the rest of the log."""
        return self._ended is not None

    @property
    def _is_without_log(self) -> bool:
        return self.cursor.log_id == WITHOUT_LOG.log_id

    @property
    def event_id(self) -> str:
        """Read events after this id."""
        return self._event_id

    @property
    def log_id(self) -> str:
        """Read log entries after this id."""
        return self.cursor.log_id

    def note_generation(self, generation: str) -> None:
        """Take Redis' generation as just read.

        Another one than the cursor's means that Redis was emptied: the streams began anew, so the ids in the cursor
        mean nothing; its log offsets still do.
        """
        if self.cursor.generation and generation != self.cursor.generation:
            self._begin_again()
        self.cursor = replace(self.cursor, generation=generation)

    def note_ends(self, last_event_id: str, last_log_id: str, at: float) -> bool:
        """Take the ids of the streams' last entries and Redis' time (seconds); returns whether to read from the start.

        They were read after this reader came to its place. A place beyond both is one in another Redis (before a
        failover), whose last writes this one lacks and whose clock was ahead of this one's: new entries would not come
        after that place. So both streams are read again from their beginnings.
        """

        def is_beyond(place: str, last: str) -> bool:
            return id_order(place) > id_order(last) and id_order(place)[0] > 1000 * at

        is_behind = is_beyond(self._event_id, last_event_id)
        is_behind |= not self._is_without_log and is_beyond(self.cursor.log_id, last_log_id)
        if is_behind:
            self._begin_again()
        return is_behind

    def _begin_again(self) -> None:
        self._event_id, self._has_read_log_again = "0-0", False
        log_id = self.cursor.log_id if self._is_without_log else "0-0"
        self.cursor = replace(self.cursor, event_id="0-0", log_id=log_id)

    def take(self, events: Iterable[Entry], log: Iterable[Entry]) -> list[JobUpdate]:
        """Turn the next entries of both streams (each in order, after ``event_id`` and ``log_id``) into updates."""
        heard: list[JobUpdate] = []
        queue = list(log)
        for entry_id, fields in events:
            # Keep the two streams roughly in the order of time: ids are times of one clock.
            while queue and id_order(queue[0][0]) < id_order(entry_id):
                heard += self._take_log(*queue.pop(0))
            heard += self._take_event(entry_id, fields)
        for entry in queue:
            heard += self._take_log(*entry)
        return heard + self._release_ended()

    def _take_event(self, entry_id: bytes, fields: dict[bytes, bytes]) -> list[JobUpdate]:
        self._event_id = entry_id.decode()
        if self.is_done or self._ended:
            return []
        at = _time_of(entry_id)
        if b"e" not in fields and b"l" not in fields:
            self._step(event_id=self._event_id)
            return []  # a newer writer's kind of entry: nothing this reader was built to tell
        try:
            event = _read_event(fields)
        except ValueError as error:
            if b"l" not in fields:
                self._step(event_id=self._event_id)
                return self._tell_unreadable(f"event {self._event_id}", error, at)
            # Only a job's end is told with the log's end beside it: whatever it says, there will be no other.
            event = Ended(result=unreadable_result(self.job_id, _status_at_end(fields), _first_line(error)))
        if isinstance(event, Ended):
            self._ended = (entry_id, complete_ended(event, fields), at)
            return []
        self._step(event_id=self._event_id)
        return [self._tell(event, at)]

    def _tell_unreadable(self, what: str, error: ValueError, at: datetime) -> list[JobUpdate]:
        if isinstance(error, ValidationError) and error.errors()[0]["type"] == "union_tag_invalid":
            return []  # a newer writer's kind of event
        return [self._tell(Notice(level="warning", text=f"{what} cannot be read: {_first_line(error)}"), at)]

    def _take_log(self, entry_id: bytes, fields: dict[bytes, bytes]) -> list[JobUpdate]:
        at = _time_of(entry_id)
        self._step(log_id=entry_id.decode())
        try:
            key, start = _read_place(fields)
        except ValueError as error:
            return self._tell_unreadable(f"log entry {self.log_id}", error, at)
        try:
            if b"g" in fields:
                return self._take_gap(key, start, _read_gap_end(fields, start), _shown_text(fields[b"g"]), at)
            return self._take_chunk(key, start, *_read_chunk(fields, start), at)
        except ValueError as error:
            self._chains[key] = None
            self._unread.add(key)
            why = f"log entry {self.log_id} cannot be read: {_first_line(error)}"
            return [self._tell(LogGap(key[1], key[0], self._end_of(key), None, why), at)]

    def _take_gap(self, key: tuple[int, str], start: int, end: int | None, why: str, at: datetime) -> list[JobUpdate]:
        known = self._end_of(key)
        self._chains[key] = None
        self._come_to(key, max(known, end or start))
        return [self._tell(LogGap(key[1], key[0], start, end, why), at)] if end is None or end > known else []

    def _take_chunk(self, key: tuple[int, str], start: int, data: bytes, chain: str, at: datetime) -> list[JobUpdate]:
        (attempt, container), known, heard = key, self._end_of(key), list[JobUpdate]()
        if start > known:
            if key not in self._unread:
                why = "trimmed to the job's log limit, or lost by Redis, before this reader came to it"
                heard.append(self._tell(LogGap(container, attempt, known, start, why), at))
        elif start + len(data) <= known:
            # Written anew, perhaps cut into other chunks: the chain goes on from here, or is not known.
            self._chains[key] = chain if start + len(data) == known else None
            return []
        elif self._chain_is_broken(key, data, chain) and start == known:
            heard.append(self._tell(LogGap(container, attempt, start, start, "the chained digest does not match"), at))
        self._chains[key] = chain
        self._unread.discard(key)
        self._come_to(key, start + len(data))
        skip = max(0, known - start)
        return [*heard, self._tell(LogChunk(container, attempt, start + skip, data[skip:]), at)]

    def _end_of(self, key: tuple[int, str]) -> int:
        return self._places[key][2] if key in self._places else 0

    def _come_to(self, key: tuple[int, str], end: int) -> None:
        """Note up to where a container's log was read. Beyond the most that a job can have, the first are dropped."""
        self._places[key] = (*key, end)
        if len(self._places) > MOST_PLACES:
            oldest = next(iter(self._places))
            del self._places[oldest]
            self._chains.pop(oldest, None)
            self._unread.discard(oldest)
        self._step()

    def _chain_is_broken(self, key: tuple[int, str], data: bytes, chain: str) -> bool:
        before = self._chains.get(key, NO_CHAIN if self._end_of(key) == 0 else None)
        return before is not None and chain_next(before, data) != chain

    def _release_ended(self) -> list[JobUpdate]:
        if self._ended is None:
            return []
        entry_id, event, at = self._ended
        if id_order(self.cursor.log_id) < id_order(event.log_end):
            return []
        if id_order(self.cursor.log_id) > id_order(event.log_end) and self._lacks_log(event):
            # As in note_ends: what is lacking stands before this place. Or after it, where a worker has appended again
            # what Redis had lost: then nothing but the log's end says that all is read.
            if not self._has_read_log_again:
                self.cursor = replace(self.cursor, log_id="0-0")
                self._reads_log_again = self._has_read_log_again = True
            return []
        return self._end_now(entry_id, event, at)

    def _lacks_log(self, event: Ended) -> bool:
        if self._is_without_log:
            return False
        attempt, logs = event.result.attempt, event.result.logs
        return any(self._end_of((attempt, name)) < summary.bytes for name, summary in logs.items())

    def log_is_drained(self) -> list[JobUpdate]:
        """Take that a read after ``log_id`` found nothing more.

        Whatever the final event still waits for is not there: it was trimmed, or Redis lost it.
        """
        if self._reads_log_again:  # that read was still after the place that was given up
            self._reads_log_again = False
            return []
        return self._end_now(*self._ended) if self._ended else []

    def _end_now(self, entry_id: bytes, event: Ended, at: datetime) -> list[JobUpdate]:
        self._ended, self.is_done, self.status = None, True, event.result.status
        self._step(event_id=entry_id.decode())
        heard = []
        for container, summary in ({} if self._is_without_log else event.result.logs).items():
            key = (event.result.attempt, container)
            known = self._end_of(key)
            if known < summary.bytes and key in self._unread:
                pass  # told already
            elif known < summary.bytes:
                why = "trimmed to the job's log limit, or lost by Redis"
                heard.append(self._tell(LogGap(container, event.result.attempt, known, summary.bytes, why), at))
            elif known > summary.bytes and not summary.is_complete:
                pass  # Redis has lost what this reader has: there is nothing to check it against
            elif self._chains.get(key) not in (None, summary.sha256):
                why = "the chained digest of what was read is not the result's"
                heard.append(self._tell(LogGap(container, event.result.attempt, known, known, why), at))
        return [*heard, self._tell(event, at)]

    def _tell(self, event: StatusChanged | Notice | Ended | LogChunk | LogGap, at: datetime) -> JobUpdate:
        if isinstance(event, StatusChanged):
            self.status = event.status
        return JobUpdate(self.job_id, event, self.cursor, at)

    def _step(self, *, event_id: str | None = None, log_id: str | None = None) -> None:
        self.cursor = Cursor(
            self.cursor.generation,
            event_id or self.cursor.event_id,
            log_id or self.cursor.log_id,
            tuple(self._places.values()),
        )


def complete_ended(event: Ended, fields: dict[bytes, bytes]) -> Ended:
    """Add to the final event what the script wrote beside it: the log's end, and the time of every move."""
    times, log_end = decode_times(_shown_text(fields.get(b"t", b""))), fields.get(b"l", b"0-0")
    result = event.result.model_copy(update={"times": {**event.result.times, **times}})
    return event.model_copy(update={"result": result, "log_end": log_end.decode() if _ID.fullmatch(log_end) else "0-0"})


def decode_times(text: str) -> dict[str, datetime]:
    """Read ``queued=1.5 starting=2.5`` (seconds) as aware datetimes, without what is no time."""
    times = {}
    for part in text.split():
        name, _, at = part.partition("=")
        try:
            times[name] = as_datetime(read_seconds(at))
        except ValueError:
            continue
    return times


def _status_at_end(fields: dict[bytes, bytes]) -> Status:
    """Derive how the job ended from the times of its moves, where the event itself cannot be read."""
    times = decode_times(_shown_text(fields.get(b"t", b"")))
    return next((status for status in (Status.SUCCEEDED, Status.CANCELLED) if status.lower() in times), Status.FAILED)


def _read_event(fields: dict[bytes, bytes]) -> StatusChanged | Notice | Ended:
    text = fields.get(b"e", b"")
    if len(text) > MAX_EVENT_BYTES:
        raise ValueError(f"{len(text)} bytes long: at most {MAX_EVENT_BYTES} are read")
    return decode_event(text)


def _read_place(fields: dict[bytes, bytes]) -> tuple[tuple[int, str], int]:
    """Read which attempt's container the entry is of, and from which byte of its log."""
    container, attempt = _field(fields, b"c"), read_count(_field(fields, b"a"))
    if not re.fullmatch(CONTAINER_NAME, container, re.ASCII) or attempt > _MAX_ATTEMPT:
        raise ValueError(f"{shown(container)}, attempt {attempt}: no container's log")
    return (attempt, container), read_count(_field(fields, b"s"))


def _read_gap_end(fields: dict[bytes, bytes], start: int) -> int | None:
    end = read_count(text) if (text := _field(fields, b"e")) else None
    if end is not None and end < start:
        raise ValueError(f"a gap from {start} to {end}")
    return end


def _read_chunk(fields: dict[bytes, bytes], start: int) -> tuple[bytes, str]:
    """Read the entry's bytes, and the chained digest after them."""
    data = _unpacked(fields[b"z"]) if b"z" in fields else fields.get(b"r")
    if data is None or len(data) > MAX_CHUNK_BYTES or start + len(data) > _MAX_END:
        raise ValueError("it has no data" if data is None else f"more than {MAX_CHUNK_BYTES} bytes, or none that count")
    if len(fields.get(b"h", b"")) != 32:
        raise ValueError("it has no digest")
    return data, fields[b"h"].hex()


def _unpacked(packed: bytes) -> bytes:
    """Unpack no more than a chunk may have: a few bytes can hold gigabytes."""
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(packed, MAX_CHUNK_BYTES + 1)
    except zlib.error as error:
        raise ValueError(f"its data cannot be unpacked: {error}") from None
    if len(data) <= MAX_CHUNK_BYTES and not unpacking.eof:
        raise ValueError("its data cannot be unpacked: they are cut off")
    return data


def _field(fields: dict[bytes, bytes], name: bytes) -> str:
    if name not in fields:
        raise ValueError(f"it has no field {name.decode()!r}")
    return _shown_text(fields[name])


def _shown_text(raw: bytes) -> str:
    """Decode text for a person, also where it is no UTF-8; what is longer than any of ours is cut."""
    return raw[:4096].decode("utf-8", "backslashreplace")


def _first_line(error: ValueError) -> str:
    """Say in short what is wrong: pydantic's own text has the whole input after it."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")[:200]
    return str(error).partition("\n")[0][:200]


def id_order(entry_id: bytes | str) -> tuple[int, int]:
    """Return what ids of a stream's entries are compared by."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence or 0)


def _time_of(entry_id: bytes) -> datetime:
    """Read an id's time. Somebody may have chosen the id: at most the last second that is taken for a time."""
    return as_datetime(min(id_order(entry_id)[0] / 1000, MAX_SECONDS))


def unreadable(job_id: str, error: Exception) -> PodrelayError:
    """Make the error about a stream that cannot be read, a key of another type, say."""
    return PodrelayError(f"the channel of job {job_id} cannot be read: {type(error).__name__}: {error}")


def decode_xread(reply: Any) -> dict[bytes, list[Entry]]:
    """Read redis-py's XREAD reply (RESP2) by stream name."""
    return {stream: entries for stream, entries in reply or []}
