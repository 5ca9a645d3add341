"""The worker's lease in Redis, and every "may I?" that depends on it.

A worker that holds its lease may create pods and write its jobs' records. A worker that finds another's lease missing
may take over its jobs, but only where the other had the time to renew it. Both depend on what Redis has been through
(emptied, restarted, failed over, out of reach): :class:`Lease` keeps account of it beat by beat, :class:`Heartbeat`
sends the beats.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog
from redis.exceptions import NoPermissionError

from dispatcher import connection
from dispatcher.steps import Beat, heartbeat
from worker.cluster.backoff import Backoff
from worker.settings import WorkerSettings
from worker.store import Store

log = structlog.get_logger("podrelay.worker")

#: A worker counts on this share of the lease that Redis grants, from before the renewal was sent.
OWN_LEASE_SHARE: Final = 0.9
#: How many lease times the owners of jobs have to write again what Redis has lost: they know more than the pods tell.
RECOVERY_LEASES: Final = 2


class Lease:
    """What a worker knows of its lease, and of the Redis that grants it. Belongs to one event loop.

    Attributes:
        term: how often the lease may have lapsed. What was owned in another term may be somebody else's by now.
        server_run: names Redis' data and the run of its server, as of the last beat. Another run may lack the last
            writes of the one before it.
    """

    def __init__(self, lease_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: steady seconds of this machine."""
        self.lease_s = lease_s
        self.term = 0
        self.server_run = ""
        self._clock = clock
        self._renewed = asyncio.Event()
        self._generation = ""
        self._is_silent = False
        # Seconds of this machine's clock.
        self._held_until = -math.inf
        self._authoritative_from = -math.inf
        self._recovers_until = -math.inf
        self._sent_at = -math.inf
        # Seconds of Redis' clock.
        self._began_at = 0.0
        self._deaths_count_from = 0.0
        self._ahead_s = time.time() - clock()

    # What may be done

    @property
    def held(self) -> bool:
        """Whether the lease is surely held: nobody can have taken over this worker's jobs yet."""
        return self._clock() < self._held_until

    async def until_held(self) -> None:
        """Wait until the lease is surely held: a pod created without it could be a second one."""
        while not self.held:
            self._renewed.clear()
            await self._renewed.wait()

    @property
    def is_authoritative(self) -> bool:
        """Whether what this worker knows of its jobs is the last word: it may write again what Redis has lost.

        Not for one lease time after the lease had lapsed: a job may be another's by then, who writes its record first.
        """
        return self.held and self._clock() >= self._authoritative_from

    async def until_authoritative(self) -> None:
        """Wait until :attr:`is_authoritative`."""
        while not self.is_authoritative:
            await self.until_held()
            await asyncio.sleep(max(0.0, self._authoritative_from - self._clock()))

    @property
    def may_launch(self) -> bool:
        """Whether queued jobs may be claimed.

        Not while owners write again what Redis has lost: a job that is queued again may have run to its end.
        """
        return self._clock() > self._recovers_until

    def is_dead(self, seen_at: float) -> bool:
        """Tell whether an owner whose lease is missing had the time to renew it.

        ``seen_at``: its last renewal (seconds of Redis' clock). Where that was before Redis lost leases, or before this
        worker was cut off, the owner gets time: it may have been cut off as well.
        """
        return seen_at > self._deaths_count_from or self._owners_had_time(self._deaths_count_from)

    def _owners_had_time(self, since: float) -> bool:
        """Tell whether owners had the time, since then (seconds of Redis' clock), to write again what they own."""
        return self.now() > since + RECOVERY_LEASES * self.lease_s

    @property
    def may_rebuild(self) -> bool:
        """Whether a missing record may be rebuilt from its pod: its owner, if any, had the time to restore it."""
        return self._owners_had_time(max(self._deaths_count_from, self._began_at))

    def now(self) -> float:
        """Return Redis' time in seconds, as of the last beat and this machine's clock since."""
        return self._clock() + self._ahead_s

    # What changes it

    def began(self, *, server_started_at: float) -> None:
        """Take note of the first beat's answer. ``server_started_at``: seconds of Redis' clock."""
        self._began_at = self.now()
        self._deaths_count_from = max(self._deaths_count_from, server_started_at)

    def refused(self) -> None:
        """Take note that Redis did not answer a beat: until it does, other owners may be cut off as well."""
        self._is_silent = True

    def renewed(self, beat: Beat, *, sent_at: float, heard_at: float) -> None:
        """Take note of a beat's answer. ``sent_at``, ``heard_at``: seconds of this machine's clock."""
        is_first = not self._generation
        # By our own clock, too: an answer may have been lost, and the repeated beat found the lease that it had made.
        has_lapsed_here = sent_at > self._held_until
        if has_lapsed_here or not beat.lease_was_alive:
            self.term += 1
            if self._sent_at < self._recovers_until:  # owners may have been cut off as well: they begin anew
                self._recovers_until = heard_at + RECOVERY_LEASES * self.lease_s
        if has_lapsed_here and not is_first:
            self._authoritative_from = sent_at + self.lease_s
        if not is_first and (self._is_silent or not beat.lease_was_alive):
            self._deaths_count_from = beat.at
        self._note_server(beat, heard_at)
        self._deaths_count_from = min(self._deaths_count_from, beat.at)  # Redis' clock may have been set back
        self._ahead_s, self._sent_at = beat.at - heard_at, sent_at
        self._held_until = sent_at + self.lease_s * OWN_LEASE_SHARE
        self._is_silent = False
        self._renewed.set()

    def _note_server(self, beat: Beat, heard_at: float) -> None:
        """Give owners time to restore records where Redis was emptied, restarted or failed over."""
        was_emptied = self._generation not in ("", beat.generation)
        if self._generation and beat.redis_life != self.server_run:
            what = "was emptied" if was_emptied else "began anew or failed over, its last writes may be lost"
            log.warning(f"Redis {what}: records are rebuilt")
        changed_at = beat.at if was_emptied else beat.runs_since
        if changed_at is not None:
            left_s = changed_at + RECOVERY_LEASES * self.lease_s - beat.at
            self._recovers_until = max(self._recovers_until, heard_at + left_s)
            self._deaths_count_from = max(self._deaths_count_from, changed_at)
        self._generation, self.server_run = beat.generation, beat.redis_life

    def end_term(self) -> None:
        """End the term: no pod is created any more for a job that was claimed in it."""
        self.term += 1


