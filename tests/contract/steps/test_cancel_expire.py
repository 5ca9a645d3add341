"""cancel and expire: what ends a job that nobody owns, and what asks its owner to."""

import json

import pytest

from dispatcher import names, steps
from dispatcher.events import decode_event
from dispatcher.status import FailureReason, Status
from dispatcher.steps import CancelOutcome, ClaimOutcome, MoveOutcome
from tests.contract.steps.states import in_state, overdue, twice
from tests.support.job_driver import RedisDriver


@pytest.mark.parametrize("state", ["queued", "starting", "running"])
def test_cancel_of_an_owned_job_is_a_request_that_is_told_to_its_queue(store: RedisDriver, state: str) -> None:
    job_id = in_state(store, state)
    with store.client.pubsub(ignore_subscribe_messages=True) as control:
        control.subscribe(names.control("default"))
        first, again = twice(store, steps.cancel(job_id, "alice"))
        store.run(steps.cancel(job_id, "bob"))
        told = control.listen()
        assert [json.loads(next(told)["data"]) for _ in range(3)] == [{"cancel": job_id, "by": "alice"}] * 3
    assert first is again is CancelOutcome.REQUESTED
    assert store.record(job_id).cancel_requested_by == "alice"


def test_cancel_of_a_waiting_ownerless_job_ends_it_at_once(store: RedisDriver) -> None:
    job_id = store.submit(key="k").job_id
    first, again = twice(store, steps.cancel(job_id, "alice"))
    assert (first, again) == (CancelOutcome.CANCELLED, CancelOutcome.FINAL)
    record = store.record(job_id)
    assert (record.status, record.result.status, record.result.cancelled_by) == (Status.CANCELLED,) * 2 + ("alice",)
    assert store.client.zcard(names.active("default")) == 0
    assert store.client.zrange(names.recent("default"), 0, -1) == [job_id.encode()]
    assert store.client.ttl(names.job(job_id)) > 0
    assert store.worker().claim(job_id).outcome is ClaimOutcome.FINAL


def test_cancel_of_a_released_job_with_a_pod_is_left_to_a_worker(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    worker.move(job_id, event=None, fields={"pod": "p"})
    store.run(steps.release("w1", "default", [job_id]))
    assert store.run(steps.cancel(job_id, "alice")) is CancelOutcome.REQUESTED


@pytest.mark.parametrize("state", ["succeeded", "failed forgotten", "cancelled"])
def test_cancel_of_a_job_that_has_ended_changes_nothing(store: RedisDriver, state: str) -> None:
    job_id = in_state(store, state)
    before = store.snapshot()
    assert store.run(steps.cancel(job_id, "alice")) is CancelOutcome.FINAL
    assert store.snapshot() == before
    assert store.run(steps.cancel("nothing", "alice")) is CancelOutcome.MISSING


@pytest.mark.parametrize(
    ("wait", "reason"), [("", FailureReason.QUEUE_TIMEOUT), ("quota", FailureReason.QUOTA_TIMEOUT)]
)
def test_expire_ends_what_waited_too_long_with_the_reason_of_its_waiting(
    store: RedisDriver, wait: str, reason: FailureReason
) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    worker.move(job_id, fields={"wait": wait}, event=None)
    store.run(steps.release("w1", "default", [job_id]))
    assert store.run(steps.expire(job_id, "default")) == "early"
    overdue(store, job_id)
    assert twice(store, steps.expire(job_id, "default")) == ("expired", "early")
    record = store.record(job_id)
    assert (record.status, record.reason, record.result.reason) == (Status.FAILED, reason, reason)
    assert store.client.zcard(names.active("default")) == 0


@pytest.mark.parametrize("wait", ["", "quota"])
@pytest.mark.parametrize("detail", ["", 'no worker serves namespace "nö/where" yet: 50 %1 \\ @last@\n', "x" * 5000])
def test_expire_repeats_what_the_job_last_waited_for(store: RedisDriver, wait: str, detail: str) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    worker.move(job_id, fields={"wait": wait, "detail": detail}, event=None)
    overdue(store, job_id)
    store.run(steps.expire(job_id, "default"))
    told = store.record(job_id).result.message
    waited_for = f"it last said: {detail}" if detail else "live workers of the queue: 1; none has taken it"
    assert f"within the queue timeout ({waited_for}): " in told
    assert decode_event(store.events(job_id)[-1][1][b"e"]).result.message == told


def test_expire_says_that_no_worker_was_alive(store: RedisDriver) -> None:
    job_id = store.submit().job_id
    overdue(store, job_id)
    store.run(steps.expire(job_id, "default"))
    told = store.record(job_id).result.message
    assert "within the queue timeout (no worker is alive on the queue): check that a worker serves" in told


def test_expire_leaves_an_owned_job_to_be_forgotten_by_its_owner(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    overdue(store, job_id)
    assert store.run(steps.expire(job_id, "default")) == "expired"
    assert store.client.zcard(names.active("default")) == 1
    assert worker.move(job_id, Status.STARTING).outcome is MoveOutcome.ILLEGAL
    assert worker.forget(job_id) == "applied"


@pytest.mark.parametrize("case", ["pod", "running", "failed"])
def test_expire_touches_nothing_that_is_not_waiting(store: RedisDriver, case: str) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    if case == "pod":
        worker.move(job_id, fields={"pod": "p"}, event=None)
    else:
        worker.move(job_id, Status(case.upper()))
    overdue(store, job_id)
    before = store.snapshot()
    assert store.run(steps.expire(job_id, "default")) == "early"
    assert store.snapshot() == before
    assert store.run(steps.expire("nothing", "default")) == "missing"
