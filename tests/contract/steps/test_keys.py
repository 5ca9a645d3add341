"""Keys belong to their queue: what is submitted to another one cannot end, hide or hold up a key's job.

Versions before 0.2 know keys without queues. Both meet on one Redis during an upgrade.
"""

import pytest

from dispatcher import names, steps
from dispatcher.events import StatusChanged
from dispatcher.record import encode_record
from dispatcher.spec import JobSpec
from dispatcher.status import Status
from dispatcher.steps import Fence, SubmitOutcome
from tests.support.job_driver import NOTICE, RedisDriver, Worker, a_spec
from tests.support.old_scripts import run_old


def a_job(queue: str = "default", key: str = "airflow/prod/report", **fields: object) -> JobSpec:
    return a_spec(queue=queue, key=key, **fields)


def running(store: RedisDriver, spec: JobSpec) -> Worker:
    """The owner of the job, which runs."""
    store.submit(spec)
    worker = store.worker(f"owner-of-{spec.id}", queue=spec.queue)
    worker.claim(spec.id)
    worker.move(spec.id, Status.RUNNING)
    return worker


def end(worker: Worker, spec: JobSpec) -> None:
    worker.end(spec.id)
    assert worker.forget(spec.id, spec.queue) == "applied"


def test_a_key_on_another_queue_ends_nobody(store: RedisDriver) -> None:
    mine = a_job()
    running(store, mine)
    foreign = a_job("evil", image="evil")
    assert store.submit(foreign).outcome is SubmitOutcome.CREATED
    assert store.record(mine.id).cancel_requested_by is None
    assert store.record(foreign.id).predecessor is None
    again = store.submit(a_job())
    assert (again.outcome, again.job_id) == (SubmitOutcome.ATTACHED, mine.id)


def test_a_key_that_was_first_used_on_another_queue_is_free_on_this_one(store: RedisDriver) -> None:
    foreign, mine = a_job("evil"), a_job()
    running(store, foreign)
    assert store.submit(mine).outcome is SubmitOutcome.CREATED
    assert store.submit(a_job()).job_id == mine.id
    assert store.submit(a_job("evil")).job_id == foreign.id
    changed = store.submit(a_job(image="other"))
    assert changed.outcome is SubmitOutcome.SUCCESSOR
    assert store.record(mine.id).cancel_requested_by == f"its successor {changed.job_id}"
    assert store.record(foreign.id).cancel_requested_by is None


def test_a_key_is_found_within_its_queue(store: RedisDriver) -> None:
    foreign, mine = a_job("evil"), a_job()
    for spec in (foreign, mine):
        running(store, spec)
    found = [store.run(steps.find("airflow/prod/report", queue)) for queue in ("evil", "default", "third")]
    assert found == [foreign.id, mine.id, None]


def test_each_entry_of_a_key_is_kept_as_long_as_its_job(store: RedisDriver) -> None:
    foreign, mine = a_job("evil", retention_s=1000), a_job(retention_s=500)
    worker = running(store, foreign)
    own = running(store, mine)
    end(own, mine)
    end(worker, foreign)
    left = {store.client.ttl(key): store.client.get(key) for key in store.client.keys("podrelay:key:*")}
    assert sorted(left.values()) == sorted([mine.id.encode(), foreign.id.encode()])
    assert [0 < ttl <= 1000 for ttl in left] == [True, True]


def test_the_plain_entry_is_taken_again_when_its_job_is_gone(store: RedisDriver) -> None:
    store.submit(a_job("evil", id="foreign"))
    store.submit(a_job(id="mine"))
    store.client.delete(names.job("foreign"))
    assert store.submit(a_job()).job_id == "mine"
    assert store.submit(a_job(id="changed", image="other")).outcome is SubmitOutcome.SUCCESSOR
    assert store.client.keys("podrelay:key:*") == [names.key("airflow/prod/report").encode()]
    assert store.submit(a_job(image="other")).job_id == "changed"


