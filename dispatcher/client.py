"""The caller's client, synchronous. The asynchronous one is :mod:`dispatcher.aio`.

Both are thin shells over the same pure core: :mod:`dispatcher.steps` says what Redis is asked, and
:mod:`dispatcher.reader` what its answers mean for a job that is followed.
"""

import math
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Self

from dispatcher import connection, names, steps
from dispatcher.backoff import JitteredBackoff
from dispatcher.channel import WITHOUT_LOG, decode_xread, unreadable
from dispatcher.cursor import Cursor
from dispatcher.errors import (
    JobUnknownError,
    PodrelayError,
    RedisUnavailableError,
    ResultTimeoutError,
)
from dispatcher.events import Ended, JobResult, JobUpdate
from dispatcher.reader import LONGEST_RETRY_S, RETRY_S, JobReader, Next, after_look, check_known
from dispatcher.record import JobRecord
from dispatcher.replies import (
    KEYS_AT_ONCE,
    RECORDS_AT_ONCE,
    check_acknowledged,
    checked_cancel,
    indexes_of,
    last_seen_first,
    lease_keys,
    worker_view,
)
from dispatcher.replies import WorkerView as WorkerView
from dispatcher.settings import ClientSettings
from dispatcher.spec import JobSpec
from dispatcher.steps import CancelOutcome, Presence, Submitted

#: How long one blocking read waits before the reader looks whether anybody is there.
BLOCK_S = 4.0
#: Entries per read: at most some 4 MB of log.
READ_COUNT = 256


