"""restore: a record that Redis lost is put back by its owner, once, and never over another."""

import pytest

from dispatcher import names, steps
from dispatcher.record import checkpoint_field
from dispatcher.status import Status
from dispatcher.steps import AppendOutcome, Fence, MoveOutcome
from tests.contract.steps.states import twice
from tests.support.job_driver import NOTICE, RedisDriver


def test_a_lost_record_is_made_again_once_and_never_over_another(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker, key="k", retention_s=123)
    worker.move(job_id, Status.RUNNING, fields={"pod": "p", "attempt": "1"})
    worker.log(job_id, b"some log")
    record = store.record(job_id)
    store.client.flushall()
    assert worker.move(job_id, Status.RUNNING).outcome is MoveOutcome.MISSING
    fields = {
        "attempt": "1",
        "pod": "p",
        checkpoint_field(1, "base"): record.checkpoints[1, "base"].encode(),
        "at:submitted": str(record.reached["submitted"]),
    }
    first, again = twice(store, steps.restore(record, Fence("w1", record.epoch), event=NOTICE, fields=fields))
    assert (first.outcome, again.outcome) == ("restored", "restored")
    for other in (Fence("w2", record.epoch), Fence("w2", 0), Fence("", 1)):
        assert store.run(steps.restore(record, other, event=NOTICE, fields=fields)).outcome == "exists"
    restored = store.record(job_id)
    assert (restored.status, restored.owner, restored.epoch, restored.pod) == (Status.RUNNING, "w1", record.epoch, "p")
    assert restored.checkpoints == record.checkpoints
    assert restored.spec == record.spec
    assert restored.reached["submitted"] == pytest.approx(record.reached["submitted"])
    assert restored.generation == store.client.get(names.GENERATION).decode() != record.generation
    assert worker.log(job_id, b" goes on").outcome is AppendOutcome.APPLIED
    assert store.submit(key="k", retention_s=123).job_id == job_id
    worker.end(job_id)
    assert worker.forget(job_id) == "applied"
    assert 0 < store.client.ttl(names.job(job_id)) <= 123


def test_a_restored_record_does_not_take_a_key_that_was_given_anew(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker, key="k")
    record = store.record(job_id)
    store.client.flushall()
    newer = store.submit(key="k").job_id
    store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields={}))
    assert store.client.get(names.key("k")) == newer.encode()


def test_a_lost_record_gives_way_to_the_newer_job_of_its_key_if_that_asks_the_same(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker, key="k")
    record = store.record(job_id)
    store.client.flushall()
    store.submit(key="k")
    assert store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields={})).outcome == "superseded"
    assert not store.client.exists(names.job(job_id))


def test_a_lost_record_is_made_again_beside_a_newer_job_of_its_key_that_asks_for_another_thing(
    store: RedisDriver,
) -> None:
    worker = store.worker()
    job_id = store.owned(worker, key="k")
    record = store.record(job_id)
    store.client.flushall()
    store.submit(key="k", name="another")
    assert store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields={})).outcome == "restored"


def test_a_record_that_a_failover_rolled_back_refuses_its_owner_until_it_is_put_back(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    fence = Fence("w1", 1)
    first = store.run(steps.move(job_id, fence, fields={"wait": "quota"}, after=""))
    worker.log(job_id, b"some ")
    was = store.client.dump(names.job(job_id))
    lost = steps.move(job_id, fence, target=Status.STARTING, fields={"pod": "p", "attempt": "1"}, after=first.step)
    lost_one, again = twice(store, lost)
    assert (lost_one.outcome, again.outcome) == (MoveOutcome.APPLIED, MoveOutcome.APPLIED)
    worker.log(job_id, b"log")
    record = store.record(job_id)
    store.client.restore(names.job(job_id), 0, was, replace=True)

    running = steps.move(job_id, fence, target=Status.RUNNING, after=lost_one.step)
    assert store.run(running).outcome is MoveOutcome.ROLLED_BACK
    assert store.record(job_id).status is Status.QUEUED
    fields = {"pod": "p", "attempt": "1", checkpoint_field(1, "base"): record.checkpoints[1, "base"].encode()}
    restored, _ = twice(store, steps.restore(record, fence, event=NOTICE, fields=fields))
    put_back = store.record(job_id)
    assert (put_back.status, put_back.pod, put_back.wait) == (Status.STARTING, "p", None)
    assert put_back.checkpoints[1, "base"].end == len(b"some ")
    assert (
        store.run(steps.move(job_id, fence, target=Status.RUNNING, after=restored.step)).outcome is MoveOutcome.APPLIED
    )


def test_an_owner_whose_claim_a_failover_has_lost_puts_it_back_over_what_was_before(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.submit().job_id
    was = store.client.dump(names.job(job_id))
    worker.claim(job_id)
    record = store.record(job_id)
    store.client.restore(names.job(job_id), 0, was, replace=True)
    assert worker.move(job_id, Status.RUNNING).outcome is MoveOutcome.ROLLED_BACK
    assert worker.log(job_id, b"log").outcome is AppendOutcome.MISSING
    assert store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields={})).outcome == "restored"
    assert (store.record(job_id).owner, store.record(job_id).epoch) == ("w1", 1)
    assert worker.move(job_id, Status.RUNNING).outcome is MoveOutcome.APPLIED


def test_a_record_that_has_ended_is_not_put_back(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    record = store.record(job_id)
    worker.end(job_id)
    assert store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields={})).outcome == "exists"
    assert store.record(job_id).status.is_final