class Heartbeat:
    """Renews the lease; each beat carries what the worker says of itself (``info``)."""

    def __init__(
        self,
        lease: Lease,
        store: Store,
        *,
        incarnation: str,
        settings: WorkerSettings,
        info: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._lease = lease
        self._store = store
        self._incarnation = incarnation
        self._settings = settings
        self._info = info
        self._is_due = asyncio.Event()

    async def first(self) -> None:
        """Send the first beat, which takes the lease.

        Raises:
            connection.REFUSED: Redis cannot be used.
        """
        await self.beat()
        self._lease.began(server_started_at=await self._server_started_at())

    def beat_now(self) -> None:
        """Beat at once: what the worker says of itself has changed."""
        self._is_due.set()

    async def run(self) -> None:
        """Renew the lease for ever."""
        every_s = self._settings.heartbeat_s
        back_off = Backoff(first_s=0.2, longest_s=min(1.0, every_s))
        while True:
            try:
                self._is_due.clear()
                await self.beat()
            except connection.REFUSED as error:
                self._lease.refused()
                if back_off.since is None:
                    log.warning("heartbeat failed, Redis unavailable", why=str(error) or type(error).__name__)
                await asyncio.sleep(back_off.failed(error))
                continue
            if back_off.since is not None:
                log.info("heartbeat resumed")
                back_off.succeeded()
            with suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await self._is_due.wait()

    async def beat(self) -> None:
        """Renew the lease once.

        Raises:
            connection.REFUSED: Redis cannot be used now.
        """
        sent_at = time.monotonic()
        lease_ms = int(self._lease.lease_s * 1000)
        step = heartbeat(self._incarnation, self._settings.queue, lease_ms=lease_ms, info=self._info())
        (beat,) = await self._store.run_once([step])
        if beat.gave_way:
            log.error("keys of another type gave way", keys=beat.gave_way)
        if not beat.lease_was_alive and self._lease.term:
            log.warning("the lease had lapsed", incarnation=self._incarnation)
        self._lease.renewed(beat, sent_at=sent_at, heard_at=time.monotonic())

    async def _server_started_at(self) -> float:
        """Return since when Redis runs (seconds of its clock): since now, where it does not let us ask."""
        try:
            info: Any = await self._store.client.info("server")
        except NoPermissionError:
            return self._lease.now()
        return self._lease.now() - float(info.get("uptime_in_seconds", 0)) - 1