class Dispatcher:
    """Submit jobs and await what becomes of them.

    Safe to share between threads. Every method raises :class:`~dispatcher.errors.RedisUnavailableError` when Redis
    cannot be used within the settings' bounded retries; a failed job is a result, never an exception.
    """

    def __init__(self, settings: ClientSettings | None = None) -> None:
        self.settings = settings or ClientSettings.from_environment()
        self._where = self.settings.redis.shown
        limits = {"retries": self.settings.redis_retries}
        self._redis = connection.connect(self.settings.redis, timeout_s=self.settings.redis_timeout_s, **limits)
        # A blocking read is answered after BLOCK_S at the latest; only then does the reply's own limit begin.
        self._reads = connection.connect(
            self.settings.redis, timeout_s=BLOCK_S + self.settings.redis_timeout_s, **limits
        )

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
        with connection.translated(self._where):
            self._redis.ping()

    def danger(self) -> str | None:
        """Say what is wrong with a Redis that answers and may lose jobs; None where nothing is, or it tells nothing."""
        return connection.danger_of(self._redis)

    def now(self) -> float:
        """Return Redis' time (seconds since the epoch): the one clock of an installation."""
        with connection.translated(self._where):
            seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6

    def submit(self, spec: JobSpec) -> Submitted:
        """Submit the job, or attach to the one that its key stands for. Repeating it with the same spec is harmless.

        Raises:
            InvalidSpecError: the spec is too large.
            JobIdTakenError: its id was submitted before with another spec, or to another queue.
        """
        with connection.translated(self._where):
            return connection.run(self._redis, steps.submit(spec))

    def follow(self, job_id: str, cursor: Cursor | None = None) -> Iterator[JobUpdate]:
        """Yield what happens to the job, in order, from the cursor (default: the beginning) to its end.

        The last thing yielded is :class:`~dispatcher.events.Ended`; a cursor behind it yields nothing. Holds one
        connection while it waits.

        Raises:
            JobUnknownError: there is no such job, now or (when Redis was emptied) for a minute.
            RedisUnavailableError: at the start only; later the reader waits until Redis is back.
        """
        reader = JobReader(job_id, cursor)
        reader.start(self._look(job_id))
        yield from self._read_on(reader)

    def read_so_far(self, job_id: str, cursor: Cursor | None = None) -> Iterator[JobUpdate]:
        """Yield what was published after the cursor (default: from the beginning), without waiting for more.

        Raises:
            JobUnknownError: there is no such job.
        """
        reader = JobReader(job_id, cursor)
        with connection.translated(self._where):
            present = connection.run(self._redis, steps.presence(job_id))
        check_known(job_id, present, None)
        reader.start(present)
        while True:
            yield from self._read(reader, block_s=0)
            if reader.next in (Next.LOOK, Next.OVER):
                return

    def _read_on(self, reader: JobReader, deadline: float = math.inf) -> Iterator[JobUpdate]:
        """Yield the updates up to the job's end, or to the deadline (monotonic seconds)."""
        backoff, lost_at = JitteredBackoff(first_s=RETRY_S, longest_s=LONGEST_RETRY_S), 0.0
        while not reader.is_over and (left_s := deadline - time.monotonic()) > 0:
            try:
                updates = self._read(reader, block_s=min(BLOCK_S, left_s) if reader.next is Next.WAIT else 0)
                if reader.next is Next.LOOK:
                    asked = reader.position
                    updates += reader.on_look(asked, self._look(reader.job_id), time.monotonic())
            except RedisUnavailableError as error:
                lost_at = lost_at if backoff.failures else time.monotonic()
                pause_s = backoff.failed()
                yield from reader.on_unavailable(error, datetime.now(UTC), away_s=time.monotonic() - lost_at)
                time.sleep(min(pause_s, max(0.0, deadline - time.monotonic())))
                continue
            backoff.succeeded()
            yield from updates

    def _read(self, reader: JobReader, *, block_s: float) -> list[JobUpdate]:
        """Read once, and wait for so long where there is nothing yet."""
        asked, events, log = reader.position, names.events(reader.job_id), names.log(reader.job_id)
        keys: dict[Any, Any] = {events: asked.event_id, log: asked.log_id}
        redis = self._reads if block_s else self._redis
        with connection.translated(self._where), redis.pipeline(transaction=False) as pipe:
            pipe.xread(keys, count=READ_COUNT, block=math.ceil(block_s * 1000) or None)
            pipe.get(names.GENERATION)
            raw, generation = pipe.execute(raise_on_error=False)
            if isinstance(raw, Exception):
                if connection.is_about_a_key(raw):
                    raise unreadable(reader.job_id, raw)
                raise raw
            found, now = decode_xread(raw), connection.generation_of(generation)
        return reader.on_read(asked, found.get(events.encode(), []), found.get(log.encode(), []), generation=now)

    def _look(self, job_id: str) -> Presence:
        with connection.translated(self._where):
            present = connection.run(self._redis, steps.presence(job_id))
            if (step := after_look(job_id, present)) is not None:
                connection.run(self._redis, step)
        return present

    def result(self, job_id: str, timeout_s: float | None = None) -> JobResult:
        """Wait for the job's end and return its result, at once where it has ended.

        Raises:
            ResultTimeoutError: it has not ended after ``timeout_s``; it goes on.
            JobUnknownError: there is no such job.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        record = self.get(job_id)
        if record.result is not None:
            return record.result
        reader = JobReader(job_id, WITHOUT_LOG)
        for update in self._read_on(reader, deadline):
            if isinstance(update.event, Ended):
                return update.event.result
        if not reader.is_over:
            raise ResultTimeoutError(f"job {job_id} has not ended after {timeout_s:g} s; it goes on")
        return _result_of(self.get(job_id))

    def cancel(self, job_id: str, by: str) -> CancelOutcome:
        """Ask for the job's end; ``by`` says who asks. Idempotent; the end itself comes as an event.

        Raises:
            JobUnknownError: there is no such job.
        """
        with connection.translated(self._where):
            outcome = connection.run(self._redis, steps.cancel(job_id, by))
        return checked_cancel(job_id, outcome)

    def acknowledge(self, job_id: str) -> None:
        """Say that the result is stored on the caller's side: the next submit of its key makes a new job.

        Raises:
            JobUnknownError: there is no such job.
            PodrelayError: it has not ended.
        """
        with connection.translated(self._where):
            outcome = connection.run(self._redis, steps.acknowledge(job_id))
        check_acknowledged(job_id, outcome)

    def get(self, job_id: str) -> JobRecord:
        """Return the job's record as it is now.

        Raises:
            JobUnknownError: there is no such job.
        """
        with connection.translated(self._where):
            record = connection.run(self._redis, steps.read_record(job_id))
        if record is None:
            raise JobUnknownError(job_id)
        return record

    def find(self, key: str, queue: str | None = None) -> str | None:
        """Return the id of the job that the key stands for in a queue (default: the settings' one).

        The job may have ended. None where there is none.
        """
        with connection.translated(self._where):
            return connection.run(self._redis, steps.find(key, queue or self.settings.queue))

    def list(self, queue: str | None = None, *, limit: int = 100) -> "Sequence[JobRecord]":
        """List the newest jobs of a queue (default: of all queues).

        At most ``limit`` active ones of each queue, then as many that have ended.
        """
        found: list[JobRecord] = []
        with connection.translated(self._where):
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
        """List every queue that was ever used."""
        with connection.translated(self._where):
            found: Any = self._redis.smembers(names.queues())
        return sorted({*(x.decode("utf-8", "backslashreplace") for x in found), self.settings.queue})

    def workers(self, queue: str | None = None) -> "Sequence[WorkerView]":
        """List the workers of a queue (default: of all queues), the last seen first; dead ones are included."""
        views: list[WorkerView] = []
        with connection.translated(self._where):
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


def _result_of(record: JobRecord) -> JobResult:
    if record.result is None:
        raise PodrelayError(f"job {record.job_id} has ended ({record.status.value}), and its record has no result")
    return record.result
