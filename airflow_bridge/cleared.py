"""A clear that the next try overtakes: it runs anew instead of failing by the very clear that started it.

When a deferred task is cleared, Airflow starts its next try at once; the triggerer learns of it some time later, and
only then does the former try's trigger cancel the job. A try that was quicker has attached to that job by then.
"""

import uuid
from typing import TYPE_CHECKING

from dispatcher.status import Status

if TYPE_CHECKING:
    from airflow_bridge.task_identity import TaskIdentity
    from dispatcher.events import JobResult
    from dispatcher.spec import JobSpec

#: Who cancels, in the words of the trigger. A task that such an end concerns itself never goes on in Airflow.
BY_A_USER = "a user who ended its task in Airflow"


def is_for_an_earlier_try(result: "JobResult", spec: "JobSpec", try_number: int) -> bool:
    """Whether a user ended an earlier try, whose job this one attached to."""
    is_by_a_user = result.status is Status.CANCELLED and result.cancelled_by == BY_A_USER
    return is_by_a_user and spec.try_number is not None and spec.try_number < try_number


def anew(spec: "JobSpec", identity: "TaskIdentity") -> "JobSpec":
    """The same job, asked for by this try."""
    own = {"id": uuid.uuid4().hex, "try_number": identity.try_number, "volatile_labels": identity.volatile_labels}
    return spec.model_copy(update=own)
