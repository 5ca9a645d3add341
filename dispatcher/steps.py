"""The atomic steps on a job's record, as values: which script, its keys and arguments, and how to read its reply.

Pure: :mod:`dispatcher.connection` carries the steps out, synchronously or not. Each script (``lua/*.lua``) runs in
Redis as one step. Any step may be sent twice (its reply was lost) and then has the effect of one.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dispatcher import names
from dispatcher.errors import InvalidSpecError, JobIdTakenError
from dispatcher.events import Ended, JobResult, Notice, StatusChanged, encode_event
from dispatcher.message import MESSAGE_BUCKETS, PRIORITY_BUCKETS, encode_message
from dispatcher.record import (
    MIN_WORKER_VERSION,
    UNREADABLE,
    JobRecord,
    decode_generation,
    decode_record,
    is_job_id,
    no_record,
    shown,
)
from dispatcher.script import Argument
from dispatcher.script import Step as Step
from dispatcher.spec import JobSpec, decode_spec, differing_fields
from dispatcher.status import FailureReason, Status, may_start_from
from dispatcher.version import VERSION


class SubmitOutcome(StrEnum):
    """What a submit did."""

    CREATED = "created"
    EXISTS = "exists"  #: this very id was submitted before with the same spec (a repeated submit)
    ATTACHED = "attached"  #: the key's job is active, or succeeded and was not acknowledged yet
    SUCCESSOR = "successor"  #: the key's former job cannot serve; this one waits until its pod is gone


@dataclass(frozen=True, slots=True)
class Submitted:
    """The reply to a submit. ``job_id``: the job that the caller has now, perhaps one that was there before."""

    outcome: SubmitOutcome
    job_id: str
    generation: str


def submit(spec: JobSpec, *, with_message: bool = True) -> Step[Submitted]:
    """Submit a job, or attach to the one that its key stands for.

    ``with_message=False``: for a worker that already has the message. Reading the reply raises
    :class:`InvalidSpecError` where the spec is too large, and :class:`JobIdTakenError` where its id is another job's;
    nothing was written then.
    """
    message = ""
    if with_message:
        message = encode_message(spec.id, queue=spec.queue, priority=spec.priority)
    return Step(
        "submit",
        (
            names.job(spec.id),
            names.active(spec.queue),
            names.queues(),
            names.GENERATION,
            names.message_list(spec.queue, PRIORITY_BUCKETS[spec.priority]),
        ),
        (
            spec.id,
            spec.queue,
            spec.encode(),
            spec.digest,
            encode_event(StatusChanged(status=Status.QUEUED)),
            message,
            uuid.uuid4().hex,
            spec.key or "",
            *retention_arguments(spec),
            spec.namespace or "",
            spec.needed_worker_version,
        ),
        lambda reply: _decode_submitted(reply, spec),
    )


def _decode_submitted(reply: Any, spec: JobSpec) -> Submitted:
    outcome, *rest = map(_text, reply)
    if outcome == "taken":
        generation, queue, status, first = rest
        _check_same(spec, queue=queue, status=status, first=first)
        return Submitted(SubmitOutcome.EXISTS, spec.id, generation)
    if outcome == "too_large":
        size, limit = rest
        problem = f"{size} bytes of JSON, at most {limit} are taken: give large data by a volume, a config map or a URL"
        raise InvalidSpecError([problem])
    return Submitted(SubmitOutcome(outcome), rest[0], rest[1])


def _check_same(spec: JobSpec, *, queue: str, status: str, first: str) -> None:
    """Make sure that the job of this id was asked for what is asked now: another version writes other digests.

    Raises:
        JobIdTakenError: it was not.
    """
    try:
        differs = differing_fields(decode_spec(first), spec)
        is_same = not differs and queue == spec.queue
    except (InvalidSpecError, ValueError, RecursionError):
        differs, is_same = [], False
    if not is_same:
        raise JobIdTakenError(spec.id, queue=queue, status=status, differs=differs)


def retention_arguments(spec: JobSpec) -> tuple[float, float, float]:
    """List the spec's times (seconds) in the order in which the scripts take them."""
    return (spec.retention_s, spec.acknowledged_retention_s, spec.queue_timeout_s)


