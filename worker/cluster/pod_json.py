"""The reader of a pod's JSON: what comes out is an :class:`worker.cluster.observation.Observation`.

Nothing in it is certain: any controller, webhook or proxy may have written any of it. What has another type than it
should is taken as not said.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from dispatcher import names
from worker.cluster.observation import START_ERRORS, Container, ContainerKind, Disruption, Observation, Scheduling
from worker.cluster.restart_rules import restart_rules

#: What the API server writes for a container that ended without ever having started.
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: A Ready condition's reason where the control plane, not the kubelet, took it away.
_LEFT_BY_KUBELET: Final = frozenset({"", "NodeStatusUnknown", "NodeStatusNeverUpdated", "NodeLost"})

_ATTEMPT: Final = re.compile(r"[0-9]{1,9}")
_LONGEST_S: Final = 100 * 366 * 86400


class UnreadablePodError(ValueError):
    """What stands where a pod should is no pod. Leave it out and say so; it is not ours."""


def observe(pod: Any) -> Observation:
    """Read a pod as the API server wrote it (JSON of a watch event or a GET).

    Total: whatever a foreign controller, a webhook or a proxy has put into the pod, what cannot be read is taken as not
    said, and everything else stays readable.

    Raises:
        UnreadablePodError: what is there is not a pod at all: it has no metadata with a name.
    """
    metadata, spec, status = _parts(pod)
    labels, annotations = _map(metadata.get("labels")), _map(metadata.get("annotations"))
    conditions = {text_of(c.get("type")): c for c in _maps(status.get("conditions"))}
    due_at = _time(metadata.get("deletionTimestamp"))
    grace_s = _seconds(metadata.get("deletionGracePeriodSeconds"))
    return Observation(
        name=text_of(metadata["name"]),
        namespace=text_of(metadata.get("namespace")),
        uid=text_of(metadata.get("uid")),
        resource_version=text_of(metadata.get("resourceVersion")),
        phase=text_of(status.get("phase")) or "Pending",
        containers=_containers(spec, status),
        scheduling=_scheduling(metadata, spec, conditions.get("PodScheduled")),
        reason=text_of(status.get("reason")),
        message=text_of(status.get("message")),
        node=text_of(spec.get("nodeName")) or None,
        installation=text_of(labels.get(names.LABEL_INSTALLATION)),
        queue=text_of(labels.get(names.LABEL_QUEUE)),
        job_id=text_of(labels.get(names.LABEL_JOB)),
        attempt=_attempt(labels.get(names.LABEL_ATTEMPT)),
        digest=text_of(annotations.get(names.ANNOTATION_DIGEST)),
        key_hash=text_of(annotations.get(names.ANNOTATION_KEY)),
        is_done=names.LABEL_DONE in labels,
        is_sandbox_ready=_is_true(conditions.get("PodReadyToStartContainers")),
        disruption=_disruption(conditions.get("TerminationTarget")) or _disruption(conditions.get("DisruptionTarget")),
        is_node_unreachable=_is_node_unreachable(conditions.get("Ready")),
        is_restarting=_is_true(conditions.get("AllContainersRestarting")),
        restart_rules="; ".join(restart_rules(spec)),
        deletion_due_at=due_at,
        deletion_requested_at=None if due_at is None else _deletion_requested_at(metadata, status, due_at, grace_s),
        deletion_grace_s=grace_s,
        termination_grace_s=_seconds(spec.get("terminationGracePeriodSeconds")),
    )


def _parts(pod: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the pod's metadata, spec and status."""
    if not isinstance(pod, dict) or not isinstance(pod.get("metadata"), dict):
        raise UnreadablePodError("not a pod: it has no metadata")
    if not text_of(pod["metadata"].get("name")):
        raise UnreadablePodError("not a pod: its metadata has no name")
    return pod["metadata"], _map(pod.get("spec")), _map(pod.get("status"))


def _deletion_requested_at(
    metadata: dict[str, Any], status: dict[str, Any], due_at: datetime, grace_s: float
) -> datetime | None:
    """Return when the pod's deletion was requested (whole seconds); None where the pod does not tell.

    ``deletionTimestamp`` − grace, while there is a grace. Without one there are two cases: a pod that had already ended
    (or was forced) is deleted with grace 0 at once; and the kubelet, having ended a running pod, *moves* the timestamp
    to now and the grace to 0 (``deleted-while-running``), which looks as if the deletion came after the container's
    end. They differ in whether the kubelet had seen the deletion when it last reported.
    """
    if grace_s > 0:
        return due_at - timedelta(seconds=grace_s)
    generation, reported = _int(metadata.get("generation")), _int(status.get("observedGeneration"))
    if generation and reported and reported < generation:
        return due_at
    return None


def _containers(spec: dict[str, Any], status: dict[str, Any]) -> tuple[Container, ...]:
    statuses = {
        text_of(s.get("name")): s
        for field in ("initContainerStatuses", "containerStatuses")
        for s in _maps(status.get(field))
    }
    found = []
    for c in _maps(spec.get("initContainers")):
        kind: ContainerKind = "sidecar" if c.get("restartPolicy") == "Always" else "init"
        found.append(_container(text_of(c.get("name")), kind, statuses))
    for c in _maps(spec.get("containers")):
        found.append(_container(text_of(c.get("name")), "main", statuses))
    return tuple(container for container in found if container.name)


