"""A job that needs a newer worker is left to one, says what it waits for, and does not wait for ever."""

import json

import pytest

from dispatcher import names, steps
from dispatcher.events import Ended, StatusChanged, decode_event
from dispatcher.record import MIN_WORKER_VERSION, encode_record
from dispatcher.spec import decode_spec
from dispatcher.status import FailureReason, Status
from dispatcher.steps import ClaimOutcome, ExpireOutcome, Fence
from tests.contract.steps.states import overdue, twice
from tests.support.job_driver import NOTICE, RedisDriver, Worker, a_spec
from tests.support.old_scripts import run_old

TOO_OLD = "needs a worker of version ≥ 0.9.0; those alive: "


def a_worker(store: RedisDriver, version: str, **info: object) -> Worker:
    """A worker of this version ('': of 0.1, which did not tell)."""
    told = {"version": version} if version else {}
    return store.worker(f"w-{version or 'old'}", namespaces=["default"], **told, **info)


def a_demanding_job(store: RedisDriver, **fields: object) -> str:
    return store.submit(min_worker_version="0.9", **fields).job_id


def test_a_spec_that_every_worker_knows_leaves_what_it_left_before(store: RedisDriver) -> None:
    spec = a_spec(key="k", namespace="jobs")
    store.submit(spec)
    now = store.client.hkeys(names.job(spec.id))
    store.client.flushall()
    run_old(store.client, steps.submit(spec))
    assert sorted(now) == sorted(store.client.hkeys(names.job(spec.id)))


@pytest.mark.parametrize(
    ("fields", "needed"),
    [({"end_when": "all"}, "0.2.0"), ({"min_worker_version": "0.3"}, "0.3.0"), ({"end_when": "base"}, "")],
)
def test_a_record_names_the_version_that_its_spec_needs(
    store: RedisDriver, fields: dict[str, str], needed: str
) -> None:
    record = store.record(store.submit(**fields).job_id)
    assert (record.min_worker_version, record.unreadable_state) == (needed, None)
    assert set(record.reached) == {"submitted", "queued"}


def test_a_worker_that_is_too_old_leaves_the_job_and_says_so_once(store: RedisDriver) -> None:
    worker = a_worker(store, "0.8.2")
    job_id = a_demanding_job(store)
    step = steps.claim(job_id, worker.incarnation, namespaces=["default"], version="0.8.2")
    assert [reply.outcome for reply in twice(store, step)] == [ClaimOutcome.NOT_SERVED] * 2
    record = store.record(job_id)
    assert (record.status, record.owner, record.epoch, record.detail) == (Status.QUEUED, None, 0, f"{TOO_OLD}0.8.2")
    told = [decode_event(entry[b"e"]) for _, entry in store.events(job_id)]
    assert told[1:] == [StatusChanged(status=Status.QUEUED, detail=f"{TOO_OLD}0.8.2")]


def test_all_versions_that_are_alive_are_named(store: RedisDriver) -> None:
    for version in ("0.8.2", "0.10", "", "0.3.0rc1", "junk", "0.8.3"):
        a_worker(store, version)
    a_worker(store, "0.9.1").die()
    job_id = a_demanding_job(store)
    a_worker(store, "0.8.2").claim(job_id, version="0.8.2")
    assert store.record(job_id).detail == f"{TOO_OLD}0.3.0rc1, 0.8.2, 0.8.3, before 0.2"


def test_a_job_is_offered_to_a_worker_that_is_new_enough(store: RedisDriver) -> None:
    old, _ = a_worker(store, "0.8.2"), a_worker(store, "0.10.0")
    job_id = a_demanding_job(store)
    with store.client.pubsub(ignore_subscribe_messages=True) as control:
        control.subscribe(names.control("default"))
        step = steps.claim(
            job_id, old.incarnation, namespaces=["default"], default_namespace="default", version="0.8.2"
        )
        assert store.run(step).outcome is ClaimOutcome.NOT_SERVED
        told = json.loads(next(control.listen())["data"])
    assert told == {"offered": job_id, "namespace": "default", "min_worker_version": "0.9.0"}
    assert store.record(job_id).detail == ""


@pytest.mark.parametrize("version", ["0.9.0", "0.9.0rc1", "0.10.0", "1.0.0"])
def test_a_worker_that_is_new_enough_takes_it_and_the_job_waits_no_more(store: RedisDriver, version: str) -> None:
    old, new = a_worker(store, "0.8.2"), a_worker(store, version)
    job_id = a_demanding_job(store)
    new.die()
    old.claim(job_id, version="0.8.2")
    new.beat(version=version)
    claimed = new.claim(job_id, version=version)
    assert claimed.outcome is ClaimOutcome.CLAIMED
    assert claimed.record is not None
    assert claimed.record.detail == ""


