"""The caller's client, synchronous. The asynchronous one is :mod:`dispatcher.aio`; both are thin shells over the same
pure core (:mod:`dispatcher.steps`, :mod:`dispatcher.channel`, :mod:`dispatcher.reader`)."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from dispatcher import connection, names, steps
from dispatcher.channel import WITHOUT_LOG, ChannelReader, Entry, decode_xread, unreadable
from dispatcher.errors import (
    JobUnknownError,
    PodrelayError,
    RedisUnavailableError,
    ResultTimeoutError,
)
from dispatcher.events import Cursor, Ended, Heard, JobResult, Silence
from dispatcher.reader import SilenceWatch, check_known, missing_since
from dispatcher.record import MAX_SECONDS, JobRecord, as_datetime, decode_worker
from dispatcher.settings import ClientSettings
from dispatcher.spec import JobSpec
from dispatcher.steps import CancelOutcome, Submitted

#: How long one blocking read waits before the reader looks whether anybody is there.
BLOCK_S = 4.0
#: Entries per read: at most some 4 MB of log.
READ_COUNT = 256
#: Records per script: it must not hold up the server.
RECORDS_AT_ONCE = 100
#: Keys per script that says which there are: queues and workers are as many as anybody has written down.
KEYS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker as its queue lists it, dead ones included. Times in seconds of Redis' clock."""

    incarnation: str
    queue: str
    is_alive: bool
    last_seen_at: float
    info: dict[str, Any]


