"""One list and watch per namespace for all jobs of the queue; after a 410 it lists again.

It keeps the last observation of every pod that bears the installation's and the queue's labels and is not done, and
hands each change to whoever follows the job. A cache proves nothing about absence: a pod that a relist no longer shows
is handed on as a doubt, which the job's controller settles with a GET.

A namespace whose pods the API server does not show is not served until it does: a job launched there could not be
followed.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, Protocol

import structlog

from dispatcher import names
from worker.cluster.client import Backoff, Cluster, ClusterRefusedError, ClusterUnavailableError, WatchEvent
from worker.cluster.observation import Observation
from worker.cluster.pod_json import UnreadablePodError, observe

log = structlog.get_logger("podrelay.worker")

#: After so many watches in a row that ended without an event, not even a bookmark, the pods are listed again.
MAX_EMPTY_WATCHES: Final = 2

#: How many of the last deleted pods are remembered: their last look tells whoever takes their job over why they went.
MAX_GONE: Final = 2048


class PodListener(Protocol):
    """What hears of changes to pods. Called in the loop; must not block."""

    def pod_changed(self, pod: Observation) -> None: ...

    def pod_deleted(self, pod: Observation) -> None: ...

    def pods_listed(self, namespace: str) -> None:
        """Take note that the namespace was listed: what the list does not show may be gone, seen before or not."""


class PodWatch:
    """The list and watch of one namespace's pods."""

    def __init__(
        self, cluster: Cluster, namespace: str, *, installation: str, queue: str, listener: PodListener
    ) -> None:
        self.namespace = namespace
        self.first_list = asyncio.Event()  #: set once the first list was answered, or could not be asked for
        self.is_synced = False  #: a list is in
        self.refusal = ""  #: why the API server does not show the pods ('' while it does)
        self.pods: dict[str, Observation] = {}  #: by pod name
        self.gone: dict[str, Observation] = {}  #: the last deleted pods by uid, oldest first
        self.unreadable = 0  #: how often something stood where a pod should
        self._empty_watches = 0  # watches in a row that ended without an event
        self._cluster = cluster
        self._listener = listener
        self._selector = f"{names.LABEL_INSTALLATION}={installation},{names.LABEL_QUEUE}={queue},!{names.LABEL_DONE}"

    async def run(self) -> None:
        """Watch for ever."""
        backoff = Backoff()
        while True:
            try:
                version = await self._list()
                while self._empty_watches < MAX_EMPTY_WATCHES:
                    version = await self._watch(version, backoff)
                self._empty_watches = 0
            except ClusterRefusedError as error:
                # 410: too old a version, the ordinary reason to list again. A refused list has said so.
                if error.status != 410 and not self.refusal:
                    log.error("watch refused", namespace=self.namespace, status=error.status, why=error.message)
                await asyncio.sleep(backoff.failed())
            except ClusterUnavailableError as error:
                log.warning("API server unavailable", namespace=self.namespace, why=str(error))
                self.first_list.set()
                await asyncio.sleep(backoff.failed(error))

    async def _list(self) -> str:
        try:
            items, version = await self._cluster.list_pods(self.namespace, self._selector)
        except ClusterRefusedError as error:
            if error.status != 410:
                self._refuse(error)
            raise
        if self.refusal:
            log.info("namespace served again", namespace=self.namespace)
            self.refusal = ""
        listed = {pod.name: pod for pod in map(self._observe, items) if pod is not None}
        for name in [name for name, pod in self.pods.items() if name not in listed or listed[name].uid != pod.uid]:
            del self.pods[name]
        for pod in listed.values():
            self._changed(pod)
        self.is_synced = True
        self.first_list.set()
        self._listener.pods_listed(self.namespace)
        return version

    def _refuse(self, error: ClusterRefusedError) -> None:
        """Note that the namespace is not served; logged once, not with every try."""
        if error.message != self.refusal:
            log.error(
                "namespace not served: the API server does not show its pods. Put the Role and the RoleBinding of "
                "deploy/rbac.yaml there (its subject with the worker's own namespace), or take it out of "
                "PODRELAY_NAMESPACES",
                namespace=self.namespace,
                status=error.status,
                why=error.message,
            )
        self.refusal = error.message
        self.first_list.set()

    async def _watch(self, version: str, backoff: Backoff) -> str:
        """Make one watch request and return the resource version to go on from.

        The version holds for a while: all need not be listed again; but not for ever where it brings nothing, e.g.
        always the same line that is no event.
        """
        self._empty_watches += 1
        try:
            async for event in self._cluster.watch_pods(self.namespace, self._selector, version):
                backoff.succeeded()
                self._empty_watches = 0
                version = _version(event) or version
                self._take(event)
        except ClusterUnavailableError as error:
            log.info("watch interrupted", namespace=self.namespace, why=str(error))
            await asyncio.sleep(backoff.failed(error))
        return version

    def _take(self, event: WatchEvent) -> None:
        if event.type == "BOOKMARK":
            return
        pod = self._observe(event.object)
        if pod is None:
            return
        if event.type == "DELETED":
            self.pods.pop(pod.name, None)
            self.gone[pod.uid] = pod
            if len(self.gone) > MAX_GONE:
                del self.gone[next(iter(self.gone))]
            self._listener.pod_deleted(pod)
        else:
            self._changed(pod)

    def _observe(self, pod: Any) -> Observation | None:
        """Read a pod; None for what is none: that is left out, counted, and logged the first time."""
        try:
            return observe(pod)
        except UnreadablePodError as error:
            self.unreadable += 1
            if self.unreadable == 1:
                log.warning("left out of the watch", namespace=self.namespace, why=str(error))
            return None

    def _changed(self, pod: Observation) -> None:
        known = self.pods.get(pod.name)
        if known is not None and known.uid == pod.uid and known.resource_version == pod.resource_version:
            return
        self.pods[pod.name] = pod
        if known is not None and known.uid == pod.uid and known.job_id != pod.job_id:
            self._listener.pod_deleted(known)  # somebody's doing: it has left its job as it would leave the selector
        self._listener.pod_changed(pod)


