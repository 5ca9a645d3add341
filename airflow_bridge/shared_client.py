"""One client for all triggers of an event loop: two connections to Redis, however many triggers wait.

A triggerer may run ten thousand triggers in one loop. Each borrows its connection's client. An unused client stays open
for a while, because the next trigger usually comes soon.
"""

import asyncio
import contextvars
import time
import weakref
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from dispatcher.errors import PodrelayError

if TYPE_CHECKING:
    from airflow_bridge.hook import ResolvedConnection
    from dispatcher.aio import AsyncDispatcher
    from dispatcher.events import Cursor
    from dispatcher.redis_endpoint import RedisEndpoint

T = TypeVar("T")

#: How long a client that nobody uses stays open.
LINGER_S = 30.0
#: How long new triggers use a connection that was read before.
RESOLVED_S = 30.0
#: How often readers' cursors are written to Redis: a triggerer that is killed shows at most so much of a log twice.
KEEP_CURSORS_S = 1.0
#: How long the cursor of a job that has ended is kept: longer than its task takes to resume.
KEEP_ENDED_S = 3600.0

#: Which job, and who reads it.
ReaderKey = tuple[str, str]


class SharedClient:
    """A client, and the cursors of all its readers."""

    def __init__(self, dispatcher: "AsyncDispatcher") -> None:
        self.dispatcher = dispatcher
        self._borrowers = 0
        self._idle_since = time.monotonic()
        self._unwritten: dict[ReaderKey, Cursor] = {}
        self._upkeep: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the client, with its background tasks in a context that is no trigger's."""
        await _in_own_context(self.dispatcher.__aenter__())
        self._upkeep = _in_own_context(self._maintain())

    async def cursor(self, job_id: str, reader: str) -> "Cursor | None":
        """Return where this reader stopped, in this process or another."""
        return self._unwritten.get((job_id, reader)) or await self.dispatcher.place(job_id, reader)

    def note_cursor(self, job_id: str, reader: str, cursor: "Cursor") -> None:
        """Note how far the reader has come; it is written to Redis soon."""
        self._unwritten[(job_id, reader)] = cursor

    async def keep_cursor(self, job_id: str, reader: str, cursor: "Cursor", *, ended: bool) -> None:
        """Write the cursor now, because its reader stops."""
        self._unwritten.pop((job_id, reader), None)
        keep_s = {"keep_s": KEEP_ENDED_S} if ended else {}
        await self.dispatcher.keep_places({(job_id, reader): cursor}, **keep_s)

    def borrow(self) -> None:
        """Count one more user."""
        self._borrowers += 1

    def give_back(self) -> None:
        """Count one user less."""
        self._borrowers -= 1
        self._idle_since = time.monotonic()

    async def _maintain(self) -> None:
        """Write cursors regularly; close the client when it was unused for long, or when the loop ends."""
        try:
            while self._borrowers > 0 or time.monotonic() - self._idle_since < LINGER_S:
                await asyncio.sleep(KEEP_CURSORS_S)
                await self._write_cursors()
        finally:
            _this_loop().clients.pop(self.dispatcher.settings.redis, None)
            await self.dispatcher.__aexit__(None, None, None)

    async def _write_cursors(self) -> None:
        cursors, self._unwritten = self._unwritten, {}
        try:
            await self.dispatcher.keep_places(cursors)
        except PodrelayError:
            self._unwritten = {**cursors, **self._unwritten}  # Redis is away: again the next time


class _LoopState:
    """What the triggers of one event loop share: clients by where they lead, resolved connections by id."""

    def __init__(self) -> None:
        self.clients: dict[RedisEndpoint, asyncio.Task[SharedClient]] = {}
        self.connections: dict[str, tuple[float, asyncio.Task[ResolvedConnection]]] = {}


_LOOPS: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopState]" = weakref.WeakKeyDictionary()


def _this_loop() -> _LoopState:
    return _LOOPS.setdefault(asyncio.get_running_loop(), _LoopState())


@asynccontextmanager
async def borrowed_client(conn_id: str) -> "AsyncIterator[SharedClient]":
    """Borrow the client that all users of this connection share in this event loop.

    Raises:
        AirflowNotFoundException: there is no such connection.
        dispatcher.errors.SettingsError: it cannot be used.
    """
    connection = await _resolved(conn_id)
    endpoint = connection.settings.redis
    clients = _this_loop().clients
    opening = clients.get(endpoint)
    if opening is None:
        opening = clients[endpoint] = _in_own_context(_open(connection))
    client = await asyncio.shield(opening)
    client.borrow()
    try:
        yield client
    finally:
        client.give_back()


async def _open(connection: "ResolvedConnection") -> SharedClient:
    from dispatcher.aio import AsyncDispatcher

    client = SharedClient(AsyncDispatcher(connection.settings))
    await client.open()
    return client


async def _resolved(conn_id: str) -> "ResolvedConnection":
    from airflow_bridge.hook import PodRelayHook

    known, now = _this_loop().connections, time.monotonic()
    resolved_at, resolving = known.get(conn_id, (float("-inf"), None))
    if resolving is None or now - resolved_at > RESOLVED_S:
        resolving = asyncio.create_task(PodRelayHook(conn_id).aresolve())
        known[conn_id] = (now, resolving)
    try:
        return await asyncio.shield(resolving)
    except Exception:
        with suppress(KeyError):
            if known[conn_id][1] is resolving:
                del known[conn_id]
        raise


def _in_own_context(work: "Coroutine[None, None, T]") -> "asyncio.Task[T]":
    """Start a task in a context of its own, not that of the trigger that needs it first (and its log)."""
    return asyncio.get_running_loop().create_task(work, context=contextvars.Context())
