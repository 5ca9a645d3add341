"""The control plane: nodes, pods, scheduler and controllers, wired together."""

from devcluster.controllers.namespaces import Namespaces
from devcluster.controllers.node_lifecycle import NodeLifecycle
from devcluster.controllers.nodes import Nodes
from devcluster.controllers.pods import Pods
from devcluster.controllers.scheduler import Scheduler
from devcluster.kubelet.host import Host
from devcluster.runtime.journal import Journal


class ControlPlane:
    """All that acts on the objects in the store."""

    def __init__(self, host: Host, nodes: int, journal: Journal) -> None:
        self.nodes = Nodes(host.store, nodes)
        self.pods = Pods(host, journal, self._on_pod_removed)
        self.namespaces = Namespaces(host, self.pods)
        self.scheduler = Scheduler(host, self.nodes, self.pods.start)
        self.node_lifecycle = NodeLifecycle(host, self.nodes, self.pods, self.scheduler.schedule_all)

    def _on_pod_removed(self, namespace: str) -> None:
        self.namespaces.remove_if_empty(namespace)

    async def close(self) -> None:
        """Cancel all timers and kill all containers."""
        self.node_lifecycle.close()
        self.namespaces.close()
        await self.pods.close()
