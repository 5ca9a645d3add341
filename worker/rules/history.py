"""What earlier looks at a pod taught that a later one cannot tell.

Since when something holds, in Redis' time (the pod's own timestamps are another clock and often no help: the kubelet
moves ``deletionTimestamp`` at the end, and image trouble has no time at all); and which of two things came first, by
the order of the looks, where the cluster's clock has whole seconds only. Kept by whoever follows the pod, in memory:
losing it costs at most a grace period counted anew.
"""

from dataclasses import dataclass, replace
from typing import Literal

from dispatcher.status import FailureReason
from worker.cluster.observation import Container, Disruption, Observation
from worker.rules.failures import start_problem, unreachable_node
from worker.rules.waiting import MAX_KINDS, kind, waiting_detail


@dataclass(frozen=True, slots=True)
class PodHistory:
    """``PodHistory()`` before the first look. Times are seconds of Redis' clock.

    ``user_code_started`` is None before the first look. ``problem`` names what is wrong (container and reason) and
    ``problem_since`` when it was first seen, without a look in between at which it was over.
    ``unreachable_node``: the pod's node, where the last look told that it does not answer.
    ``kinds``: what the pod was seen waiting for (:func:`worker.rules.waiting.kind`), the first few.
    ``came_first``: whether the base container was seen ended before its pod's deletion was asked for, or not ended
    after; None while neither was seen.
    """

    user_code_started: bool | None = None
    problem: tuple[str, FailureReason] | None = None
    problem_since: float | None = None
    deletion_seen_at: float | None = None
    came_first: Literal["end", "deletion"] | None = None
    disruption: Disruption | None = None
    unreachable_node: str | None = None
    kinds: frozenset[str] = frozenset()

    def after(self, observation: Observation, base_container: str, now: float) -> "PodHistory":
        """Return what is known after one more look. Taking the same look twice changes nothing."""
        base = observation.container(base_container)
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
            came_first=self.came_first or _came_first(observation, base),
            disruption=observation.disruption or self.disruption,
            kinds=self.kinds | _waiting_kinds(observation, base_container)
            if len(self.kinds) < MAX_KINDS
            else self.kinds,
            unreachable_node=unreachable_node(observation, base or Container(base_container, "main")),
        )


def blocking_container(observation: Observation, base_container: str) -> Container | None:
    """Return the container whose turn it is, up to the base container; None once that has started.

    Init containers and sidecars start one after the other.
    """
    for container in observation.containers:
        match container.kind:
            case "init":
                is_passed = container.state == "terminated" and container.exit_code == 0
            case "sidecar":
                is_passed = container.has_started and container.state != "waiting"
            case "main":
                if container.name == base_container:
                    return None if container.has_started else container
                is_passed = True
        if not is_passed:
            return container
    return None


def _waiting_kinds(observation: Observation, base_container: str) -> frozenset[str]:
    waits = blocking_container(observation, base_container)
    return frozenset() if waits is None else frozenset((kind(waiting_detail(observation, waits)),))


def _came_first(observation: Observation, base: Container | None) -> Literal["end", "deletion"] | None:
    if base is None or base.state != "terminated":
        return "deletion" if observation.is_being_deleted else None
    return "deletion" if deletion_came_first(observation, base) else "end"


def deletion_came_first(observation: Observation, ended: Container) -> bool:
    """Whether the deletion was asked for before this container ended, as far as one look tells.

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
