"""What a reader of a job gets: the events on the wire, the result, the log, and what the reader adds of its own.

On the wire (stream ``events:{<id>}``) are :class:`StatusChanged`, :class:`Notice` and :class:`Ended`, as JSON in the
field ``e``; the stream id is the time at which each happened (Redis' clock). The log (stream ``log:{<id>}``) is bytes
and never JSON: see :mod:`dispatcher.channel`. A reader yields the events, :class:`LogChunk`, :class:`LogGap` and
:class:`Silence`, each in a :class:`JobUpdate`.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from dispatcher.bounded_json import loads_bounded
from dispatcher.cursor import Cursor as Cursor
from dispatcher.status import Blame, FailureReason, Status


class _Wire(BaseModel):
    """Base of what crosses the wire. Reading is lenient: an older reader ignores a newer writer's fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _can_be_written(cls, data: object) -> object:
        return _without_lone_surrogates(data)


def _without_lone_surrogates(value: Any) -> Any:
    """Replace half characters by ``?``: JSON's escapes can make them in Python, and no UTF-8 can carry them."""
    if isinstance(value, str) and type(value) is str:
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_without_lone_surrogates(k): _without_lone_surrogates(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_lone_surrogates(v) for v in value]
    return value


class ReturnValueOutcome(StrEnum):
    """What became of the return value."""

    NOT_ASKED = "not_asked"
    PRESENT = "present"
    MISSING = "missing"  #: the code wrote no file
    TRUNCATED = "truncated"  #: the sidecar was cut off
    NOT_JSON = "not_json"
    TOO_LARGE = "too_large"


class ContainerEnd(_Wire):
    """The last known state of one container. ``state`` is waiting, running or terminated."""

    name: str
    state: Literal["waiting", "running", "terminated"]
    is_init: bool = False
    exit_code: int | None = None
    reason: str | None = None
    message: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class ClusterEvent(_Wire):
    """A Kubernetes event about the job's pod. ``type``: Normal, or Warning (None)."""

    reason: str
    message: str
    count: int = 1
    last_seen_at: datetime | None = None
    type: str | None = None

    @property
    def is_warning(self) -> bool:
        """Whether it tells of something that is not as it should be."""
        return self.type in (None, "Warning")


class LogSummary(_Wire):
    """What was published of one container's log.

    ``bytes``: what the container wrote, as far as it was read; ``sha256``: the chained digest over its chunks (hex, see
    :class:`dispatcher.record.Checkpoint`); ``is_complete``: nothing is missing, and the end was seen.
    """

    bytes: int
    sha256: str
    is_complete: bool


class JobResult(_Wire):
    """How a job ended. A failed job is a result, not an exception."""

    job_id: str
    status: Status
    reason: FailureReason | None = None
    message: str = ""  #: for a person: what happened and what to do next
    responsible: Blame | None = None  #: who can mend it, where the worker knows more than the reason alone tells
    exit_code: int | None = None
    return_value: Any = None
    return_value_outcome: ReturnValueOutcome = ReturnValueOutcome.NOT_ASKED
    attempt: int = 0
    pod: str | None = None
    pod_uid: str | None = None
    namespace: str | None = None
    node: str | None = None
    containers: tuple[ContainerEnd, ...] = ()
    warnings: tuple[ClusterEvent, ...] = ()
    events: tuple[ClusterEvent, ...] | None = None  #: of a failure all of them, in order; None: an older worker's
    times: dict[str, datetime] = {}  #: status in lower case to when it was first reached (Redis' clock)
    logs: dict[str, LogSummary] = {}  #: by container, of the last attempt
    log_complete: bool = True
    log_url: str | None = None
    last_lines: dict[str, str] | None = None  #: by container, of those that failed and whose log was not asked for
    cancelled_by: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the status is SUCCEEDED."""
        return self.status is Status.SUCCEEDED


class StatusChanged(_Wire):
    """The job moved, or its ``detail`` changed within a status."""

    kind: Literal["status"] = "status"
    status: Status
    detail: str = ""
    attempt: int = 0
    pod: str | None = None
    namespace: str | None = None
    node: str | None = None
    reason: FailureReason | None = None


class Notice(_Wire):
    """Something worth knowing that is no move: a takeover, a Kubernetes warning, an attempt that failed."""

    kind: Literal["notice"] = "notice"
    level: Literal["info", "warning", "error"] = "info"
    text: str


class Ended(_Wire):
    """The final event. ``log_end`` is the id of the log's last entry, so that a reader drains exactly."""

    kind: Literal["ended"] = "ended"
    result: JobResult
    log_end: str = "0-0"


