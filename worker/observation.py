"""One look at a pod, in our words.

Everything that decides about a pod reads an :class:`Observation`, never the API's JSON, so that the quirks of that JSON
have one home. Called for every watch event, thousands a second: it reads plain dicts and keeps nothing.

Times are the cluster's own (API server and nodes) and therefore aware datetimes; times of Redis' clock are bare floats.
The two types keep the two clocks from ever being compared.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from dispatcher import names
from dispatcher.events import ContainerEnd

#: What the API server writes for a container that ended without ever having started.
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: Terminated, although the process never ran (containerd and cri-o; docker).
START_ERRORS: Final = frozenset({"StartError", "ContainerCannotRun"})

#: The kubelet found no trace of the container (a reboot, a runtime that lost it): whether it ran, nobody knows.
STATUS_UNKNOWN: Final = "ContainerStatusUnknown"


@dataclass(frozen=True, slots=True)
class Container:
    """One container of the pod. ``sidecar`` is an init container with ``restartPolicy: Always``.

    ``reason`` and ``message`` belong to the state; ``has_started``: its process ran at some time.
    """

    name: str
    kind: Literal["init", "sidecar", "main"]
    state: Literal["waiting", "running", "terminated"] = "waiting"
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    restarts: int = 0
    has_started: bool = False

    @property
    def is_users(self) -> bool:
        """Whether it runs what the job asked for (all but the return-value sidecar)."""
        return self.name != names.RETURN_VALUE_CONTAINER


@dataclass(frozen=True, slots=True)
class Disruption:
    """The ``DisruptionTarget`` condition: the cluster is about to end the pod, or has."""

    reason: str
    message: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Scheduling:
    """Whether the pod has a node, and if not, why (``reason`` and ``message`` are the scheduler's)."""

    is_scheduled: bool
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a pod is at one moment.

    ``containers`` holds every container of the pod's spec, in order (init containers and sidecars first), also while
    the status says nothing of them. ``deletion_due_at`` is the ``deletionTimestamp``; ``deletion_asked_at`` is None
    while nobody asked, and also where the pod no longer tells (see :func:`_deletion_asked_at`).
    """

    name: str
    namespace: str
    uid: str
    resource_version: str
    phase: str
    containers: tuple[Container, ...]
    scheduling: Scheduling
    reason: str = ""
    message: str = ""
    node: str | None = None
    installation: str = ""
    queue: str = ""
    job_id: str = ""
    attempt: int = 0
    digest: str = ""
    key_hash: str = ""
    is_done: bool = False
    is_sandbox_ready: bool = False
    disruption: Disruption | None = None
    deletion_due_at: datetime | None = None
    deletion_asked_at: datetime | None = None
    deletion_grace_s: float = 0.0

    @property
    def is_being_deleted(self) -> bool:
        return self.deletion_due_at is not None

    @property
    def has_ended(self) -> bool:
        """Whether the phase is final. It comes about a second after the containers' ends."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def user_code_started(self) -> bool:
        """Whether any of the job's own containers ran, init containers included; in doubt, yes."""
        return any(c.is_users and (c.has_started or c.reason == STATUS_UNKNOWN) for c in self.containers)

    def container(self, name: str) -> Container | None:
        """The container of this name; None where the pod has none."""
        for container in self.containers:
            if container.name == name:
                return container
        return None


def observe(pod: dict[str, Any]) -> Observation:
    """Read a pod as the API server wrote it (JSON of a watch event or a GET)."""
    metadata = pod["metadata"]
    status = pod.get("status") or {}
    labels = metadata.get("labels") or {}
    annotations = metadata.get("annotations") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    due_at = _time(metadata.get("deletionTimestamp"))
    grace_s = float(metadata.get("deletionGracePeriodSeconds") or 0)
    return Observation(
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
        phase=status.get("phase") or "Pending",
        containers=_containers(pod.get("spec") or {}, status),
        scheduling=_scheduling(pod.get("spec") or {}, conditions.get("PodScheduled")),
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        node=(pod.get("spec") or {}).get("nodeName"),
        installation=labels.get(names.LABEL_INSTALLATION, ""),
        queue=labels.get(names.LABEL_QUEUE, ""),
        job_id=labels.get(names.LABEL_JOB, ""),
        attempt=_int(labels.get(names.LABEL_ATTEMPT)),
        digest=annotations.get(names.ANNOTATION_DIGEST, ""),
        key_hash=annotations.get(names.ANNOTATION_KEY, ""),
        is_done=names.LABEL_DONE in labels,
        is_sandbox_ready=conditions.get("PodReadyToStartContainers", {}).get("status") == "True",
        disruption=_disruption(conditions.get("DisruptionTarget")),
        deletion_due_at=due_at,
        deletion_asked_at=None if due_at is None else _deletion_asked_at(metadata, status, due_at, grace_s),
        deletion_grace_s=grace_s,
    )


def container_ends(observation: Observation) -> tuple[ContainerEnd, ...]:
    """The containers' last known states, as the job's result tells them."""
    return tuple(
        ContainerEnd(
            name=c.name,
            state=c.state,
            is_init=c.kind != "main",
            exit_code=c.exit_code,
            reason=c.reason or None,
            message=c.message or None,
            started_at=c.started_at,
            finished_at=c.finished_at,
        )
        for c in observation.containers
    )


def _deletion_asked_at(
    metadata: dict[str, Any], status: dict[str, Any], due_at: datetime, grace_s: float
) -> datetime | None:
    """When the deletion was asked for (whole seconds), or None where the pod does not tell.

    ``deletionTimestamp`` − grace, while there is a grace. Without one there are two cases: a pod that had already ended
    (or was forced) is deleted with grace 0 at once; and the kubelet, having ended a running pod, *moves* the timestamp
    to now and the grace to 0 (``deleted-while-running``), which looks as if the deletion came after the container's
    end. They differ in whether the kubelet had seen the deletion when it last reported.
    """
    if grace_s > 0:
        return due_at - timedelta(seconds=grace_s)
    generation, reported = metadata.get("generation"), status.get("observedGeneration")
    if generation and reported and reported < generation:
        return due_at
    return None


def _containers(spec: dict[str, Any], status: dict[str, Any]) -> tuple[Container, ...]:
    statuses = {s["name"]: s for s in status.get("initContainerStatuses") or ()}
    statuses.update((s["name"], s) for s in status.get("containerStatuses") or ())
    found = []
    for c in spec.get("initContainers") or ():
        kind: Literal["init", "sidecar"] = "sidecar" if c.get("restartPolicy") == "Always" else "init"
        found.append(_container(c["name"], kind, statuses.get(c["name"])))
    for c in spec.get("containers") or ():
        found.append(_container(c["name"], "main", statuses.get(c["name"])))
    return tuple(found)


def _container(name: str, kind: Literal["init", "sidecar", "main"], status: dict[str, Any] | None) -> Container:
    if status is None:
        return Container(name, kind)
    state = status.get("state") or {}
    restarts = status.get("restartCount") or 0
    if (running := state.get("running")) is not None:
        started_at = _time(running.get("startedAt"))
        return Container(name, kind, "running", started_at=started_at, restarts=restarts, has_started=True)
    if (ended := state.get("terminated")) is not None:
        return _terminated(name, kind, ended, restarts)
    waiting = state.get("waiting") or {}
    reason, message = waiting.get("reason") or "", waiting.get("message") or ""
    has_started = restarts > 0 or bool((status.get("lastState") or {}).get("terminated"))
    return Container(name, kind, "waiting", reason, message, restarts=restarts, has_started=has_started)


def _terminated(name: str, kind: Literal["init", "sidecar", "main"], ended: dict[str, Any], restarts: int) -> Container:
    reason = ended.get("reason") or ""
    started_at = _time(ended.get("startedAt"))
    return Container(
        name,
        kind,
        "terminated",
        reason,
        ended.get("message") or "",
        exit_code=ended.get("exitCode"),
        signal=ended.get("signal") or None,
        started_at=started_at,
        finished_at=_time(ended.get("finishedAt")),
        restarts=restarts,
        has_started=restarts > 0 or (started_at is not None and reason not in START_ERRORS),
    )


def _scheduling(spec: dict[str, Any], condition: dict[str, Any] | None) -> Scheduling:
    if spec.get("nodeName"):
        return Scheduling(True)
    condition = condition or {}
    reason, message = condition.get("reason") or "", condition.get("message") or ""
    gates = ", ".join(g.get("name", "") for g in spec.get("schedulingGates") or ())
    if gates:
        return Scheduling(False, "SchedulingGated", f"held by scheduling gates: {gates}")
    return Scheduling(condition.get("status") == "True", reason, message)


def _disruption(condition: dict[str, Any] | None) -> Disruption | None:
    if condition is None or condition.get("status") != "True":
        return None
    since = _time(condition.get("lastTransitionTime"))
    return Disruption(condition.get("reason") or "", condition.get("message") or "", since)


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    found = datetime.fromisoformat(text)
    return None if found == _NEVER else found


def _int(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
