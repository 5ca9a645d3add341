"""The job record: one hash in Redis, which is the truth about a job.

The atomic steps (``lua/*.lua``) write it; this module reads its fields, and encodes those that an owner changes. Times
are seconds of Redis' own clock, so that no other machine's clock decides anything.

Reading never fails: whatever stands there gives a :class:`JobRecord` that can be shown, and says what in it cannot be
read (a newer version's status or intent, or junk). Such a job is left to a worker that can read it.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypedDict, TypeVar, cast

from dispatcher.bounded_json import loads_bounded
from dispatcher.errors import InvalidSpecError
from dispatcher.events import JobResult, decode_result, unreadable_result
from dispatcher.spec import JobSpec, decode_spec
from dispatcher.status import FailureReason, Status

T = TypeVar("T")

CHECKPOINT = "checkpoint:"
REACHED = "at:"
#: The version that the job's worker needs. 0.1 takes each field ``at:`` for a time, and this one for one that it cannot
#: read: so it leaves the job alone.
MIN_WORKER_VERSION = "at:min_worker_version"

NO_CHAIN = "0" * 64

#: The longest field that is read; ``lua/prelude.lua`` cuts longer ones behind it.
MAX_FIELD_BYTES = 4 * 1024 * 1024
#: The longest entry of a worker that is read.
MAX_WORKER_BYTES = 64 * 1024
#: How many of a record's problems are named.
MOST_PROBLEMS = 10
#: What stands for a name or status that cannot be read.
UNREADABLE = "unreadable"
#: The last second that is read as a time: any later one is junk, and the last ones that exist cannot be reckoned with.
MAX_SECONDS = 1e11

_NOT_PRINTABLE = re.compile("[^ -~]")
_COUNT = re.compile(r"0|[1-9][0-9]{0,15}")
_SECONDS = re.compile(r"[0-9]+\.?[0-9]*")
_TIMESTAMP = re.compile(r"-|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[0-9.Z:+-]*")
_CHAIN = re.compile(r"[0-9a-fA-F]{64}")
_VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}")
_QUEUE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_JOB_ID = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,62}")


class DeletionIntent(StrEnum):
    """Why *we* delete the pod.

    Written to the record before the delete is sent, so that the pod is never taken for one that somebody else deleted.
    """

    FINISHED = "finished"  #: the job has its result; the pod is cleaned up
    CANCELLED = "cancelled"
    FAILED = "failed"  #: the job fails for the reason in the record's ``intent_reason``, e.g. a time limit
    NEXT_ATTEMPT = "next_attempt"


class WaitReason(StrEnum):
    """What a QUEUED job waits for other than a worker. A newer version's reason keeps its name."""

    QUOTA = "quota"  #: room in its namespace's resource quota
    API_SERVER = "api_server"  #: the API server does not answer, or does not take the pod yet
    PREDECESSOR = "predecessor"  #: the pod of a former job of its key is still there
    BACK_OFF = "back_off"  #: the time between two attempts

    @classmethod
    def carried(cls, text: str) -> "WaitReason":
        """Return the reason of this name; an unknown name gives a reason that equals no known one."""
        if (known := next((reason for reason in cls if reason == text), None)) is not None:
            return known
        stranger = str.__new__(cls, text)
        stranger._name_ = stranger._value_ = text
        return stranger


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
        """Return the text that stands in the record. ``end`` comes first: the append script reads it."""
        fields = (self.end, self.timestamp, self.nth, self.line_bytes, self.line_sha256, self.chain)
        return " ".join(str(x) if x != "" else "-" for x in fields)

    @classmethod
    def decode(cls, text: str) -> "Checkpoint":
        """Read what :meth:`encode` wrote.

        Raises:
            ValueError: the text is no checkpoint.
        """
        parts = text.split(" ")
        if len(parts) != 6 or not _TIMESTAMP.fullmatch(parts[1]) or not parts[4] or not _CHAIN.fullmatch(parts[5]):
            raise ValueError(f"{shown(text)} is no checkpoint")
        end, nth, line_bytes = (read_count(parts[i]) for i in (0, 2, 3))
        timestamp, line_sha256 = ("" if x == "-" else x for x in (parts[1], parts[4]))
        return cls(end, timestamp, nth, line_bytes, line_sha256, parts[5])


