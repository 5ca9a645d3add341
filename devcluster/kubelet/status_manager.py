"""The status of one pod as its node knows it, and what of it the API server is told.

``update`` changes what the node knows, ``publish`` tells the API server. From an unreachable node nothing is published.
"""

from dataclasses import replace

from devcluster.apimachinery.clock import now_text
from devcluster.apimachinery.errors import Json
from devcluster.apimachinery.store import Key
from devcluster.kubelet.host import Host
from devcluster.kubelet.node import Node
from devcluster.kubelet.status import outcome_failed, outcome_stands, phase_of, pod_status
from devcluster.kubelet.views import ContainerView, PodView, first_view


class StatusManager:
    """The status of one pod, as its node sees it."""

    def __init__(self, host: Host, pod: Json, node: Node) -> None:
        self._store = host.store
        self._events = host.events
        self.node = node
        #: The object as it was last read.
        self.pod = pod
        self.key: Key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        self.uid: str = pod["metadata"]["uid"]
        self.view: PodView = first_view(pod, host_ip=node.ip, started_at=now_text())
        #: The pod is being stopped: the ends of its containers are published together, as recorded.
        self.holds_ends = False
        self._has_run = False

    @property
    def spec(self) -> Json:
        spec: Json = self.pod["spec"]
        return spec

    def find(self, name: str) -> ContainerView | None:
        return next((view for view in self.view.containers if view.name == name), None)

    def container(self, name: str) -> ContainerView:
        return next(view for view in self.view.containers if view.name == name)

    def refresh(self) -> Json:
        """Read the pod from the store, or return it as it last was there."""
        stored = self._store.find("pods", self.key)
        if stored is not None and stored.object["metadata"]["uid"] == self.uid:
            self.pod = stored.object
        return self.pod

    # The pod.

    def update(self, **changes: object) -> None:
        self.view = replace(self.view, **changes)  # type: ignore[arg-type]  # names and types are PodView's

    def publish(self, **changes: object) -> None:
        """Store a status, with these changes, if it says anything new."""
        self.update(**changes)
        stored = self._store.find("pods", self.key)
        if self.node.is_unreachable or stored is None or stored.object["metadata"]["uid"] != self.uid:
            return
        status = pod_status(self.view, stored.object.get("status", {}), now_text())
        if status != stored.object.get("status"):
            self._store.update("pods", self.key, {**stored.object, "status": status})

    def event(self, kind: str, reason: str, message: str) -> None:
        if not self.node.is_unreachable:
            self._events.from_kubelet(self.pod, kind, reason, message)

    # Its containers.

    def publish_container(self, view: ContainerView) -> None:
        self._update_container(view)
        self.publish()

    def publish_start(self, view: ContainerView) -> None:
        """Publish that a container runs; main containers are started in one go, and published together."""
        self._has_run = self._has_run or view.role == "main"
        self._update_container(view)
        if not (view.role == "main" and self._others_are_starting()):
            self.publish()

    def publish_end(self, view: ContainerView) -> None:
        """Publish that a container has ended; while the pod is being stopped, only note it."""
        if self.holds_ends:
            self.view = self.view.with_container(view)
        else:
            self.publish_container(view)

    def _update_container(self, view: ContainerView) -> None:
        changed = self.view.with_container(view)
        over = outcome_stands(changed, self.spec["restartPolicy"])
        self.view = replace(
            changed,
            pod_ip=self._pod_ip(),
            phase=phase_of(changed, has_run=self._has_run),
            is_over=over,
            is_failed=over and outcome_failed(changed),
        )

    def _others_are_starting(self) -> bool:
        return any(
            one.state.get("waiting", {}).get("reason") in ("ContainerCreating", "PodInitializing")
            for one in self.view.of_role("main")
        )

    def _pod_ip(self) -> str:
        number = int(self.uid[:6], 16)
        return f"10.244.{number >> 8 & 255}.{(number & 255) or 1}"
