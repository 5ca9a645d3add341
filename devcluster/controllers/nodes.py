"""All nodes: their objects in the store, and what their pods run on."""

from devcluster.apimachinery.clock import now_text
from devcluster.apimachinery.errors import Json
from devcluster.apimachinery.store import Store
from devcluster.kubelet.node import Node

#: Of each node, in Kubernetes' quantities.
CAPACITY = {"cpu": "16", "memory": "64Gi", "pods": "10000", "ephemeral-storage": "100Gi"}


class Nodes:
    """All nodes, by name."""

    def __init__(self, store: Store, count: int) -> None:
        self._store = store
        self.by_name: dict[str, Node] = {}
        for number in range(count):
            name = f"pocket-{number}"
            labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
            node = self.by_name[name] = Node(name, f"10.99.0.{number + 1}", labels)
            node.signal()
            store.create("nodes", _node_object(node))

    def cut_log_readers(self) -> None:
        """End all reads of logs, as an API server that goes away does."""
        for node in self.by_name.values():
            node.cut_log_readers()

    def set_lost(self, name: str, *, lost: bool) -> Node:
        """Mark a node lost or back.

        Raises:
            KeyError: there is no such node.
        """
        node = self.by_name[name]
        node.is_lost = lost
        node.signal()
        stored = self._store.read("nodes", ("", name))
        self._store.update("nodes", ("", name), {**stored.object, "status": _node_object(node)["status"]})
        return node


def _node_object(node: Node) -> Json:
    ready = "Unknown" if node.is_lost else "True"
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": now_text(), "lastHeartbeatTime": now_text()}
    condition["reason"] = "NodeStatusUnknown" if node.is_lost else "KubeletReady"
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": node.name, "labels": node.labels},
        "spec": {},
        "status": {
            "capacity": CAPACITY,
            "allocatable": CAPACITY,
            "conditions": [condition],
            "addresses": [{"type": "InternalIP", "address": node.ip}, {"type": "Hostname", "address": node.name}],
        },
    }
