"""What a real server does with every step: refusals, forgotten scripts, clocks, any bytes."""

import time

import pytest
import redis

from dispatcher import connection
from dispatcher.channel import encode_chunk
from dispatcher.steps import SubmitOutcome
from tests.support.job_driver import RedisDriver, Worker


def real_only(store: RedisDriver, why: str) -> None:
    if store.make == "fakeredis":
        pytest.skip(why)


def test_a_replica_refuses_as_unavailable(store: RedisDriver) -> None:
    real_only(store, "fakeredis has no replication")
    store.client.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(connection.UNAVAILABLE):
            store.submit()
    finally:
        store.client.config_set("min-replicas-to-write", 0)


def test_scripts_are_loaded_again_after_the_server_forgot_them(store: RedisDriver) -> None:
    store.submit()
    store.client.script_flush()
    assert store.submit().outcome is SubmitOutcome.CREATED


def test_the_leases_clock_is_the_servers(store: RedisDriver) -> None:
    at = Worker(store, "w1").beat().at
    assert at == pytest.approx(time.time(), abs=60)


def test_chunks_of_any_bytes_survive_the_store(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    data = bytes(range(256)) * 62
    worker.log(job_id, data)
    ((_, fields),) = store.log(job_id)
    entry = encode_chunk(
        container="base", attempt=1, start=0, data=data, chain=worker.checkpoints[job_id, "base"].chain
    )
    assert list(fields) == [str(x).encode() for x in entry[::2]]


def test_redis_py_is_told_not_to_guess(store: RedisDriver) -> None:
    real_only(store, "fakeredis has no connections")
    assert isinstance(store.client, redis.Redis)
    assert store.client.get_connection_kwargs()["protocol"] == 2
