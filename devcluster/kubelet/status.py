"""A pod's status and phase, made of what is known of its containers. Pure.

The conditions have the order, reasons and words of the recordings.
"""

from dataclasses import dataclass

from devcluster.apimachinery.errors import Json
from devcluster.kubelet.views import ContainerView, PodView


@dataclass(frozen=True, slots=True)
class _PodCondition:
    kind: str
    holds: bool
    reason: str = ""
    message: str = ""


def pod_status(view: PodView, before: Json, now: str) -> Json:
    """Make the status to publish.

    ``before``: the status that is stored, with transition times and the conditions that others have set.
    """
    status: Json = {"observedGeneration": view.generation, "phase": view.phase}
    old = before.get("conditions") or []
    own = [_condition(wanted, old, view.generation, now) for wanted in _conditions(view)]
    status["conditions"] = [*_foreign(old), *own]
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
        status["initContainerStatuses"] = [_container_status(container) for container in init]
    status["containerStatuses"] = [_container_status(container) for container in view.of_role("main")]
    status["qosClass"] = view.qos_class
    return status


def _container_status(view: ContainerView) -> Json:
    shown: Json = {
        "name": view.name,
        "state": view.state,
        "lastState": view.last_state,
        "ready": view.is_ready,
        "restartCount": view.restarts,
        "image": view.image,
        "imageID": view.image_id,
        "started": view.is_running,
    }
    if view.container_id:
        shown["containerID"] = view.container_id
        shown["resources"] = view.resources or {}
    if view.mounts:
        shown["volumeMounts"] = list(view.mounts)
    return shown


def _foreign(old: list[Json]) -> list[Json]:
    ours = {"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"}
    return [condition for condition in old if condition["type"] not in ours]


def _condition(wanted: _PodCondition, old: list[Json], generation: int, now: str) -> Json:
    value = "True" if wanted.holds else "False"
    earlier = next((condition for condition in old if condition["type"] == wanted.kind), None)
    changed = earlier is None or earlier["status"] != value
    condition: Json = {
        "type": wanted.kind,
        "observedGeneration": generation,
        "status": value,
        "lastProbeTime": None,
        "lastTransitionTime": now if earlier is None or changed else earlier["lastTransitionTime"],
    }
    if wanted.reason:
        condition["reason"] = wanted.reason
    if wanted.message:
        condition["message"] = wanted.message
    return condition


def _conditions(view: PodView) -> list[_PodCondition]:
    ready = _ready(view)
    return [
        _PodCondition("PodReadyToStartContainers", view.has_sandbox),
        _initialized(view),
        _PodCondition("Ready", *ready),
        _PodCondition("ContainersReady", *ready),
        _PodCondition("PodScheduled", True),
    ]


def _initialized(view: PodView) -> _PodCondition:
    over = view.is_over and not view.is_failed
    pending = [] if over else [container.name for container in view.of_role("init") if not container.has_succeeded]
    pending += [] if view.is_over else [c.name for c in view.of_role("sidecar") if not _was_started(c)]
    if pending:
        listed = " ".join(pending)
        message = f"containers with incomplete status: [{listed}]"
        return _PodCondition("Initialized", False, "ContainersNotInitialized", message)
    return _PodCondition("Initialized", True, "PodCompleted" if over else "")


def _was_started(container: ContainerView) -> bool:
    return container.is_running or container.has_terminated or container.restarts > 0


def _ready(view: PodView) -> tuple[bool, str, str]:
    if view.is_over:
        return False, "PodFailed" if view.is_failed else "PodCompleted", ""
    unready = [container.name for container in view.of_role("sidecar", "main") if not container.is_ready]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def phase_of(view: PodView, *, has_run: bool) -> str:
    """Return ``Pending`` or ``Running``; the final phases come when the pod ends, later than its containers."""
    untouched = any("waiting" in one.state and not one.last_state for one in view.of_role("main"))
    return "Running" if has_run and not untouched else "Pending"


def outcome_stands(view: PodView, restart_policy: str) -> bool:
    """Return whether no container will run again, so that the pod's outcome is decided."""
    if any(one.is_running for one in view.of_role("sidecar")):
        return False
    inits = view.of_role("init")
    if restart_policy == "Never" and any(one.has_terminated and not one.has_succeeded for one in inits):
        return True
    mains = view.of_role("main")
    final = restart_policy == "Never" or (restart_policy == "OnFailure" and all(one.has_succeeded for one in mains))
    return final and all(one.has_terminated for one in mains)


def outcome_failed(view: PodView) -> bool:
    """Return whether a pod whose containers have ended has failed; sidecars do not count."""
    counted = view.of_role("init", "main")
    return any(container.has_terminated and not container.has_succeeded for container in counted)
