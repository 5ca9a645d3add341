"""What every follower of a worker shares."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from dispatcher.events import Ended
from dispatcher.record import JobRecord
from worker.cluster.client import Cluster
from worker.cluster.watch import PodWatches
from worker.guard import Guard
from worker.logs.attempt import Tails, discard
from worker.logs.reader import Buffers
from worker.logs.recent import ALL_BYTES
from worker.settings import WorkerSettings
from worker.store import Store

#: Why a blind worker serves no namespace. Always the same words: jobs that wait tell them once.
BLIND: Final = "its API server cannot be reached, or does not take the worker's credentials"


@dataclass(frozen=True, slots=True)
class Finished:
    """A result that was appended: kept for a while, because a failover of Redis may have lost it again, or it may be
    emptied; ``tails``: the ends of its logs, which may be lost with it. ``until``: seconds of Redis' clock;
    ``redis_life``: the one in which it is known to be there."""

    record: JobRecord
    ended: Ended
    until: float
    redis_life: str
    tails: Tails


@dataclass(slots=True)
class Context:
    """One worker process' means.

    Attributes:
        lease_until: the own lease is surely held before this (monotonic seconds).
        lease_renewed: set by each heartbeat.
        certain_from: see :attr:`is_certain` (monotonic seconds).
        tenure: how often the lease may have lapsed. What was owned in another tenure may be somebody else's.
        redis_life: Redis' as of the last heartbeat. Another one may lack what was written last in the one before.
        finished: the results that were appended last, by job id.
        blind: why this worker cannot see its cluster; '' while it can.
        doubts_cluster: the API server did not answer somebody: it is to be asked.
    """

    settings: WorkerSettings
    incarnation: str
    cluster: Cluster
    store: Store
    watches: PodWatches
    buffers: Buffers
    guard: Guard = field(default_factory=Guard)
    lease_until: float = 0.0
    certain_from: float = 0.0
    tenure: int = 0
    redis_life: str = ""
    blind: str = ""
    doubts_cluster: bool = False
    lease_renewed: asyncio.Event = field(default_factory=asyncio.Event)
    finished: dict[str, Finished] = field(default_factory=dict)
    _ended_logs: deque[Tails] = field(default_factory=deque)

    @property
    def default_namespace(self) -> str:
        return self.settings.default_namespace or self.cluster.default_namespace

    @property
    def served(self) -> tuple[str, ...]:
        """The namespaces in which this worker can run jobs now."""
        return () if self.blind else self.watches.served

    @property
    def refused(self) -> dict[str, str]:
        """The others that it is to serve, and why it does not."""
        return dict.fromkeys(self.watches.namespaces, self.blind) if self.blind else self.watches.refused

    def has_lease(self) -> bool:
        """Whether nobody can have taken over this worker's jobs yet."""
        return asyncio.get_running_loop().time() < self.lease_until

    @property
    def is_certain(self) -> bool:
        """Whether what this worker knows of its jobs is the last word: a record that Redis has lost may be made again.
        Not for a while after its lease has lapsed: a job may be another's by then, who tells so as soon as it can."""
        return self.has_lease() and asyncio.get_running_loop().time() >= self.certain_from

    async def until_certain(self) -> None:
        """Wait until it is."""
        while not self.is_certain:
            await self.leased()
            await asyncio.sleep(max(0.0, self.certain_from - asyncio.get_running_loop().time()))

    async def leased(self) -> None:
        """Wait until the lease is surely held: a POST without one could make a second pod."""
        while not self.has_lease():
            self.lease_renewed.clear()
            await self.lease_renewed.wait()

    def remember(self, finished: Finished) -> None:
        """Keep a result for a while. The ends of its logs leave at least half of that room to those that run."""
        self.finished[finished.record.job_id] = finished
        self._ended_logs.append(finished.tails)
        is_too_much = self.buffers.recent.used > ALL_BYTES // 2
        while self._ended_logs and (is_too_much or not any(tail.known for tail in self._ended_logs[0].values())):
            discard(self._ended_logs.popleft())
            is_too_much = self.buffers.recent.used > ALL_BYTES // 2

    def forget_finished(self, job_id: str) -> None:
        """The result is in Redis for good, or another's stands."""
        discard(self.finished.pop(job_id).tails)

    def log_url(self, **names: Any) -> str | None:
        """Where the site keeps the pod's logs; None where no template is configured."""
        template = self.settings.log_url_template
        return template.format_map(names) if template else None
