"""Named places between two steps of a job's life, where a test can kill the process.

A new step needs a new member here; the step-kill test runs over all members, so it covers the step or fails.
"""

import os
import signal
from enum import StrEnum
from typing import Final


class Failpoint(StrEnum):
    """A step that was just done."""

    CLAIMED = "claimed"
    POD_CREATED = "pod_created"  #: in Kubernetes, not yet in the record
    POD_RECORDED = "pod_recorded"
    RUNNING_RECORDED = "running_recorded"
    LOG_APPENDED = "log_appended"
    LOG_DRAINED = "log_drained"
    RETURN_VALUE_READ = "return_value_read"
    RESULT_APPENDED = "result_appended"
    INTENT_RECORDED = "intent_recorded"  #: the pod is to be deleted, the API server was not asked yet
    POD_DELETED = "pod_deleted"
    RETRY_RECORDED = "retry_recorded"
    REQUEUED = "requeued"  #: the former attempt's pod is gone, the next one not created
    CANCEL_SEEN = "cancel_seen"
    FORGOTTEN = "forgotten"


VARIABLE: Final = "PODRELAY_TEST_DIE_AFTER"
_die_after: Final = os.environ.get(VARIABLE)


def failpoint(what: Failpoint) -> None:
    """Kill this process (SIGKILL) where a test asks for it: ``PODRELAY_TEST_DIE_AFTER=<member>``."""
    if _die_after is not None and _die_after == what:
        os.kill(os.getpid(), signal.SIGKILL)
