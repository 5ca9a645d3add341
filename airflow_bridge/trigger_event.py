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
    def decode(cls, payload: Mapping[str, Any]) -> "JobTriggerEvent":
        """Read what :meth:`encode` wrote; all other keys go to ``extra``.

        Raises:
            KeyError: it is no such event.
        """
        own = {f.name for f in fields(cls)} - {"extra"}
        known = {name: value for name, value in payload.items() if name in own}
        known["uncalled"] = tuple(known.get("uncalled", ()))
        known["job_id"], known["status"] = payload["job_id"], JobTriggerStatus(payload["status"])
        return cls(**known, extra={name: value for name, value in payload.items() if name not in own})