class ClaimOutcome(StrEnum):
    """What a claim did."""

    CLAIMED = "claimed"
    MINE = "mine"  #: it was already this incarnation's
    OWNED = "owned"
    FINAL = "final"
    MISSING = "missing"
    REDIS_CHANGED = "redis_changed"  #: Redis has lost writes, perhaps the job's end: its owner goes first
    NO_LEASE = "no_lease"  #: this worker's own lease is over: renew it first
    NOT_SERVED = "not_served"  #: its namespace is not among this worker's, or it needs a newer version
    UNREADABLE = "unreadable"  #: this version cannot read the record (a newer one's, or junk): leave the job alone


@dataclass(frozen=True, slots=True)
class Claimed:
    """The reply to a claim. ``unreadable``: the field that this version cannot read."""

    outcome: ClaimOutcome
    record: JobRecord | None
    unreadable: str = ""


def claim(
    job_id: str,
    incarnation: str,
    *,
    namespaces: Sequence[str],
    default_namespace: str = "",
    former_owner: str = "",
    redis_life: str = "",
    version: str = VERSION,
) -> Step[Claimed]:
    """Take a job that has no owner, or whose ``former_owner``'s lease is over.

    ``namespaces``: those that this worker serves; a job that names none counts as one of its ``default_namespace``
    ('': any worker may take it). ``version``: this worker's; a job that needs a newer one is not claimed.
    """

    def decode(reply: Any) -> Claimed:
        outcome = ClaimOutcome(_text(reply[0]))
        if outcome is ClaimOutcome.UNREADABLE:
            return Claimed(outcome, None, _text(reply[1]))
        is_granted = outcome in (ClaimOutcome.CLAIMED, ClaimOutcome.MINE)
        return Claimed(outcome, _decode_whole(job_id, reply[1]) if is_granted else None)

    text = f"worker {incarnation} took over" + (f" from {former_owner}" if former_owner else "")
    unserved = StatusChanged(status=Status.QUEUED)
    return Step(
        "claim",
        (names.job(job_id), names.worker(incarnation)),
        (
            *(job_id, incarnation, former_owner, encode_event(Notice(text=text))),
            *(f" {' '.join(namespaces)} ", encode_event(unserved), default_namespace, redis_life, version),
        ),
        decode,
    )


def find(key: str, queue: str) -> Step[str | None]:
    """Find the job that the queue's key stands for; None where there is none."""
    return Step("find", (names.key(key),), (queue, key), lambda reply: _job_id(_text(reply)))


def _job_id(text: str) -> str | None:
    return text if is_job_id(text) else None


def read_record(job_id: str) -> Step[JobRecord | None]:
    """Read the job's record; None where there is none."""
    return Step("read_record", (names.job(job_id),), (), lambda reply: _decode_whole(job_id, reply[0]))


def read_records(job_ids: Sequence[str]) -> Step[list[JobRecord]]:
    """Read the records of these jobs, without those that have none."""

    def decode(reply: Any) -> list[JobRecord]:
        found = (_decode_whole(job_id, record) for job_id, record in zip(job_ids, reply, strict=True))
        return [record for record in found if record is not None]

    return Step("read_record", tuple(names.job(job_id) for job_id in job_ids), (), decode)


def newest(index: str, most: int) -> Step[tuple[list[str], list[JobRecord]]]:
    """Read the ids of an index's newest jobs.

    Also returns stand-ins for what has to be shown: each member that is no job's id, or the index itself where its key
    holds something of another kind.
    """

    def decode(reply: Any) -> tuple[list[str], list[JobRecord]]:
        if isinstance(reply, bytes):
            return [], [no_record(index, _text(reply))]
        listed = [_text(member) for member in reply]
        odd = [no_record(shown(x), f"no job's id, in {index}") for x in listed if not is_job_id(x)]
        return [x for x in listed if is_job_id(x)], odd

    return Step("newest", (index,), (most,), decode)


