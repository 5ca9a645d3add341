"""Nodes, and the scheduler's choice among them: round robin, with the message that says why none fits.

Nothing is weighed: a pod fits if its node selector matches and its requests are below what one empty node has.
"""

from decimal import Decimal

from devcluster.apimachinery.clock import now_text
from devcluster.apimachinery.errors import Json
from devcluster.apimachinery.quantity import amount
from devcluster.apimachinery.store import Store
from devcluster.kubelet.node import Node

_CAPACITY = {"cpu": "16", "memory": "64Gi", "pods": "10000", "ephemeral-storage": "100Gi"}
_NO_HELP = (
    "no new claims to deallocate, preemption: 0/{n} nodes are available: {n} Preemption is not helpful for scheduling."
)


class Nodes:
    """All nodes, as objects in the store and as places for pods."""

    def __init__(self, store: Store, count: int) -> None:
        self._store = store
        self._turn = 0
        self.by_name: dict[str, Node] = {}
        for number in range(count):
            name = f"pocket-{number}"
            labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
            node = self.by_name[name] = Node(name, f"10.99.0.{number + 1}", labels)
            node.note()
            store.create("nodes", _node_object(node))

    def choose(self, pod: Json) -> Node | str:
        """The node for a pod, or why there is none."""
        spec = pod["spec"]
        trouble = _volume_trouble(spec)
        if trouble:
            return f"0/{len(self.by_name)} nodes are available: {trouble}. " + _NO_HELP.format(n=len(self.by_name))
        fitting, reasons = [], dict[str, int]()
        for node in self.by_name.values():
            reason = _misfit(node, spec)
            if reason is None:
                fitting.append(node)
            else:
                reasons[reason] = reasons.get(reason, 0) + 1
        if fitting:
            self._turn += 1
            return fitting[self._turn % len(fitting)]
        listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        total = len(self.by_name)
        return f"0/{total} nodes are available: {listed}. {_NO_HELP.format(n=total)}"

    def cut_log_readers(self) -> None:
        """Cut all of them, as an API server that goes away does."""
        for node in self.by_name.values():
            node.cut_log_readers()

    def set_lost(self, name: str, *, lost: bool) -> Node:
        """Mark a node lost or back; raises KeyError for one that does not exist."""
        node = self.by_name[name]
        node.is_lost = lost
        node.note()
        stored = self._store.read("nodes", ("", name))
        self._store.update("nodes", ("", name), {**stored.object, "status": _node_object(node)["status"]})
        return node


def _volume_trouble(spec: Json) -> str | None:
    for volume in spec.get("volumes", []):
        claim = volume.get("persistentVolumeClaim")
        if claim:
            return f'persistentvolumeclaim "{claim.get("claimName", "")}" not found'
    return None


def _misfit(node: Node, spec: Json) -> str | None:
    if node.is_lost:
        return "node(s) had untolerated taint(s)"
    wanted = spec.get("nodeSelector") or {}
    if any(node.labels.get(key) != value for key, value in wanted.items()):
        return "node(s) didn't match Pod's node affinity/selector"
    for resource in ("cpu", "memory"):
        if _requested(spec, resource) > amount(_CAPACITY[resource]):
            return f"Insufficient {resource}"
    return None


def _requested(spec: Json, resource: str) -> Decimal:
    found = Decimal(0)
    for container in spec["containers"]:
        found += amount(str((container["resources"].get("requests") or {}).get(resource, "0")))
    return found


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
            "capacity": _CAPACITY,
            "allocatable": _CAPACITY,
            "conditions": [condition],
            "addresses": [{"type": "InternalIP", "address": node.ip}, {"type": "Hostname", "address": node.name}],
        },
    }