@pytest.mark.parametrize("lost_first", ["evil", "default"])
def test_keys_that_an_emptied_redis_has_lost_are_entered_again_each_for_its_queue(
    store: RedisDriver, lost_first: str
) -> None:
    specs = {queue: a_job(queue) for queue in ("evil", "default")}
    for spec in specs.values():
        store.submit(spec)
    records = {queue: store.record(spec.id) for queue, spec in specs.items()}
    store.client.flushall()
    for queue in sorted(specs, key=lambda queue: queue != lost_first):
        fields = encode_record(records[queue])
        store.run(steps.restore(records[queue], Fence(f"w-{queue}", 1), event=NOTICE, fields=fields))
    for queue, spec in specs.items():
        again = store.submit(a_job(queue))
        assert (again.outcome, again.job_id) == (SubmitOutcome.ATTACHED, spec.id)


def test_an_entry_of_a_job_that_is_still_lost_is_left_to_it(store: RedisDriver) -> None:
    mine = a_job()
    store.submit(mine)
    record = store.record(mine.id)
    store.client.flushall()
    store.client.set(names.key("airflow/prod/report"), "lost-too")
    store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields=encode_record(record)))
    assert store.client.get(names.key("airflow/prod/report")) == b"lost-too"
    assert store.submit(a_job()).job_id == mine.id


# With callers and workers of 0.1


def test_an_older_caller_s_job_is_attached_to_and_succeeded(store: RedisDriver) -> None:
    old = a_job()
    run_old(store.client, steps.submit(old))
    again = store.submit(a_job())
    assert (again.outcome, again.job_id) == (SubmitOutcome.ATTACHED, old.id)
    changed = store.submit(a_job(image="other"))
    assert changed.outcome is SubmitOutcome.SUCCESSOR
    assert store.record(old.id).cancel_requested_by == f"its successor {changed.job_id}"


def test_an_older_caller_attaches_to_a_newer_one_s_job_and_succeeds_it(store: RedisDriver) -> None:
    mine = a_job()
    store.submit(mine)
    outcome, job_id, *_ = run_old(store.client, steps.submit(a_job()))
    assert (outcome, job_id) == (b"attached", mine.id.encode())
    changed = a_job(image="other")
    assert run_old(store.client, steps.submit(changed))[0] == b"successor"
    assert store.record(mine.id).cancel_requested_by == f"its successor {changed.id}"
    assert store.submit(a_job(image="other")).job_id == changed.id


def test_an_older_caller_on_another_queue_has_a_key_that_is_not_this_queue_s(store: RedisDriver) -> None:
    old = a_job("evil")
    run_old(store.client, steps.submit(old))
    mine = a_job()
    assert store.submit(mine).outcome is SubmitOutcome.CREATED
    assert store.record(old.id).cancel_requested_by is None
    assert store.submit(a_job()).job_id == mine.id


@pytest.mark.parametrize("has_a_foreign_one", [False, True])
def test_an_older_worker_ends_the_entry_with_its_job(store: RedisDriver, has_a_foreign_one: bool) -> None:
    if has_a_foreign_one:
        store.submit(a_job("evil"))
    mine = a_job(retention_s=500)
    worker = running(store, mine)
    run_old(store.client, worker.end_step(mine.id))
    assert run_old(store.client, steps.forget(mine.id, worker.fence(mine.id), "default")) == b"applied"
    (entry,) = [key for key in store.client.keys("podrelay:key:*") if store.client.get(key) == mine.id.encode()]
    assert 0 < store.client.ttl(entry) <= 500


def test_an_older_worker_enters_a_lost_key_where_newer_callers_find_it(store: RedisDriver) -> None:
    mine = a_job()
    running(store, mine)
    record = store.record(mine.id)
    store.client.flushall()
    event = StatusChanged(status=Status.RUNNING)
    run_old(store.client, steps.restore(record, Fence("w1", 1), event=event, fields=encode_record(record)))
    assert store.submit(a_job()).job_id == mine.id
