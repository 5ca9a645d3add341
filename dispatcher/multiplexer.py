"""Following many jobs on two Redis connections: one listens for bells (Pub/Sub), one reads.

A bell carries no data and may be lost; it only says whose streams to read. A job is first read after its SUBSCRIBE is
confirmed, all jobs are read again after a reconnect, and a silent job is looked at now and then: a lost bell costs time
and never data. Each job takes a cursor and a small buffer; a slow consumer stops the reading of its own job only.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import redis.asyncio

from dispatcher import connection, names, steps
from dispatcher.backoff import JitteredBackoff
from dispatcher.channel import Entry, unreadable
from dispatcher.cursor import Cursor
from dispatcher.errors import PodrelayError
from dispatcher.events import JobUpdate
from dispatcher.reader import AWAY_S, LONGEST_RETRY_S, RETRY_S, JobReader, Next, Position, after_look
from dispatcher.steps import Presence

#: Jobs per round trip, entries per stream and job: at most some 8 MB in flight.
BATCH_JOBS = 32
READ_COUNT = 16
#: A consumer that lags this many entries behind stops the reading of its job.
BUFFERED_ENTRIES = 64
#: When to look whether anybody is there: first, and then again while the job stays silent.
FIRST_LOOK_S = 4.0
LOOK_S = 20.0
#: A bell connection on which not even the answer to our PING came for this long is dead.
PING_S = 5.0
#: A loop that ran for this long had no failure in a row with the next.
SOUND_S = 10.0


class _Channel:
    """One call of :meth:`Multiplexer.follow`."""

    __slots__ = ("buffer", "error", "heard_at", "is_dirty", "news", "reader")

    def __init__(self, reader: JobReader) -> None:
        self.reader = reader
        self.buffer: deque[JobUpdate] = deque()
        self.news = asyncio.Event()
        self.error: PodrelayError | None = None
        self.is_dirty = False
        self.heard_at = time.monotonic()

    def deliver(self, updates: list[JobUpdate]) -> None:
        if updates:
            self.buffer.extend(updates)
            self.heard_at = time.monotonic()
        if updates or self.reader.is_over:
            self.news.set()

    def fail(self, error: PodrelayError) -> None:
        self.error = error
        self.news.set()


class Multiplexer:
    """Follows any number of jobs, within one event loop. Use with ``async with``.

    ``client`` is used for reads and shared with other commands; ``bells`` is this object's own. Whoever still follows
    a job when it is closed gets a :class:`PodrelayError`.
    """

    def __init__(
        self, client: "redis.asyncio.Redis", bells: "redis.asyncio.Redis", url: str, *, ping_s: float = PING_S
    ) -> None:
        self._client = client
        self._bells = bells
        self._url = url
        self._ping_s = ping_s
        self._channels: dict[str, set[_Channel]] = {}
        self._dirty: deque[_Channel] = deque()
        self._readable = asyncio.Event()
        self._looks: list[tuple[float, int, _Channel]] = []
        self._look_added = asyncio.Event()
        self._counter = itertools.count()
        self._pubsub: Any = None
        self._subscribing = asyncio.Lock()  # held by whoever speaks on the bell connection
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Multiplexer":
        self._tasks = [asyncio.create_task(self._keep(loop)) for loop in (self._listen, self._read, self._look)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail_all(PodrelayError("the dispatcher was closed while the job was followed; it goes on"))

    async def _keep(self, loop: Callable[[], Awaitable[None]]) -> None:
        """Start the loop again whenever it ends.

        An unexpected error is a defect of ours: it is raised to whoever follows, who would else wait for ever.
        """
        backoff = JitteredBackoff(first_s=RETRY_S, longest_s=LONGEST_RETRY_S)
        while True:
            started = time.monotonic()
            try:
                await loop()
            except connection.REFUSED:
                pass
            except Exception as error:  # noqa: BLE001
                self._fail_all(PodrelayError(f"following jobs failed unexpectedly: {error!r}"))
            if time.monotonic() - started > SOUND_S:
                backoff.succeeded()
            await asyncio.sleep(backoff.failed())

    def _fail_all(self, error: PodrelayError) -> None:
        for channels in self._channels.values():
            for channel in channels:
                channel.fail(error)

    async def follow(self, job_id: str, cursor: Cursor | None = None) -> AsyncGenerator[JobUpdate, None]:
        """Yield what happens to the job, in order, from the cursor (default: the beginning) to its end.

        The last update is :class:`~dispatcher.events.Ended`; a cursor behind it yields nothing.

        Raises:
            JobUnknownError: there is no such job, now or (when Redis was emptied) for a minute.
            RedisUnavailableError: at the start only; later the reader waits until Redis is back.
        """
        channel = _Channel(JobReader(job_id, cursor))
        async with connection.translated_async(self._url):
            channel.reader.start(await connection.run_async(self._client, steps.presence(job_id)))
        try:
            await self._add(job_id, channel)
            while True:
                while channel.buffer:
                    yield channel.buffer.popleft()
                if channel.reader.is_over:
                    return
                if channel.error is not None:
                    raise channel.error
                channel.news.clear()
                self._mark(channel)  # it may have stopped at a full buffer; reading an empty end costs little
                await channel.news.wait()
        finally:
            await self._remove(job_id, channel)

    async def _add(self, job_id: str, channel: _Channel) -> None:
        known = self._channels.setdefault(job_id, set())
        known.add(channel)
        self._schedule_look(channel, FIRST_LOOK_S)
        if len(known) == 1:
            await self._speak("subscribe", job_id)

    async def _remove(self, job_id: str, channel: _Channel) -> None:
        known = self._channels.get(job_id, set())
        known.discard(channel)
        if known:
            return
        self._channels.pop(job_id, None)
        await self._speak("unsubscribe", job_id)

    # Bells

    async def _speak(self, what: str, job_id: str) -> None:
        """Subscribe to a job's bell, or unsubscribe. Without a connection: a new one subscribes to all."""
        async with self._subscribing:
            if self._pubsub is None:
                return
            try:
                async with asyncio.timeout(self._ping_s):
                    await getattr(self._pubsub, what)(names.bell(job_id))
            except connection.REFUSED:
                self._pubsub = None  # the listener finds out and subscribes to everything again

    async def _listen(self) -> None:
        async with connection.pubsub(self._bells) as pubsub:
            try:
                await self._subscribe_all(pubsub)
                await self._hear(pubsub)
            finally:
                self._pubsub = None
                # Nobody may speak on a closed one: it would take the only connection again, and keep it from the next.
                async with self._subscribing:
                    pass

    async def _subscribe_all(self, pubsub: Any) -> None:
        async with self._subscribing:
            await pubsub.subscribe("podrelay:bell")  # so that there is always one, and PING is answered on it
            channels = [names.bell(job_id) for job_id in self._channels]
            for first in range(0, len(channels), 1000):
                await pubsub.subscribe(*channels[first : first + 1000])
            self._pubsub = pubsub

    async def _hear(self, pubsub: Any) -> None:
        answered_at = time.monotonic()
        while self._pubsub is pubsub:
            message = await pubsub.get_message(timeout=self._ping_s)
            now = time.monotonic()
            if message is None:
                if now - answered_at > 1.5 * self._ping_s:
                    raise ConnectionError("no answer on the bell connection")
                await pubsub.ping()
                continue
            answered_at = now
            if message["type"] in ("message", "subscribe"):
                self._ring(message["channel"])

    def _ring(self, bell: bytes) -> None:
        _, _, job_id = bell.decode().partition("{")
        for channel in self._channels.get(job_id[:-1], ()):
            self._mark(channel)

    # Reads

    def _mark(self, channel: _Channel) -> None:
        is_wanted = not channel.reader.is_over and len(channel.buffer) < BUFFERED_ENTRIES
        if is_wanted and not channel.is_dirty:
            channel.is_dirty = True
            self._dirty.append(channel)
            self._readable.set()

    async def _read(self) -> None:
        while True:
            await self._readable.wait()
            batch = [self._dirty.popleft() for _ in range(min(BATCH_JOBS, len(self._dirty)))]
            if not self._dirty:
                self._readable.clear()
            for channel in batch:
                channel.is_dirty = False  # before the read: a bell that rings meanwhile marks it again
            try:
                await self._read_batch(batch)
            except BaseException:
                for channel in batch:
                    self._mark(channel)
                raise

    async def _read_batch(self, batch: list[_Channel]) -> None:
        asked = [channel.reader.position for channel in batch]
        async with self._client.pipeline(transaction=False) as pipe:
            for channel, position in zip(batch, asked, strict=True):
                # Events first: whatever log a final event names is then there when the log is read.
                pipe.xread({names.events(channel.reader.job_id): position.event_id}, count=READ_COUNT)
                pipe.xread({names.log(channel.reader.job_id): position.log_id}, count=READ_COUNT)
            pipe.get(names.GENERATION)  # last: what was read is of this generation
            *replies, generation = await pipe.execute(raise_on_error=False)
        for reply in (*replies, generation):
            if isinstance(reply, connection.UNAVAILABLE):
                raise reply
        for channel, position, *found in zip(batch, asked, replies[::2], replies[1::2], strict=True):
            try:
                events, log = map(_entries, found)
                now = connection.generation_of(generation)
                channel.deliver(channel.reader.on_read(position, events, log, generation=now))
            except Exception as error:  # noqa: BLE001 (an unreadable channel is no reason to stop the others)
                channel.fail(unreadable(channel.reader.job_id, error))
                continue
            if channel.reader.next is Next.READ or len(events) == READ_COUNT or log:
                self._mark(channel)

    # Silence

    def _schedule_look(self, channel: _Channel, after_s: float) -> None:
        heapq.heappush(self._looks, (time.monotonic() + after_s, next(self._counter), channel))
        self._look_added.set()

    async def _look(self) -> None:
        while True:
            await self._look_at(await self._due())

    async def _due(self) -> list[_Channel]:
        while not self._looks or self._looks[0][0] > time.monotonic():
            wait_s = self._looks[0][0] - time.monotonic() if self._looks else None
            self._look_added.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._look_added.wait()
            except TimeoutError:
                break
        due: list[_Channel] = []
        while self._looks and self._looks[0][0] <= time.monotonic() and len(due) < 4 * BATCH_JOBS:
            channel = heapq.heappop(self._looks)[2]
            if channel.reader.is_over or channel not in self._channels.get(channel.reader.job_id, ()):
                continue
            silent_s = time.monotonic() - channel.heard_at
            if silent_s < 0.9 * FIRST_LOOK_S:
                self._schedule_look(channel, FIRST_LOOK_S - silent_s)
                continue
            self._schedule_look(channel, LOOK_S * random.uniform(0.8, 1.2))
            due.append(channel)
        return due

    async def _look_at(self, due: list[_Channel]) -> None:
        asked = [channel.reader.position for channel in due]
        try:
            found = await connection.run_many(self._client, [steps.presence(x.reader.job_id) for x in due])
        except connection.REFUSED as error:
            away = connection.unavailable(self._url, error)
            for channel in due:  # each has been silent for long
                channel.deliver(channel.reader.on_unavailable(away, datetime.now(UTC), away_s=AWAY_S))
            raise
        looks = [after_look(x.reader.job_id, p) for x, p in zip(due, found, strict=True) if isinstance(p, Presence)]
        await connection.run_many(self._client, [step for step in looks if step is not None])
        for channel, position, present in zip(due, asked, found, strict=True):
            self._take_look(channel, position, present)

    def _take_look(self, channel: _Channel, asked: Position, present: Presence | Exception) -> None:
        if isinstance(present, Exception):
            channel.fail(unreadable(channel.reader.job_id, present))
            return
        try:
            channel.deliver(channel.reader.on_look(asked, present, time.monotonic()))
        except PodrelayError as error:
            channel.fail(error)
        self._mark(channel)  # its bell may have been lost


def _entries(reply: Any) -> list[Entry]:
    if isinstance(reply, Exception):
        raise reply
    return list(reply[0][1]) if reply else []
