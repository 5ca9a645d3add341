"""Turns the entries of a job's two streams in Redis, events and log, into updates. Pure.

Whoever reads hands the entries of both streams, in any portions, to :class:`ChannelReader`. It puts them in order,
drops what the reader already has, turns what is missing into explicit gaps, checks the chained digest, and holds the
final event back until the log is read to the end that this event names. An entry that cannot be read becomes a gap or
a notice, and reading goes on after it.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from dispatcher.channel import (
    WITHOUT_LOG,
    Entry,
    complete_ended,
    first_line,
    id_order,
    read_chunk,
    read_event,
    read_gap_end,
    read_place,
    shown_text,
    status_at_end,
    time_of,
)
from dispatcher.cursor import MAX_ENDS, Cursor
from dispatcher.events import (
    Ended,
    JobUpdate,
    LogChunk,
    LogGap,
    LogSummary,
    Notice,
    StatusChanged,
    unreadable_result,
)
from dispatcher.record import NO_CHAIN, chain_next
from dispatcher.status import Status


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
        self._ends = {(attempt, container): (attempt, container, end) for attempt, container, end in self.cursor.ends}
        self._chains: dict[tuple[int, str], str | None] = {key: None for key in self._ends}
        self._unread: set[tuple[int, str]] = set()  # a gap was returned whose end the next chunk shows
        self._may_have_gap = set(self._ends)  # a gap was returned, by this reader or by whom it goes on for
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
        updates: list[JobUpdate] = []
        queue = list(log)
        for entry_id, fields in events:
            # Keep the two streams roughly in the order of time: ids are times of one clock.
            while queue and id_order(queue[0][0]) < id_order(entry_id):
                updates += self._take_log(*queue.pop(0))
            updates += self._take_event(entry_id, fields)
        for entry in queue:
            updates += self._take_log(*entry)
        return updates + self._release_ended()

    def _take_event(self, entry_id: bytes, fields: dict[bytes, bytes]) -> list[JobUpdate]:
        self._event_id = entry_id.decode()
        if self.is_done or self._ended:
            return []
        at = time_of(entry_id)
        if b"e" not in fields and b"l" not in fields:
            self._step(event_id=self._event_id)
            return []  # a newer writer's kind of entry: nothing this reader knows
        try:
            event = read_event(fields)
        except ValueError as error:
            if b"l" not in fields:
                self._step(event_id=self._event_id)
                return self._note_unreadable(f"event {self._event_id}", error, at)
            # Only a job's end is written with the log's end beside it: whatever it says, there will be no other.
            event = Ended(result=unreadable_result(self.job_id, status_at_end(fields), first_line(error)))
        if isinstance(event, Ended):
            self._ended = (entry_id, complete_ended(event, fields), at)
            return []
        self._step(event_id=self._event_id)
        return [self._update(event, at)]

    def _note_unreadable(self, what: str, error: ValueError, at: datetime) -> list[JobUpdate]:
        if isinstance(error, ValidationError) and error.errors()[0]["type"] == "union_tag_invalid":
            return []  # a newer writer's kind of event
        return [self._update(Notice(level="warning", text=f"{what} cannot be read: {first_line(error)}"), at)]

    def _take_log(self, entry_id: bytes, fields: dict[bytes, bytes]) -> list[JobUpdate]:
        at = time_of(entry_id)
        self._step(log_id=entry_id.decode())
        try:
            key, start = read_place(fields)
        except ValueError as error:
            return self._note_unreadable(f"log entry {self.log_id}", error, at)
        try:
            if b"g" in fields:
                return self._take_gap(key, start, read_gap_end(fields, start), shown_text(fields[b"g"]), at)
            return self._take_chunk(key, start, *read_chunk(fields, start), at)
        except ValueError as error:
            self._chains[key] = None
            self._unread.add(key)
            why = f"log entry {self.log_id} cannot be read: {first_line(error)}"
            return [self._update(LogGap(key[1], key[0], self._end_of(key), None, why), at)]

    def _take_gap(self, key: tuple[int, str], start: int, end: int | None, why: str, at: datetime) -> list[JobUpdate]:
        known = self._end_of(key)
        self._chains[key] = None
        self._note_end(key, max(known, end or start))
        return [self._update(LogGap(key[1], key[0], start, end, why), at)] if end is None or end > known else []

    def _take_chunk(self, key: tuple[int, str], start: int, data: bytes, chain: str, at: datetime) -> list[JobUpdate]:
        (attempt, container), known, updates = key, self._end_of(key), list[JobUpdate]()
        if start > known:
            if key not in self._unread:
                why = "trimmed to the job's log limit, or lost by Redis, before this reader came to it"
                updates.append(self._update(LogGap(container, attempt, known, start, why), at))
        elif start + len(data) <= known:
            # Written anew, perhaps cut into other chunks: the chain goes on from here, or is not known.
            self._chains[key] = chain if start + len(data) == known else None
            return []
        elif self._chain_is_broken(key, data, chain) and start == known:
            updates.append(
                self._update(LogGap(container, attempt, start, start, "the chained digest does not match"), at)
            )
        self._chains[key] = chain
        self._unread.discard(key)
        self._note_end(key, start + len(data))
        skip = max(0, known - start)
        return [*updates, self._update(LogChunk(container, attempt, start + skip, data[skip:]), at)]

    def _end_of(self, key: tuple[int, str]) -> int:
        return self._ends[key][2] if key in self._ends else 0

    def _note_end(self, key: tuple[int, str], end: int) -> None:
        """Note up to where a container's log was read. Beyond the most that a job can have, the first are dropped."""
        self._ends[key] = (*key, end)
        if len(self._ends) > MAX_ENDS:
            oldest = next(iter(self._ends))
            del self._ends[oldest]
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
        updates = []
        for container, summary in ({} if self._is_without_log else event.result.logs).items():
            key = (event.result.attempt, container)
            if (gap := self._gap_at_end(key, summary)) is not None:
                updates.append(self._update(gap, at))
        return [*updates, self._update(event, at)]

    def _gap_at_end(self, key: tuple[int, str], summary: LogSummary) -> LogGap | None:
        """Return what the result says that this reader has not got, unless a gap told it already."""
        (attempt, container), known = key, self._end_of(key)
        if known < summary.bytes:
            why = "trimmed to the job's log limit, or lost by Redis"
            return None if key in self._unread else LogGap(container, attempt, known, summary.bytes, why)
        # Where this reader has more of a log that is not complete, Redis has lost it: there is nothing to check.
        if (known == summary.bytes or summary.is_complete) and self._chains.get(key) not in (None, summary.sha256):
            return LogGap(container, attempt, known, known, "the chained digest of what was read is not the result's")
        if not summary.is_complete and key not in self._may_have_gap:
            return LogGap(container, attempt, known, None, "the log is not complete, and Redis has lost the reason")
        return None

    def _update(self, event: StatusChanged | Notice | Ended | LogChunk | LogGap, at: datetime) -> JobUpdate:
        if isinstance(event, StatusChanged):
            self.status = event.status
        elif isinstance(event, LogGap):
            self._may_have_gap.add((event.attempt, event.container))
        return JobUpdate(self.job_id, event, self.cursor, at)

    def _step(self, *, event_id: str | None = None, log_id: str | None = None) -> None:
        self.cursor = Cursor(
            self.cursor.generation,
            event_id or self.cursor.event_id,
            log_id or self.cursor.log_id,
            tuple(self._ends.values()),
        )
