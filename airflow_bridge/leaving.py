"""What becomes of a job that its task's try leaves by an exception: it must not go on with nobody to end it.

Pure: the exceptions are those by which Airflow's task runner decides whether a later try follows.
"""

from enum import Enum

from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTerminated,
    AirflowTaskTimeout,
    DagRunTriggerException,
    DownstreamTasksSkipped,
    TaskAwaitingInput,
    TaskDeferralError,
    TaskDeferralTimeout,
    TaskDeferred,
)


class Leaving(Enum):
    """Who has the job after an exception."""

    THE_TRY_GOES_ON = "the try goes on"
    NEXT_TRY = "the next try attaches"
    NOBODY = "nobody"


_GOES_ON = (TaskDeferred, TaskAwaitingInput)

#: Airflow tries no task again that ended so. A time limit is a retry's as well, but what took too long is not kept.
_NOT_TRIED_AGAIN = (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTerminated,
    AirflowTaskTimeout,
    DagRunTriggerException,
    DownstreamTasksSkipped,
    TaskDeferralTimeout,
)


def leaving(error: BaseException, *, is_durable: bool, is_last_try: bool) -> Leaving:
    """Decide who has the job after this exception.

    Args:
        error: what the try raised.
        is_durable: the next try attaches to this one's job.
        is_last_try: Airflow does not run the task again after a plain failure.
    """
    if isinstance(error, _GOES_ON):
        return Leaving.THE_TRY_GOES_ON
    if not is_durable or isinstance(error, _NOT_TRIED_AGAIN):
        return Leaving.NOBODY
    if isinstance(error, AirflowRescheduleException) or not is_last_try:
        return Leaving.NEXT_TRY
    return Leaving.NOBODY


def cancelled_by(error: BaseException) -> str:
    """Say who cancels the job that nobody has any more. Without the exception's text, which may hold secrets."""
    if isinstance(error, AirflowTaskTimeout):
        return "Airflow: the execution timeout is over"
    if isinstance(error, TaskDeferralError | TaskDeferralTimeout):
        return f"Airflow: {error}"
    return f"Airflow: the task ended with {type(error).__name__}"