def _decode_whole(job_id: str, reply: Any) -> JobRecord | None:
    """Read a record as scripts return it: field and value in turn, or a text that says why it cannot be read."""
    if isinstance(reply, bytes):
        return no_record(job_id, _text(reply))
    return decode_record(job_id, dict(zip(reply[::2], reply[1::2], strict=True))) if reply else None


def exists(key: str) -> Step[bool]:
    """Whether Redis has the key."""
    return Step("exists", (key,), (), lambda reply: bool(reply[0]))


def existing(keys: Sequence[str]) -> Step[set[str]]:
    """Those of the keys that Redis has."""
    return Step("exists", tuple(keys), (), lambda reply: {key for key, has in zip(keys, reply, strict=True) if has})


class MoveOutcome(StrEnum):
    """What a move did."""

    APPLIED = "applied"
    FENCED = "fenced"  #: another incarnation owns the job: let go of it
    MISSING = "missing"  #: Redis has lost the record: recreate it (not the same thing)
    ROLLED_BACK = "rolled_back"  #: Redis has lost the owner's claim or last steps: put the record back
    ILLEGAL = "illegal"  #: the status does not allow it, e.g. the job was ended meanwhile


@dataclass(frozen=True, slots=True)
class Moved:
    """The reply to a move: the record's ``status`` after it, Redis' time in seconds (``at``), this step's name."""

    outcome: MoveOutcome
    cancel_by: str
    status: Status | None
    at: float
    step: str


@dataclass(frozen=True, slots=True)
class Fence:
    """Who writes. Redis refuses it as soon as another incarnation has claimed the job."""

    owner: str
    epoch: int


def move(
    job_id: str,
    fence: Fence,
    *,
    target: Status | None = None,
    event: StatusChanged | Notice | Ended | None = None,
    fields: Mapping[str, str] | None = None,
    only_from: Sequence[Status] | None = None,
    after: str = "*",
    known: Mapping[str, str] | None = None,
) -> Step[Moved]:
    """Change the record, and publish the event.

    ``target`` is held to the table of legal moves; ``fields`` with an empty value are deleted. ``after`` names the
    owner's step before this one ('' for none, '*' for any), ``known`` what else the owner knows to be in the record:
    where Redis lacks it, it has lost it.
    """
    name = uuid.uuid4().hex
    sources = only_from if only_from is not None else may_start_from(target) if target else None
    allowed = f" {' '.join(sources)} " if sources is not None else ""
    known = known or {}
    pairs = [part for pair in [*known.items(), *(fields or {}).items()] for part in pair]
    return Step(
        "move",
        (names.job(job_id),),
        (
            job_id,
            fence.owner,
            fence.epoch,
            name,
            after,
            allowed,
            target or "",
            encode_event(event) if event else "",
            len(known),
            *pairs,
        ),
        lambda reply: _decode_moved(reply, name),
    )


def _decode_moved(reply: Any, name: str) -> Moved:
    status = _text(reply[2])
    return Moved(
        outcome=MoveOutcome(_text(reply[0])),
        cancel_by=_text(reply[1]),
        status=Status.carried(status) if status else None,
        at=float(reply[3]),
        step=name,
    )


class AppendOutcome(StrEnum):
    """What an append to the log did."""

    APPLIED = "applied"
    FENCED = "fenced"
    MISSING = "missing"
    FINAL = "final"
    MISMATCH = "mismatch"  #: the record's checkpoint is elsewhere (Redis lost writes): read the log again from there
    FULL = "full"  #: Redis is near its memory limit; never the answer to a gap


@dataclass(frozen=True, slots=True)
class Appended:
    """The reply to an append."""

    outcome: AppendOutcome
    cancel_by: str
    checkpoint: str  #: on a mismatch, the record's ('' for none)


