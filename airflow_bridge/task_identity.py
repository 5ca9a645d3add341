"""A task instance as labels of its pod, and as the key by which its next try finds the same job.

The labels are KPO's, so that dashboards, network policies and ``kubectl -l`` go on working.

One kind of cancelled job is submitted again by the next try. When a deferred task is cleared, Airflow starts the next
try at once, and the triggerer cancels the job only later. By then the new try may have attached to it, and would fail
by the clear that started it.
"""

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dispatcher.status import Status

if TYPE_CHECKING:
    from airflow.sdk import Context

    from dispatcher.events import JobResult
    from dispatcher.spec import JobSpec

#: Who cancels, as the trigger says it. A task whose own end this was never resumes in Airflow.
BY_A_USER = "a user who ended its task in Airflow"

#: Kubernetes' limit of a label's value.
MAX_LABEL_LENGTH = 63

#: What :class:`dispatcher.spec.JobSpec` takes as a key.
MAX_KEY_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """One try of a task instance.

    Attributes:
        deployment: this Airflow among those that share a Redis.
        map_index: -1 for a task that is not mapped.
    """

    deployment: str
    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    try_number: int
    airflow_version: str

    @classmethod
    def of(cls, context: "Context", *, deployment: str, airflow_version: str) -> "TaskIdentity":
        """Read it from Airflow's context."""
        ti = context["ti"]
        map_index = -1 if ti.map_index is None else ti.map_index
        return cls(deployment, ti.dag_id, ti.task_id, context["run_id"], map_index, ti.try_number, airflow_version)

    @property
    def key(self) -> str:
        """Return the job's key: the same for each try, another for each other task instance."""
        text = json.dumps([self.deployment, self.dag_id, self.run_id, self.task_id, self.map_index])
        if len(text) <= MAX_KEY_LENGTH:
            return text
        return f"{self.deployment[:100]}:{hashlib.sha256(text.encode()).hexdigest()}"

    @property
    def labels(self) -> dict[str, str]:
        """Return KPO's labels that are the same for each try."""
        labels = {
            "dag_id": self.dag_id,
            "task_id": self.task_id,
            "run_id": self.run_id,
            "kubernetes_pod_operator": "True",
        }
        if self.map_index >= 0:
            labels["map_index"] = str(self.map_index)
        return {name: safe_label_value(value) for name, value in labels.items()}

    @property
    def volatile_labels(self) -> dict[str, str]:
        """Return KPO's labels that differ between tries: they do not make it another job."""
        return {
            "try_number": safe_label_value(str(self.try_number)),
            "airflow_version": self.airflow_version.replace("+", "-"),
        }

    @property
    def reader(self) -> str:
        """Return the reader's name: each try shows the whole log once."""
        return f"airflow-{self.try_number}"

    def __str__(self) -> str:
        mapped = f"[{self.map_index}]" if self.map_index >= 0 else ""
        text = f"{self.deployment}: {self.dag_id}.{self.task_id}{mapped} of {self.run_id}"
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def safe_label_value(text: str) -> str:
    """Make a valid label value as KPO does: what had to be changed or cut ends with a hash of the original.

    Where nothing of it may stay, it is the hash alone: KPO's begins with a dash then, which Kubernetes refuses.
    """
    safe = re.sub(r"^[^a-z0-9A-Z]*|[^a-zA-Z0-9_\-\.]|[^a-z0-9A-Z]*$", "", text)
    if len(safe) <= MAX_LABEL_LENGTH and safe == text:
        return safe
    digest = hashlib.md5(text.encode(errors="surrogatepass"), usedforsecurity=False).hexdigest()[:9]
    return f"{safe[: MAX_LABEL_LENGTH - len(digest) - 1]}-{digest}".removeprefix("-")


def was_cancelled_for_an_earlier_try(result: "JobResult", spec: "JobSpec", try_number: int) -> bool:
    """Tell whether the job that this try attached to was cancelled because a user ended an earlier try."""
    is_by_a_user = result.status is Status.CANCELLED and result.cancelled_by == BY_A_USER
    return is_by_a_user and spec.try_number is not None and spec.try_number < try_number


def resubmission(spec: "JobSpec", identity: TaskIdentity) -> "JobSpec":
    """Make the same job again, for this try."""
    own = {"id": uuid.uuid4().hex, "try_number": identity.try_number, "volatile_labels": identity.volatile_labels}
    return spec.model_copy(update=own)
