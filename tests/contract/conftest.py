"""The Redis that a test of steps runs on: fakeredis, and every real server at hand."""

from collections.abc import Callable, Iterator

import fakeredis
import pytest

from devcluster.local.redis_server import RedisServer
from dispatcher import connection
from tests.support.job_driver import RedisDriver
from tests.support.redis_servers import emptied, redis_binaries


@pytest.fixture(params=["fakeredis", *redis_binaries()])
def store(request: pytest.FixtureRequest, running_redis: Callable[[str], RedisServer]) -> Iterator[RedisDriver]:
    if request.param == "fakeredis":
        with fakeredis.FakeRedis() as client:
            yield RedisDriver(client, "fakeredis")
        return
    server = emptied(running_redis(request.param))
    with connection.connect(server.url, timeout_s=5, retries=0) as client:
        yield RedisDriver(client, request.param)