def append_log(
    job_id: str,
    fence: Fence,
    *,
    checkpoint_field: str,
    start: int,
    checkpoint: str,
    limit_bytes: int,
    entry: Sequence[Argument],
    memory_limit_bytes: int = 0,
) -> Step[Appended]:
    """Append an entry (of :func:`dispatcher.channel.encode_chunk` or ``encode_gap``), and note the checkpoint after it.

    ``memory_limit_bytes``: as for :func:`log_room`.
    """
    return Step(
        "append_log",
        (names.job(job_id), names.log(job_id), names.log_room(memory_limit_bytes)),
        (
            *(job_id, fence.owner, fence.epoch, checkpoint_field, start, checkpoint),
            *(limit_bytes, memory_limit_bytes, *entry),
        ),
        lambda reply: Appended(AppendOutcome(_text(reply[0])), _text(reply[1]), _text(reply[2])),
    )


@dataclass(frozen=True, slots=True)
class LogRoom:
    """How much log fits into Redis.

    ``room_bytes``: until Redis uses ``limit_bytes`` in all (0: no limit). Negative: so much is used beyond that.
    """

    room_bytes: int
    limit_bytes: int


def log_room(memory_limit_bytes: int) -> Step[LogRoom]:
    """Ask how much log Redis has room for.

    No log is taken beyond ``memory_limit_bytes`` of used memory (0: no such limit), nor beyond 95 % of maxmemory.
    """
    return Step("log_room", (), (memory_limit_bytes,), lambda reply: LogRoom(int(reply[0]), int(reply[1])))


class ForgetOutcome(StrEnum):
    """What a forget did."""

    APPLIED = "applied"
    FENCED = "fenced"
    MISSING = "missing"
    ILLEGAL = "illegal"  #: it has not ended


def forget(job_id: str, fence: Fence, queue: str) -> Step[ForgetOutcome]:
    """Forget a job that has ended, as its owner's last step."""
    args = (job_id, fence.owner, fence.epoch, queue)
    return Step("forget", (names.job(job_id),), args, lambda reply: ForgetOutcome(_text(reply)))


class AcknowledgeOutcome(StrEnum):
    """What an acknowledgement did."""

    ACKNOWLEDGED = "acknowledged"  #: the script returns the job's status instead
    MISSING = "missing"
    UNREADABLE = "unreadable"  #: the record has no status or no queue: nothing was done
    ILLEGAL = "illegal"  #: it has not ended


def acknowledge(job_id: str) -> Step[AcknowledgeOutcome]:
    """Note that the caller has the result."""

    def decode(reply: Any) -> AcknowledgeOutcome:
        text = _text(reply)
        return AcknowledgeOutcome(text) if text in set(AcknowledgeOutcome) else AcknowledgeOutcome.ACKNOWLEDGED

    return Step("acknowledge", (names.job(job_id),), (job_id,), decode)


class CancelOutcome(StrEnum):
    """What a cancel did."""

    CANCELLED = "cancelled"  #: it was only waiting, and has ended now
    REQUESTED = "requested"  #: its worker ends it
    FINAL = "final"  #: it had ended before
    MISSING = "missing"
    UNREADABLE = "unreadable"  #: the record has no status or no queue: nothing was done


def cancel(job_id: str, by: str) -> Step[CancelOutcome]:
    """Ask for the job's end. ``by``: who asks."""
    result = JobResult(
        job_id=job_id, status=Status.CANCELLED, message=f"cancelled by {by} before it had a pod", cancelled_by=by
    )
    return Step(
        "cancel",
        (names.job(job_id),),
        (job_id, by, encode_event(Ended(result=result)), result.model_dump_json(exclude_none=True)),
        lambda reply: CancelOutcome(_text(reply[0])),
    )


class ExpireOutcome(StrEnum):
    """What an expire did."""

    EXPIRED = "expired"
    EARLY = "early"  #: it does not wait for a pod any more, its time is not over, or it cannot be read
    MISSING = "missing"


