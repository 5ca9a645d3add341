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
from worker.rules.causes import advised

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
_IMAGE: Final = _IMAGE_NEVER | {
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
#: What a runtime says first of a pull, where the next call names the image again.
_CALLS_OF_A_PULL: Final = re.compile(
    r'^(rpc error: code = \w+ desc = )?failed to pull and unpack image "[^"]*": (?=failed to resolve reference)'
)
_BACK_OFF: Final = re.compile(r'Back-off pulling image "[^"]*": (\w+): ')
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


def start_problem(container: Container) -> StartProblem | None:
    """Return why this waiting container may never start; None where nothing is wrong so far."""
    match container.reason:
        case reason if reason in _IMAGE:
            text = f"image of container {container.name!r}: {waiting_words(container)}"
            return StartProblem(advised_failure(FailureReason.IMAGE_PULL, text), may_heal=reason not in _IMAGE_NEVER)
        case reason if reason in _CONFIG:
            text = f"container {container.name!r} cannot be configured: {quoted(container.message) or reason}"
            return StartProblem(advised_failure(FailureReason.CONFIG_ERROR, text), may_heal=True)
        case reason if reason in _START:
            return StartProblem(start_error(container), may_heal=True)
    return None


def advised_failure(reason: FailureReason, said: str) -> Failure:
    """Return the failure for which this was said, with what to do."""
    return Failure(reason, advised(reason, said))


def waiting_words(container: Container) -> str:
    """Return why a container waits, ``reason: message``; a failed pull in the same words whoever tells it.

    Of such a pull the kubelet says by turns ErrImagePull and ImagePullBackOff, which repeats the other.
    """
    reason, message = container.reason, container.message
    if reason == "ImagePullBackOff" and (found := _BACK_OFF.match(message)):
        reason, message = found[1], message[found.end() :]
    message = _CALLS_OF_A_PULL.sub("", message)
    return f"{reason}: {quoted(message)}".removesuffix(": ")


def start_error(container: Container) -> Failure:
    """Describe a container that was created and whose process could not be started."""
    return advised_failure(FailureReason.START_ERROR, _start_error(container))


def _start_error(container: Container) -> str:
    return f"container {container.name!r} could not be started: {runtime_error(container.message) or container.reason}"


def runtime_error(message: str) -> str:
    """Cut the runtime's own call chain off an error message: what is left is what the user can act on."""
    text = re.sub(r"^.*unable to start container process: ", "", message.strip(), flags=re.DOTALL)
    text = re.sub(r"^(failed to [a-z ]+: |OCI runtime create failed: |runc create failed: )+", "", text)
    return quoted(text.removesuffix(": unknown"))


def exit_failure(container: Container) -> Failure | None:
    """Return the failure that a terminated container means by itself; None where it exited with 0."""
    if (found := _exit(container)) is None:
        return None
    reason, said = found
    return advised_failure(reason, said)


def exit_words(container: Container) -> str:
    """Say how a terminated container failed by itself, without what to do; empty where it exited with 0."""
    found = _exit(container)
    return "" if found is None else found[1]


def _exit(container: Container) -> tuple[FailureReason, str] | None:
    """Return reason and words, without what to do."""
    if container.exit_code == 0:
        return None
    name = repr(container.name)
    if container.reason in START_ERRORS and not container.has_started:
        return FailureReason.START_ERROR, _start_error(container)
    if container.reason == STATUS_UNKNOWN:
        text = f"the node lost container {name} (was it rebooted?): {quoted(container.message)}"
        return FailureReason.NODE_LOST, text
    if container.reason == "OOMKilled":
        return FailureReason.OOM_KILLED, f"container {name} used more memory than its limit and was killed"
    said = quoted(container.message)
    return FailureReason.EXIT_CODE, f"container {name} {describe_exit(container)}" + (f": {said}" if said else "")


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
    return advised_failure(FailureReason.CLUSTER_ERROR, text)


def may_restart(pod: Observation) -> Failure | None:
    """Return the failure of a pod whose spec, as the API server has it, lets containers restart.

    Our manifest never does: an admission webhook changed it.
    """
    if not pod.restart_rules:
        return None
    text = f"the pod may run more than once: {pod.restart_rules}; a job is one run of its pod"
    return advised_failure(FailureReason.POLICY, text)


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
    _, said = _exit(container) or (None, "")
    return advised_failure(FailureReason.INIT_FAILED, f"init container failed, the base container never ran: {said}")


def disrupted(disruption: Disruption) -> Failure:
    """Describe a pod that the cluster ended, or Kueue in it, by the condition that says so."""
    if disruption.by == "kueue":
        reason, who = FailureReason.PREEMPTED, "Kueue"
    else:
        reason, who = _DISRUPTIONS.get(disruption.reason, FailureReason.EVICTED), "the cluster"
    return advised_failure(reason, f"{who} ended the pod: {quoted(disruption.reason)}: {quoted(disruption.message)}")


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
    return advised_failure(FailureReason.NODE_LOST, f"{text}. It may still run there")


def by_status_reason(observation: Observation) -> Failure | None:
    """Return the failure of a pod that the kubelet ended, by ``status.reason``; None for any other."""
    reason = _STATUS_REASONS.get(observation.reason)
    if reason is None:
        return None
    return advised_failure(reason, f"the cluster ended the pod: {observation.reason}: {quoted(observation.message)}")


def rejected(observation: Observation) -> Failure:
    """Describe a pod that its node refused (OutOfcpu, NodeAffinity …): its base container never had a state."""
    said = ": ".join(x for x in (observation.reason, quoted(observation.message)) if x) or observation.phase
    return advised_failure(FailureReason.CLUSTER_ERROR, f"node {observation.node!r} refused the pod: {said}")


def quoted(text: str) -> str:
    """Make somebody else's text fit into a sentence of ours: one line, not too long, no full stop at its end."""
    flat = " ".join(text.split())
    short = flat if len(flat) <= MAX_QUOTED_CHARS else flat[:MAX_QUOTED_CHARS] + "…"
    return short.rstrip(".")
