"""Namespaces: created with what belongs to each, and after a deletion removed once they are empty."""

import asyncio

from devcluster.apimachinery.clock import now_text
from devcluster.apimachinery.errors import Json
from devcluster.apimachinery.store import Store, Stored
from devcluster.controllers.pods import Pods
from devcluster.kubelet.host import Host

_EMPTIED = ("secrets", "configmaps", "resourcequotas", "serviceaccounts", "events")


class Namespaces:
    """The namespace controller."""

    def __init__(self, host: Host, pods: Pods) -> None:
        self._store = host.store
        self._linger_s = host.latency.namespace_linger_s
        self._pods = pods
        self._lingering: dict[str, asyncio.TimerHandle] = {}

    def delete(self, name: str) -> Stored:
        """Make a namespace ``Terminating``; it is removed when it is empty, at the earliest after a while."""
        stored = self._store.read("namespaces", ("", name))
        namespace = stored.object
        if "deletionTimestamp" not in namespace["metadata"]:
            metadata = {**namespace["metadata"], "deletionTimestamp": now_text()}
            going = {**namespace, "metadata": metadata, "status": {"phase": "Terminating"}}
            stored = self._store.update("namespaces", ("", name), going)
            loop = asyncio.get_running_loop()
            self._lingering[name] = loop.call_later(self._linger_s, self._lingered, name)
            for key, _pod in list(self._store.each("pods", name)):
                self._pods.delete(key)
        return stored

    def _lingered(self, name: str) -> None:
        self._lingering.pop(name, None)
        self.remove_if_empty(name)

    def remove_if_empty(self, name: str) -> None:
        """Remove a namespace that is being deleted, with what is left in it, if it has no pods any more."""
        stored = self._store.find("namespaces", ("", name))
        if stored is None or "deletionTimestamp" not in stored.object["metadata"] or name in self._lingering:
            return
        if next(self._store.each("pods", name), None) is not None:
            return
        for resource in _EMPTIED:
            for key, _stored in list(self._store.each(resource, name)):
                self._store.remove(resource, key)
        self._store.remove("namespaces", ("", name))

    def close(self) -> None:
        """Cancel all timers."""
        for timer in self._lingering.values():
            timer.cancel()


def create_namespace(store: Store, obj: Json) -> Json:
    """Create a namespace with what the API server gives it, and its default service account."""
    name = obj["metadata"]["name"]
    labels = {**obj["metadata"].get("labels", {}), "kubernetes.io/metadata.name": name}
    metadata = {key: value for key, value in obj["metadata"].items() if key != "finalizers"} | {"labels": labels}
    namespace = {"kind": "Namespace", "apiVersion": "v1", "metadata": metadata}
    namespace |= {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    created = store.create("namespaces", namespace).object
    account = {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default", "namespace": name}}
    store.create("serviceaccounts", account)
    return created
