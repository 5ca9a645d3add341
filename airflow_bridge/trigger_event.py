"""The event with which the trigger resumes the operator, as Airflow's database holds it.

It is small (the result stays in Redis) and holds nothing secret. ``status``, ``name``, ``namespace`` and ``message``
are KPO's words, so that subclasses that read them go on working.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any


class JobTriggerStatus(StrEnum):
    """Why the trigger fires, in KPO's words."""

    SUCCESS = "success"
    FAILED = "failed"  #: it failed, or it was cancelled
    TIMEOUT = "timeout"  #: the task's execution timeout is over; the job still goes on
    ERROR = "error"  #: the job cannot be followed: Redis has no record of it


@dataclass(frozen=True, slots=True)
class JobTriggerEvent:
    """The event.

    Attributes:
        name: the pod's.
        namespace: the pod's.
        cursor: how far the trigger has written the log.
        job_status: the job's final status.
        uncalled: the paths of the callbacks that the triggerer could not import.
        extra: the user's ``trigger_kwargs``.
    """

    job_id: str
    status: JobTriggerStatus
    message: str = ""
    name: str | None = None
    namespace: str | None = None
    cursor: str = ""
    job_status: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    uncalled: Sequence[str] = ()

    def encode(self) -> dict[str, Any]:
        """Return the payload of Airflow's ``TriggerEvent``."""
        own = asdict(self)
        own.pop("extra")
        return {**self.extra, **own, "status": self.status.value, "uncalled": list(self.uncalled)}

    @classmethod
    def decode(cls, payload: object) -> "JobTriggerEvent":
        """Read what :meth:`encode` wrote; all other keys go to ``extra``.

        Raises:
            ForeignEventError: it is another trigger's event, or another version's.
        """
        if not isinstance(payload, Mapping) or not payload.keys() >= {"job_id", "status", "cursor"}:
            raise ForeignEventError(_of_another_operator(payload))
        own = {f.name for f in fields(cls)} - {"extra"}
        known = {name: value for name, value in payload.items() if name in own}
        uncalled = known.pop("uncalled", ())
        texts = [*(value for value in known.values() if value is not None), *_members(uncalled)]
        is_known = all(isinstance(value, str) for value in texts) and known["job_id"]
        if not is_known or known["status"] not in set(JobTriggerStatus):
            raise ForeignEventError(_of_another_version(known))
        known |= {"status": JobTriggerStatus(known["status"]), "uncalled": tuple(uncalled)}
        return cls(**known, extra={name: value for name, value in payload.items() if name not in own})


class ForeignEventError(ValueError):
    """An event that resumes the task, and that is not of this version's trigger. Its text is for the user."""


def _members(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else (None,)


def no_such_method(next_method: str) -> ForeignEventError:
    """Make the error for a task that is to go on with a method that the operator does not have."""
    return ForeignEventError(f"{_DEFERRED_BY_ANOTHER}: it is to go on in {next_method!r}, which is not here. {_CLEAR}")


_DEFERRED_BY_ANOTHER = (
    "This task was deferred by KubernetesPodOperator (or another operator) before its import was changed"
)
_CLEAR = (
    "podrelay has no job for it: clear the task, or let it retry, and it runs anew. "
    "See docs/migrating-from-kpo.md, 'The day of the change'"
)


def _of_another_operator(payload: object) -> str:
    if not isinstance(payload, Mapping):
        return f"{_DEFERRED_BY_ANOTHER}: its trigger has fired with {_shown(payload)}. {_CLEAR}"
    pod = ""
    if payload.get("name"):
        pod = f" for pod {_shown(payload.get('namespace'))}/{_shown(payload['name'])}, which may still be there"
    told = f" ({_shown(payload['message'])})" if payload.get("message") else ""
    status = _shown(payload.get("status"))
    return f"{_DEFERRED_BY_ANOTHER}: its trigger has fired with status {status}{pod}{told}. {_CLEAR}"


def _of_another_version(known: Mapping[str, object]) -> str:
    return (
        f"This task was resumed by a trigger of another version of podrelay: it says {_shown(known['status'])} of job "
        f"{_shown(known['job_id'])}, which is not understood here. Bring scheduler, workers and triggerer to one "
        "version, then clear the task: a new try takes the job's result where there is one"
    )


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    short = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short)


#: Of each part of a foreign event.
_SHOWN_CHARACTERS = 200
