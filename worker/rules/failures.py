"""Why a pod ended or cannot start: the failure reason, and a sentence for the user.

The reasons of Kubernetes and of the container runtimes are translated here and nowhere else. Each message says what
happened and what to do next, or whom to ask.
"""

import re
import signal
from dataclasses import dataclass
from typing import Final

from dispatcher.status import FailureReason
from worker.cluster.observation import START_ERRORS, STATUS_UNKNOWN, Container, Disruption, Observation

#: The longest text taken over from a container or the cluster.
MAX_QUOTED_CHARS: Final = 1000


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure reason of ours, and the sentence that goes with it."""

    reason: FailureReason
    message: str


@dataclass(frozen=True, slots=True)
class StartProblem:
    """Why a container waits that should have started. ``may_heal``: give it its grace period."""

    failure: Failure
    may_heal: bool


_IMAGE_NEVER: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_IMAGE_MAY_HEAL: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed"}
)
_CONFIG: Final = frozenset({"CreateContainerConfigError"})
_START: Final = frozenset({"CreateContainerError", "RunContainerError", "PreCreateHookError", "PreStartHookError"})

#: Warnings that a node or a cluster gives for each of its pods: they explain no pod's failure.
BACKGROUND_WARNINGS: Final = frozenset(
    {"MissingClusterDNS", "DNSConfigForming", "CheckLimitsForResolvConf", "PossibleMemoryBackedVolumesOnDisk"}
)

#: ``status.reason`` of a pod that the kubelet ended.
_STATUS_REASONS: Final = {
    "DeadlineExceeded": FailureReason.RUN_TIMEOUT,
    "Evicted": FailureReason.EVICTED,
    "Terminated": FailureReason.EVICTED,  # the node is shutting down
    "NodeShutdown": FailureReason.EVICTED,
    "Shutdown": FailureReason.EVICTED,
    "Preempting": FailureReason.PREEMPTED,
    "NodeLost": FailureReason.NODE_LOST,
}

_DISRUPTIONS: Final = {
    "PreemptionByScheduler": FailureReason.PREEMPTED,
    "DeletionByPodGC": FailureReason.NODE_LOST,
}

#: Why the control plane deletes pods of nodes that do not answer (and of others: but the kubelet of a node that answers
#: reports the containers' end before the pod goes).
_OF_LOST_NODES: Final = frozenset({"DeletionByPodGC", "DeletionByTaintManager"})

_ADVICE: Final = {
    FailureReason.RUN_TIMEOUT: "raise the time limit (active_deadline_s) or make the job shorter",
    FailureReason.EVICTED: "submit it again; if it happens often, ask for the memory and disk it uses",
    FailureReason.PREEMPTED: "others of higher priority took its place: submit it again, or raise its priority",
    FailureReason.NODE_LOST: "its node stopped answering: submit it again",
}


def start_problem(container: Container) -> StartProblem | None:
    """Return why this waiting container may never start; None where nothing is wrong so far."""
    said = quoted(container.message) or container.reason
    match container.reason:
        case reason if reason in _IMAGE_NEVER:
            return StartProblem(_image(container, said), may_heal=False)
        case reason if reason in _IMAGE_MAY_HEAL:
            return StartProblem(_image(container, said), may_heal=True)
        case reason if reason in _CONFIG:
            text = (
                f"container {container.name!r} cannot be configured: {said}. Create what is missing or mend the spec."
            )
            return StartProblem(Failure(FailureReason.CONFIG_ERROR, text), may_heal=True)
        case reason if reason in _START:
            return StartProblem(start_error(container), may_heal=True)
    return None


def _image(container: Container, said: str) -> Failure:
    advice = {
        "InvalidImageName": "Mend the image's name.",
        "ErrImageNeverPull": "Put the image on the node, or use another image_pull_policy.",
    }.get(container.reason, "Check the image's name and tag, image_pull_secrets, and that nodes reach the registry.")
    text = f"image of container {container.name!r}: {container.reason}: {said}. {advice}"
    return Failure(FailureReason.IMAGE_PULL, text)


def start_error(container: Container) -> Failure:
    """Describe a container that was created and whose process could not be started."""
    said = runtime_error(container.message) or container.reason
    if "not found" in said or "no such file" in said:
        advice = "The image has no such command: check command and args, or use another image."
    elif "permission denied" in said:
        advice = (
            "The command is not executable for the container's user: check its mode, or start it by an interpreter."
        )
    else:
        advice = "Check command, working_dir, mounts and the security context."
    text = f"container {container.name!r} could not be started: {said}. {advice}"
    return Failure(FailureReason.START_ERROR, text)


def runtime_error(message: str) -> str:
    """Cut the runtime's own call chain off an error message: what is left is what the user can act on."""
    text = re.sub(r"^.*unable to start container process: ", "", message.strip(), flags=re.DOTALL)
    text = re.sub(r"^(failed to [a-z ]+: |OCI runtime create failed: |runc create failed: )+", "", text)
    return quoted(text.removesuffix(": unknown"))


def exit_failure(container: Container) -> Failure | None:
    """Return the failure that a terminated container means by itself; None where it exited with 0."""
    if container.exit_code == 0:
        return None
    if container.reason in START_ERRORS and not container.has_started:
        return start_error(container)
    if container.reason == STATUS_UNKNOWN:
        text = f"the node lost container {container.name!r} (was it rebooted?): {quoted(container.message)}"
        return Failure(FailureReason.NODE_LOST, f"{text}. Submit the job again.")
    if container.reason == "OOMKilled":
        text = f"container {container.name!r} used more memory than its limit and was killed"
        return Failure(FailureReason.OOM_KILLED, f"{text}. Raise resources.limits.memory, or use less.")
    said = quoted(container.message)
    text = f"container {container.name!r} {describe_exit(container)}" + (f": {said}" if said else "")
    return Failure(FailureReason.EXIT_CODE, f"{text}. See its log.")