class Dispatcher:
    """Submit jobs and await what becomes of them.

    Safe to share between threads. Every method raises :class:`~dispatcher.errors.RedisUnavailableError` when Redis
    cannot be used within the settings' bounded retries; a failed job is a result, never an exception.
    """

    def __init__(self, settings: ClientSettings | None = None) -> None:
        self.settings = settings or ClientSettings.from_environment()
        self._url = self.settings.redis_url.get_secret_value()
        limits = {"retries": self.settings.redis_retries}
        self._redis = connection.connect(self._url, timeout_s=self.settings.redis_timeout_s, **limits)
        # A blocking read is answered after BLOCK_S at the latest; only then does the reply's own limit begin.
        self._reads = connection.connect(self._url, timeout_s=BLOCK_S + self.settings.redis_timeout_s, **limits)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
        self._reads.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ping(self) -> None:
        """Check that Redis answers."""
        with connection.translated(self._url):
            self._redis.ping()

    def now(self) -> float:
        """Redis' time (seconds since the epoch), the one clock of an installation: what several machines wait for is
        told in it."""
        with connection.translated(self._url):
            seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6

    def submit(self, spec: JobSpec) -> Submitted:
        """Submit the job, or attach to the one that its key stands for. Repeating it with the same spec is harmless."""
        with connection.translated(self._url):
            return connection.run(self._redis, steps.submit(spec))

    def follow(self, job_id: str, cursor: Cursor | None = None) -> Iterator[Heard]:
        """Yield what happens to the job, in order, from the cursor (default: the beginning) to its end.

        The last thing yielded is :class:`~dispatcher.events.Ended`; a cursor behind it yields nothing. Holds one
        connection while it waits.

        Raises:
            JobUnknownError: there is no such job, now or (when Redis was emptied) for a minute.
            RedisUnavailableError: at the start only; later the reader waits until Redis is back.
        """
        reader, watch = ChannelReader(job_id, cursor), SilenceWatch()
        present = self._look(job_id)
        check_known(job_id, present, cursor)
        reader.note_generation(present.generation)
        unknown_since: float | None = None
        failures, lost_at, block_s = 0, 0.0, BLOCK_S
        while not reader.is_done:
            was_final = present.is_final
            try:
                events, log, generation = self._read(reader, block_s=0.0 if was_final else block_s)
                has_news = bool(events or log)
                present = present if has_news else self._look(job_id)
            except RedisUnavailableError as error:
                lost_at = lost_at if failures else time.monotonic()
                failures += 1
                yield from _told(reader, watch.redis_away(error, time.monotonic() - lost_at), datetime.now(UTC))
                time.sleep(connection.backoff_s(failures))
                continue
            failures, block_s = 0, BLOCK_S
            if _begins_again(reader, generation, None if has_news else present):
                block_s = 0.0
                continue
            yield from reader.take(events, log)
            if not log:
                yield from reader.log_is_drained()
            if has_news:
                unknown_since = None
                continue
            if was_final and not reader.awaits_log:
                return  # it was final before this read, and no final event any more: the cursor stood behind it
            yield from _told(reader, watch.look(present), as_datetime(present.at))
            unknown_since = missing_since(job_id, present, unknown_since, time.monotonic())

    def _read(self, reader: ChannelReader, *, block_s: float) -> tuple[list[Entry], list[Entry], str]:
        """The next entries of both streams, and the generation that they are of."""
        events, log = names.events(reader.job_id), names.log(reader.job_id)
        keys: dict[Any, Any] = {events: reader.event_id, log: reader.log_id}
        with connection.translated(self._url), self._reads.pipeline(transaction=False) as pipe:
            pipe.xread(keys, count=READ_COUNT, block=int(block_s * 1000) or None)
            pipe.get(names.GENERATION)
            raw, generation = pipe.execute(raise_on_error=False)
            if isinstance(raw, Exception):
                if connection.is_about_a_key(raw):
                    raise unreadable(reader.job_id, raw)
                raise raw
            found, now = decode_xread(raw), connection.generation_of(generation)
        return found.get(events.encode(), []), found.get(log.encode(), []), now

    def _look(self, job_id: str) -> steps.Presence:
        with connection.translated(self._url):
            present = connection.run(self._redis, steps.presence(job_id))
            if present.is_overdue:
                connection.run(self._redis, steps.expire(job_id, present.queue))
        return present

    def result(self, job_id: str, timeout_s: float | None = None) -> JobResult:
        """Wait for the job's end and return its result, at once where it has ended.

        Raises:
            ResultTimeoutError: it has not ended after ``timeout_s``; it goes on.
            JobUnknownError: there is no such job.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        record = self.get(job_id)
        if record.result is not None:
            return record.result
        reader, failures = ChannelReader(job_id, WITHOUT_LOG), 0
        unknown_since: float | None = None
        while True:
            left_s = BLOCK_S if deadline is None else min(BLOCK_S, deadline - time.monotonic())
            if left_s <= 0:
                raise ResultTimeoutError(f"job {job_id} has not ended after {timeout_s:g} s; it goes on")
            try:
                events, _, generation = self._read(reader, block_s=max(0.001, left_s))
                if not events:
                    present = self._look(job_id)
                    unknown_since = missing_since(job_id, present, unknown_since, time.monotonic())
                    if present.is_final:
                        return _result_of(self.get(job_id))
            except RedisUnavailableError:
                failures += 1
                time.sleep(min(left_s, connection.backoff_s(failures)))
                continue
            failures = 0
            if generation != reader.cursor.generation:
                reader.note_generation(generation)
                continue
            for heard in [*reader.take(events, []), *reader.log_is_drained()]:
                if isinstance(heard.event, Ended):
                    return heard.event.result

    def cancel(self, job_id: str, by: str) -> CancelOutcome:
        """Ask for the job's end; ``by`` says who asks. Idempotent; the end itself is heard on the channel.

        Raises:
            JobUnknownError: there is no such job.
        """
        with connection.translated(self._url):
            outcome = connection.run(self._redis, steps.cancel(job_id, by))
        return checked_cancel(job_id, outcome)

    def acknowledge(self, job_id: str) -> None:
        """Say that the result is stored on the caller's side: the next submit of its key makes a new job.

        Raises:
            JobUnknownError: there is no such job.
            PodrelayError: it has not ended.
        """
        with connection.translated(self._url):
            reply = connection.run(self._redis, steps.acknowledge(job_id))
        check_acknowledged(job_id, reply)

    def get(self, job_id: str) -> JobRecord:
        """The job's record as it is now.

        Raises:
            JobUnknownError: there is no such job.
        """
        with connection.translated(self._url):
            record = connection.run(self._redis, steps.read_record(job_id))
        if record is None:
            raise JobUnknownError(job_id)
        return record

    def list(self, queue: str | None = None, *, limit: int = 100) -> "Sequence[JobRecord]":
        """The newest jobs of a queue (default: of all), active ones first, at most ``limit`` of each kind and queue."""
        found: list[JobRecord] = []
        with connection.translated(self._url):
            indexes = indexes_of([queue] if queue else self.queues())
            present = self._existing(indexes)
            for index in filter(present.__contains__, indexes):
                job_ids, odd = connection.run(self._redis, steps.newest(index, limit))
                found += odd
                for first in range(0, len(job_ids), RECORDS_AT_ONCE):
                    step = steps.read_records(job_ids[first : first + RECORDS_AT_ONCE])
                    records = connection.run(self._redis, step)
                    found += records
        return found

    def queues(self) -> "Sequence[str]":
        """Every queue that was ever used."""
        with connection.translated(self._url):
            found: Any = self._redis.smembers(names.queues())
        return sorted({*(x.decode("utf-8", "backslashreplace") for x in found), self.settings.queue})

    def workers(self, queue: str | None = None) -> "Sequence[WorkerView]":
        """The workers of a queue (default: of all), dead ones included, the last seen first."""
        views: list[WorkerView] = []
        with connection.translated(self._url):
            listed = {names.workers(name): name for name in ([queue] if queue else self.queues())}
            present = self._existing(list(listed))
            for key in filter(present.__contains__, listed):
                found: Any = self._redis.hgetall(key)
                leases = lease_keys(found)
                alive = self._existing(list(leases.values()))
                views += [worker_view(listed[key], x, found[x], is_alive=leases[x] in alive) for x in found]
        return sorted(views, key=last_seen_first)

    def _existing(self, keys: "Sequence[str]") -> set[str]:
        portions = (keys[first : first + KEYS_AT_ONCE] for first in range(0, len(keys), KEYS_AT_ONCE))
        return set().union(*(connection.run(self._redis, steps.existing(portion)) for portion in portions))


def indexes_of(queues: Sequence[str]) -> Sequence[str]:
    """The keys in which the jobs of these queues are listed."""
    return [index for queue in queues for index in (names.active(queue), names.recent(queue))]


def lease_keys(incarnations: Iterable[bytes]) -> dict[bytes, str]:
    """The key of each incarnation's lease. What is no text holds none."""
    return {name: names.worker(name.decode("utf-8", "backslashreplace")) for name in incarnations}


