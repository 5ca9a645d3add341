"""The scheduler: binds pods to nodes, round robin, or says why no node fits.

Nothing is weighed: a pod fits if its node selector matches and its requests are below what one empty node has.
"""

import asyncio
from collections.abc import Callable
from decimal import Decimal

from devcluster.apimachinery.clock import now_text
from devcluster.apimachinery.errors import Json
from devcluster.apimachinery.quantity import amount
from devcluster.apimachinery.store import Key
from devcluster.controllers.nodes import CAPACITY, Nodes
from devcluster.kubelet.host import Host
from devcluster.kubelet.node import Node

_NO_HELP = (
    "no new claims to deallocate, preemption: 0/{n} nodes are available: {n} Preemption is not helpful for scheduling."
)


class Scheduler:
    """The scheduler; ``start`` has a bound pod run on its node."""

    def __init__(self, host: Host, nodes: Nodes, start: Callable[[Json, Node], None]) -> None:
        self._store = host.store
        self._events = host.events
        self._latency = host.latency
        self._nodes = nodes
        self._start = start
        self._turn = 0

    def schedule_soon(self, key: Key) -> None:
        """Schedule a pod after the scheduler's pause."""
        loop = asyncio.get_running_loop()
        loop.call_later(self._latency.schedule_s, self._schedule, key)

    def schedule_all(self) -> None:
        """Schedule all pods that have no node yet."""
        for key, stored in list(self._store.each("pods")):
            if "nodeName" not in stored.object["spec"]:
                self._schedule(key)

    def _schedule(self, key: Key) -> None:
        stored = self._store.find("pods", key)
        if stored is None or "nodeName" in stored.object["spec"] or stored.object["spec"].get("schedulingGates"):
            return
        pod = stored.object
        chosen = self._choose(pod)
        if isinstance(chosen, str):
            self._cannot_schedule(key, pod, chosen)
            return
        status = {**pod["status"], "conditions": [scheduled_condition("True")]}
        bound = {**pod, "spec": {**pod["spec"], "nodeName": chosen.name}, "status": status}
        bound = self._store.update("pods", key, bound).object
        message = f"Successfully assigned {key[0]}/{key[1]} to {chosen.name}"
        self._events.from_scheduler(bound, "Normal", "Scheduled", message)
        self._start(bound, chosen)

    def _cannot_schedule(self, key: Key, pod: Json, why: str) -> None:
        condition = scheduled_condition("False", "Unschedulable", why)
        old = pod["status"].get("conditions") or [{}]
        if old[0].get("message") != why:
            self._store.update("pods", key, {**pod, "status": {**pod["status"], "conditions": [condition]}})
            self._events.from_scheduler(pod, "Warning", "FailedScheduling", why)

    def _choose(self, pod: Json) -> Node | str:
        """Return the node for a pod, or why there is none."""
        spec, nodes = pod["spec"], self._nodes.by_name.values()
        trouble = _volume_trouble(spec)
        if trouble:
            return f"0/{len(nodes)} nodes are available: {trouble}. " + _NO_HELP.format(n=len(nodes))
        fitting, reasons = [], dict[str, int]()
        for node in nodes:
            reason = _misfit(node, spec)
            if reason is None:
                fitting.append(node)
            else:
                reasons[reason] = reasons.get(reason, 0) + 1
        if fitting:
            self._turn += 1
            return fitting[self._turn % len(fitting)]
        listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        return f"0/{len(nodes)} nodes are available: {listed}. {_NO_HELP.format(n=len(nodes))}"


def scheduled_condition(status: str, reason: str = "", message: str = "") -> Json:
    """Make the condition ``PodScheduled``."""
    condition: Json = {
        "type": "PodScheduled",
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": now_text(),
    }
    if reason:
        condition |= {"reason": reason, "message": message}
    return condition


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
        if _requested(spec, resource) > amount(CAPACITY[resource]):
            return f"Insufficient {resource}"
    return None


def _requested(spec: Json, resource: str) -> Decimal:
    found = Decimal(0)
    for container in spec["containers"]:
        found += amount(str((container["resources"].get("requests") or {}).get(resource, "0")))
    return found
