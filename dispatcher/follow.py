"""Following many jobs on two Redis connections: one hears bells (Pub/Sub), one reads.

A bell carries nothing and may be lost; it only says whose channel to read. A job's first read comes after its
SUBSCRIBE is confirmed, everything is read again after a reconnect, and a silent job is looked at now and then, so a
lost bell costs time and never data. Nothing is held per job but its place and a small buffer; a slow consumer stops the
reading of its own job only.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

import redis.asyncio

from dispatcher import connection, names, silence, steps
from dispatcher.channel import ChannelReader
from dispatcher.errors import JobUnknownError, PodrelayError
from dispatcher.events import Cursor, Heard
from dispatcher.record import as_datetime

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


class _Channel:
    """One call of :meth:`Follower.follow`."""

    __slots__ = ("buffer", "error", "heard_at", "is_dirty", "news", "reader", "unknown_since", "watch")

    def __init__(self, reader: ChannelReader) -> None:
        self.reader = reader
        self.buffer: deque[Heard] = deque()
        self.news = asyncio.Event()
        self.watch = silence.SilenceWatch()
        self.error: PodrelayError | None = None
        self.is_dirty = False
        self.heard_at = time.monotonic()
        self.unknown_since: float | None = None

    def deliver(self, heard: list[Heard]) -> None:
        if heard:
            self.buffer.extend(heard)
            self.heard_at = time.monotonic()
            self.news.set()

    def fail(self, error: PodrelayError) -> None:
        self.error = error
        self.news.set()


class Follower:
    """Belongs to one event loop. ``client`` is used for reads and shared with other commands; ``bells`` is this
    object's own. Start with ``async with``."""

    def __init__(self, client: "redis.asyncio.Redis", bells: "redis.asyncio.Redis", url: str) -> None:
        self._client = client
        self._bells = bells
        self._url = url
        self._channels: dict[str, set[_Channel]] = {}
        self._dirty: deque[_Channel] = deque()
        self._readable = asyncio.Event()
        self._looks: list[tuple[float, int, _Channel]] = []
        self._look_added = asyncio.Event()
        self._counter = itertools.count()
        self._pubsub: Any = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Follower":
        self._tasks = [asyncio.create_task(loop()) for loop in (self._listen, self._read, self._look)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def follow(self, job_id: str, cursor: Cursor | None = None) -> AsyncGenerator[Heard, None]:
        """Yield what happens to the job, in order, from the cursor (default: the beginning) to its end.

        Raises:
            JobUnknownError: there is no such job, now or (when Redis was emptied) for a minute.
            RedisUnavailableError: at the start only; later the reader waits until Redis is back.
        """
        channel = _Channel(ChannelReader(job_id, cursor))
        async with connection.translated_async(self._url):
            present = await connection.run_async(self._client, silence.presence(job_id))
        if present.status is None and cursor is None:
            raise JobUnknownError(job_id)
        channel.reader.note_generation(present.generation)
        await self._add(job_id, channel)
        try:
            while True:
                while channel.buffer:
                    yield channel.buffer.popleft()
                if channel.reader.is_done:
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
        if len(known) == 1 and self._pubsub is not None:
            try:
                await self._pubsub.subscribe(names.bell(job_id))
            except connection.UNAVAILABLE:
                self._pubsub = None  # the listener finds out itself and subscribes to everything again

    async def _remove(self, job_id: str, channel: _Channel) -> None:
        known = self._channels.get(job_id, set())
        known.discard(channel)
        if known:
            return
        self._channels.pop(job_id, None)
        if self._pubsub is not None:
            try:
                await self._pubsub.unsubscribe(names.bell(job_id))
            except connection.UNAVAILABLE:
                self._pubsub = None

    # Bells

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                async with self._bells.pubsub() as pubsub:
                    await self._subscribe_all(pubsub)
                    failures = 0
                    await self._hear(pubsub)
            except connection.UNAVAILABLE:
                failures += 1
            finally:
                self._pubsub = None
            await asyncio.sleep(_backoff_s(failures))

    async def _subscribe_all(self, pubsub: Any) -> None:
        await pubsub.subscribe("podrelay:bell")  # so that there is always one, and PING is answered on it
        self._pubsub = pubsub
        channels = [names.bell(job_id) for job_id in self._channels]
        for first in range(0, len(channels), 1000):
            await pubsub.subscribe(*channels[first : first + 1000])

    async def _hear(self, pubsub: Any) -> None:
        answered_at = time.monotonic()
        while True:
            message = await pubsub.get_message(timeout=PING_S)
            now = time.monotonic()
            if message is None:
                if now - answered_at > 3 * PING_S:
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
        if not channel.is_dirty and len(channel.buffer) < BUFFERED_ENTRIES:
            channel.is_dirty = True
            self._dirty.append(channel)
            self._readable.set()

    async def _read(self) -> None:
        failures = 0
        while True:
            await self._readable.wait()
            batch = [self._dirty.popleft() for _ in range(min(BATCH_JOBS, len(self._dirty)))]
            if not self._dirty:
                self._readable.clear()
            for channel in batch:
                channel.is_dirty = False  # before the read: a bell that rings meanwhile marks it again
            try:
                await self._read_batch(batch)
                failures = 0
            except connection.UNAVAILABLE:
                failures += 1
                for channel in batch:
                    self._mark(channel)
                await asyncio.sleep(_backoff_s(failures))

    async def _read_batch(self, batch: list[_Channel]) -> None:
        async with self._client.pipeline(transaction=False) as pipe:
            for channel in batch:
                reader = channel.reader
                # Events first: whatever log a final event names is then there when the log is read.
                pipe.xread({names.events(reader.job_id): reader.event_id}, count=READ_COUNT)
                pipe.xread({names.log(reader.job_id): reader.log_id}, count=READ_COUNT)
            replies = await pipe.execute()
        for channel, events_reply, log_reply in zip(batch, replies[::2], replies[1::2], strict=True):
            events = events_reply[0][1] if events_reply else []
            log = log_reply[0][1] if log_reply else []
            channel.deliver(channel.reader.take(events, log))
            if not log:
                channel.deliver(channel.reader.log_is_drained())
            if len(events) == READ_COUNT or log:
                self._mark(channel)

    # Silence

    def _schedule_look(self, channel: _Channel, after_s: float) -> None:
        heapq.heappush(self._looks, (time.monotonic() + after_s, next(self._counter), channel))
        self._look_added.set()

    async def _look(self) -> None:
        failures = 0
        while True:
            try:
                await self._look_at(await self._due())
                failures = 0
            except connection.UNAVAILABLE:
                failures += 1
                await asyncio.sleep(_backoff_s(failures))

    async def _due(self) -> list[_Channel]:
        while not self._looks or self._looks[0][0] > time.monotonic():
            wait_s = self._looks[0][0] - time.monotonic() if self._looks else None
            self._look_added.clear()
            try:
                await asyncio.wait_for(self._look_added.wait(), wait_s)
            except TimeoutError:
                break
        due: list[_Channel] = []
        while self._looks and self._looks[0][0] <= time.monotonic() and len(due) < 4 * BATCH_JOBS:
            channel = heapq.heappop(self._looks)[2]
            if channel.reader.is_done or channel not in self._channels.get(channel.reader.job_id, ()):
                continue
            self._schedule_look(channel, LOOK_S * random.uniform(0.8, 1.2))
            if time.monotonic() - channel.heard_at >= FIRST_LOOK_S * 0.9:
                due.append(channel)
        return due

    async def _look_at(self, due: list[_Channel]) -> None:
        found = await connection.run_many(self._client, [silence.presence(x.reader.job_id) for x in due])
        overdue = [steps.expire(x.reader.job_id, p.queue) for x, p in zip(due, found, strict=True) if p.is_overdue]
        await connection.run_many(self._client, overdue)
        for channel, present in zip(due, found, strict=True):
            reader = channel.reader
            reader.note_generation(present.generation)
            news = channel.watch.look(present)
            if news is not None:
                channel.deliver([Heard(reader.job_id, news, reader.cursor, as_datetime(present.at))])
            try:
                channel.unknown_since = silence.unknown_since(
                    reader.job_id, present, channel.unknown_since, time.monotonic()
                )
            except JobUnknownError as error:
                channel.fail(error)
            self._mark(channel)


def _backoff_s(failures: int) -> float:
    """How long to wait after so many failures in a row: jittered, doubling, at most some 5 s."""
    return random.uniform(0.5, 1) * min(5.0, 0.1 * 2.0 ** min(failures, 10))
