"""What earlier observations of a pod told that a later one cannot.

Since when something holds, in Redis' time: the cluster's clock is another, the kubelet moves ``deletionTimestamp`` at
the end, and a failing image pull has no time at all. And which of two things came first, by the order of observations,
as the cluster's timestamps have whole seconds only. Whoever follows the pod keeps it in memory: losing it costs at most
a grace period counted anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from dispatcher.status import FailureReason
from worker.cluster.observation import Container, Disruption, Observation
from worker.rules.failures import start_problem, unreachable_node
from worker.rules.waiting import MAX_KINDS, kind, waiting_detail


@dataclass(frozen=True, slots=True)
class PodHistory:
    """What is known of a pod so far; ``PodHistory()`` before the first observation.

    Attributes:
        user_code_started: None before the first observation.
        problem: what is wrong with the container that should start: its name, and the reason.
        problem_since: when that was first seen, without an observation in between that did not show it.
        deletion_seen_at: when the pod was first seen to be deleted. Times are seconds of Redis' clock.
        came_first: of each plain container, by its name: its end, or the request to delete its pod; nothing while
            neither was seen.
        disruption: the last one that was seen.
        unreachable_node: the pod's node, where the last observation told that it does not answer.
        kinds: what the pod was seen waiting for (:func:`worker.rules.waiting.kind`), the first few.
    """

    user_code_started: bool | None = None
    problem: tuple[str, FailureReason] | None = None
    problem_since: float | None = None
    deletion_seen_at: float | None = None
    came_first: Mapping[str, Literal["end", "deletion"]] = field(default_factory=dict)
    disruption: Disruption | None = None
    unreachable_node: str | None = None
    kinds: frozenset[str] = frozenset()

    def after(self, observation: Observation, base_container: str, now: float) -> "PodHistory":
        """Return what is known after one more observation. The same one taken twice changes nothing."""
        wrong = _problem(observation, base_container)
        deletion_seen_at = self.deletion_seen_at
        if observation.is_being_deleted and deletion_seen_at is None:
            deletion_seen_at = now
        return replace(
            self,
            user_code_started=bool(self.user_code_started) or observation.user_code_started,
            problem=wrong,
            problem_since=None if wrong is None else self.problem_since if wrong == self.problem else now,
            deletion_seen_at=deletion_seen_at,
            came_first={**_came_first(observation), **self.came_first},
            disruption=observation.disruption or self.disruption,
            kinds=self.kinds | _waiting_kinds(observation, base_container)
            if len(self.kinds) < MAX_KINDS
            else self.kinds,
            unreachable_node=unreachable_node(observation),
        )


def blocking_container(observation: Observation, base_container: str) -> Container | None:
    """Return the container that must start, or end, before the base container can start; or that one itself.

    Init containers and sidecars start one after the other. Once the base container has started, or could not be: the
    next plain container that has not; None where all have.
    """
    late: Container | None = None
    for container in observation.containers:
        match container.kind:
            case "init":
                is_passed = container.state == "terminated" and container.exit_code == 0
            case "sidecar":
                is_passed = container.has_started and container.state != "waiting"
            case "main":
                is_passed = container.has_started or container.state == "terminated"
                if container.name != base_container:
                    late = late or (None if is_passed else container)
                    is_passed = True
        if not is_passed:
            return container
    return late


def _waiting_kinds(observation: Observation, base_container: str) -> frozenset[str]:
    waits = blocking_container(observation, base_container)
    return frozenset() if waits is None else frozenset((kind(waiting_detail(observation, waits)),))


def _came_first(observation: Observation) -> dict[str, Literal["end", "deletion"]]:
    found: dict[str, Literal["end", "deletion"]] = {}
    for container in observation.plain_containers:
        if container.state == "terminated":
            found[container.name] = "deletion" if deletion_came_first(observation, container) else "end"
        elif observation.is_being_deleted:
            found[container.name] = "deletion"
    return found


def deletion_came_first(observation: Observation, ended: Container) -> bool:
    """Whether the pod's deletion was requested before this container ended, as far as one observation tells.

    Where it does not, yes: a false failure can be tried again, a false success cannot.
    """
    if not observation.is_being_deleted:
        return False
    asked_at = observation.deletion_requested_at
    return asked_at is None or ended.finished_at is None or ended.finished_at >= asked_at


def _problem(observation: Observation, base_container: str) -> tuple[str, FailureReason] | None:
    container = blocking_container(observation, base_container)
    found = start_problem(container) if container is not None and container.state == "waiting" else None
    return (container.name, found.failure.reason) if container is not None and found is not None else None