def _container(name: str, kind: ContainerKind, statuses: dict[str, dict[str, Any]]) -> Container:
    status = statuses.get(name)
    if status is None:
        return Container(name, kind)
    last = _map(status.get("lastState"))
    previous = _state(Container(name, kind), last) if last else None
    restarts = max(0, _int(status.get("restartCount")) or 0)
    found = _state(Container(name, kind, restarts=restarts, previous=previous), _map(status.get("state")))
    return replace(found, has_started=True) if found.was_restarted else found


def _state(container: Container, state: dict[str, Any]) -> Container:
    """Return the container's state (of three fields, one is given)."""
    if isinstance(running := state.get("running"), dict):
        return replace(container, state="running", started_at=_time(running.get("startedAt")), has_started=True)
    if isinstance(ended := state.get("terminated"), dict):
        return _terminated(container, ended)
    waiting = _map(state.get("waiting"))
    return replace(container, reason=text_of(waiting.get("reason")), message=text_of(waiting.get("message")))


def _terminated(container: Container, ended: dict[str, Any]) -> Container:
    reason, started_at = text_of(ended.get("reason")), _time(ended.get("startedAt"))
    return replace(
        container,
        state="terminated",
        reason=reason,
        message=text_of(ended.get("message")),
        exit_code=_int(ended.get("exitCode")),
        signal=_int(ended.get("signal")) or None,
        started_at=started_at,
        finished_at=_time(ended.get("finishedAt")),
        has_started=started_at is not None and reason not in START_ERRORS,
    )


def _scheduling(metadata: dict[str, Any], spec: dict[str, Any], condition: dict[str, Any] | None) -> Scheduling:
    condition = condition or {}
    if text_of(spec.get("nodeName")):
        return Scheduling(True, waited_s=_waited_s(metadata, condition))
    reason, message = text_of(condition.get("reason")), text_of(condition.get("message"))
    gates = ", ".join(text_of(g.get("name")) for g in _maps(spec.get("schedulingGates")))
    if gates:
        return Scheduling(False, "SchedulingGated", f"held by scheduling gates: {gates}")
    if reason == "SchedulingGated":
        return Scheduling(False)  # lifted a moment ago, and no scheduler has looked at it since
    return Scheduling(_is_true(condition), reason, message, _waited_s(metadata, condition))


def _waited_s(metadata: dict[str, Any], condition: dict[str, Any]) -> float:
    """Return how long the pod waited for its node: both times are the API server's, so they may be subtracted."""
    created_at, scheduled_at = _time(metadata.get("creationTimestamp")), _time(condition.get("lastTransitionTime"))
    if created_at is None or scheduled_at is None or not _is_true(condition):
        return 0.0
    return max(0.0, (scheduled_at - created_at).total_seconds())


def _disruption(condition: dict[str, Any] | None) -> Disruption | None:
    if condition is None or not _is_true(condition):
        return None
    kind: Literal["kueue", "kubernetes"] = "kueue" if condition.get("type") == "TerminationTarget" else "kubernetes"
    since = _time(condition.get("lastTransitionTime"))
    return Disruption(text_of(condition.get("reason")), text_of(condition.get("message")), since, by=kind)


def _is_node_unreachable(ready: dict[str, Any] | None) -> bool:
    """Whether the control plane gave the pod's node up.

    It then takes the pod's Ready away by itself and leaves the condition's reason as it was: empty, as it is while a
    pod is ready. The kubelet never takes it away without a reason.
    """
    if ready is None:
        return False
    status, reason = ready.get("status"), text_of(ready.get("reason"))
    return status == "Unknown" or (status == "False" and reason in _LEFT_BY_KUBELET)


def _is_true(condition: dict[str, Any] | None) -> bool:
    return condition is not None and condition.get("status") == "True"


# Reading JSON of which nothing is certain: what has another type than it should was not said.


def text_of(value: Any) -> str:
    """Return a text of the API's JSON, as it can be written again; empty for what is no text."""
    if not isinstance(value, str):
        return ""
    # What cannot be written as UTF-8 (a lone surrogate) could be written nowhere else either.
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _maps(value: Any) -> Iterable[dict[str, Any]]:
    return [member for member in value if isinstance(member, dict)] if isinstance(value, list) else ()


def _int(value: Any) -> int | None:
    """Return a number that Kubernetes' int64 can hold; a bool is none."""
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def _seconds(value: Any) -> float:
    """Return a length of time: 0 where it is none, cut where it is longer than anybody waits."""
    return float(min(max(_int(value) or 0, 0), _LONGEST_S))


def _time(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    # Far from the calendar's ends, so that a grace can be added to it and taken from it.
    if found.tzinfo is None or found == _EPOCH or not _EPOCH.year <= found.year < 9000:
        return None
    return found


def _attempt(value: Any) -> int:
    """Return the attempt that a label names; 0 for anything that we never wrote."""
    return int(value) if isinstance(value, str) and _ATTEMPT.fullmatch(value) else 0
