"""The verdicts on a job's pod, and the facts that one is made from."""

from dataclasses import dataclass

from dispatcher.record import DeletionIntent, JobRecord
from dispatcher.spec import JobSpec
from dispatcher.status import FailureReason, Status
from worker.cluster.observation import Container, Observation
from worker.rules.history import PodHistory


@dataclass(frozen=True, slots=True)
class Starting:
    """The pod exists, the base container has not started. ``detail`` says what it waits for."""

    detail: str
    recheck_at: float | None


@dataclass(frozen=True, slots=True)
class Running:
    """The base container has started. ``recheck_at``: when (seconds, Redis' clock) a time limit matters next."""

    detail: str
    recheck_at: float | None


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The attempt is over and this is its outcome; ask :func:`worker.rules.retry.next_step` whether there is another.

    The pod may still be there, with other containers running: it is the caller's to remove.
    """

    status: Status
    reason: FailureReason | None
    message: str
    exit_code: int | None
    user_code_started: bool


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Record this intent, then delete the pod; the outcome comes with a later observation.

    Also given while the intent is recorded and the deletion not yet requested: a worker died between the two.
    """

    intent: DeletionIntent
    reason: FailureReason | None
    message: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The job has its outcome or another attempt: only remove this pod."""


Verdict = Starting | Running | AttemptEnded | DeletePod | Settled


@dataclass(frozen=True, slots=True)
class Facts:
    """What one verdict is made from."""

    spec: JobSpec
    record: JobRecord
    pod: Observation
    base: Container
    others: tuple[Container, ...]  #: whose ends the job's end waits for too (:mod:`worker.rules.job_end`)
    now: float
    before: PodHistory  #: earlier observations
    seen: PodHistory  #: and this one too
