"""The caller's client, asynchronous: as :mod:`dispatcher.client`, for one event loop.

It holds two Redis connections however many jobs are followed (:mod:`dispatcher.multiplexer`).
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Self

from dispatcher import connection, names, steps
from dispatcher.channel import WITHOUT_LOG
from dispatcher.cursor import Cursor
from dispatcher.errors import JobUnknownError, PodrelayError, ResultTimeoutError
from dispatcher.events import Ended, JobResult, JobUpdate
from dispatcher.multiplexer import Multiplexer
from dispatcher.record import JobRecord
from dispatcher.replies import (
    KEYS_AT_ONCE,
    RECORDS_AT_ONCE,
    WorkerView,
    check_acknowledged,
    checked_cancel,
    indexes_of,
    last_seen_first,
    lease_keys,
    worker_view,
)
from dispatcher.settings import ClientSettings
from dispatcher.spec import JobSpec
from dispatcher.steps import CancelOutcome, Submitted

#: How long a reader's cursor is kept when it is not renewed.
KEEP_CURSOR_S = 7 * 86400.0


class AsyncDispatcher:
    """Submit jobs and await what becomes of them.

    Use with ``async with``. Errors are those of :class:`dispatcher.client.Dispatcher`.
    """

    def __init__(self, settings: ClientSettings | None = None) -> None:
        self.settings = settings or ClientSettings.from_environment()
        self._where = self.settings.redis.shown
        limits = {"timeout_s": self.settings.redis_timeout_s, "retries": self.settings.redis_retries}
        # One connection for every command: none of them blocks.
        self._redis = connection.connect_async(self.settings.redis, max_connections=1, **limits)  # type: ignore[arg-type]
        # The bell connection is read all the time; its end is noticed by PING (see Multiplexer), never retried within.
        self._bells = connection.connect_async(
            self.settings.redis, timeout_s=self.settings.redis_timeout_s, retries=0, max_connections=1
        )
        self._multiplexer = Multiplexer(self._redis, self._bells, self._where, ping_s=self.settings.redis_timeout_s)

    async def __aenter__(self) -> Self:
        await self._multiplexer.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._multiplexer.__aexit__()
        await self._redis.aclose()
        await self._bells.aclose()

    async def now(self) -> float:
        """Return Redis' time (seconds since the epoch): the one clock of an installation."""
        async with connection.translated_async(self._where):
            seconds, microseconds = await self._redis.time()
        return seconds + microseconds / 1e6

    async def submit(self, spec: JobSpec) -> Submitted:
        """Submit the job, or attach to the one that its key stands for. Repeating it with the same spec is harmless.

        Raises:
            InvalidSpecError: the spec is too large.
            JobIdTakenError: its id was submitted before with another spec, or to another queue.
        """
        async with connection.translated_async(self._where):
            return await connection.run_async(self._redis, steps.submit(spec))

    def follow(self, job_id: str, cursor: Cursor | None = None) -> AsyncGenerator[JobUpdate, None]:
        """Yield what happens to the job, in order, from the cursor to its end: see :meth:`Multiplexer.follow`."""
        return self._multiplexer.follow(job_id, cursor)

    async def result(self, job_id: str, timeout_s: float | None = None) -> JobResult:
        """Wait for the job's end and return its result, at once where it has ended.

        Raises:
            ResultTimeoutError: it has not ended after ``timeout_s``; it goes on.
            JobUnknownError: there is no such job.
        """
        record = await self.get(job_id)
        if record.result is not None:
            return record.result
        try:
            async with asyncio.timeout(timeout_s):
                async with aclosing(self._multiplexer.follow(job_id, WITHOUT_LOG)) as updates:
                    async for update in updates:
                        if isinstance(update.event, Ended):
                            return update.event.result
        except TimeoutError:
            raise ResultTimeoutError(f"job {job_id} has not ended after {timeout_s} s; it goes on") from None
        raise PodrelayError(f"the channel of job {job_id} ended without a result")

    async def cancel(self, job_id: str, by: str) -> CancelOutcome:
        """Ask for the job's end; ``by`` says who asks. Idempotent; the end itself comes as an event.

        Raises:
            JobUnknownError: there is no such job.
        """
        async with connection.translated_async(self._where):
            outcome = await connection.run_async(self._redis, steps.cancel(job_id, by))
        return checked_cancel(job_id, outcome)

    async def acknowledge(self, job_id: str) -> None:
        """Say that the result is stored on the caller's side: the next submit of its key makes a new job.

        Raises:
            JobUnknownError: there is no such job.
            PodrelayError: it has not ended.
        """
        async with connection.translated_async(self._where):
            outcome = await connection.run_async(self._redis, steps.acknowledge(job_id))
        check_acknowledged(job_id, outcome)

    async def get(self, job_id: str) -> JobRecord:
        """Return the job's record as it is now.

        Raises:
            JobUnknownError: there is no such job.
        """
        async with connection.translated_async(self._where):
            record = await connection.run_async(self._redis, steps.read_record(job_id))
        if record is None:
            raise JobUnknownError(job_id)
        return record

    async def find(self, key: str, queue: str | None = None) -> str | None:
        """Return the id of the job that the key stands for in a queue (default: the settings' one).

        The job may have ended. None where there is none.
        """
        async with connection.translated_async(self._where):
            return await connection.run_async(self._redis, steps.find(key, queue or self.settings.queue))

    async def list(self, queue: str | None = None, *, limit: int = 100) -> "Sequence[JobRecord]":
        """List the newest jobs of a queue (default: of all queues).

        At most ``limit`` active ones of each queue, then as many that have ended.
        """
        records: list[JobRecord] = []
        async with connection.translated_async(self._where):
            indexes = indexes_of([queue] if queue else await self.queues())
            present = await self._existing(indexes)
            for index in filter(present.__contains__, indexes):
                job_ids, odd = await connection.run_async(self._redis, steps.newest(index, limit))
                records += odd
                for first in range(0, len(job_ids), RECORDS_AT_ONCE):
                    step = steps.read_records(job_ids[first : first + RECORDS_AT_ONCE])
                    found = await connection.run_async(self._redis, step)
                    records += found
        return records

    async def queues(self) -> "Sequence[str]":
        """List every queue that was ever used."""
        async with connection.translated_async(self._where):
            found: Any = await self._redis.smembers(names.queues())
        return sorted({*(x.decode("utf-8", "backslashreplace") for x in found), self.settings.queue})

    async def workers(self, queue: str | None = None) -> "Sequence[WorkerView]":
        """List the workers of a queue (default: of all queues), the last seen first; dead ones are included."""
        views: list[WorkerView] = []
        async with connection.translated_async(self._where):
            listed = {names.workers(name): name for name in ([queue] if queue else await self.queues())}
            present = await self._existing(list(listed))
            for key in filter(present.__contains__, listed):
                found: Any = await self._redis.hgetall(key)
                leases = lease_keys(found)
                alive = await self._existing(list(leases.values()))
                views += [worker_view(listed[key], x, found[x], is_alive=leases[x] in alive) for x in found]
        return sorted(views, key=last_seen_first)

    async def _existing(self, keys: "Sequence[str]") -> set[str]:
        portions = (keys[first : first + KEYS_AT_ONCE] for first in range(0, len(keys), KEYS_AT_ONCE))
        found = [await connection.run_async(self._redis, steps.existing(portion)) for portion in portions]
        return set().union(*found)

    async def keep_places(self, cursors: Mapping[tuple[str, str], Cursor], *, keep_s: float = KEEP_CURSOR_S) -> None:
        """Keep the cursors of named readers, by job id and reader, for ``keep_s`` seconds.

        Another process that reads for the same reader goes on from there.
        """
        if not cursors:
            return
        async with connection.translated_async(self._where), self._redis.pipeline(transaction=False) as pipe:
            for (job_id, reader), cursor in cursors.items():
                pipe.set(names.cursor(job_id, reader), cursor.encode(), ex=math.ceil(keep_s))
            await pipe.execute()

    async def place(self, job_id: str, reader: str) -> Cursor | None:
        """Return this reader's cursor; None where none was kept, or none that can be read: begin at the beginning."""
        async with connection.translated_async(self._where):
            kept: Any = await self._redis.get(names.cursor(job_id, reader))
        try:
            return Cursor.decode(kept.decode()) if kept else None
        except ValueError:
            return None
