"""Events of ``core/v1`` as kubelet and scheduler write them; a repeated one is counted, not added."""

import time
from collections import deque

from devcluster.apimachinery.clock import micro_text, now_text
from devcluster.apimachinery.errors import Json
from devcluster.apimachinery.store import Key, Store

_KEPT = 20_000


class EventWriter:
    """The events about pods; only the newest are kept."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, str, str], Key] = {}
        self._order: deque[tuple[Key, tuple[str, str, str]]] = deque()

    def from_scheduler(self, pod: Json, kind: str, reason: str, message: str) -> None:
        """Write an event as the scheduler does, through events.k8s.io: no count, no first and last time."""
        event = self._event(pod, kind, reason, message)
        event |= {"reportingComponent": "default-scheduler", "reportingInstance": "default-scheduler-pocket"}
        event |= {"eventTime": micro_text(), "source": {}, "firstTimestamp": None, "lastTimestamp": None}
        event["action"] = "Binding" if reason == "Scheduled" else "Scheduling"
        self._store.create("events", event)

    def from_kubelet(self, pod: Json, kind: str, reason: str, message: str) -> None:
        """Write an event as the kubelet does, or count it if it repeats another."""
        words = (pod["metadata"]["uid"], reason, message)
        key = self._known.get(words)
        stored = self._store.find("events", key) if key else None
        if key and stored:
            again = {**stored.object, "count": stored.object["count"] + 1, "lastTimestamp": now_text()}
            self._store.update("events", key, again)
            return
        event = self._event(pod, kind, reason, message)
        node = pod["spec"].get("nodeName", "")
        event |= {"source": {"component": "kubelet", "host": node}, "count": 1, "eventTime": None}
        event |= {"firstTimestamp": now_text(), "lastTimestamp": now_text()}
        event |= {"reportingComponent": "kubelet", "reportingInstance": node}
        created = self._store.create("events", event).object["metadata"]
        self._remember((created["namespace"], created["name"]), words)

    def _event(self, pod: Json, kind: str, reason: str, message: str) -> Json:
        metadata = pod["metadata"]
        return {
            "kind": "Event",
            "apiVersion": "v1",
            # Nanoseconds, as client-go names them: a list, which is sorted by name, has events in their order.
            "metadata": {"name": f"{metadata['name']}.{time.time_ns():x}", "namespace": metadata["namespace"]},
            "involvedObject": {
                "kind": "Pod",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "apiVersion": "v1",
                "resourceVersion": metadata["resourceVersion"],
            },
            "reason": reason,
            "message": message,
            "type": kind,
        }

    def _remember(self, key: Key, words: tuple[str, str, str]) -> None:
        self._known[words] = key
        self._order.append((key, words))
        while len(self._order) > _KEPT:
            old_key, old_words = self._order.popleft()
            self._known.pop(old_words, None)
            self._store.forget("events", old_key)
