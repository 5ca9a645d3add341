"""A pod and its containers as the kubelet sees them; ``status`` makes the pod's status of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from devcluster.apimachinery.errors import Json

#: ``{"waiting": …}``, ``{"running": …}`` or ``{"terminated": …}``.
ContainerState = Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    """One container as its status shows it."""

    name: str
    #: ``init``, ``sidecar`` (an init container that is always restarted) or ``main``.
    role: str
    image: str
    state: ContainerState
    last_state: ContainerState = field(default_factory=dict)
    image_id: str = ""
    container_id: str = ""
    restarts: int = 0
    resources: Json | None = None
    mounts: Sequence[Json] = ()

    @property
    def is_running(self) -> bool:
        return "running" in self.state

    @property
    def has_terminated(self) -> bool:
        return "terminated" in self.state

    @property
    def has_succeeded(self) -> bool:
        return self.has_terminated and self.state["terminated"]["exitCode"] == 0

    @property
    def is_ready(self) -> bool:
        return self.has_succeeded if self.role == "init" else self.is_running

    def with_state(self, state: ContainerState) -> "ContainerView":
        return replace(self, state=state)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """All that a kubelet knows of a pod."""

    containers: tuple[ContainerView, ...]
    generation: int
    qos_class: str
    host_ip: str
    started_at: str
    pod_ip: str = ""
    has_sandbox: bool = False
    #: Its outcome is decided: conditions say PodFailed or PodCompleted, whatever containers still do.
    is_over: bool = False
    is_failed: bool = False
    phase: str = "Pending"
    reason: str = ""
    message: str = ""

    def of_role(self, *roles: str) -> list[ContainerView]:
        return [container for container in self.containers if container.role in roles]

    def with_container(self, container: ContainerView) -> "PodView":
        containers = tuple(container if one.name == container.name else one for one in self.containers)
        return replace(self, containers=containers)


def waiting(reason: str, message: str = "") -> ContainerState:
    """Make the state of a container that does not run yet, or not again."""
    return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}


def first_view(pod: Json, *, host_ip: str, started_at: str) -> PodView:
    """Make the view of a pod that is new on its node: every container waits."""
    spec = pod["spec"]
    reason = "PodInitializing" if spec.get("initContainers") else "ContainerCreating"
    views = []
    for group in ("initContainers", "containers"):
        for container in spec.get(group, []):
            role = "main" if group == "containers" else "sidecar" if "restartPolicy" in container else "init"
            views.append(_waiting_view(container, role, reason))
    return PodView(
        containers=tuple(views),
        generation=pod["metadata"].get("generation", 1),
        qos_class=pod["status"]["qosClass"],
        host_ip=host_ip,
        started_at=started_at,
    )


def _waiting_view(container: Json, role: str, reason: str) -> ContainerView:
    mounts = [
        {**mount, "recursiveReadOnly": "Disabled"} if mount.get("readOnly") else mount
        for mount in container.get("volumeMounts", [])
    ]
    return ContainerView(
        name=container["name"],
        role=role,
        image=container["image"],
        state=waiting(reason),
        resources=container["resources"],
        mounts=tuple(mounts),
    )
