"""A pod's status from what is known of its containers: a pure function, as the kubelet's is.

The order of conditions, their reasons and their words are those of the recordings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from devcluster.answers import Json

ContainerState = Json
"""`{"waiting": …}`, `{"running": …}` or `{"terminated": …}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    """One container as its status shows it."""

    name: str
    role: str
    """`init`, `sidecar` (an init container that is always restarted) or `main`."""
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

    def moved(self, state: ContainerState) -> "ContainerView":
        return replace(self, state=state)

    def as_json(self) -> Json:
        shown: Json = {
            "name": self.name,
            "state": self.state,
            "lastState": self.last_state,
            "ready": self.is_ready,
            "restartCount": self.restarts,
            "image": self.image,
            "imageID": self.image_id,
            "started": self.is_running,
        }
        if self.container_id:
            shown["containerID"] = self.container_id
            shown["resources"] = self.resources or {}
        if self.mounts:
            shown["volumeMounts"] = list(self.mounts)
        return shown


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
    is_over: bool = False
    """The outcome stands: conditions say PodFailed or PodCompleted, whatever containers still do."""
    is_failed: bool = False
    phase: str = "Pending"
    reason: str = ""
    message: str = ""

    def of_role(self, *roles: str) -> list[ContainerView]:
        return [container for container in self.containers if container.role in roles]


@dataclass(frozen=True, slots=True)
class _Claim:
    kind: str
    holds: bool
    reason: str = ""
    message: str = ""


def outcome_failed(view: PodView) -> bool:
    """Whether a pod whose containers have ended has failed: sidecars do not count."""
    counted = view.of_role("init", "main")
    return any(container.has_terminated and not container.has_succeeded for container in counted)


def pod_status(view: PodView, before: Json, now: str) -> Json:
    """The status to publish; `before` gives the transition times and the conditions that others have set."""
    status: Json = {"observedGeneration": view.generation, "phase": view.phase}
    old = before.get("conditions") or []
    status["conditions"] = [*_foreign(old), *(_condition(claim, old, view.generation, now) for claim in _claims(view))]
    if view.message:
        status["message"] = view.message
    if view.reason:
        status["reason"] = view.reason
    status["hostIP"] = view.host_ip
    status["hostIPs"] = [{"ip": view.host_ip}]
    if view.pod_ip:
        status["podIP"] = view.pod_ip
        status["podIPs"] = [{"ip": view.pod_ip}]
    status["startTime"] = view.started_at
    init = view.of_role("init", "sidecar")
    if init:
        status["initContainerStatuses"] = [container.as_json() for container in init]
    status["containerStatuses"] = [container.as_json() for container in view.of_role("main")]
    status["qosClass"] = view.qos_class
    return status


def _foreign(old: list[Json]) -> list[Json]:
    ours = {"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"}
    return [condition for condition in old if condition["type"] not in ours]


def _condition(claim: _Claim, old: list[Json], generation: int, now: str) -> Json:
    value = "True" if claim.holds else "False"
    earlier = next((condition for condition in old if condition["type"] == claim.kind), None)
    changed = earlier is None or earlier["status"] != value
    condition: Json = {
        "type": claim.kind,
        "observedGeneration": generation,
        "status": value,
        "lastProbeTime": None,
        "lastTransitionTime": now if earlier is None or changed else earlier["lastTransitionTime"],
    }
    if claim.reason:
        condition["reason"] = claim.reason
    if claim.message:
        condition["message"] = claim.message
    return condition


def _claims(view: PodView) -> list[_Claim]:
    ready = _ready_claim(view)
    return [
        _Claim("PodReadyToStartContainers", view.has_sandbox),
        _initialized_claim(view),
        _Claim("Ready", *ready),
        _Claim("ContainersReady", *ready),
        _Claim("PodScheduled", True),
    ]


def _initialized_claim(view: PodView) -> _Claim:
    over = view.is_over and not view.is_failed
    pending = [] if over else [container.name for container in view.of_role("init") if not container.has_succeeded]
    pending += [] if view.is_over else [c.name for c in view.of_role("sidecar") if not _was_started(c)]
    if pending:
        listed = " ".join(pending)
        message = f"containers with incomplete status: [{listed}]"
        return _Claim("Initialized", False, "ContainersNotInitialized", message)
    return _Claim("Initialized", True, "PodCompleted" if over else "")


def _was_started(container: ContainerView) -> bool:
    return container.is_running or container.has_terminated or container.restarts > 0


def _ready_claim(view: PodView) -> tuple[bool, str, str]:
    if view.is_over:
        return False, "PodFailed" if view.is_failed else "PodCompleted", ""
    unready = [container.name for container in view.of_role("sidecar", "main") if not container.is_ready]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""
