"""What every follower of a worker shares."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from dispatcher.events import Ended
from dispatcher.record import JobRecord
from dispatcher.steps import Fence
from worker.cluster import Cluster
from worker.ledger import Ledger
from worker.log_follower import Buffers
from worker.pod_watch import PodWatches
from worker.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class Finished:
    """A result that was appended: kept for a while, because a failover of Redis may have lost it again, or it may be
    emptied. ``until``: seconds of Redis' clock; ``redis_life``: the one in which it is known to be there."""

    record: JobRecord
    fence: Fence
    ended: Ended
    fields: dict[str, str]
    until: float
    redis_life: str


@dataclass(slots=True)
class Workplace:
    """One worker process' means. ``lease_until``: the own lease is surely held before this (monotonic seconds);
    ``lease_renewed`` is set by each heartbeat. ``tenure`` counts how often the lease may have lapsed: what was owned in
    another tenure may be somebody else's."""

    settings: WorkerSettings
    incarnation: str
    cluster: Cluster
    ledger: Ledger
    watches: PodWatches
    buffers: Buffers
    lease_until: float = 0.0
    tenure: int = 0
    redis_life: str = ""  #: as of the last heartbeat; another one may lack what was written last in the one before
    lease_renewed: asyncio.Event = field(default_factory=asyncio.Event)
    finished: dict[str, Finished] = field(default_factory=dict)

    @property
    def default_namespace(self) -> str:
        return self.settings.default_namespace or self.cluster.default_namespace

    def has_lease(self) -> bool:
        """Whether nobody can have taken over this worker's jobs yet."""
        return asyncio.get_running_loop().time() < self.lease_until

    async def leased(self) -> None:
        """Wait until the lease is surely held: a POST without one could make a second pod."""
        while not self.has_lease():
            self.lease_renewed.clear()
            await self.lease_renewed.wait()

    def log_url(self, **names: Any) -> str | None:
        """Where the site keeps the pod's logs; None where no template is configured."""
        template = self.settings.log_url_template
        return template.format_map(names) if template else None
