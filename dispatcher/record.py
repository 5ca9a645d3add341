"""The job record: one hash in Redis, which is the truth about a job.

This module only reads what the atomic steps (``lua/*.lua``) wrote; it changes nothing. Times are seconds of Redis' own
clock, so that no other machine's clock decides anything.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from dispatcher.errors import InvalidSpecError
from dispatcher.events import JobResult, decode_result
from dispatcher.spec import JobSpec, decode_spec
from dispatcher.status import FailureReason, Status

CHECKPOINT = "checkpoint:"
REACHED = "at:"

NO_CHAIN = "0" * 64


class DeletionIntent(StrEnum):
    """Why *we* delete the pod; written to the record before the delete is sent, so that a pod that goes away is never
    mistaken for one that somebody else deleted."""

    FINISHED = "finished"  #: the job has its result; the pod is cleaned up
    CANCELLED = "cancelled"
    FAILED = "failed"  #: the job fails for the reason in the record's ``intent_reason``, e.g. a time limit
    NEXT_ATTEMPT = "next_attempt"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far one container's log is published.

    ``end``: bytes published (or known to be lost), counted from the container's first byte. The rest is the place in
    the kubelet's log: the last line of which something is published bears ``timestamp`` (as the API wrote it), is the
    ``nth`` (from 1) of the consecutive lines that bear it, and ``line_bytes`` of it are published; ``line_sha256``
    (hex) is over exactly these bytes. A finished line counts its newline. ``chain``: SHA-256 (hex) over the previous
    chain's 32 bytes and the chunk, for every chunk in turn, from 32 zero bytes.
    """

    end: int = 0
    timestamp: str = ""
    nth: int = 0
    line_bytes: int = 0
    line_sha256: str = ""
    chain: str = NO_CHAIN

    def encode(self) -> str:
        """Text form in the record. ``end`` stands first: the append script reads it."""
        fields = (self.end, self.timestamp, self.nth, self.line_bytes, self.line_sha256, self.chain)
        return " ".join(str(x) if x != "" else "-" for x in fields)

    @classmethod
    def decode(cls, text: str) -> "Checkpoint":
        end, timestamp, nth, line_bytes, line_sha256, chain = ("" if x == "-" else x for x in text.split(" "))
        return cls(int(end), timestamp, int(nth), int(line_bytes), line_sha256, chain)


