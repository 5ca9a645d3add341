"""submit: record, index, event and message in one step; keys, and successors of jobs with the same key."""

import json

import pytest

from dispatcher import names, steps
from dispatcher.events import StatusChanged, decode_event
from dispatcher.status import Status
from dispatcher.steps import CancelOutcome, SubmitOutcome
from tests.contract.steps.states import in_state, twice
from tests.support.job_driver import RedisDriver, Worker, a_spec


def test_submit_writes_record_index_event_and_message_in_one_step(store: RedisDriver) -> None:
    spec = a_spec(queue="gpu", priority="high", key="k", namespace="jobs", queue_timeout_s=77)
    submitted = store.submit(spec)
    record = store.record(spec.id)
    assert submitted.outcome is SubmitOutcome.CREATED
    assert (record.spec, record.digest, record.status) == (spec, spec.digest, Status.QUEUED)
    assert (record.owner, record.epoch, record.attempt, record.namespace) == (None, 0, 0, "jobs")
    assert record.generation == submitted.generation == store.client.get(names.GENERATION).decode()
    assert set(record.reached) == {"submitted", "queued"}
    assert record.deadline_to_queue() == pytest.approx(record.reached["queued"] + 77)
    assert store.client.zrange(names.active("gpu"), 0, -1) == [spec.id.encode()]
    assert store.client.smembers(names.queues()) == {b"gpu"}
    assert store.client.get(names.key("k")) == spec.id.encode()
    assert [decode_event(f[b"e"]) for _, f in store.events(spec.id)] == [StatusChanged(status=Status.QUEUED)]
    (message,) = store.client.lrange(names.message_list("gpu", 0), 0, -1)
    assert json.loads(message)["headers"]["task"] == names.LAUNCH_TASK
    assert store.client.ttl(names.job(spec.id)) == store.client.ttl(names.GENERATION) == -1


def test_a_repeated_submit_is_one_job_and_one_message(store: RedisDriver) -> None:
    first, again = twice(store, steps.submit(a_spec(key="k")))
    assert (first.outcome, again.outcome) == (SubmitOutcome.CREATED, SubmitOutcome.EXISTS)
    assert first.job_id == again.job_id


def test_the_queue_hears_that_a_successor_ends_its_predecessor(store: RedisDriver) -> None:
    job_id = in_state(store, "running")
    with store.client.pubsub(ignore_subscribe_messages=True) as control:
        control.subscribe(names.control("default"))
        successor = store.submit(key="k", image="other").job_id
        told = json.loads(next(control.listen())["data"])
    assert told == {"cancel": job_id, "by": f"its successor {successor}"}


def test_a_repeated_successor_is_one_successor(store: RedisDriver) -> None:
    store.submit(key="k")
    first, again = twice(store, steps.submit(a_spec(key="k", image="other")))
    assert (first.outcome, again.outcome) == (SubmitOutcome.SUCCESSOR, SubmitOutcome.EXISTS)


def test_submit_without_message_writes_none(store: RedisDriver) -> None:
    store.run(steps.submit(a_spec(), with_message=False))
    assert store.client.keys("podrelay:celery:*") == []


def test_messages_of_a_priority_are_first_in_first_out(store: RedisDriver) -> None:
    ids = [store.submit().job_id for _ in range(3)]
    taken = [json.loads(store.client.rpop(names.message_list("default", 3))) for _ in ids]
    assert [message["headers"]["argsrepr"] for message in taken] == [f"('{x}',)" for x in ids]


@pytest.mark.parametrize("state", ["queued", "starting", "running", "succeeded", "succeeded forgotten"])
def test_submit_attaches_to_the_keys_job(store: RedisDriver, state: str) -> None:
    job_id = in_state(store, state)
    first, again = twice(store, steps.submit(a_spec(key="k", try_number=2, trace={"a": "b"})))
    assert first.outcome is again.outcome is SubmitOutcome.ATTACHED
    assert first.job_id == again.job_id == job_id


@pytest.mark.parametrize(
    ("state", "waits"),
    [
        ("failed", True),
        ("failed forgotten", False),
        ("cancelled", True),
        ("cancelled forgotten", False),
        ("queued cancel-requested", True),
        ("running cancel-requested", True),
        ("succeeded acknowledged", True),
        ("succeeded acknowledged forgotten", False),
    ],
)
def test_submit_makes_a_successor(store: RedisDriver, state: str, waits: bool) -> None:
    job_id = in_state(store, state)
    spec = a_spec(key="k")
    submitted = store.submit(spec)
    assert (submitted.outcome, submitted.job_id) == (SubmitOutcome.SUCCESSOR, spec.id)
    assert store.record(spec.id).predecessor == (job_id if waits else None)
    assert store.client.get(names.key("k")) == spec.id.encode()
    assert store.client.ttl(names.key("k")) == -1


@pytest.mark.parametrize("state", ["queued", "running", "succeeded", "succeeded forgotten"])
def test_another_digest_makes_a_successor_and_ends_the_active_one(store: RedisDriver, state: str) -> None:
    job_id = in_state(store, state)
    spec = a_spec(key="k", image="other")
    assert store.submit(spec).outcome is SubmitOutcome.SUCCESSOR
    was_active = state in ("queued", "running")
    assert store.record(job_id).cancel_requested_by == (f"its successor {spec.id}" if was_active else None)
    assert store.record(spec.id).predecessor == (None if "forgotten" in state else job_id)


def test_the_key_of_an_expired_job_makes_a_new_job(store: RedisDriver) -> None:
    job_id = in_state(store, "succeeded forgotten")
    store.client.delete(names.job(job_id))
    assert store.submit(key="k").outcome is SubmitOutcome.CREATED


def test_a_job_cancelled_while_it_waited_does_not_let_its_own_successor_start(store: RedisDriver) -> None:
    running = in_state(store, "running")
    waiting = store.submit(key="k", image="other").job_id
    assert store.run(steps.cancel(waiting, "somebody")) is CancelOutcome.CANCELLED
    third = store.submit(key="k", image="third").job_id
    assert store.record(third).predecessor == running


def test_a_successor_inherits_what_its_predecessor_waited_for(store: RedisDriver) -> None:
    running = in_state(store, "running")
    waiting = store.submit(key="k", image="other").job_id
    third = store.submit(key="k", image="third").job_id
    assert store.record(third).predecessor == waiting
    assert store.run(steps.cancel(waiting, "its worker")) is CancelOutcome.CANCELLED
    assert store.record(third).predecessor == running
    worker = Worker(store, "w1", {running: store.record(running).epoch})
    worker.end(running, Status.CANCELLED)
    with store.client.pubsub(ignore_subscribe_messages=True) as control:
        control.subscribe(names.control("default"))
        worker.forget(running)
        assert json.loads(next(control.listen())["data"]) == {"wake": third}
