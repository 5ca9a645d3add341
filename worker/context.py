"""What everything in one worker process shares: settings, Redis, the cluster, the lease, the watches."""

from dataclasses import dataclass, field
from typing import Any

from worker.cluster.client import Cluster
from worker.cluster.watch import PodWatches
from worker.cluster_health import ClusterHealth
from worker.guard import Guard
from worker.lease import Lease
from worker.logs.outbox import LogBudget
from worker.own_policy import OwnPolicy
from worker.settings import WorkerSettings
from worker.store import Store


@dataclass(frozen=True, slots=True)
class Context:
    """What one worker process works with; made once, when it starts."""

    settings: WorkerSettings
    incarnation: str
    cluster: Cluster
    store: Store
    lease: Lease
    watches: PodWatches
    health: ClusterHealth
    log_budget: LogBudget
    policy: OwnPolicy
    guard: Guard = field(default_factory=Guard)

    @property
    def default_namespace(self) -> str:
        return self.settings.default_namespace or self.cluster.default_namespace

    @property
    def served(self) -> tuple[str, ...]:
        """The namespaces in which this worker can run jobs now."""
        return () if self.health.blind else self.watches.served

    @property
    def refused(self) -> dict[str, str]:
        """Why, for each namespace that this worker is to serve and cannot."""
        return dict.fromkeys(self.watches.namespaces, self.health.blind) if self.health.blind else self.watches.refused

    def log_url(self, **names: Any) -> str | None:
        """Return where the site keeps the pod's logs; None where no template is configured."""
        template = self.settings.log_url_template
        return template.format_map(names) if template else None