def first_termination(container: Container) -> Container | None:
    """Return how the container's first run ended, where it was restarted and that is known.

    None where a signal of the kubelet may have ended that run so that the container could be restarted.
    """
    previous = container.previous
    is_first = previous is not None and previous.state == "terminated" and container.restarts <= 1
    return previous if is_first and previous is not None and previous.has_started and not was_killed(previous) else None


def was_killed(container: Container) -> bool:
    """Whether it ended by a signal that the kubelet sends."""
    return container.exit_code in (128 + signal.SIGKILL, 128 + signal.SIGTERM) and container.reason != "OOMKilled"


def restarted(pod: Observation) -> Failure | None:
    """Return the failure of a pod whose containers, sidecars aside, were restarted or are about to be.

    A job is one run of its pod.
    """
    again = [repr(c.name) for c in pod.containers if c.kind != "sidecar" and c.was_restarted]
    if not again and not pod.is_restarting:
        return None
    what = f"container {', '.join(again)} was" if again else "all containers of the pod are to be"
    by = f"by {pod.restart_rules}" if pod.restart_rules else "by the cluster: the pod does not say by which rule"
    text = f"{what} started again {by}; a job is one run of its pod, so that nothing is run twice unseen"
    return Failure(FailureReason.CLUSTER_ERROR, f"{text}. Have whoever runs the cluster find out why.")


def may_restart(pod: Observation) -> Failure | None:
    """Return the failure of a pod whose spec, as the API server has it, lets containers restart.

    Our manifest never does: an admission webhook changed it.
    """
    if not pod.restart_rules:
        return None
    text = f"the pod may run more than once: {pod.restart_rules}; a job is one run of its pod"
    advice = "Where the spec does not ask for it, admission has added it: have podrelay's pods exempted from that."
    return Failure(FailureReason.POLICY, f"{text}. {advice}")


def describe_exit(container: Container) -> str:
    """Return ``exited with code 3``, with the name of the signal where one ended it."""
    number = container.signal or ((container.exit_code or 0) - 128)
    try:
        name = signal.Signals(number).name if number > 0 else ""
    except ValueError:
        name = ""
    return f"exited with code {container.exit_code}" + (f" ({name})" if name else "")


def init_failure(container: Container) -> Failure:
    """Describe a failed init container: the base container never starts."""
    failure = exit_failure(container)
    said = failure.message if failure else ""
    return Failure(FailureReason.INIT_FAILED, f"init container failed, the base container never ran: {said}")


def disrupted(disruption: Disruption) -> Failure:
    """Describe a pod that the cluster ended, or Kueue in it, by the condition that says so."""
    if disruption.by == "kueue":
        reason, who = FailureReason.PREEMPTED, "Kueue"
    else:
        reason, who = _DISRUPTIONS.get(disruption.reason, FailureReason.EVICTED), "the cluster"
    text = f"{who} ended the pod: {quoted(disruption.reason)}: {quoted(disruption.message)}"
    return Failure(reason, f"{text}. What to do: {_ADVICE[reason]}.")


def unreachable_node(pod: Observation) -> str | None:
    """Return the pod's node where it no longer answers, as far as one observation tells.

    For a pod that is gone or going: a plain container reported no end, and the control plane gave the node up or
    reported in its place.
    """
    plain = pod.plain_containers
    if pod.node is None or (plain and all(c.state == "terminated" for c in plain)):
        return None
    is_failed_unheard = pod.has_ended and any(c.state == "running" for c in pod.containers)
    is_of_lost_node = pod.disruption is not None and pod.disruption.reason in _OF_LOST_NODES
    is_lost = pod.reason == "NodeLost" or pod.is_node_unreachable or is_failed_unheard or is_of_lost_node
    return pod.node if is_lost else None


def ended_by_cluster(disruption: Disruption | None, node: str | None) -> Failure | None:
    """Return why the cluster ended a pod whose containers reported no end; None where it did not, as far as is known.

    ``node``: the one that does not answer (:func:`unreachable_node`).
    """
    if disruption is not None and (node is None or disruption.reason not in _OF_LOST_NODES):
        return disrupted(disruption)
    return None if node is None else node_lost(node)


def node_lost(node: str) -> Failure:
    """Describe a pod that is, or was, to be deleted and whose node never reported how its containers ended."""
    text = f"node {node!r} does not answer, or is gone: the pod was to be deleted and never reported its end"
    return Failure(FailureReason.NODE_LOST, f"{text}. It may still run there. Submit the job again.")


def by_status_reason(observation: Observation) -> Failure | None:
    """Return the failure of a pod that the kubelet ended, by ``status.reason``; None for any other."""
    reason = _STATUS_REASONS.get(observation.reason)
    if reason is None:
        return None
    said = quoted(observation.message)
    return Failure(reason, f"the cluster ended the pod: {observation.reason}: {said}. What to do: {_ADVICE[reason]}.")


def rejected(observation: Observation) -> Failure:
    """Describe a pod that its node refused (OutOfcpu, NodeAffinity …): its base container never had a state."""
    said = ": ".join(x for x in (observation.reason, quoted(observation.message)) if x) or observation.phase
    text = f"node {observation.node!r} refused the pod: {said}. It may be accepted elsewhere: submit it again."
    return Failure(FailureReason.CLUSTER_ERROR, text)


def quoted(text: str) -> str:
    """Make somebody else's text fit into a sentence of ours: one line, not too long, no full stop at its end."""
    flat = " ".join(text.split())
    short = flat if len(flat) <= MAX_QUOTED_CHARS else flat[:MAX_QUOTED_CHARS] + "…"
    return short.rstrip(".")
