"""What a Redis with a memory limit takes, on every real server: log while there is room, all else of a job always."""

import os
from collections.abc import Iterator

import pytest
import redis

from devcluster.local.redis_server import RedisServer
from dispatcher import connection, names, steps
from dispatcher.errors import RedisUnavailableError
from dispatcher.events import Notice
from dispatcher.status import Status
from dispatcher.steps import AppendOutcome, ClaimOutcome, Fence, MoveOutcome
from tests.support.job_driver import RedisDriver, Worker, a_spec
from tests.support.redis_servers import redis_binaries

MIB = 1024 * 1024


@pytest.fixture(params=list(redis_binaries()))
def store(request: pytest.FixtureRequest) -> Iterator[RedisDriver]:
    """Each make of server, a new one: what it has freed of other tests' data would count as free, or as used."""
    with (
        RedisServer(binary=redis_binaries()[request.param]) as server,
        redis.Redis.from_url(server.url, protocol=2) as client,
    ):
        yield RedisDriver(client, request.param)


def used_bytes(store: RedisDriver) -> int:
    return int(store.client.info("memory")["used_memory"])


def leave_memory(store: RedisDriver, size_bytes: int) -> None:
    """The server may use so much more than it does; what was known of it before is forgotten."""
    store.client.config_set("maxmemory", max(1, used_bytes(store) + size_bytes))
    store.client.delete(names.log_room(0))


def append_until_refused(worker: Worker, job_id: str, *, at_most: int = 1000, **options: int) -> AppendOutcome:
    for _ in range(at_most):
        outcome = worker.log(job_id, os.urandom(16_000), **options).outcome
        if outcome is not AppendOutcome.APPLIED:
            return outcome
    return AppendOutcome.APPLIED


def test_log_stops_below_the_servers_limit_and_goes_on_when_there_is_room(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    store.run(
        steps.log_room(0)
    )  # a script takes memory when it is first sent: some 30 KiB, as much as may be left below
    leave_memory(store, 8 * MIB)
    limit = 0.95 * store.client.info("memory")["maxmemory"]
    assert append_until_refused(worker, job_id) is AppendOutcome.FULL
    assert limit - MIB / 2 < used_bytes(store) < limit
    assert 0 < store.run(steps.log_room(0)).room_bytes < MIB / 2
    # Whatever has room beside log.
    step, after = worker.gap_step(job_id, lost_bytes=100)
    assert store.run(step).outcome is AppendOutcome.APPLIED
    worker.checkpoints[job_id, "base"] = after
    store.submit()
    leave_memory(store, 8 * MIB)
    assert worker.log(job_id, b"more").outcome is AppendOutcome.APPLIED


def test_log_stops_below_a_limit_that_was_set_but_never_above_the_servers_own(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    limit = used_bytes(store) + 2 * MIB
    assert append_until_refused(worker, job_id, memory_limit_bytes=limit) is AppendOutcome.FULL
    assert limit - MIB / 2 < used_bytes(store) < limit
    leave_memory(store, 2 * MIB)
    assert append_until_refused(worker, job_id, memory_limit_bytes=1 << 40) is AppendOutcome.FULL
    assert used_bytes(store) < 0.95 * store.client.info("memory")["maxmemory"]


def test_without_a_limit_there_is_room(store: RedisDriver) -> None:
    assert store.run(steps.log_room(0)).limit_bytes == 0
    worker = store.worker()
    job_id = store.owned(worker)
    assert append_until_refused(worker, job_id, at_most=100) is AppendOutcome.APPLIED


def test_a_full_server_takes_every_step_of_a_jobs_life_but_its_log_and_new_jobs(store: RedisDriver) -> None:
    ada, bob = store.worker("ada"), store.worker("bob")
    waiting, cancelled, running, ended = (store.submit(queue_timeout_s=3600).job_id for _ in range(4))
    for job_id in (running, ended):
        ada.claim(job_id)
    lost = store.record(running)
    leave_memory(store, -MIB)
    for _ in range(2):  # what was known of the memory, and what is found
        assert ada.log(running, b"x" * 1000).outcome is AppendOutcome.FULL
    with pytest.raises(connection.UNAVAILABLE):
        store.submit()
    with pytest.raises(RedisUnavailableError, match="maxmemory"), connection.translated("redis://h"):
        store.run(steps.submit(a_spec()))

    assert ada.beat().lease_was_alive
    assert bob.claim(waiting).outcome is ClaimOutcome.CLAIMED
    assert ada.move(running, Status.STARTING).outcome is MoveOutcome.APPLIED
    step, _ = ada.gap_step(running, lost_bytes=1000)
    assert store.run(step).outcome is AppendOutcome.APPLIED
    assert store.run(steps.cancel(cancelled, "me")) is steps.CancelOutcome.CANCELLED
    assert store.run(steps.cancel(running, "me")) is steps.CancelOutcome.REQUESTED
    assert ada.end(ended).outcome is MoveOutcome.APPLIED
    assert ada.forget(ended) == "applied"
    assert store.run(steps.acknowledge(ended)) == "acknowledged"
    assert store.run(steps.release("ada", "default", [running])) == 1
    ada.die()
    assert bob.claim(running, former_owner="ada").outcome is ClaimOutcome.CLAIMED
    store.client.delete(names.job(running))
    restore = steps.restore(lost, Fence("bob", 3), event=Notice(text="restored"), fields={})
    assert store.run(restore).outcome == "restored"


def test_a_full_server_takes_the_job_of_a_message_that_a_worker_has_taken(store: RedisDriver) -> None:
    """Nobody else knows of a spec that another language's publisher has sent."""
    leave_memory(store, -MIB)
    spec = a_spec()
    assert store.run(steps.submit(spec, with_message=False)).job_id == spec.id
    assert store.record(spec.id).status is Status.QUEUED


def test_a_full_server_lets_a_job_end_that_waited_too_long(store: RedisDriver) -> None:
    job_id = store.submit(queue_timeout_s=0.000001).job_id
    leave_memory(store, -MIB)
    assert store.run(steps.expire(job_id, "default")) == "expired"
