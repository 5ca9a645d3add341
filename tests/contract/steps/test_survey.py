"""heartbeat, survey and presence: which workers live, and what is left to do."""

import json

import pytest

from dispatcher import names, steps
from dispatcher.status import Status
from dispatcher.steps import ClaimOutcome
from tests.contract.steps.states import overdue
from tests.support.job_driver import RedisDriver, Worker


def test_the_heartbeat_renews_the_lease_and_says_whether_it_was_over(store: RedisDriver) -> None:
    worker = Worker(store, "w1")
    first = worker.beat(lease_ms=10_000, namespaces=[], version="1", share=0.25, none=None)
    assert not first.lease_was_alive
    assert 0 < store.client.pttl(names.worker("w1")) <= 10_000
    assert worker.beat().lease_was_alive
    assert worker.beat().generation == first.generation == store.client.get(names.GENERATION).decode()
    worker.die()
    assert not worker.beat().lease_was_alive


def test_what_a_worker_says_of_itself_arrives_unchanged(store: RedisDriver) -> None:
    said = {"namespaces": [], "jobs": 3, "text": 'ü"}', "none": None, "inner": {"a": [1]}}
    at = Worker(store, "w1").beat(**said).at
    found = json.loads(store.client.hget(names.workers("default"), "w1"))
    assert found == {**said, "last_seen": pytest.approx(at)}
    Worker(store, "w2").beat()
    assert set(json.loads(store.client.hget(names.workers("default"), "w2"))) == {"last_seen"}


QUEUE_KEYS = {
    names.workers("default"): "hash",
    names.active("default"): "zset",
    names.recent("default"): "zset",
    names.dead_letters("default"): "list",
    names.dead_letters_size("default"): "string",
    names.queues(): "set",
    names.GENERATION: "string",
    "podrelay:run": "hash",
    **{names.message_list("default", bucket): "list" for bucket in (0, 3, 6, 9)},
    f"{names.CELERY_PREFIX}unacked": "hash",
    f"{names.CELERY_PREFIX}unacked_index": "zset",
    f"{names.CELERY_PREFIX}unacked_mutex": "string",
    f"{names.CELERY_PREFIX}_kombu.binding.default": "set",
    f"{names.CELERY_PREFIX}_kombu.binding_permanent.default": "set",
}


@pytest.mark.parametrize("key", QUEUE_KEYS)
def test_a_key_of_the_queue_of_another_type_gives_way_to_the_heartbeat(store: RedisDriver, key: str) -> None:
    store.client.xadd(key, {"a": "b"})
    assert Worker(store, "w1").beat().gave_way == (key,)
    assert store.client.type(key).decode() in ("none", QUEUE_KEYS[key])
    assert Worker(store, "w1").beat().gave_way == ()


def test_another_run_of_redis_is_never_yet_to_come(store: RedisDriver) -> None:
    worker = Worker(store, "w1")
    worker.beat()
    store.client.hset("podrelay:run", "since", "90000000000")
    beat = worker.beat()
    assert beat.runs_since is not None
    assert beat.runs_since <= beat.at
    assert worker.beat().runs_since == beat.runs_since


def test_a_queue_that_only_workers_know_is_listed(store: RedisDriver) -> None:
    Worker(store, "w1").beat(queue="quiet")
    assert store.client.smembers(names.queues()) == {b"quiet"}


def test_dead_workers_are_kept_but_not_without_end(store: RedisDriver) -> None:
    for i in range(40):
        Worker(store, f"dead{i}").beat()
    for i in range(40):
        Worker(store, f"dead{i}").die()
    last = Worker(store, "last")
    last.beat()
    last.beat()
    kept = set(store.client.hgetall(names.workers("default")))
    assert kept == {b"last", *(f"dead{i}".encode() for i in range(8, 40))}


def test_made_up_workers_give_way(store: RedisDriver) -> None:
    worker = Worker(store, "w1")
    worker.beat()
    store.client.hset(names.workers("default"), mapping={f"made-up-{i}": "{}" for i in range(1001)})
    worker.beat()
    kept = store.client.hkeys(names.workers("default"))
    assert b"w1" in kept
    assert len(kept) == 33


def test_the_survey_tells_every_active_job_by_windows(store: RedisDriver) -> None:
    first, second = store.worker("w1"), store.worker("w2")
    waiting, alive, lost = store.submit(namespace="n").job_id, store.owned(first), store.owned(second)
    second.die()
    first.move(alive, Status.QUEUED, fields={"pod_uid": "u", "attempt": "2"})
    gone = store.submit().job_id
    store.client.delete(names.job(gone))
    rows = {row.job_id: row for row in store.run(steps.survey("default", 0, -1))}
    assert list(rows) == [waiting, alive, lost, gone]
    assert (rows[waiting].owner, rows[waiting].owner_is_alive, rows[waiting].namespace) == ("", False, "n")
    assert rows[waiting].is_ownerless
    assert (rows[alive].owner, rows[alive].owner_is_alive, rows[alive].pod_uid) == ("w1", True, "u")
    assert (rows[alive].attempt, rows[alive].submitted_at) == (2, store.record(alive).reached["submitted"])
    assert (rows[lost].owner, rows[lost].owner_is_alive, rows[lost].epoch) == ("w2", False, 1)
    assert rows[lost].owner_seen_at > 0
    assert rows[gone].status is None
    assert not any(row.is_overdue for row in rows.values())
    for job_id in (waiting, alive):
        overdue(store, job_id)
    assert [row.is_overdue for row in store.run(steps.survey("default", 0, 1))] == [True, False]
    assert [row.job_id for row in store.run(steps.survey("default", 1, 2))] == [alive, lost]


def test_presence_tells_who_could_say_something(store: RedisDriver) -> None:
    unknown = store.run(steps.presence("nothing"))
    assert (unknown.status, unknown.workers_alive, unknown.last_seen_at) == (None, 0, None)
    job_id = store.submit().job_id
    lonely = store.run(steps.presence(job_id))
    assert (lonely.status, lonely.workers_alive, lonely.last_seen_at) == (Status.QUEUED, 0, None)
    first, _ = store.worker("w1"), store.worker("w2")
    first.claim(job_id)
    found = store.run(steps.presence(job_id))
    assert (found.owner, found.owner_is_alive, found.workers_alive, found.is_overdue) == ("w1", True, 2, False)
    first.die()
    found = store.run(steps.presence(job_id))
    assert (found.owner, found.owner_is_alive, found.workers_alive) == ("w1", False, 1)
    assert found.owner_last_seen_at == pytest.approx(found.at, abs=60)
    overdue(store, job_id)
    assert store.run(steps.presence(job_id)).is_overdue


def test_an_unreadable_worker_blinds_nobody(store: RedisDriver) -> None:
    store.client.hset(names.workers("default"), mapping={"bad": "nonsense", "odd": "5", "empty": "{}"})
    worker = store.worker("w1", namespaces=["a"])
    for name in ("bad", "odd", "empty"):
        store.client.set(names.worker(name), "1")
    job_id = store.submit(namespace="b").job_id
    assert worker.claim(job_id, namespaces=["a"]).outcome is ClaimOutcome.NOT_SERVED
    assert store.run(steps.presence(job_id)).workers_alive == 0
    assert store.run(steps.presence(store.submit().job_id)).workers_alive == 4
    store.client.hset(names.job(job_id), "owner", "bad")
    row, _ = store.run(steps.survey("default", 0, -1))
    assert (row.owner, row.owner_is_alive, row.owner_seen_at) == ("bad", True, 0)