def expire(job_id: str, queue: str) -> Step[ExpireOutcome]:
    """End a job that waits beyond its queue timeout, or in a namespace that no live worker is to serve.

    Its result says what it last waited for.
    """

    def ended(reason: FailureReason, message: str) -> tuple[str, str]:
        result = JobResult(job_id=job_id, status=Status.FAILED, reason=reason, message=message)
        return encode_event(Ended(result=result)), result.model_dump_json(exclude_none=True)

    return Step(
        "expire",
        (names.job(job_id),),
        (
            job_id,
            *ended(
                FailureReason.QUEUE_TIMEOUT,
                f"no pod was created within the queue timeout@last@: check that a worker serves queue {queue!r} and "
                "has capacity (`podrelay workers`), or raise queue_timeout_s",
            ),
            *ended(
                FailureReason.QUOTA_TIMEOUT,
                "the namespace's resource quota left no room within the queue timeout@last@: raise the quota, wait for "
                "other pods to end, or raise queue_timeout_s",
            ),
            *ended(
                FailureReason.INVALID_SPEC,
                f"no worker of queue {queue!r} serves namespace '@namespace@'; those that are alive serve: @served@. "
                "Correct the namespace or the queue, or have a worker serve it (PODRELAY_NAMESPACES)",
            ),
        ),
        lambda reply: ExpireOutcome(_text(reply)),
    )


@dataclass(frozen=True, slots=True)
class SurveyRow:
    """An active job in short. Times in seconds of Redis' clock.

    ``status`` None: it is listed, but its record is gone. ``owner_seen_at``: when its owner last renewed its lease, 0
    for never. ``is_overdue``: it waits beyond one of its limits. ``unreadable``: what of it this version cannot read (a
    newer one's status, junk): whoever does not understand a job leaves it alone.
    """

    job_id: str
    submitted_at: float
    status: Status | None
    owner: str
    owner_is_alive: bool
    owner_seen_at: float
    epoch: int
    cancel_by: str
    namespace: str
    attempt: int
    pod_uid: str
    is_overdue: bool
    last_step: str
    unreadable: str = ""
    min_worker_version: str = ""

    @property
    def is_ownerless(self) -> bool:
        """Whether no worker has claimed it."""
        return self.owner == ""


def survey(queue: str, first: int, last: int) -> Step[list[SurveyRow]]:
    """Read the queue's active jobs of these ranks, oldest first."""
    return Step(
        "survey",
        (names.active(queue), names.workers(queue)),
        (first, last),
        lambda reply: [_decode_row([_text(field) for field in row]) for row in reply],
    )


def _decode_row(r: Sequence[str]) -> SurveyRow:
    return SurveyRow(
        job_id=r[0],
        submitted_at=float(r[1]),
        status=Status.carried(r[2]) if r[2] else None,
        owner=r[3],
        owner_is_alive=r[4] == "1",
        owner_seen_at=float(r[5] or 0),
        epoch=int(r[6]),
        cancel_by=r[7],
        namespace=r[8],
        attempt=int(r[9]),
        pod_uid=r[10],
        is_overdue=r[11] == "1",
        last_step=r[12],
        unreadable=r[13] if is_job_id(r[0]) else f"{shown(r[0])} is no job's id",
        min_worker_version=r[14],
    )


@dataclass(frozen=True, slots=True)
class Presence:
    """Who is there to work on a job. Times in seconds of Redis' clock.

    ``status`` None: it has no record. ``is_overdue``: it waits beyond one of its limits; anybody may end it then
    (:func:`expire`). ``workers_alive`` counts those that can run the job: they serve its queue and ``namespace`` (''
    where it names none), in a version that it needs. ``unserved_until``: none of the live ones is to serve the
    namespace, and so long the job waits for one. ``too_old``: why none of them can run it, where it is their version.
    """

    at: float
    generation: str
    status: Status | None
    owner: str
    owner_is_alive: bool
    queue: str
    is_overdue: bool
    workers_alive: int
    last_seen_at: float | None
    owner_last_seen_at: float | None
    namespace: str
    last_event_id: str
    last_log_id: str
    unserved_until: float | None = None
    too_old: str = ""

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.status is not None and self.status.is_final

    @property
    def is_known(self) -> bool:
        """Whether there is a record that has a status (a newer version's too)."""
        return self.status is not None and self.status != UNREADABLE


