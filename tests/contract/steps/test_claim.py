"""claim and release: who owns a job, and who may take it."""

import json
from functools import partial

import pytest

from dispatcher import names, steps
from dispatcher.events import decode_event
from dispatcher.status import Status
from dispatcher.steps import ClaimOutcome, MoveOutcome
from tests.contract.steps.states import in_state, twice
from tests.support.job_driver import RedisDriver, Worker


def test_claim_takes_an_ownerless_job_and_repeating_it_is_mine(store: RedisDriver) -> None:
    worker, job_id = store.worker(), store.submit().job_id
    first, again = twice(store, steps.claim(job_id, "w1", namespaces=["default"]))
    assert (first.outcome, again.outcome) == (ClaimOutcome.CLAIMED, ClaimOutcome.MINE)
    assert (first.record.owner, first.record.epoch, first.record.takeovers) == ("w1", 1, 0)
    assert again.record == first.record == store.record(job_id)
    assert worker.claim(job_id).outcome is ClaimOutcome.MINE


def test_claim_is_refused_while_the_owner_lives_and_allowed_when_its_lease_is_over(store: RedisDriver) -> None:
    first, second = store.worker("w1"), store.worker("w2")
    job_id = store.owned(first)
    assert second.claim(job_id).outcome is ClaimOutcome.OWNED
    assert second.claim(job_id, former_owner="w1").outcome is ClaimOutcome.OWNED
    first.die()
    assert second.claim(job_id).outcome is ClaimOutcome.OWNED
    assert second.claim(job_id, former_owner="another").outcome is ClaimOutcome.OWNED
    claimed = second.claim(job_id, former_owner="w1")
    assert claimed.outcome is ClaimOutcome.CLAIMED
    assert (claimed.record.owner, claimed.record.epoch, claimed.record.takeovers) == ("w2", 2, 1)
    assert "took over from w1" in decode_event(store.events(job_id)[-1][1][b"e"]).text


def test_claim_needs_a_lease_of_ones_own(store: RedisDriver) -> None:
    job_id = store.submit().job_id
    assert Worker(store, "w1").claim(job_id).outcome is ClaimOutcome.NO_LEASE
    assert store.record(job_id).epoch == 0


def test_claim_of_an_unknown_and_of_a_forgotten_job(store: RedisDriver) -> None:
    worker = store.worker()
    assert worker.claim("nothing").outcome is ClaimOutcome.MISSING
    assert worker.claim(in_state(store, "failed forgotten")).outcome is ClaimOutcome.FINAL


def test_a_final_job_that_is_not_forgotten_can_be_taken_over_silently(store: RedisDriver) -> None:
    first, second = store.worker("w1"), store.worker("w2")
    job_id = store.owned(first)
    first.end(job_id)
    events = store.events(job_id)
    first.die()
    assert second.claim(job_id, former_owner="w1").outcome is ClaimOutcome.CLAIMED
    assert store.events(job_id) == events


def test_claim_of_a_namespace_that_nobody_serves_says_so_once(store: RedisDriver) -> None:
    worker = store.worker(namespaces=["a", "b"])
    job_id = store.submit(namespace="c").job_id
    step = steps.claim(job_id, "w1", namespaces=["a", "b"])
    assert [reply.outcome for reply in twice(store, step)] == [ClaimOutcome.NOT_SERVED] * 2
    assert len(store.events(job_id)) == 2
    assert store.record(job_id).detail == "no worker serves namespace c"
    store.worker("w2", namespaces=["c"])
    elsewhere = store.submit(namespace="c").job_id
    assert worker.claim(elsewhere, namespaces=["a", "b"]).outcome is ClaimOutcome.NOT_SERVED
    assert len(store.events(elsewhere)) == 1
    assert worker.claim(store.submit(namespace="b").job_id, namespaces=["a", "b"]).outcome is ClaimOutcome.CLAIMED
    found = worker.claim(job_id, namespaces=["c"])
    assert found.record is not None
    assert found.record.detail == ""