def chain_next(chain: str, data: bytes) -> str:
    """Return the chained SHA-256 (hex) after one more chunk."""
    return hashlib.sha256(bytes.fromhex(chain) + data).hexdigest()


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job as its record tells it.

    ``reached``: status (or ``claimed``, ``attempt``) to the time in seconds at which it was reached; STARTING and
    RUNNING are the present attempt's. ``attempt`` counts from 1; 0: before the first.
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
    unreadable_state: str | None = None  #: which of the other fields this version cannot read: it leaves the job alone
    unreadable_result: str | None = None  #: what is wrong with the result, where a stand-in takes its place
    reason_text: str = ""  #: the reason as it stands there, a newer version's too
    is_forgotten: bool = False  #: its pod is gone (or kept and marked), nothing is left to do
    predecessor: str | None = None
    wait: WaitReason | None = None  #: None: a worker
    min_worker_version: str = ""
    not_before: float = 0.0  #: back-off: no launch before this time (seconds, Redis' clock)
    reached: Mapping[str, float] = field(default_factory=dict)
    checkpoints: Mapping[tuple[int, str], Checkpoint] = field(default_factory=dict)  #: by (attempt, container)
    result: JobResult | None = None
    log_end: str = "0-0"
    last_step: str = ""  #: the owner's last move: Redis has lost some where it is not the one that the owner made last

    @property
    def why_unreadable(self) -> str:
        """What in the record this version cannot read, for a person; empty where it can read all."""
        named = {"spec": self.unreadable, "record": self.unreadable_state, "result": self.unreadable_result}
        return "; ".join(f"{what}: {why}" for what, why in named.items() if why)

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody has cancelled the job."""
        return self.cancel_requested_by is not None

    def reached_at(self, what: str) -> float | None:
        """When (seconds, Redis' clock) the job reached this status; None where it has not."""
        return self.reached.get(what.lower())

    def deadline_to_queue(self) -> float:
        """Until when (seconds, Redis' clock) the job may stay QUEUED. A later attempt's waiting counts anew."""
        return self.reached.get("queued", 0.0) + self.spec.queue_timeout_s


class Changes(TypedDict, total=False):
    """The fields of a :class:`JobRecord` that its owner changes.

    The steps themselves write the rest: the status and its time, the owner, how far the logs are published.
    """

    attempt: int
    takeovers: int
    detail: str
    reason: FailureReason | None
    namespace: str | None
    pod: str | None
    pod_uid: str | None
    node: str | None
    deletion_intent: DeletionIntent | None
    intent_reason: FailureReason | None
    intent_message: str
    cancel_requested_by: str | None
    predecessor: str | None
    wait: WaitReason | None
    not_before: float
    result: JobResult | None


#: Fields with another name in the hash than in :class:`JobRecord`.
_FIELD_OF: Final = {"deletion_intent": "intent", "cancel_requested_by": "cancel_by"}


def encode_changes(changes: Changes) -> dict[str, str]:
    """Return these changes as fields of the hash; '' deletes one."""
    return {_FIELD_OF.get(name, name): _encode(value) for name, value in changes.items()}


def encode_record(record: JobRecord) -> dict[str, str]:
    """Return all fields that an owner knows (changes, times, checkpoints), for a hash that has lost them."""
    changes = cast(Changes, {name: getattr(record, name) for name in Changes.__annotations__})
    return {
        **{name: text for name, text in encode_changes(changes).items() if text},
        **{f"{REACHED}{what}": f"{at:.6f}" for what, at in record.reached.items()},
        **{checkpoint_field(a, c): point.encode() for (a, c), point in record.checkpoints.items()},
    }


def _encode(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.6f}" if value else ""
        case JobResult():
            without_times = value.model_copy(update={"times": {}})  # which a reader takes from the record
            return without_times.model_dump_json(exclude_none=True)
        case _:
            return str(value)


class _Fields:
    """A record's fields as text, and which cannot be read. ``is_strange`` in ``lua/prelude.lua`` decides alike."""

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self.text = {_text(name): _text(value) for name, value in fields.items()}
        self.problems: list[str] = []

    def read(self, name: str, reader: Callable[[str], T], otherwise: T) -> T:
        """Read a field; ``otherwise`` where it is missing, or cannot be read and so is a problem."""
        try:
            return reader(self.text[name]) if name in self.text else otherwise
        except ValueError as error:
            self.problems.append(f"{_NOT_PRINTABLE.sub('?', name[:100])}: {error}")
            return otherwise

    def optional(self, name: str) -> str | None:
        return self.text.get(name) or None

    def under(self, prefix: str) -> list[str]:
        return [name for name in self.text if name.startswith(prefix)]


def decode_record(job_id: str, fields: Mapping[bytes, bytes]) -> JobRecord:
    """Read the hash of a record (as redis-py gives it, undecoded), whatever it holds.

    A stand-in replaces a spec that cannot be read (a newer publisher's values), and ``unreadable`` says why: such a job
    can still be ended, listed and cancelled. ``unreadable_state`` is about the other fields.
    """
    found = _Fields(fields)
    text, reached = found.text, _reached(found)
    spec, unreadable = _read_spec(job_id, text)
    status = found.read("status", _status, Status.carried(text.get("status", "")[:64] or UNREADABLE))
    result, unreadable_result = _read_result(job_id, text, status, reached)
    found.problems += [f"{name}: there is none" for name in ("status", "queue") if name not in text]
    found.read("queue", _queue, "")
    return JobRecord(
        job_id=job_id,
        spec=spec,
        unreadable=unreadable,
        digest=text.get("digest", ""),
        status=status,
        generation=text.get("generation", ""),
        detail=text.get("detail", ""),
        reason=_decode_reason(text.get("reason")),
        reason_text=text.get("reason", "")[:64],
        attempt=found.read("attempt", _tally, 0),
        owner=found.optional("owner"),
        epoch=found.read("epoch", _tally, 0),
        takeovers=found.read("takeovers", _tally, 0),
        namespace=found.optional("namespace"),
        pod=found.optional("pod"),
        pod_uid=found.optional("pod_uid"),
        node=found.optional("node"),
        deletion_intent=found.read("intent", _intent, None),
        intent_reason=found.read("intent_reason", _known_reason, None),
        intent_message=text.get("intent_message", ""),
        cancel_requested_by=found.optional("cancel_by"),
        acknowledged=bool(text.get("acknowledged")),
        is_forgotten=bool(text.get("forgotten")),
        predecessor=found.optional("predecessor"),
        wait=found.read("wait", _wait, None),
        min_worker_version=found.read(MIN_WORKER_VERSION, _version, ""),
        not_before=found.read("not_before", read_seconds, 0.0),
        reached=reached,
        checkpoints=_checkpoints(found),
        result=result,
        unreadable_result=unreadable_result,
        log_end=text.get("log_end", "0-0"),
        last_step=text.get("last_step", ""),
        unreadable_state="; ".join(found.problems[:MOST_PROBLEMS]) or None,
    )


def no_record(name: str, why: str) -> JobRecord:
    """Make a stand-in for what should be a record and is none, which says why."""
    spec = _stand_in_spec(name, "")
    return JobRecord(job_id=name, spec=spec, digest="", status=Status.carried(UNREADABLE), unreadable_state=why)


def is_job_id(text: str) -> bool:
    """Whether a job can have this id; anything else in an index is no job."""
    return _JOB_ID.fullmatch(text) is not None


def shown(text: str, most: int = 40) -> str:
    """Return text that is safe to show to a person: short, and without control characters."""
    return ascii(text[:most]) + ("…" if len(text) > most else "")


def read_count(text: str) -> int:
    """Read a count.

    Raises:
        ValueError: the text is none.
    """
    if not _COUNT.fullmatch(text) or int(text) >= 2**53:
        raise ValueError(f"{shown(text)} is no count")
    return int(text)


def _tally(text: str) -> int:
    """Read a count that goes up by one (claims, attempts), and so is never long."""
    if len(text) > 9:
        raise ValueError(f"{shown(text)} is no count")
    return read_count(text)


def read_seconds(text: str) -> float:
    """Read a time or a span in seconds.

    Raises:
        ValueError: the text is none, or beyond any date.
    """
    if len(text) > 21 or not _SECONDS.fullmatch(text) or float(text) >= MAX_SECONDS:
        raise ValueError(f"{shown(text)} is no time in seconds")
    return float(text)


def _text(raw: bytes) -> str:
    """Decode UTF-8; other bytes become escapes that can be shown."""
    return raw.decode("utf-8", "backslashreplace")


def _status(text: str) -> Status:
    if text not in Status.__members__:
        raise ValueError(f"{shown(text)} is not known to this version")
    return Status(text)


def _intent(text: str) -> DeletionIntent | None:
    if not text:
        return None
    if text not in set(DeletionIntent):
        raise ValueError(f"{shown(text)} is not known to this version")
    return DeletionIntent(text)


def _wait(text: str) -> WaitReason | None:
    return WaitReason.carried(text) if text else None


def _known_reason(text: str) -> FailureReason | None:
    if (reason := _decode_reason(text)) is None and text:
        raise ValueError(f"{shown(text)} is not known to this version")
    return reason


def _queue(text: str) -> str:
    if not _QUEUE.fullmatch(text):
        raise ValueError(f"{shown(text)} is no queue")
    return text


def _version(text: str) -> str:
    if not _VERSION.fullmatch(text):
        raise ValueError(f"{shown(text)} is no version")
    return text


def _decode_reason(text: str | None) -> FailureReason | None:
    """Return the reason; None also for a newer version's."""
    return next((reason for reason in FailureReason if reason == text), None)


def _reached(found: _Fields) -> dict[str, float]:
    names = (name for name in found.under(REACHED) if name != MIN_WORKER_VERSION)
    times = {name.removeprefix(REACHED): found.read(name, read_seconds, None) for name in names}
    return {what: at for what, at in times.items() if at is not None}


def _checkpoints(found: _Fields) -> dict[tuple[int, str], Checkpoint]:
    def read(name: str) -> tuple[tuple[int, str], Checkpoint] | None:
        return found.read(name, lambda text: (_place(name), Checkpoint.decode(text)), None)

    return dict(pair for name in found.under(CHECKPOINT) if (pair := read(name)) is not None)


def _place(name: str) -> tuple[int, str]:
    attempt, _, container = name.removeprefix(CHECKPOINT).partition(":")
    if not container:
        raise ValueError("names no container")
    return read_count(attempt), container


def _read_spec(job_id: str, text: Mapping[str, str]) -> tuple[JobSpec, str | None]:
    try:
        if len(text.get("spec", "")) > MAX_FIELD_BYTES:
            raise InvalidSpecError([f"longer than {MAX_FIELD_BYTES} bytes"])
        return decode_spec(text.get("spec", "")), None
    except InvalidSpecError as error:
        return _stand_in_spec(job_id, text.get("queue", "")), "; ".join(error.problems)
    except (ValueError, RecursionError) as error:
        return _stand_in_spec(job_id, text.get("queue", "")), str(error)


def _stand_in_spec(job_id: str, queue: str) -> JobSpec:
    """Make a spec that is for showing only, unchecked."""
    return JobSpec.model_construct(id=job_id, queue=queue[:63] or "default", image=UNREADABLE, name=UNREADABLE)


def _read_result(
    job_id: str, text: Mapping[str, str], status: Status, reached: Mapping[str, float]
) -> tuple[JobResult | None, str | None]:
    """Read the result, with the record's times; or a stand-in, and what is wrong with the result."""
    if not text.get("result"):
        return None, None
    times = {what: as_datetime(at) for what, at in reached.items()}
    try:
        return decode_result(text["result"]).model_copy(update={"times": times}), None
    except (ValueError, RecursionError) as error:
        why = str(error).partition("\n")[0]
        return unreadable_result(job_id, status, why).model_copy(update={"times": times}), why


def checkpoint_field(attempt: int, container: str) -> str:
    """Return the record's field that holds a container's checkpoint."""
    return f"{CHECKPOINT}{attempt}:{container}"


def gap_field(checkpoint_field: str) -> str:
    """Return the record's field that says up to where a gap of unknown length was published."""
    return f"gap:{checkpoint_field}"


def as_datetime(seconds: float) -> datetime:
    """Return seconds of Redis' clock as an aware datetime (UTC)."""
    return datetime.fromtimestamp(seconds, UTC)


def decode_worker(text: bytes) -> dict[str, object]:
    """Read what a worker says of itself in its queue's list of workers; empty where that cannot be read."""
    try:
        found = loads_bounded(text, max_bytes=MAX_WORKER_BYTES)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


_GENERATION = re.compile(rb"[-A-Za-z0-9]{1,64}")


def decode_generation(raw: object) -> str:
    """Read Redis' generation; '' where there is none, or junk."""
    return raw.decode() if isinstance(raw, bytes) and _GENERATION.fullmatch(raw) else ""
