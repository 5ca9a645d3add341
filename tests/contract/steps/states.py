"""A job in some state, and a step taken twice."""

from dispatcher import names, steps
from dispatcher.status import Status
from dispatcher.steps import CancelOutcome
from tests.support.job_driver import RedisDriver

ACTIVE = [Status.QUEUED, Status.STARTING, Status.RUNNING]
FINAL = [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED]


def twice(store: RedisDriver, step: steps.Step[object]) -> tuple[object, object]:
    """The step's first reply, and that of its repetition, which must change nothing in the store."""
    first = store.run(step)
    before = store.snapshot()
    again = store.run(step)
    assert store.snapshot() == before
    return first, again


def in_state(store: RedisDriver, state: str, key: str = "k") -> str:
    """The id of a job of this key in a state of the table."""
    worker = store.worker()
    job_id = store.submit(key=key).job_id
    worker.claim(job_id)
    ends = {"succeeded": Status.SUCCEEDED, "failed": Status.FAILED, "cancelled": Status.CANCELLED}
    status, *more = state.split()
    if status in ends:
        worker.end(job_id, ends[status])
    elif status != "queued":
        worker.move(job_id, Status(status.upper()))
    if "acknowledged" in more:
        store.run(steps.acknowledge(job_id))
    if "cancel-requested" in more:
        assert store.run(steps.cancel(job_id, "somebody")) is CancelOutcome.REQUESTED
    if "forgotten" in more:
        assert worker.forget(job_id) == "applied"
    return job_id


def overdue(store: RedisDriver, job_id: str) -> None:
    """As if the job had been queued long ago."""
    store.client.hset(names.job(job_id), "at:queued", "1.0")