def presence(job_id: str) -> Step[Presence]:
    """Look in one round trip who is there."""

    def decode(reply: Any) -> Presence:
        r = [x.decode("utf-8", "backslashreplace") for x in reply]
        return Presence(
            at=float(r[0]),
            generation=decode_generation(reply[1]),
            status=Status.carried(r[2]) if r[2] else None,
            owner=r[3],
            owner_is_alive=r[4] == "1",
            queue=r[5],
            is_overdue=r[6] == "1",
            workers_alive=int(r[7]),
            last_seen_at=float(r[8]) if r[8] else None,
            owner_last_seen_at=float(r[9]) if r[9] else None,
            namespace=r[10],
            last_event_id=r[11],
            last_log_id=r[12],
            unserved_until=float(r[13]) if r[13] else None,
            too_old=r[14],
        )

    keys = (names.job(job_id), names.GENERATION, names.events(job_id), names.log(job_id))
    return Step("presence", keys, (), decode)


@dataclass(frozen=True, slots=True)
class Beat:
    """The reply to a heartbeat. Times in seconds of Redis' clock.

    ``lease_was_alive``: False at the first, and after a freeze or an outage. ``redis_life``: Redis' generation and its
    server's run; ``runs_since``: when that run took the place of another, None where no other was known. ``gave_way``:
    keys of ours that held something of another type, which nobody could have used; they were deleted.
    """

    at: float
    generation: str
    lease_was_alive: bool
    redis_life: str
    runs_since: float | None
    gave_way: tuple[str, ...] = ()


def heartbeat(incarnation: str, queue: str, *, lease_ms: int, info: Mapping[str, Any]) -> Step[Beat]:
    """Renew this worker's lease. ``info``: what it says of itself, as JSON."""
    return Step(
        "heartbeat",
        (names.worker(incarnation), names.workers(queue), names.GENERATION, names.queues()),
        (
            *(incarnation, lease_ms, json.dumps(info), uuid.uuid4().hex, queue),
            *(names.message_list(queue, bucket) for bucket in MESSAGE_BUCKETS),
        ),
        lambda reply: Beat(
            at=float(reply[0]),
            generation=_text(reply[1]),
            lease_was_alive=bool(reply[2]),
            redis_life=_text(reply[3]),
            runs_since=float(reply[4]) if reply[4] else None,
            gave_way=tuple(_text(key) for key in reply[5]),
        ),
    )


def release(incarnation: str, queue: str, job_ids: Sequence[str]) -> Step[int]:
    """Give up jobs, so that another worker claims them at once."""
    return Step("release", (names.control(queue),), (incarnation, *job_ids), int)


class RestoreOutcome(StrEnum):
    """What a restore did."""

    RESTORED = "restored"
    EXISTS = "exists"  #: another owner's, or ended: nothing was done
    SUPERSEDED = "superseded"  #: its key was submitted again, and that job is to have its pod


@dataclass(frozen=True, slots=True)
class Restored:
    """The reply to a restore. ``step``: this step's name."""

    outcome: RestoreOutcome
    step: str


def restore(
    record: JobRecord, fence: Fence, *, event: StatusChanged | Notice, fields: Mapping[str, str]
) -> Step[Restored]:
    """Write a lost record again as its owner knows it, or (an empty owner) as its pod says."""
    name = uuid.uuid4().hex
    spec = record.spec
    always = {"spec": spec.encode(), "digest": record.digest, "status": record.status.value}
    retention = zip(
        ("retention_s", "acknowledged_retention_s", "queue_timeout_s"),
        (str(x) for x in retention_arguments(spec)),
        strict=True,
    )
    needed = {MIN_WORKER_VERSION: spec.needed_worker_version} if spec.needed_worker_version else {}
    pairs = [part for pair in {**always, **needed, **dict(retention), **fields}.items() for part in pair]
    return Step(
        "restore",
        (names.job(record.job_id), names.active(spec.queue), names.queues(), names.GENERATION),
        (
            *(record.job_id, spec.queue, spec.key or "", encode_event(event)),
            *(fence.owner, str(fence.epoch), name, uuid.uuid4().hex, *pairs),
        ),
        lambda reply: Restored(RestoreOutcome(_text(reply)), name),
    )


def _text(value: Any) -> str:
    """Decode a reply; what is no UTF-8 is escaped."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
