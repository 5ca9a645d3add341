"""What every follower of a worker shares."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from dispatcher.events import Ended
from dispatcher.record import JobRecord
from worker.cluster.client import Cluster
from worker.cluster.watch import PodWatches
from worker.cluster_health import ClusterHealth
from worker.guard import Guard
from worker.lease import Lease
from worker.logs.attempt import Tails, discard
from worker.logs.reader import Buffers
from worker.logs.recent import ALL_BYTES
from worker.settings import WorkerSettings
from worker.store import Store


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


@dataclass(frozen=True, slots=True)
class Context:
    """One worker process' means.

    Attributes:
        finished: the results that were appended last, by job id.
    """

    settings: WorkerSettings
    incarnation: str
    cluster: Cluster
    store: Store
    lease: Lease
    watches: PodWatches
    health: ClusterHealth
    buffers: Buffers
    guard: Guard = field(default_factory=Guard)
    finished: dict[str, Finished] = field(default_factory=dict)
    _ended_logs: deque[Tails] = field(default_factory=deque)

    @property
    def default_namespace(self) -> str:
        return self.settings.default_namespace or self.cluster.default_namespace

    @property
    def served(self) -> tuple[str, ...]:
        """The namespaces in which this worker can run jobs now."""
        return () if self.health.blind else self.watches.served

    @property
    def refused(self) -> dict[str, str]:
        """The others that it is to serve, and why it does not."""
        return dict.fromkeys(self.watches.namespaces, self.health.blind) if self.health.blind else self.watches.refused

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
