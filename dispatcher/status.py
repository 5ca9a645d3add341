"""The statuses of a job, the legal moves between them, and the reasons for which a job fails.

Both enums are closed: a new member changes the wire. A status that a newer version has added keeps its name
(:meth:`Status.carried`), and is never taken for another.
"""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Where a job is."""

    QUEUED = "QUEUED"  #: no pod yet; also while waiting for quota, capacity, back-off or a predecessor's pod
    STARTING = "STARTING"  #: the pod exists
    RUNNING = "RUNNING"  #: the base container has started
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """A final status never changes."""
        return self in FINAL

    @classmethod
    def carried(cls, text: str) -> "Status":
        """Return the status of this name.

        One that this version does not know (a newer one's) keeps its name, and is neither final nor equal to any that
        is known.
        """
        if text in cls.__members__:
            return cls(text)
        stranger = str.__new__(cls, text)
        stranger._name_ = stranger._value_ = text
        return stranger


FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})

#: From where to where a job may move. A pod that is first seen when it has already ended skips the statuses between;
#: the moves back to QUEUED begin the next attempt.
LEGAL_MOVES: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset(Status),
    Status.STARTING: frozenset(Status),
    Status.RUNNING: frozenset(Status) - {Status.STARTING},
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


def may_start_from(target: Status) -> tuple[Status, ...]:
    """List the statuses from which a job may move to ``target``."""
    return tuple(source for source, targets in LEGAL_MOVES.items() if target in targets)


class Blame(StrEnum):
    """Whose turn it is to act on a failure."""

    USER_CODE = "user code"
    SPEC = "the job's spec"
    IMAGE = "the image"
    CLUSTER = "the cluster"
    POLICY = "the cluster's policy"
    TIME_LIMIT = "a time limit"


@dataclass(frozen=True, slots=True)
class ReasonTraits:
    """What a failure's reason alone says about it.

    ``user_code_started``: whether user code (init containers included) has begun; None where the reason alone cannot
    say, and the observation of the attempt decides.
    """

    is_transient: bool
    user_code_started: bool | None
    blame: Blame


class FailureReason(StrEnum):
    """Why a job failed."""

    EXIT_CODE = "exit_code"
    OOM_KILLED = "oom_killed"
    START_ERROR = "start_error"
    IMAGE_PULL = "image_pull"
    CONFIG_ERROR = "config_error"
    UNSCHEDULABLE = "unschedulable"
    START_TIMEOUT = "start_timeout"
    RUN_TIMEOUT = "run_timeout"
    QUEUE_TIMEOUT = "queue_timeout"
    QUOTA_TIMEOUT = "quota_timeout"
    EVICTED = "evicted"
    PREEMPTED = "preempted"
    NODE_LOST = "node_lost"
    POD_DELETED = "pod_deleted"
    INIT_FAILED = "init_failed"
    CONTAINER_FAILED = "container_failed"  #: another than base, where it counts (``end_when``, ``fail_on``)
    RETURN_VALUE = "return_value"  #: the code succeeded, its return value is truncated, not JSON or too large
    POLICY = "policy"
    INVALID_SPEC = "invalid_spec"
    GAVE_UP = "gave_up"
    CLUSTER_ERROR = "cluster_error"

    @property
    def traits(self) -> ReasonTraits:
        """What this reason alone says about a failure."""
        return TRAITS[self]


TRAITS: dict[FailureReason, ReasonTraits] = {
    FailureReason.EXIT_CODE: ReasonTraits(False, True, Blame.USER_CODE),
    FailureReason.OOM_KILLED: ReasonTraits(False, True, Blame.USER_CODE),
    FailureReason.START_ERROR: ReasonTraits(False, None, Blame.IMAGE),
    FailureReason.IMAGE_PULL: ReasonTraits(False, None, Blame.IMAGE),
    FailureReason.CONFIG_ERROR: ReasonTraits(False, None, Blame.SPEC),
    FailureReason.UNSCHEDULABLE: ReasonTraits(False, False, Blame.CLUSTER),
    FailureReason.START_TIMEOUT: ReasonTraits(False, None, Blame.TIME_LIMIT),
    FailureReason.RUN_TIMEOUT: ReasonTraits(False, True, Blame.TIME_LIMIT),
    FailureReason.QUEUE_TIMEOUT: ReasonTraits(False, False, Blame.TIME_LIMIT),
    FailureReason.QUOTA_TIMEOUT: ReasonTraits(False, False, Blame.CLUSTER),
    FailureReason.EVICTED: ReasonTraits(True, None, Blame.CLUSTER),
    FailureReason.PREEMPTED: ReasonTraits(True, None, Blame.CLUSTER),
    FailureReason.NODE_LOST: ReasonTraits(True, None, Blame.CLUSTER),
    FailureReason.POD_DELETED: ReasonTraits(True, None, Blame.CLUSTER),
    FailureReason.INIT_FAILED: ReasonTraits(False, True, Blame.USER_CODE),
    FailureReason.CONTAINER_FAILED: ReasonTraits(False, True, Blame.USER_CODE),
    FailureReason.RETURN_VALUE: ReasonTraits(False, True, Blame.USER_CODE),
    FailureReason.POLICY: ReasonTraits(False, False, Blame.POLICY),
    FailureReason.INVALID_SPEC: ReasonTraits(False, False, Blame.SPEC),
    FailureReason.GAVE_UP: ReasonTraits(False, None, Blame.CLUSTER),
    FailureReason.CLUSTER_ERROR: ReasonTraits(True, None, Blame.CLUSTER),
}