#: The longest event or result that is read: a return value of the greatest length, and all that stands beside it.
MAX_EVENT_BYTES = 4 * 1024 * 1024
#: What pydantic's own JSON reader reads.
MAX_EVENT_DEPTH = 200


def unreadable_result(job_id: str, status: Status, why: str) -> JobResult:
    """Make a stand-in for the result of a job that has ended, where its own cannot be read.

    It is never a success: whatever the code returned is not there.
    """
    text = f"the job's result cannot be read by this version: {why}"
    if status is Status.CANCELLED:
        return JobResult(job_id=job_id, status=status, message=text, log_complete=False)
    reason = FailureReason.RETURN_VALUE if status is Status.SUCCEEDED else None
    text += f" (its record says {status.value})"
    return JobResult(job_id=job_id, status=Status.FAILED, reason=reason, message=text, log_complete=False)


WireEvent = Annotated[StatusChanged | Notice | Ended, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[StatusChanged | Notice | Ended] = TypeAdapter(WireEvent)


def encode_event(event: StatusChanged | Notice | Ended) -> str:
    """Write the event as JSON for the wire."""
    return event.model_dump_json(exclude_defaults=False, exclude_none=True)


def decode_event(text: str | bytes) -> StatusChanged | Notice | Ended:
    """Read an event from the wire. A value that this version does not know (a newer writer's reason) is left out.

    Raises:
        ValueError: it is none (pydantic.ValidationError: another kind, or not JSON), or too long.
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        data = json.loads(text) if error.errors()[0]["type"] != "json_invalid" else None
        if not isinstance(data, dict) or data.get("kind") not in ("status", "ended"):
            raise
        if isinstance(data.get("result"), dict):
            data["result"] = _known_values(data["result"], JobResult)
        return _ADAPTER.validate_python(_known_values(data, Ended if data["kind"] == "ended" else StatusChanged))


def decode_result(text: str | bytes) -> JobResult:
    """Read a result from the record, leniently as :func:`decode_event`.

    Raises:
        ValueError: it is none.
    """
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    data = loads_bounded(raw, max_bytes=MAX_EVENT_BYTES, max_depth=MAX_EVENT_DEPTH)
    if not isinstance(data, dict):
        raise ValueError("it is no JSON object")
    return JobResult.model_validate(_known_values(data, JobResult))


def _known_values(data: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Leave out the fields that are not valid by themselves."""
    try:
        model.model_validate(data)
    except ValidationError as error:
        unknown = {e["loc"][0] for e in error.errors() if e["loc"]}
        return {name: value for name, value in data.items() if name not in unknown}
    return data


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Bytes that a container wrote, exactly as it wrote them; ``start`` counts from the container's first byte.

    A chunk may end within a line, or within a UTF-8 character.
    """

    container: str
    attempt: int
    start: int
    data: bytes

    @property
    def end(self) -> int:
        """The byte after its last, counted as ``start`` is."""
        return self.start + len(self.data)


@dataclass(frozen=True, slots=True)
class LogGap:
    """Bytes of a log that this reader cannot get. ``end`` is None where nobody knows how many they were."""

    container: str
    attempt: int
    start: int
    end: int | None
    why: str


class SilenceKind(StrEnum):
    """Why nothing comes."""

    JOB_UNKNOWN = "job_unknown"
    NO_WORKER = "no_worker"  #: no worker is alive on the job's queue
    OWNER_LOST = "owner_lost"  #: the job's worker stopped renewing its lease, nobody has taken over yet
    REDIS_AWAY = "redis_away"  #: Redis does not answer the reader; the job goes on


@dataclass(frozen=True, slots=True)
class Silence:
    """Why nothing will come for now, where a person can act on it. A reader yields each kind once.

    ``last_seen_at``: when a worker (or the owner) was last alive; None where none ever was.
    """

    kind: SilenceKind
    queue: str
    last_seen_at: datetime | None
    text: str


@dataclass(frozen=True, slots=True)
class JobUpdate:
    """One thing that happened to a job: ``cursor`` is the reader's place after it, ``at`` its time by Redis' clock."""

    job_id: str
    event: StatusChanged | Notice | Ended | LogChunk | LogGap | Silence
    cursor: Cursor
    at: datetime


#: As it was called at first.
Heard = JobUpdate