def _version(event: WatchEvent) -> str:
    metadata = event.object.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) else ""


class PodWatches:
    """The watches of all namespaces that a worker is to serve."""

    def __init__(self, make: Callable[[str], PodWatch], namespaces: tuple[str, ...]) -> None:
        self._watches = {namespace: make(namespace) for namespace in namespaces}

    def __iter__(self) -> Iterator[PodWatch]:
        return iter(self._watches.values())

    @property
    def namespaces(self) -> tuple[str, ...]:
        return tuple(self._watches)

    @property
    def served(self) -> tuple[str, ...]:
        """The namespaces whose pods the API server has not refused to show."""
        return tuple(name for name, watch in self._watches.items() if not watch.refusal)

    @property
    def refused(self) -> dict[str, str]:
        """The namespaces whose pods it refuses to show, and why."""
        return {name: watch.refusal for name, watch in self._watches.items() if watch.refusal}

    async def first_list(self, *, within_s: float) -> None:
        """Wait until it is known which namespaces are shown, but not for an API server that does not answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await asyncio.gather(*(watch.first_list.wait() for watch in self))

    async def of(self, namespace: str) -> PodWatch:
        """Return the namespace's watch, once its first list was answered or could not be asked for."""
        watch = self._watches[namespace]
        await watch.first_list.wait()
        return watch

    def pod(self, namespace: str, name: str) -> Observation | None:
        """Return the last observation of a pod; None proves nothing."""
        watch = self._watches.get(namespace)
        return watch.pods.get(name) if watch else None

    def gone(self, namespace: str, uid: str | None) -> Observation | None:
        """Return the last observation of a pod whose deletion was seen; None proves nothing."""
        watch = self._watches.get(namespace)
        return watch.gone.get(uid) if watch and uid else None

    def with_key(self, namespace: str, key_hash: str, digest: str) -> Iterator[Observation]:
        """Yield the pods of jobs with this key and spec digest, but for those that are being deleted."""
        for pod in self._watches[namespace].pods.values():
            if pod.key_hash == key_hash and pod.digest == digest and not pod.is_being_deleted:
                yield pod
