"""The worker's door to the job records: steps repeated until Redis has answered them.

While Redis is away, or refuses (a script that blocks it, a right taken away, a disk that is full), nothing fails: a
step is repeated, with jittered back-off. Only an answer (fenced, missing, illegal) changes what the owner does.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

import redis.asyncio
import structlog
from redis.exceptions import ResponseError

from dispatcher import connection
from dispatcher.backoff import JitteredBackoff
from dispatcher.record import JobRecord
from dispatcher.steps import Step, exists, read_record

T = TypeVar("T")
log = structlog.get_logger("podrelay.worker")


class Store:
    """Carries out steps in Redis, within one event loop.

    Attributes:
        client: for reads that may fail.
    """

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self.client = client

    async def run(self, step: Step[T]) -> T:
        """Carry out a step, however long Redis is away or refuses it."""
        return (await self.run_many([step]))[0]

    async def run_many(self, steps: Sequence[Step[T]]) -> list[T]:
        """Carry out steps in order, in one round trip, however long Redis is away or refuses one.

        All are repeated when the answer to any is lost.
        """
        return await self._run(steps, connection.REFUSED)

    async def run_each(self, steps: Sequence[Step[T]]) -> list[T | Exception]:
        """Carry out independent steps, in one round trip where possible, however long Redis is away.

        Where one is refused, or its answer cannot be read, the error stands in its place.
        """
        try:
            return [*await self._run(steps, connection.UNAVAILABLE)]
        except Exception as error:  # noqa: BLE001 it is the caller's, who tells it
            return [error] if len(steps) == 1 else [(await self.run_each([step]))[0] for step in steps]

    async def _run(self, steps: Sequence[Step[T]], waited_out: tuple[type[Exception], ...]) -> list[T]:
        backoff = JitteredBackoff(first_s=0.2, longest_s=3.0)
        while True:
            try:
                return await self.run_once(steps)
            except waited_out as error:
                if backoff.failures == 0:
                    log.warning("Redis unavailable, waiting", why=str(error) or type(error).__name__)
                await asyncio.sleep(backoff.failed())

    async def exists(self, key: str) -> bool:
        """Ask whether Redis has this key, however long it is away."""
        return await self.run(exists(key))

    async def read_record(self, job_id: str) -> JobRecord | None:
        """Return the job's record, however long Redis is away; None: there is none."""
        return await self.run(read_record(job_id))

    async def run_once(self, steps: Sequence[Step[Any]]) -> list[Any]:
        """Carry out steps once.

        Raises:
            connection.REFUSED: Redis is away, or refuses one (the first of those that it refuses for what their keys
                hold, all the others were carried out); some of the steps may have been carried out.
        """
        if len(steps) == 1:
            return [await connection.run_async(self.client, steps[0])]
        outcomes = await connection.run_many(self.client, steps)
        for outcome in outcomes:
            if isinstance(outcome, ResponseError):
                raise outcome
        return outcomes