def chain_next(chain: str, data: bytes) -> str:
    """The chained SHA-256 (hex) after one more chunk."""
    return hashlib.sha256(bytes.fromhex(chain) + data).hexdigest()


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job as its record tells it.

    ``reached``: status (or ``claimed``, ``attempt``) to the time in seconds at which it was reached; those of an
    attempt (STARTING, RUNNING) are that attempt's. ``attempt`` counts from 1, 0 before the first.
    """

    job_id: str
    spec: JobSpec
    digest: str
    status: Status
    generation: str = ""
    detail: str = ""
    reason: FailureReason | None = None
    attempt: int = 0
    owner: str | None = None
    epoch: int = 0
    takeovers: int = 0
    namespace: str | None = None
    pod: str | None = None
    pod_uid: str | None = None
    node: str | None = None
    deletion_intent: DeletionIntent | None = None
    intent_reason: FailureReason | None = None
    intent_message: str = ""
    cancel_requested_by: str | None = None
    acknowledged: bool = False
    unreadable: str | None = None  #: what is wrong with the spec, where a stand-in takes its place
    is_forgotten: bool = False  #: its pod is gone (or kept and marked), nothing is left to do
    predecessor: str | None = None
    wait: str | None = None  #: what a QUEUED job waits for: quota, back_off, predecessor; None: a worker
    not_before: float = 0.0  #: back-off: no launch before this time (seconds, Redis' clock)
    reached: Mapping[str, float] = field(default_factory=dict)
    checkpoints: Mapping[tuple[int, str], Checkpoint] = field(default_factory=dict)  #: by (attempt, container)
    result: JobResult | None = None
    log_end: str = "0-0"
    last_step: str = ""  #: the owner's last move: Redis has lost some where it is not the one that the owner made last

    @property
    def cancel_requested(self) -> bool:
        return self.cancel_requested_by is not None

    def reached_at(self, what: str) -> float | None:
        """When (seconds, Redis' clock) the job reached this status; None where it has not."""
        return self.reached.get(what.lower())

    def deadline_to_queue(self) -> float:
        """Until when (seconds, Redis' clock) the job may stay QUEUED. A later attempt's waiting counts anew."""
        return self.reached.get("queued", 0.0) + self.spec.queue_timeout_s


def decode_record(job_id: str, fields: Mapping[bytes, bytes]) -> JobRecord:
    """Read the hash of a record (as redis-py gives it, undecoded).

    A spec that cannot be read (a newer publisher's values) is replaced by a stand-in, and ``unreadable`` says why: its
    job can then still be ended, listed and cancelled.
    """
    text = {k.decode(): v.decode("utf-8", "surrogateescape") for k, v in fields.items()}
    spec, unreadable = _read_spec(job_id, text)
    return JobRecord(
        job_id=job_id,
        spec=spec,
        unreadable=unreadable,
        digest=text.get("digest", ""),
        status=Status(text["status"]),
        generation=text.get("generation", ""),
        detail=text.get("detail", ""),
        reason=_decode_reason(text.get("reason")),
        attempt=int(text.get("attempt", 0)),
        owner=text.get("owner") or None,
        epoch=int(text.get("epoch", 0)),
        takeovers=int(text.get("takeovers", 0)),
        namespace=text.get("namespace") or None,
        pod=text.get("pod") or None,
        pod_uid=text.get("pod_uid") or None,
        node=text.get("node") or None,
        deletion_intent=DeletionIntent(text["intent"]) if text.get("intent") else None,
        intent_reason=_decode_reason(text.get("intent_reason")),
        intent_message=text.get("intent_message", ""),
        cancel_requested_by=text.get("cancel_by") or None,
        acknowledged=bool(text.get("acknowledged")),
        is_forgotten=bool(text.get("forgotten")),
        predecessor=text.get("predecessor") or None,
        wait=text.get("wait") or None,
        not_before=float(text.get("not_before") or 0),
        reached={k.removeprefix(REACHED): float(v) for k, v in text.items() if k.startswith(REACHED)},
        checkpoints={_decode_stream(k): Checkpoint.decode(v) for k, v in text.items() if k.startswith(CHECKPOINT)},
        result=_decode_result(text),
        log_end=text.get("log_end", "0-0"),
        last_step=text.get("last_step", ""),
    )


def _decode_reason(text: str | None) -> FailureReason | None:
    """None also for the reason of a newer version."""
    return next((reason for reason in FailureReason if reason == text), None)


def _read_spec(job_id: str, text: Mapping[str, str]) -> tuple[JobSpec, str | None]:
    try:
        return decode_spec(text["spec"]), None
    except InvalidSpecError as error:
        stand_in = JobSpec(id=job_id, queue=text.get("queue", "default"), image="unreadable", name="unreadable")
        return stand_in, "; ".join(error.problems)


def _decode_result(text: Mapping[str, str]) -> JobResult | None:
    """The result, with the times that only the record knows."""
    if not text.get("result"):
        return None
    times = {k.removeprefix(REACHED): as_datetime(float(v)) for k, v in text.items() if k.startswith(REACHED)}
    return decode_result(text["result"]).model_copy(update={"times": times})


def checkpoint_field(attempt: int, container: str) -> str:
    """The record's field that holds a container's checkpoint."""
    return f"{CHECKPOINT}{attempt}:{container}"


def gap_field(checkpoint_field: str) -> str:
    """The record's field that says up to where a gap of unknown length was told."""
    return f"gap:{checkpoint_field}"


def _decode_stream(name: str) -> tuple[int, str]:
    attempt, _, container = name.removeprefix(CHECKPOINT).partition(":")
    return int(attempt), container


def as_datetime(seconds: float) -> datetime:
    """Seconds of Redis' clock as an aware datetime (UTC)."""
    return datetime.fromtimestamp(seconds, UTC)


def decode_worker(text: bytes) -> dict[str, object]:
    """What a worker says of itself in its queue's list of workers."""
    found = json.loads(text)
    return found if isinstance(found, dict) else {}
