"""All pods: their objects in the store and their workers, created, deleted and evicted."""

import asyncio
import time
from collections.abc import Callable

from devcluster.apimachinery.clock import now_text, second_text
from devcluster.apimachinery.errors import Json, conflict
from devcluster.apimachinery.store import Key, Stored
from devcluster.controllers.scheduler import scheduled_condition
from devcluster.kubelet.host import Host
from devcluster.kubelet.node import Node
from devcluster.kubelet.pod_worker import PodWorker, Stop
from devcluster.runtime.journal import Journal

_GATED = "Scheduling is blocked due to non-empty scheduling gates"
_NODE_PRESSURE = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 42Mi. "


def is_over(pod: Json) -> bool:
    """Return whether the pod's phase is a final one."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


class Pods:
    """All pods; ``on_removal`` gets the namespace of each pod that is gone with its containers."""

    def __init__(self, host: Host, journal: Journal, on_removal: Callable[[str], None]) -> None:
        self._host = host
        self._store = host.store
        self._journal = journal
        self._on_removal = on_removal
        #: Of the pods that have a node, by uid.
        self.workers: dict[str, PodWorker] = {}

    # Pods come.

    def create(self, pod: Json) -> Stored:
        """Store an admitted pod."""
        status: Json = {"phase": "Pending", "qosClass": pod["status"]["qosClass"]}
        if pod["spec"].get("schedulingGates"):
            status["conditions"] = [scheduled_condition("False", "SchedulingGated", _GATED)]
        metadata = {**pod["metadata"], "generation": 1}
        stored = self._store.create("pods", {**pod, "metadata": metadata, "status": status})
        self._journal.pod_created(stored.object)
        return stored

    def start(self, pod: Json, node: Node) -> None:
        """Run a bound pod on its node."""
        uid = pod["metadata"]["uid"]
        entry = self._journal.pods[uid]
        entry.node = node.name
        worker = self.workers[uid] = PodWorker(self._host, pod, node, entry)
        worker.start(lambda: self._forget_removed(uid))

    def workers_on(self, node: Node) -> list[PodWorker]:
        """List the workers of the pods of a node."""
        return [worker for worker in self.workers.values() if worker.node is node]

    def count_active(self, namespace: str) -> int:
        """Count the pods that a quota counts."""
        return sum(not is_over(stored.object) for _key, stored in self._store.each("pods", namespace))

    # Pods go.

    def delete(
        self, key: Key, *, grace_s: int | None = None, uid: str | None = None, version: str | None = None
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
            stored = self.remove(key)
        worker = self.workers.get(pod["metadata"]["uid"])
        if worker is not None:
            worker.stop(Stop(grace))
            self._forget_removed(worker.uid)
        return stored

    def _mark_deleted(self, key: Key, pod: Json, grace: int) -> Stored:
        metadata = dict(pod["metadata"])
        if "deletionTimestamp" not in metadata:
            metadata["generation"] = metadata.get("generation", 1) + 1
        metadata["deletionTimestamp"] = second_text(time.time() + grace)
        metadata["deletionGracePeriodSeconds"] = grace
        return self._store.update("pods", key, {**pod, "metadata": metadata})

    def remove(self, key: Key) -> Stored:
        """Remove the object."""
        removed = self._store.remove("pods", key)
        uid = removed.object["metadata"]["uid"]
        entry = self._journal.pods.get(uid)
        if entry is not None and entry.deleted_at is None:
            entry.deleted_at = now_text()
        self._forget_removed(uid)
        return removed

    def _forget_removed(self, uid: str) -> None:
        """Forget a pod worker that is done and whose object is gone; its directories go too."""
        worker = self.workers.get(uid)
        if worker is None or worker.task is None or not worker.task.done():
            return
        stored = self._store.find("pods", worker.key)
        if stored is None or stored.object["metadata"]["uid"] != uid:
            del self.workers[uid]
            worker.remove_files()
            entry = self._journal.pods[uid]
            entry.deleted_at = entry.deleted_at or now_text()
            self._on_removal(worker.key[0])

    async def close(self) -> None:
        """Kill all containers."""
        await asyncio.gather(*(worker.close() for worker in list(self.workers.values())))

    # Disruptions.

    def evict(self, key: Key, *, grace_s: int | None = None) -> None:
        """Evict through the API: the condition first, then the deletion (recording ``evicted-through-api``)."""
        self._disrupt(key, "EvictionByEvictionAPI", "Eviction API: evicting")
        self.delete(key, grace_s=grace_s)

    def preempt(self, key: Key) -> None:
        """Evict as the scheduler does, for a pod of higher priority."""
        why = "default-scheduler: preempting to accommodate a higher priority pod"
        self._disrupt(key, "PreemptionByScheduler", why)
        self.delete(key)

    def evict_from_lost_node(self, key: Key) -> None:
        """Evict as the taint manager does."""
        self._disrupt(key, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
        self.delete(key)

    def evict_for_pressure(self, key: Key) -> None:
        """Evict as the kubelet of a node short of memory does: the pod fails and stays."""
        pod = self._disrupt(key, "TerminationByKubelet", _NODE_PRESSURE)
        worker = self.workers.get(pod["metadata"]["uid"])
        if worker is not None:
            worker.stop(Stop(0, "Evicted", _NODE_PRESSURE, is_deletion=False))

    def _disrupt(self, key: Key, reason: str, message: str) -> Json:
        pod = self._store.read("pods", key).object
        if is_over(pod) or "deletionTimestamp" in pod["metadata"]:
            return pod
        condition: Json = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
        condition |= {"lastProbeTime": None, "lastTransitionTime": now_text()}
        conditions = [*pod["status"].get("conditions", []), condition]
        return self._store.update("pods", key, {**pod, "status": {**pod["status"], "conditions": conditions}}).object


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
