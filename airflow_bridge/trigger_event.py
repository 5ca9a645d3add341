"""What the trigger tells the operator when it fires: the one home of the event that crosses Airflow's database.

Small on purpose (the result itself stays in Redis) and without anything secret. ``status``, ``name``, ``namespace`` and
``message`` are KPO's words, so that a subclass that looks at them goes on working.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any


class JobTriggerStatus(StrEnum):
    """KPO's words for why a trigger fires."""

    SUCCESS = "success"
    FAILED = "failed"  #: it failed, or it was cancelled
    TIMEOUT = "timeout"  #: the task's execution timeout is over; the job still goes on
    ERROR = "error"  #: the job cannot be followed: Redis has no record of it


@dataclass(frozen=True, slots=True)
class JobTriggerEvent:
    """``cursor``: the place up to which the trigger has told the log. ``extra``: the user's ``trigger_kwargs``."""

    job_id: str
    status: JobTriggerStatus
    message: str = ""
    name: str | None = None
    namespace: str | None = None
    cursor: str = ""
    job_status: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> dict[str, Any]:
        """The payload of the TriggerEvent."""
        own = asdict(self)
        own.pop("extra")
        return {**self.extra, **own, "status": self.status.value}

    @classmethod
    def decode(cls, payload: Mapping[str, Any]) -> "JobTriggerEvent":
        """Read what :meth:`encode` wrote; keys of others go to ``extra``.

        Raises:
            KeyError: it is no such event.
        """
        own = {f.name for f in fields(cls)} - {"extra"}
        known = {name: value for name, value in payload.items() if name in own}
        known["job_id"], known["status"] = payload["job_id"], JobTriggerStatus(payload["status"])
        return cls(**known, extra={name: value for name, value in payload.items() if name not in own})
