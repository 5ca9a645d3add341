"""What a task that fails says: what happened, what to do, who can mend it, and the pod that was asked for. Pure.

It is told once, as the exception's message, which Airflow writes at the log's end and hands to callbacks and mails.
The worker knows the cause, so it says what to do; here the names of a spec's fields become those of the operator's
arguments.
"""

import re
import textwrap
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dispatcher.status import FailureReason, Status

if TYPE_CHECKING:
    from dispatcher.events import ClusterEvent, JobResult
    from dispatcher.spec import JobSpec

#: What the author of a task writes, or does, where the worker speaks of the job.
_ARGUMENTS = {
    "startup_timeout_s": "startup_timeout_seconds",
    "schedule_timeout_s": "schedule_timeout_seconds",
    "active_deadline_s": "active_deadline_seconds",
    "queue_timeout_s": "podrelay_options={'queue_timeout_s': …}",
    "run_timeout_s": "podrelay_options={'run_timeout_s': …}",
    "command and args": "cmds and arguments",
    "resources.limits.memory": "the memory limit in container_resources",
    "resources.requests.memory": "the memory request in container_resources",
    "resources.requests": "the requests in container_resources",
    "submit the job again": "clear the task",
    "submit it again": "clear the task",
    "Submit the job again": "Clear the task",
    "Submit it again": "Clear the task",
}
_FIELD = re.compile("|".join(rf"\b{re.escape(field)}\b" for field in _ARGUMENTS))

#: Where a container failed by itself, what was said before it started has been overcome.
_OF_A_CONTAINER = frozenset(
    {
        FailureReason.EXIT_CODE,
        FailureReason.OOM_KILLED,
        FailureReason.INIT_FAILED,
        FailureReason.CONTAINER_FAILED,
        FailureReason.RETURN_VALUE,
    }
)
MOST_WARNINGS = 3

#: In characters; the first line stands behind the exception's name.
WIDTH = 80
_NAME = "PodRelayFailure: "
#: So much of a warning's end is looked for in the message.
_TAIL_CHARS = 24

#: Fields in which KubernetesPodOperator writes the API's own default, and nobody else did.
_UNWRITTEN = {"hostNetwork": False}
_UNWRITTEN_IN_CONTAINERS = {"terminationMessagePolicy": "File"}


def failure_message(result: "JobResult") -> str:
    """Say what happened and what to do, who can mend it, and the cluster's warnings that may explain it."""
    where = f"Pod: {result.namespace}/{result.pod}. " if result.pod else ""
    where += f"Job: {result.job_id}."
    if result.status is Status.CANCELLED:
        by = f" by {result.cancelled_by}" if result.cancelled_by else ""
        said = result.message if result.message != f"cancelled{by}" else ""
        return _folded([text for text in (f"The job was cancelled{by}.", _sentence(said), where) if text])
    reason = result.reason or FailureReason.CLUSTER_ERROR
    message = _FIELD.sub(lambda found: _ARGUMENTS[found[0]], result.message)
    lines = [
        _sentence(f"{reason.value}: {message}".removesuffix(": ")),
        f"Responsible: {(result.responsible or reason.traits.blame).value}.",
        where,
    ]
    lines += [f"Kubernetes warning: {w.reason}: {w.message}" for w in explaining_warnings(result)]
    return _folded(lines)


def _folded(lines: list[str]) -> str:
    """Break lines at spaces: of an exception Airflow's page shows half its width, and cuts the rest."""
    first, *others = lines
    folded = textwrap.wrap(_NAME + first, WIDTH, break_long_words=False, break_on_hyphens=False)
    for line in others:
        folded += textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(folded).removeprefix(_NAME)


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "…")) else f"{text}."


def explaining_warnings(result: "JobResult") -> "list[ClusterEvent]":
    """Return the last warnings that may explain the failure and say more than its message."""
    since = _failed_container_started_at(result)
    found = [
        warning
        for warning in result.warnings
        if not _is_told(warning, result.message)
        and (since is None or warning.last_seen_at is None or warning.last_seen_at >= since)
    ]
    return found[-MOST_WARNINGS:]


def _failed_container_started_at(result: "JobResult") -> datetime | None:
    """Return when the container started whose own end is the failure; both times are the cluster's."""
    if result.reason not in _OF_A_CONTAINER:
        return None
    failed = [c.started_at for c in result.containers if c.exit_code not in (None, 0) and c.started_at]
    started = failed or [c.started_at for c in result.containers if c.started_at]
    return max(started, default=None)


def _is_told(warning: "ClusterEvent", message: str) -> bool:
    """Whether a message has said it already, by its end: what stands before that are calls on the way to the cause.

    The kubelet's ``Error: ErrImagePull`` says no more than a state's name.
    """
    words = warning.message.rstrip(".").removesuffix(": unknown")
    return words[-_TAIL_CHARS:] in message or re.fullmatch(r"Error: \w+", words) is not None


def asked_pod(spec: "JobSpec", result: "JobResult") -> dict[str, Any]:
    """Return the pod that the job asked for, under the name that the worker gave it, without defaults nobody wrote."""
    template = spec.pod_template or {}
    metadata = {
        **(template.get("metadata") or {}),
        "name": result.pod or spec.name,
        "namespace": result.namespace or spec.namespace,
        "labels": {**spec.labels, **spec.volatile_labels},
        "annotations": dict(spec.annotations),
    }
    pod = _without(template.get("spec") or {}, _UNWRITTEN)
    for field in ("initContainers", "containers"):
        if isinstance(pod.get(field), list):
            pod[field] = [_without(container, _UNWRITTEN_IN_CONTAINERS) for container in pod[field]]
    named = {name: value for name, value in metadata.items() if value}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": pod}


def _without(given: Mapping[str, Any], unwritten: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in unwritten or value != unwritten[name]}
