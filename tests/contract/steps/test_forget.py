"""forget and acknowledge: how long an ended job is kept."""

from dispatcher import names, steps
from dispatcher.status import Status
from tests.contract.steps.states import twice
from tests.support.job_driver import RedisDriver


def kept_s(store: RedisDriver, job_id: str) -> set[int]:
    found = {store.client.ttl(key) for key in (names.job(job_id), names.events(job_id), names.log(job_id))}
    assert len(found) == 1
    return found


def test_the_clock_of_retention_starts_when_the_job_is_forgotten(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker, key="k", retention_s=1000, acknowledged_retention_s=100)
    worker.log(job_id, b"x")
    assert worker.forget(job_id) == "illegal"
    worker.end(job_id)
    assert kept_s(store, job_id) == {-1}
    first, again = twice(store, steps.forget(job_id, worker.fence(job_id), "default"))
    assert first == again == "applied"
    assert kept_s(store, job_id) <= {999, 1000}
    assert store.client.ttl(names.key("k")) in (999, 1000)
    assert store.client.zcard(names.active("default")) == 0
    store.run(steps.acknowledge(job_id))
    assert kept_s(store, job_id) <= {99, 100}
    assert store.client.ttl(names.key("k")) in (99, 100)


def test_an_acknowledgement_before_forgetting_shortens_retention_too(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker, retention_s=1000, acknowledged_retention_s=100.5)
    worker.log(job_id, b"x")
    assert store.run(steps.acknowledge(job_id)) == "illegal"
    worker.end(job_id)
    first, again = twice(store, steps.acknowledge(job_id))
    assert first == again == "acknowledged"
    assert store.record(job_id).acknowledged
    worker.forget(job_id)
    assert kept_s(store, job_id) <= {100, 101}
    assert store.run(steps.acknowledge("nothing")) == "missing"


def test_a_short_retention_is_not_lengthened_by_an_acknowledgement(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker, retention_s=50, acknowledged_retention_s=100)
    worker.end(job_id)
    worker.forget(job_id)
    store.run(steps.acknowledge(job_id))
    assert store.client.ttl(names.job(job_id)) <= 50


def test_a_forgotten_job_leaves_the_key_of_its_successor_alone(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker, key="k")
    store.submit(key="k", image="other")
    worker.end(job_id, Status.CANCELLED)
    worker.forget(job_id)
    assert store.client.ttl(names.key("k")) == -1


def test_forget_is_fenced_and_clears_the_index_of_a_lost_record(store: RedisDriver) -> None:
    first, second = store.worker("w1"), store.worker("w2")
    job_id = store.owned(first)
    first.end(job_id)
    first.die()
    second.claim(job_id, former_owner="w1")
    assert first.forget(job_id) == "fenced"
    store.client.delete(names.job(job_id))
    assert second.forget(job_id) == "missing"
    assert store.client.zcard(names.active("default")) == 0


def test_what_is_over_leaves_the_list_of_recent_jobs(store: RedisDriver) -> None:
    worker = store.worker()
    store.client.zadd(names.recent("default"), {"long-gone": 1.0})
    job_id = store.owned(worker)
    worker.end(job_id)
    worker.forget(job_id)
    assert store.client.zrange(names.recent("default"), 0, -1) == [job_id.encode()]
