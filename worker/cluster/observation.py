"""What was observed of a pod, in our words.

Everything that decides about a pod reads an :class:`Observation`, never the API's JSON, so that the quirks of that JSON
have one home. Called for every watch event, thousands a second: it reads plain dicts and keeps nothing.

Times are the cluster's own (API server and nodes) and therefore aware datetimes; times of Redis' clock are bare floats.
The two types keep the two clocks from ever being compared.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from dispatcher import names
from dispatcher.events import ContainerEnd

ContainerKind = Literal["init", "sidecar", "main"]

#: Terminated, although the process never ran (containerd and cri-o; docker).
START_ERRORS: Final = frozenset({"StartError", "ContainerCannotRun"})

#: The kubelet found no trace of the container (a reboot, a runtime that lost it): whether it ran, nobody knows.
STATUS_UNKNOWN: Final = "ContainerStatusUnknown"


@dataclass(frozen=True, slots=True)
class Container:
    """One container of the pod. ``sidecar`` is an init container with ``restartPolicy: Always``.

    ``reason`` and ``message`` belong to the state; ``has_started``: its process ran at some time. ``previous``: its run
    before this one, as far as the status tells.
    """

    name: str
    kind: ContainerKind
    state: Literal["waiting", "running", "terminated"] = "waiting"
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    restarts: int = 0
    has_started: bool = False
    previous: "Container | None" = None

    @property
    def was_restarted(self) -> bool:
        """Whether its process ran before and was restarted, or is about to be; in doubt, yes.

        The kubelet also counts what it made and could never start.
        """
        if self.previous is None:
            return self.restarts > 0
        return self.previous.has_started or self.previous.reason == STATUS_UNKNOWN

    @property
    def is_user_container(self) -> bool:
        """Whether it runs what the job asked for (all but the return-value sidecar)."""
        return self.name != names.RETURN_VALUE_CONTAINER


@dataclass(frozen=True, slots=True)
class Disruption:
    """The cluster is about to end the pod, or has.

    Kubernetes' ``DisruptionTarget`` condition, or Kueue's ``TerminationTarget`` (which Kueue sets only on pods that
    nobody else was deleting).
    """

    reason: str
    message: str
    since: datetime | None
    by: Literal["kubernetes", "kueue"] = "kubernetes"


@dataclass(frozen=True, slots=True)
class Scheduling:
    """Whether the pod has a node, and if not, why.

    ``reason`` and ``message`` are the scheduler's; ``waited_s``: how long it waited, once it has one.
    """

    is_scheduled: bool
    reason: str = ""
    message: str = ""
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """What a pod is at one moment.

    ``containers`` holds every container of the pod's spec, in order (init containers and sidecars first), also while
    the status says nothing of them. ``deletion_due_at`` is the ``deletionTimestamp``; ``deletion_requested_at`` is None
    while nobody asked, and also where the pod no longer tells (see :mod:`worker.cluster.pod_json`).
    ``is_node_unreachable``: the control plane gave the node up; it may come back. ``is_restarting``: the kubelet is
    about to start all containers again; ``restart_rules``: what in the spec would start some again
    (:mod:`worker.cluster.restart_rules`). ``deletion_grace_s``: of its deletion; ``termination_grace_s``: by its
    spec.
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
    is_node_unreachable: bool = False
    is_restarting: bool = False
    restart_rules: str = ""
    deletion_due_at: datetime | None = None
    deletion_requested_at: datetime | None = None
    deletion_grace_s: float = 0.0
    termination_grace_s: float = 0.0

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
        return any(c.is_user_container and (c.has_started or c.reason == STATUS_UNKNOWN) for c in self.containers)

    @property
    def plain_containers(self) -> tuple[Container, ...]:
        """The containers of ``spec.containers``: neither init containers nor native sidecars."""
        return tuple(c for c in self.containers if c.kind == "main")

    def container(self, name: str) -> Container | None:
        """Return the container of this name; None where the pod has none."""
        for container in self.containers:
            if container.name == name:
                return container
        return None


def container_ends(observation: Observation) -> tuple[ContainerEnd, ...]:
    """Return the containers' last known states, as the job's result tells them."""
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
