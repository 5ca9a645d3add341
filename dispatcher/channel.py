"""A job's channel: how log entries look on the wire, and the pure core of every reader.

A reader reads both streams of a job from its cursor and hands the entries, in any portions, to
:class:`ChannelReader`, which puts them in order, drops what the reader already has, turns what is missing into explicit
gaps, checks the chained digest, and holds the final event back until the log is drained to the end it names.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from dispatcher.events import Cursor, Ended, Heard, LogChunk, LogGap, Notice, StatusChanged, decode_event
from dispatcher.record import NO_CHAIN, chain_next
from dispatcher.status import Status
from dispatcher.steps import Argument

#: One entry of a stream as redis-py gives it: id, fields.
Entry = tuple[bytes, dict[bytes, bytes]]

#: Below this size compression costs more than it saves.
COMPRESS_FROM_BYTES = 512

#: Where a reader starts that wants the events only: after any log entry.
WITHOUT_LOG = Cursor(log_id="18446744073709551615-0")


def encode_chunk(*, container: str, attempt: int, start: int, data: bytes, chain: str) -> Sequence[Argument]:
    """A chunk as a stream entry. ``chain``: the chained SHA-256 after this chunk. Data is compressed when it pays."""
    coding, payload = "r", data
    if len(data) >= COMPRESS_FROM_BYTES:
        packed = zlib.compress(data, level=1)
        if len(packed) < 0.8 * len(data):
            coding, payload = "z", packed
    return ("c", container, "a", attempt, "s", start, "h", bytes.fromhex(chain), coding, payload)


def encode_gap(*, container: str, attempt: int, start: int, end: int | None, why: str) -> Sequence[Argument]:
    """The mark of bytes that were lost before they could be published; ``end`` None: nobody can know how many."""
    return ("c", container, "a", attempt, "s", start, "e", "" if end is None else end, "g", why)


class ChannelReader:
    """The pure core of a reader of one job.

    Attributes:
        cursor: the place after everything that :meth:`take` returned.
        status: the last status told; never leaves a final one.
        is_done: the final event was told.
    """

    def __init__(self, job_id: str, cursor: Cursor | None = None) -> None:
        self.job_id = job_id
        self.cursor = cursor or Cursor()
        self.status: Status | None = None
        self.is_done = False
        self._event_id = self.cursor.event_id
        self._ends = {(attempt, container): end for attempt, container, end in self.cursor.ends}
        self._chains: dict[tuple[int, str], str | None] = {key: None for key in self._ends}
        self._ended: tuple[bytes, Ended, datetime] | None = None
        self._reads_log_again = False  # the read under way is still after the place that was given up
        self._has_read_log_again = False

    @property
    def awaits_log(self) -> bool:
        """The final event was read, and is told when the log is."""
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
        """Redis' generation as just read. Another one than the cursor's means that Redis was emptied: the streams began
        anew, so their ids mean nothing; the offsets in the cursor still do."""
        if self.cursor.generation and generation != self.cursor.generation:
            self._begin_again()
        self.cursor = replace(self.cursor, generation=generation)

    def note_ends(self, last_event_id: str, last_log_id: str, at: float) -> bool:
        """The ids of the streams' last entries and Redis' time (seconds), as read after this reader came to its place.
        A place beyond both is one in another Redis, whose last writes this one lacks (a failover) and whose clock was
        ahead of this one's: what is added now would not come after that place. Then the streams are read again from
        their beginnings; returns whether."""

        def is_beyond(place: str, last: str) -> bool:
            return _id_key(place) > _id_key(last) and _id_key(place)[0] > 1000 * at

        is_behind = is_beyond(self._event_id, last_event_id)
        is_behind |= not self._is_without_log and is_beyond(self.cursor.log_id, last_log_id)
        if is_behind:
            self._begin_again()
        return is_behind

    def _begin_again(self) -> None:
        self._event_id, self._has_read_log_again = "0-0", False
        log_id = self.cursor.log_id if self._is_without_log else "0-0"
        self.cursor = replace(self.cursor, event_id="0-0", log_id=log_id)

    def take(self, events: Iterable[Entry], log: Iterable[Entry]) -> list[Heard]:
        """Digest the next entries of both streams (each in order, after ``event_id`` and ``log_id``)."""
        heard: list[Heard] = []
        queue = list(log)
        for entry_id, fields in events:
            # Keep the two streams roughly in the order of time: ids are times of one clock.
            while queue and _id_key(queue[0][0]) < _id_key(entry_id):
                heard += self._take_log(*queue.pop(0))
            heard += self._take_event(entry_id, fields)
        for entry in queue:
            heard += self._take_log(*entry)
        return heard + self._release_ended()

    def _take_event(self, entry_id: bytes, fields: dict[bytes, bytes]) -> list[Heard]:
        self._event_id = entry_id.decode()
        if self.is_done or self._ended:
            return []
        at = _time_of(entry_id)
        try:
            event = decode_event(fields[b"e"])
        except (ValidationError, KeyError):
            # A newer writer's kind of event: nothing this reader was built to tell.
            self._step(event_id=self._event_id)
            return []
        if isinstance(event, Ended):
            self._ended = (entry_id, complete_ended(event, fields), at)
            return []
        self._step(event_id=self._event_id)
        return [self._tell(event, at)]

    def _take_log(self, entry_id: bytes, fields: dict[bytes, bytes]) -> list[Heard]:
        container, attempt, start = fields[b"c"].decode(), int(fields[b"a"]), int(fields[b"s"])
        key, at, heard = (attempt, container), _time_of(entry_id), list[Heard]()
        known = self._ends.get(key, 0)
        self._step(log_id=entry_id.decode())
        if b"g" in fields:
            end = int(fields[b"e"]) if fields[b"e"] else None
            self._ends[key] = max(known, end or start)
            self._chains[key] = None
            self._step()
            gap = LogGap(container, attempt, start, end, fields[b"g"].decode())
            return [self._tell(gap, at)] if end is None or end > known else []
        data = zlib.decompress(fields[b"z"]) if b"z" in fields else fields[b"r"]
        if start > known:
            why = "trimmed to the job's log limit, or lost by Redis, before this reader came to it"
            heard.append(self._tell(LogGap(container, attempt, known, start, why), at))
        elif start + len(data) <= known:
            # Written anew, perhaps cut into other chunks: the chain goes on from here, or is not known.
            self._chains[key] = fields[b"h"].hex() if start + len(data) == known else None
            return []
        elif self._chain_is_broken(key, data, fields[b"h"].hex()) and start == known:
            heard.append(self._tell(LogGap(container, attempt, start, start, "the chained digest does not match"), at))
        self._chains[key] = fields[b"h"].hex()
        self._ends[key] = start + len(data)
        self._step()
        skip = max(0, known - start)
        return [*heard, self._tell(LogChunk(container, attempt, start + skip, data[skip:]), at)]

    def _chain_is_broken(self, key: tuple[int, str], data: bytes, chain: str) -> bool:
        before = self._chains.get(key, NO_CHAIN if self._ends.get(key, 0) == 0 else None)
        return before is not None and chain_next(before, data) != chain

    def _release_ended(self) -> list[Heard]:
        if self._ended is None:
            return []
        entry_id, event, at = self._ended
        if _id_key(self.cursor.log_id) < _id_key(event.log_end):
            return []
        if _id_key(self.cursor.log_id) > _id_key(event.log_end) and self._lacks_log(event):
            # As in note_ends: what is lacking stands before this place. Or after it, where a worker has appended again
            # what Redis had lost: then nothing but the log's end says that all is read.
            if not self._has_read_log_again:
                self.cursor = replace(self.cursor, log_id="0-0")
                self._reads_log_again = self._has_read_log_again = True
            return []
        return self.end_now(entry_id, event, at)

    def _lacks_log(self, event: Ended) -> bool:
        if self._is_without_log:
            return False
        attempt, logs = event.result.attempt, event.result.logs
        return any(self._ends.get((attempt, name), 0) < summary.bytes for name, summary in logs.items())

    def log_is_drained(self) -> list[Heard]:
        """Tell that a read after ``log_id`` found nothing more: what the final event still waits for is not there (it
        was trimmed, or Redis lost it)."""
        if self._reads_log_again:  # that read was still after the place that was given up
            self._reads_log_again = False
            return []
        return self.end_now(*self._ended) if self._ended else []

    def end_now(self, entry_id: bytes, event: Ended, at: datetime) -> list[Heard]:
        self._ended, self.is_done, self.status = None, True, event.result.status
        self._step(event_id=entry_id.decode())
        heard = []
        for container, summary in ({} if self._is_without_log else event.result.logs).items():
            known = self._ends.get((event.result.attempt, container), 0)
            if known < summary.bytes:
                why = "trimmed to the job's log limit, or lost by Redis"
                heard.append(self._tell(LogGap(container, event.result.attempt, known, summary.bytes, why), at))
            elif known > summary.bytes and not summary.is_complete:
                pass  # Redis has lost what this reader has: there is nothing to check it against
            elif self._chains.get((event.result.attempt, container)) not in (None, summary.sha256):
                why = "the chained digest of what was read is not the result's"
                heard.append(self._tell(LogGap(container, event.result.attempt, known, known, why), at))
        return [*heard, self._tell(event, at)]

    def _tell(self, event: StatusChanged | Notice | Ended | LogChunk | LogGap, at: datetime) -> Heard:
        if isinstance(event, StatusChanged):
            self.status = event.status
        return Heard(self.job_id, event, self.cursor, at)

    def _step(self, *, event_id: str | None = None, log_id: str | None = None) -> None:
        self.cursor = Cursor(
            self.cursor.generation,
            event_id or self.cursor.event_id,
            log_id or self.cursor.log_id,
            tuple((attempt, container, end) for (attempt, container), end in self._ends.items()),
        )


def complete_ended(event: Ended, fields: dict[bytes, bytes]) -> Ended:
    """Add to the final event what the step that wrote it noted beside it: the log's end, and the time of every move."""
    times = decode_times(fields.get(b"t", b"").decode())
    result = event.result.model_copy(update={"times": {**event.result.times, **times}})
    return event.model_copy(update={"result": result, "log_end": fields.get(b"l", b"0-0").decode()})


def decode_times(text: str) -> dict[str, datetime]:
    """Read ``queued=1.5 starting=2.5`` (seconds) as aware datetimes."""
    pairs = (part.partition("=") for part in text.split())
    return {name: datetime.fromtimestamp(float(seconds), UTC) for name, _, seconds in pairs}


def _id_key(entry_id: bytes | str) -> tuple[int, int]:
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence or 0)


def _time_of(entry_id: bytes) -> datetime:
    return datetime.fromtimestamp(_id_key(entry_id)[0] / 1000, UTC)


def decode_xread(reply: Any) -> dict[bytes, list[Entry]]:
    """redis-py's XREAD reply (RESP2) by stream name."""
    return {stream: entries for stream, entries in reply or []}
