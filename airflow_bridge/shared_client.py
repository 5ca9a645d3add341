"""One client for all triggers of an event loop: two Redis connections, however many wait.

A triggerer may run ten thousand triggers in one loop. Each borrows the client of its connection; the last one to go
leaves it open for a little while, because the next trigger is usually near.
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

T = TypeVar("T")

#: How long a client that nobody uses stays open.
LINGER_S = 30.0
#: How long a resolved connection is good for new triggers.
RESOLVED_S = 30.0
#: How often the readers' places are written to Redis: what a killed triggerer's successor may tell twice.
KEEP_CURSORS_S = 1.0
#: How long a place is kept when its job has ended: until the task has gone on.
KEEP_ENDED_S = 3600.0

#: Who reads which job: job id, reader.
Reading = tuple[str, str]


class SharedClient:
    """A client and the places of all who read with it."""

    def __init__(self, dispatcher: "AsyncDispatcher") -> None:
        self.dispatcher = dispatcher
        self._borrowers = 0
        self._idle_since = time.monotonic()
        self._unwritten: dict[Reading, Cursor] = {}
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the client; its background tasks belong to no trigger, so they run in a context of their own."""
        await _apart(self.dispatcher.__aenter__())
        self._keeper = _apart(self._keep())

    async def cursor(self, job_id: str, reader: str) -> "Cursor | None":
        """Where this reader was, in whichever process it was."""
        return self._unwritten.get((job_id, reader)) or await self.dispatcher.place(job_id, reader)

    def note_cursor(self, job_id: str, reader: str, cursor: "Cursor") -> None:
        """The reader has told everything up to here; written to Redis soon."""
        self._unwritten[(job_id, reader)] = cursor

    async def keep_cursor(self, job_id: str, reader: str, cursor: "Cursor", *, ended: bool) -> None:
        """Write the place now: the reader goes away."""
        self._unwritten.pop((job_id, reader), None)
        keep_s = {"keep_s": KEEP_ENDED_S} if ended else {}
        await self.dispatcher.keep_places({(job_id, reader): cursor}, **keep_s)

    def borrow(self) -> None:
        """One more uses it."""
        self._borrowers += 1

    def give_back(self) -> None:
        """One less uses it."""
        self._borrowers -= 1
        self._idle_since = time.monotonic()

    async def _keep(self) -> None:
        """Write the places from time to time; close the client when it was idle for long, or when the loop ends."""
        try:
            while self._borrowers > 0 or time.monotonic() - self._idle_since < LINGER_S:
                await asyncio.sleep(KEEP_CURSORS_S)
                await self._write_cursors()
        finally:
            _this_loop().clients.pop(self.dispatcher.settings.redis_url.get_secret_value(), None)
            await self.dispatcher.__aexit__(None, None, None)

    async def _write_cursors(self) -> None:
        moved, self._unwritten = self._unwritten, {}
        try:
            await self.dispatcher.keep_places(moved)
        except PodrelayError:
            self._unwritten = {**moved, **self._unwritten}  # Redis is away: again the next time


class _Loop:
    """What the triggers of one event loop share: clients by URL, resolved connections by id."""

    def __init__(self) -> None:
        self.clients: dict[str, asyncio.Task[SharedClient]] = {}
        self.connections: dict[str, tuple[float, asyncio.Task[ResolvedConnection]]] = {}


_LOOPS: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop]" = weakref.WeakKeyDictionary()


def _this_loop() -> _Loop:
    return _LOOPS.setdefault(asyncio.get_running_loop(), _Loop())


@asynccontextmanager
async def borrowed_client(conn_id: str) -> "AsyncIterator[SharedClient]":
    """The client that all users of this connection in this event loop share.

    Raises:
        AirflowNotFoundException: there is no such connection.
        dispatcher.errors.SettingsError: it cannot be used.
    """
    connection = await _resolved(conn_id)
    url = connection.settings.redis_url.get_secret_value()
    clients = _this_loop().clients
    opening = clients.get(url)
    if opening is None:
        opening = clients[url] = _apart(_open(connection))
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


def _apart(work: "Coroutine[None, None, T]") -> "asyncio.Task[T]":
    """A task that inherits nothing of the trigger that happens to start it (its log's address, for one)."""
    return asyncio.get_running_loop().create_task(work, context=contextvars.Context())
