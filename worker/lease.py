"""Renewing the worker's lease, and knowing how far a missing lease of another can be trusted."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog

from dispatcher import connection
from dispatcher.steps import heartbeat
from worker.cluster.client import BackOff
from worker.context import Context

log = structlog.get_logger("podrelay.worker")

#: The own lease counts for a little less than Redis grants, from before the renewal was sent.
OWN_LEASE_SHARE: Final = 0.9
#: How many lease times the jobs' owners have to make lost records again themselves, from more than the pods tell.
REBUILT_AFTER_LEASES: Final = 2


class Heartbeat:
    """Belongs to the supervisor's loop. ``info`` is what the worker tells of itself.

    Attributes:
        generation: Redis' generation; another one than before means that it was emptied.
        rebuilt_at: Redis was emptied, began anew or failed over: until then (monotonic seconds) the owners put back
            what they know, and nothing is launched.
        started_at: when (seconds of Redis' clock) this worker began.
        trusted_since: the lease of an owner that was not seen since this time (seconds of Redis' clock) says nothing,
            because Redis restarted then, or this worker was cut off until then, and so may its owner have been.
    """

    def __init__(self, ctx: Context, info: Callable[[], Mapping[str, Any]]) -> None:
        self.generation = ""
        self.rebuilt_at = 0.0
        self.started_at = 0.0
        self.trusted_since = 0.0
        self._ctx = ctx
        self._info = info
        self._is_due = asyncio.Event()

    async def first(self) -> None:
        """Take the lease, or fail.

        Raises:
            connection.REFUSED: Redis cannot be used.
        """
        await self.beat()
        self.started_at = self._ctx.store.now()
        self.trusted_since = max(self.trusted_since, await self._server_started_at())

    def beat_now(self) -> None:
        """Beat now: what the worker says of itself has changed."""
        self._is_due.set()

    async def run(self) -> None:
        """Renew for ever."""
        settings = self._ctx.settings
        back_off = BackOff(first_s=0.2, longest_s=min(1.0, settings.heartbeat_s))
        while True:
            try:
                self._is_due.clear()
                await self.beat()
                if back_off.since is not None:
                    log.info("heartbeat resumed")
                    self.trusted_since = self._ctx.store.now()
                    back_off.succeeded()
                with suppress(TimeoutError):
                    async with asyncio.timeout(settings.heartbeat_s):
                        await self._is_due.wait()
            except connection.REFUSED as error:
                if back_off.since is None:
                    log.warning("heartbeat failed, Redis unavailable", why=str(error) or type(error).__name__)
                await asyncio.sleep(back_off.failed(error))

    async def beat(self) -> None:
        """Renew the lease, and tell what the worker says of itself.

        Raises:
            connection.REFUSED: Redis cannot be used now.
        """
        ctx, settings = self._ctx, self._ctx.settings
        sent_at = asyncio.get_running_loop().time()
        lease_ms = int(settings.lease_s * 1000)
        step = heartbeat(ctx.incarnation, settings.queue, lease_ms=lease_ms, info=self._info())
        (beat,) = await ctx.store.run_once([step])
        ctx.store.set_clock(beat.at)
        if beat.gave_way:
            log.error("keys of another type gave way", keys=beat.gave_way)
        # Also by our own clock: a reply may have been lost, and the repeated step found the lease that it had made.
        if not beat.lease_was_alive or sent_at > ctx.lease_until:
            ctx.tenure += 1
        if self.generation and sent_at > ctx.lease_until:
            ctx.certain_from = sent_at + settings.lease_s
        ctx.lease_until = sent_at + settings.lease_s * OWN_LEASE_SHARE
        ctx.lease_renewed.set()
        if self.generation and not beat.lease_was_alive:
            log.warning("the lease had lapsed", incarnation=ctx.incarnation)
            self.trusted_since = beat.at
        was_emptied = self.generation not in ("", beat.generation)
        if self.generation and beat.redis_life != ctx.redis_life:
            what = "was emptied" if was_emptied else "began anew or failed over, its last writes may be lost"
            log.warning(f"Redis {what}: records are rebuilt")
        if (changed_at := beat.at if was_emptied else beat.runs_since) is not None:
            left_s = changed_at + REBUILT_AFTER_LEASES * settings.lease_s - beat.at
            self.rebuilt_at = max(self.rebuilt_at, asyncio.get_running_loop().time() + left_s)
            self.trusted_since = max(self.trusted_since, changed_at)
        self.trusted_since = min(self.trusted_since, beat.at)  # Redis' clock may have been set back
        self.generation, ctx.redis_life = beat.generation, beat.redis_life

    async def _server_started_at(self) -> float:
        """Since when Redis runs (its own clock); on the way, whether it may throw keys away."""
        info: Any = await self._ctx.store.client.info()
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            log.error("Redis may evict keys and lose jobs: set maxmemory-policy noeviction", policy=policy)
        return self._ctx.store.now() - float(info.get("uptime_in_seconds", 0)) - 1