def test_a_job_in_a_namespace_that_its_worker_may_not_see_says_so_whatever_it_waited_for(store: RedisDriver) -> None:
    first, second = store.worker("w1"), store.worker("w2", namespaces=["a"], refused={"b": "pods is forbidden"})
    job_id = store.submit(namespace="b").job_id
    first.claim(job_id, namespaces=["b"])
    first.move(job_id, fields={"detail": "waiting for quota", "wait": "quota", "attempt": "1"})
    first.die()
    for _ in range(2):
        assert second.claim(job_id, former_owner="w1", namespaces=["a"]).outcome is ClaimOutcome.NOT_SERVED
    assert store.record(job_id).detail == "no worker serves namespace b: pods is forbidden"
    told = [event for event in store.events(job_id) if "pods is forbidden" in str(event)]
    assert told == store.events(job_id)[-1:]
    assert '"attempt":1' in str(told)


def test_a_job_that_names_no_namespace_is_taken_only_where_the_workers_own_is_served(store: RedisDriver) -> None:
    worker = store.worker(namespaces=["a"])
    job_id = store.submit().job_id
    step = steps.claim(job_id, worker.incarnation, namespaces=["a"], default_namespace="b")
    assert store.run(step).outcome is ClaimOutcome.NOT_SERVED
    step = steps.claim(job_id, worker.incarnation, namespaces=["a"], default_namespace="a")
    assert store.run(step).outcome is ClaimOutcome.CLAIMED


def test_a_running_job_of_a_lost_worker_is_not_told_queued_by_a_worker_that_cannot_serve_it(store: RedisDriver) -> None:
    first, second = store.worker("w1", namespaces=["c"]), store.worker("w2", namespaces=["a"])
    job_id = store.submit(namespace="c").job_id
    first.claim(job_id, namespaces=["c"])
    first.move(job_id, Status.RUNNING)
    events = store.events(job_id)
    first.die()
    assert second.claim(job_id, former_owner="w1", namespaces=["a"]).outcome is ClaimOutcome.NOT_SERVED
    assert store.events(job_id) == events


def test_released_jobs_are_anybodys_and_the_queue_hears_of_it(store: RedisDriver) -> None:
    first, second = store.worker("w1"), store.worker("w2")
    mine, other = store.owned(first), store.owned(second)
    with store.client.pubsub(ignore_subscribe_messages=True) as control:
        control.subscribe(names.control("default"))
        assert twice(store, steps.release("w1", "default", [mine, other, "unknown"])) == (1, 0)
        assert json.loads(next(control.listen())["data"]) == {"released": "w1"}
    assert store.record(other).owner == "w2"
    assert not store.client.exists(names.job("unknown"))
    assert second.claim(mine).outcome is ClaimOutcome.CLAIMED
    assert first.move(mine, Status.STARTING).outcome is MoveOutcome.FENCED


@pytest.mark.parametrize("field", ["epoch", "takeovers"])
def test_a_claim_after_which_nobody_could_read_the_record_is_refused(store: RedisDriver, field: str) -> None:
    job_id = store.submit().job_id
    store.client.hset(names.job(job_id), field, "999999999")
    claimed = store.worker().claim(job_id)
    assert (claimed.outcome, claimed.unreadable) == (ClaimOutcome.UNREADABLE, field)


def test_a_job_that_is_not_there_is_not_claimed(store: RedisDriver) -> None:
    claimed = store.worker().claim("nobody's", namespaces=["default"])
    assert (claimed.outcome, claimed.record, claimed.unreadable) == (ClaimOutcome.MISSING, None, "")


def test_nothing_is_claimed_in_another_life_of_redis_than_the_worker_knows(store: RedisDriver) -> None:
    known = store.worker().beat().redis_life
    kept, lost = store.submit().job_id, store.submit().job_id
    claim = partial(steps.claim, incarnation="w1", namespaces=["default"], redis_life=known)
    assert store.run(claim(kept)).outcome is ClaimOutcome.CLAIMED
    store.client.set(names.GENERATION, "another")
    assert store.run(claim(kept)).outcome is ClaimOutcome.MINE
    assert store.run(claim(lost)).outcome is ClaimOutcome.REDIS_CHANGED
    assert store.record(lost).owner is None
