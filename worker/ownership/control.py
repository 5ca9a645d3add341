"""Hear of cancels, hand-overs, awaited ends and offered jobs at once; the sweeps make up for a lost message.

A message is a hint to look, never an order, and anybody on the server may send one: Pub/Sub ignores database numbers,
so messages of an installation in another database of this server come here too, and its jobs may have the same ids.
"""

import asyncio
from typing import Any, Final, Protocol

from dispatcher import connection, names
from dispatcher.bounded_json import loads_bounded
from worker.cluster.client import Backoff
from worker.context import Context

#: No message of ours is longer: it names a job and a namespace, or a worker.
MAX_MESSAGE_BYTES: Final = 4096
#: A connection that did not even answer our PING for three times this long is dead.
PING_S = 5.0


class ControlListener(Protocol):
    """Who acts on control messages. Called in the loop; must not block."""

    def check(self, job_id: str) -> None:
        """Look at the job's record: it may ask for the job's end."""

    def wake(self, job_id: str) -> None:
        """Look at the job: what it waits for may be there."""

    def offered(self, job_id: str, namespace: str, min_worker_version: str) -> None:
        """Claim the job if it can run here: the worker that heard of it does not serve its namespace, or is too old."""

    def sweep_soon(self) -> None:
        """Sweep: another worker has let go of jobs."""


class Control:
    """The worker's own Pub/Sub connection, on which control messages come."""

    def __init__(self, ctx: Context, listener: ControlListener) -> None:
        self._ctx = ctx
        self._listener = listener

    async def run(self) -> None:
        """Listen for ever."""
        settings = self._ctx.settings
        client = connection.connect_async(
            settings.redis, timeout_s=settings.redis_timeout_s, retries=0, max_connections=1
        )
        back_off = Backoff(longest_s=5.0)
        try:
            while True:
                try:
                    async with connection.pubsub(client) as pubsub:
                        await pubsub.subscribe(names.control(settings.queue))
                        back_off.succeeded()
                        await self._hear(pubsub)
                except connection.REFUSED as error:
                    await asyncio.sleep(back_off.failed(error))
        finally:
            await client.aclose()

    async def _hear(self, pubsub: Any) -> None:
        loop = asyncio.get_running_loop()
        answered_at = loop.time()
        while True:
            message = await pubsub.get_message(timeout=PING_S)
            if message is None:
                if loop.time() - answered_at > 3 * PING_S:
                    raise ConnectionError("no answer on the control connection")
                await pubsub.ping()
                continue
            answered_at = loop.time()
            if message["type"] == "message":
                with self._ctx.guard.one_of_many("control"):
                    self._take(message["data"])

    def _take(self, data: bytes) -> None:
        """Act on a message; a newer version's is ignored.

        Raises:
            ValueError: the data is no message.
        """
        try:
            message = loads_bounded(data, max_bytes=MAX_MESSAGE_BYTES)
        except ValueError as error:
            raise ValueError(f"a control message that is none: {error}: {data[:100]!r}") from None
        match message:
            case {"cancel": str(job_id)}:
                self._listener.check(job_id)
            case {"wake": str(job_id)}:
                self._listener.wake(job_id)
            case {"offered": str(job_id), "namespace": str(namespace), "min_worker_version": str(needed)}:
                self._listener.offered(job_id, namespace, needed)
            case {"offered": str(job_id), "namespace": str(namespace)}:
                self._listener.offered(job_id, namespace, "")
            case {"released": _}:
                self._listener.sweep_soon()