def test_a_running_job_of_a_dead_owner_is_not_taken_over_by_a_worker_that_is_too_old(store: RedisDriver) -> None:
    old, new = a_worker(store, "0.8.2"), a_worker(store, "0.9.0")
    job_id = a_demanding_job(store)
    new.claim(job_id, version="0.9.0")
    new.move(job_id, Status.RUNNING)
    new.die()
    before = store.snapshot()
    claimed = old.claim(job_id, former_owner=new.incarnation, version="0.8.2")
    assert claimed.outcome is ClaimOutcome.NOT_SERVED
    assert store.snapshot() == before


@pytest.mark.parametrize("was_told", [True, False])
def test_a_job_for_which_no_worker_comes_fails_by_its_queue_timeout_with_what_it_waited_for(
    store: RedisDriver, was_told: bool
) -> None:
    worker = a_worker(store, "0.8.2")
    job_id = a_demanding_job(store)
    if was_told:
        worker.claim(job_id, version="0.8.2")
    overdue(store, job_id)
    assert store.run(steps.expire(job_id, "default")) is ExpireOutcome.EXPIRED
    ended = decode_event(store.events(job_id)[-1][1][b"e"])
    assert isinstance(ended, Ended)
    assert ended.result.reason is FailureReason.QUEUE_TIMEOUT
    assert f'(it last said: "{TOO_OLD}0.8.2")' in ended.result.message or f"(it last said: {TOO_OLD}0.8.2)" in (
        ended.result.message
    )


def test_whoever_looks_is_told_that_those_alive_are_too_old(store: RedisDriver) -> None:
    job_id = a_demanding_job(store)
    assert store.run(steps.presence(job_id)).too_old == ""
    a_worker(store, "0.8.2")
    found = store.run(steps.presence(job_id))
    assert (found.workers_alive, found.too_old) == (0, f"{TOO_OLD}0.8.2")
    a_worker(store, "0.9.0")
    found = store.run(steps.presence(job_id))
    assert (found.workers_alive, found.too_old) == (1, "")


def test_a_survey_says_which_version_a_job_needs(store: RedisDriver) -> None:
    a_demanding_job(store)
    store.submit()
    assert [row.min_worker_version for row in store.run(steps.survey("default", 0, -1))] == ["0.9.0", ""]


def test_a_record_that_is_made_again_needs_the_same_version(store: RedisDriver) -> None:
    job_id = a_demanding_job(store)
    record = store.record(job_id)
    store.client.flushall()
    store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields=encode_record(record)))
    assert store.record(job_id).min_worker_version == "0.9.0"


def test_what_this_version_does_not_know_of_such_a_spec_is_kept(store: RedisDriver) -> None:
    newer = decode_spec('{"id": "n", "image": "x", "min_worker_version": "99.0", "of_the_future": {"a": [1]}}')
    store.submit(newer)
    kept = json.loads(store.client.hget(names.job("n"), "spec"))
    assert kept["of_the_future"] == {"a": [1]}
    assert store.record("n").spec == newer


# With workers of 0.1


def test_a_worker_of_0_1_cannot_read_the_record_and_leaves_the_job_alone(store: RedisDriver) -> None:
    worker = a_worker(store, "")
    job_id = store.submit(end_when="all").job_id
    before = store.snapshot()
    reply = run_old(store.client, steps.claim(job_id, worker.incarnation, namespaces=["default"]))
    assert reply == [b"unreadable", MIN_WORKER_VERSION.encode()]
    overdue(store, job_id)
    assert run_old(store.client, steps.expire(job_id, "default")) == b"early"
    assert store.snapshot().keys() == before.keys()
    assert a_worker(store, "0.2.0").claim(job_id, version="0.2.0").outcome is ClaimOutcome.CLAIMED


def test_a_worker_of_0_1_takes_what_every_worker_knows(store: RedisDriver) -> None:
    worker = a_worker(store, "")
    job_id = store.submit(namespace="default").job_id
    reply = run_old(store.client, steps.claim(job_id, worker.incarnation, namespaces=["default"]))
    assert reply[0] == b"claimed"


def test_a_running_job_that_needs_more_is_not_taken_over_by_0_1(store: RedisDriver) -> None:
    old, new = a_worker(store, ""), a_worker(store, "0.2.0")
    job_id = store.submit(end_when="all").job_id
    new.claim(job_id, version="0.2.0")
    new.move(job_id, Status.RUNNING)
    new.die()
    step = steps.claim(job_id, old.incarnation, namespaces=["default"], former_owner=new.incarnation)
    assert run_old(store.client, step)[0] == b"unreadable"
