"""The control plane: schedules, deletes and evicts pods, loses nodes and brings them back, empties namespaces."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

from devcluster.apimachinery.clock import now_text, second_text
from devcluster.apimachinery.errors import Json, conflict
from devcluster.apimachinery.store import Key, Store, Stored
from devcluster.controllers.nodes import Nodes
from devcluster.kubelet.host import Host
from devcluster.kubelet.latency import Latency
from devcluster.kubelet.node import Node
from devcluster.kubelet.pod_worker import PodWorker, Stop
from devcluster.runtime.journal import Journal

_OVER = ("Succeeded", "Failed")
_GATED = "Scheduling is blocked due to non-empty scheduling gates"
NODE_PRESSURE = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 42Mi. "


def is_over(pod: Json) -> bool:
    return pod.get("status", {}).get("phase") in _OVER


class ControlPlane:
    """Scheduler, garbage collector, node and namespace controllers, and the workers of all pods."""

    def __init__(self, host: Host, nodes: Nodes, journal: Journal) -> None:
        self._host = host
        self._store: Store = host.store
        self._latency: Latency = host.latency
        self.nodes = nodes
        self.journal = journal
        self.pod_workers: dict[str, PodWorker] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # Pods come.

    def create_pod(self, pod: Json) -> Stored:
        """Store an admitted pod and have it scheduled."""
        status: Json = {"phase": "Pending", "qosClass": pod["status"]["qosClass"]}
        if pod["spec"].get("schedulingGates"):
            status["conditions"] = [_scheduled("False", "SchedulingGated", _GATED)]
        metadata = {**pod["metadata"], "generation": 1}
        stored = self._store.create("pods", {**pod, "metadata": metadata, "status": status})
        self.journal.pod_created(stored.object)
        if "conditions" not in status:
            self.schedule_soon((metadata["namespace"], metadata["name"]))
        return stored

    def schedule_soon(self, key: Key) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._latency.schedule_s, self._schedule, key)

    def _schedule(self, key: Key) -> None:
        stored = self._store.find("pods", key)
        if stored is None or "nodeName" in stored.object["spec"] or stored.object["spec"].get("schedulingGates"):
            return
        pod = stored.object
        chosen = self.nodes.choose(pod)
        if isinstance(chosen, str):
            self._cannot_schedule(key, pod, chosen)
            return
        status = {**pod["status"], "conditions": [_scheduled("True")]}
        bound = {**pod, "spec": {**pod["spec"], "nodeName": chosen.name}, "status": status}
        bound = self._store.update("pods", key, bound).object
        message = f"Successfully assigned {key[0]}/{key[1]} to {chosen.name}"
        self._host.events.from_scheduler(bound, "Normal", "Scheduled", message)
        self._begin(bound, chosen)

    def _cannot_schedule(self, key: Key, pod: Json, why: str) -> None:
        condition = _scheduled("False", "Unschedulable", why)
        old = pod["status"].get("conditions") or [{}]
        if old[0].get("message") != why:
            self._store.update("pods", key, {**pod, "status": {**pod["status"], "conditions": [condition]}})
            self._host.events.from_scheduler(pod, "Warning", "FailedScheduling", why)

    def _begin(self, pod: Json, node: Node) -> None:
        uid = pod["metadata"]["uid"]
        entry = self.journal.pods[uid]
        entry.node = node.name
        pod_worker = self.pod_workers[uid] = PodWorker(self._host, pod, node, entry)
        pod_worker.begin(lambda: self._sweep(uid))

    # Pods go.

    def delete_pod(
        self, key: Key, *, grace_s: int | None, uid: str | None = None, version: str | None = None
    ) -> Stored:
        """Delete as the API server does: at once without grace, else marked, stopped by the node, then removed."""
        stored = self._store.read("pods", key)
        pod = stored.object
        _check_preconditions(pod, uid, version)
        grace = pod["spec"]["terminationGracePeriodSeconds"] if grace_s is None else grace_s
        if "nodeName" not in pod["spec"] or is_over(pod):
            grace = 0
        before = pod["metadata"].get("deletionGracePeriodSeconds")
        if before is not None and 0 < before <= grace:
            return stored
        if before == 0 and pod["metadata"].get("finalizers"):
            return stored
        stored = self._mark_deleted(key, pod, grace)
        if grace == 0 and not stored.object["metadata"].get("finalizers"):
            stored = self.remove_pod(key)
        pod_worker = self.pod_workers.get(pod["metadata"]["uid"])
        if pod_worker is not None:
            pod_worker.stop(Stop(grace))
            self._sweep(pod_worker.uid)
        return stored

    def _mark_deleted(self, key: Key, pod: Json, grace: int) -> Stored:
        metadata = dict(pod["metadata"])
        if "deletionTimestamp" not in metadata:
            metadata["generation"] = metadata.get("generation", 1) + 1
        metadata["deletionTimestamp"] = second_text(time.time() + grace)
        metadata["deletionGracePeriodSeconds"] = grace
        return self._store.update("pods", key, {**pod, "metadata": metadata})

    def remove_pod(self, key: Key) -> Stored:
        """Take the object away for good."""
        removed = self._store.remove("pods", key)
        self._after_removal(removed.object)
        return removed

    def _after_removal(self, pod: Json) -> None:
        entry = self.journal.pods.get(pod["metadata"]["uid"])
        if entry is not None and entry.deleted_at is None:
            entry.deleted_at = now_text()
        self._sweep(pod["metadata"]["uid"])

    def _sweep(self, uid: str) -> None:
        """Forget a pod worker that is done and whose object is gone; its directories go too."""
        pod_worker = self.pod_workers.get(uid)
        if pod_worker is None or pod_worker.task is None or not pod_worker.task.done():
            return
        stored = self._store.find("pods", pod_worker.key)
        if stored is None or stored.object["metadata"]["uid"] != uid:
            del self.pod_workers[uid]
            pod_worker.remove_files()
            entry = self.journal.pods[uid]
            entry.deleted_at = entry.deleted_at or now_text()
            self._empty_namespace(pod_worker.key[0])

    # Disruptions.

    def evict(self, key: Key, *, grace_s: int | None = None) -> None:
        """Through the eviction API: the condition first, then the deletion (recording ``evicted-through-api``)."""
        self._disrupt(key, "EvictionByEvictionAPI", "Eviction API: evicting")
        self.delete_pod(key, grace_s=grace_s)

    def preempt(self, key: Key) -> None:
        """By the scheduler, for a pod of higher priority."""
        why = "default-scheduler: preempting to accommodate a higher priority pod"
        self._disrupt(key, "PreemptionByScheduler", why)
        self.delete_pod(key, grace_s=None)

    def evict_for_pressure(self, key: Key) -> None:
        """By the kubelet of a node short of memory: the pod fails and stays."""
        pod = self._disrupt(key, "TerminationByKubelet", NODE_PRESSURE)
        pod_worker = self.pod_workers.get(pod["metadata"]["uid"])
        if pod_worker is not None:
            pod_worker.stop(Stop(0, "Evicted", NODE_PRESSURE, is_deletion=False))

    def _disrupt(self, key: Key, reason: str, message: str) -> Json:
        pod = self._store.read("pods", key).object
        if is_over(pod) or "deletionTimestamp" in pod["metadata"]:
            return pod
        condition: Json = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
        condition |= {"lastProbeTime": None, "lastTransitionTime": now_text()}
        conditions = [*pod["status"].get("conditions", []), condition]
        return self._store.update("pods", key, {**pod, "status": {**pod["status"], "conditions": conditions}}).object

    def lose_node(self, name: str, *, kill: bool = False) -> None:
        """The node is heard of no more; with ``kill`` its containers die as well. Raises KeyError for an unknown
        name."""
        node = self.nodes.set_lost(name, lost=True)
        node.cut_log_readers()
        for pod_worker in self._on(node):
            if kill:
                pod_worker.kill_containers()
            self._mark_not_ready(pod_worker.key)
        if name not in self._timers:  # lost already: its time goes on
            loop = asyncio.get_running_loop()
            self._timers[name] = loop.call_later(self._latency.lost_node_grace_s, self._evict_from, node)

    def restore_node(self, name: str) -> None:
        """The node is back: it tells what happened meanwhile and obeys what was asked of it."""
        node = self.nodes.set_lost(name, lost=False)
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        self._hear_again(node)
        for key, stored in list(self._store.each("pods")):
            if "nodeName" not in stored.object["spec"]:
                self._schedule(key)

    def _hear_again(self, node: Node) -> None:
        if not node.is_silent:
            for pod_worker in self._on(node):
                pod_worker.node_is_back()

    def restart_kubelet(self, name: str, seconds: float) -> None:
        """The node's kubelet is dead for so long, then starts (recording ``kubelet-restart``): pods go on, and followed
        logs end as cleanly as if their containers had. Raises KeyError for an unknown name."""
        node = self.nodes.by_name[name]
        self._set_kubelet(node, "dead")
        node.cut_log_readers()
        self._after(f"kubelet {name}", seconds, self._start_kubelet, node)

    def _start_kubelet(self, node: Node) -> None:
        self._set_kubelet(node, "starting")
        self._after(f"kubelet {node.name}", self._latency.kubelet_start_s, self._set_kubelet, node, "running")

    def _set_kubelet(self, node: Node, kubelet: Literal["running", "dead", "starting"]) -> None:
        node.kubelet = kubelet
        node.note()
        self._hear_again(node)

    def _after(self, timer: str, seconds: float, act: Callable[..., None], *arguments: Any) -> None:
        """Once; a timer of this name that runs is given up."""
        if timer in self._timers:
            self._timers[timer].cancel()
        self._timers[timer] = asyncio.get_running_loop().call_later(seconds, act, *arguments)

    def _on(self, node: Node) -> Iterable[PodWorker]:
        return [pod_worker for pod_worker in self.pod_workers.values() if pod_worker.node is node]

    def _mark_not_ready(self, key: Key) -> None:
        stored = self._store.find("pods", key)
        if stored is None or is_over(stored.object):
            return
        pod = stored.object
        conditions = [
            {**one, "status": "False", "lastTransitionTime": now_text()} if one["type"] == "Ready" else one
            for one in pod["status"].get("conditions", [])
        ]
        self._host.events.from_scheduler(pod, "Warning", "NodeNotReady", "Node is not ready")
        self._store.update("pods", key, {**pod, "status": {**pod["status"], "conditions": conditions}})

    def _evict_from(self, node: Node) -> None:
        why = "Taint manager: deleting due to NoExecute taint"
        for pod_worker in self._on(node):
            stored = self._store.find("pods", pod_worker.key)
            if stored is not None and not is_over(stored.object):
                self._disrupt(pod_worker.key, "DeletionByTaintManager", why)
                self.delete_pod(pod_worker.key, grace_s=None)

    # Namespaces.

    def delete_namespace(self, name: str) -> Stored:
        """Terminating at once; gone when it is empty, and not before a while has passed."""
        stored = self._store.read("namespaces", ("", name))
        namespace = stored.object
        if "deletionTimestamp" not in namespace["metadata"]:
            metadata = {**namespace["metadata"], "deletionTimestamp": now_text()}
            going = {**namespace, "metadata": metadata, "status": {"phase": "Terminating"}}
            stored = self._store.update("namespaces", ("", name), going)
            loop = asyncio.get_running_loop()
            self._timers[f"namespace {name}"] = loop.call_later(self._latency.namespace_linger_s, self._lingered, name)
            for key, _pod in list(self._store.each("pods", name)):
                self.delete_pod(key, grace_s=None)
        return stored

    def _lingered(self, name: str) -> None:
        self._timers.pop(f"namespace {name}", None)
        self._empty_namespace(name)

    def _empty_namespace(self, name: str) -> None:
        stored = self._store.find("namespaces", ("", name))
        if (
            stored is None
            or "deletionTimestamp" not in stored.object["metadata"]
            or f"namespace {name}" in self._timers
        ):
            return
        if next(self._store.each("pods", name), None) is not None:
            return
        for resource in ("secrets", "configmaps", "resourcequotas", "serviceaccounts", "events"):
            for key, _stored in list(self._store.each(resource, name)):
                self._store.remove(resource, key)
        self._store.remove("namespaces", ("", name))

    def active_pods(self, namespace: str) -> int:
        """Pods that count against a quota."""
        return sum(not is_over(stored.object) for _key, stored in self._store.each("pods", namespace))

    async def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.gather(*(pod_worker.close() for pod_worker in list(self.pod_workers.values())))


def _scheduled(status: str, reason: str = "", message: str = "") -> Json:
    condition: Json = {
        "type": "PodScheduled",
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": now_text(),
    }
    if reason:
        condition |= {"reason": reason, "message": message}
    return condition


def _check_preconditions(pod: Json, uid: str | None, version: str | None) -> None:
    metadata = pod["metadata"]
    if uid and uid != metadata["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata['uid']}"
        raise conflict("pods", metadata["name"], why)
    if version and version != metadata["resourceVersion"]:
        found = metadata["resourceVersion"]
        why = (
            f"Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {found}"
        )
        raise conflict("pods", metadata["name"], why)