def worker_view(queue: str, incarnation: bytes, text: bytes, *, is_alive: bool) -> WorkerView:
    """Read a queue's entry of one worker, for both shells."""
    info = decode_worker(text)
    seen = info.pop("last_seen", 0)
    is_time = isinstance(seen, int | float) and 0 <= seen < MAX_SECONDS
    seen_at = float(seen) if is_time else 0.0  # type: ignore[arg-type]
    return WorkerView(incarnation.decode("utf-8", "backslashreplace"), queue, is_alive, seen_at, info)


def last_seen_first(view: WorkerView) -> tuple[bool, float]:
    """Sort key: the living first."""
    return not view.is_alive, -view.last_seen_at


def checked_cancel(job_id: str, outcome: CancelOutcome) -> CancelOutcome:
    """What a cancel came to, for both shells; raises where there was nothing to cancel."""
    if outcome is CancelOutcome.MISSING:
        raise JobUnknownError(job_id)
    if outcome is CancelOutcome.UNREADABLE:
        raise _unreadable_record(job_id)
    return outcome


def _unreadable_record(job_id: str) -> PodrelayError:
    return PodrelayError(f"the record of job {job_id} cannot be read (see `podrelay status`): nothing was done")


def _result_of(record: JobRecord) -> JobResult:
    if record.result is None:
        raise PodrelayError(f"job {record.job_id} has ended ({record.status.value}), and its record has no result")
    return record.result


def check_acknowledged(job_id: str, reply: str) -> None:
    """Read the reply of :func:`dispatcher.steps.acknowledge` for both shells."""
    if reply == "missing":
        raise JobUnknownError(job_id)
    if reply == "unreadable":
        raise _unreadable_record(job_id)
    if reply == "illegal":
        raise PodrelayError(f"job {job_id} has not ended: only a result can be acknowledged")


def _begins_again(reader: ChannelReader, generation: str, silent: steps.Presence | None) -> bool:
    """Whether Redis has lost what the reader's place stands on: that place, and so the last read, means nothing.
    ``silent``: the look after a read that found nothing."""
    if generation != reader.cursor.generation:
        reader.note_generation(generation)
        return True
    if silent is None or silent.status is None:
        return False
    at = 0.0 if silent.is_final else silent.at  # a final event that was not read stands before the place in any case
    return reader.note_ends(silent.last_event_id, silent.last_log_id, at)


def _told(reader: ChannelReader, news: Silence | None, at: datetime) -> Iterator[Heard]:
    if news is not None:
        yield Heard(reader.job_id, news, reader.cursor, at)
