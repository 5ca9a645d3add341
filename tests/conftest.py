"""Real servers for the tests: started once a session, emptied before each use."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from hypothesis import settings

from devcluster.redis_server import RedisServer, server_binaries

# A busy machine is no failure; laws that need more examples say so themselves.
settings.register_profile("podrelay", deadline=None, max_examples=50)
settings.load_profile("podrelay")


def redis_binaries() -> dict[str, str]:
    """Every server to test against: those at hand, and those of PODRELAY_TEST_REDIS_SERVERS (paths)."""
    added = [path for path in os.environ.get("PODRELAY_TEST_REDIS_SERVERS", "").split(",") if path]
    return {**server_binaries(), **{Path(path).name: path for path in added}}


@pytest.fixture(scope="session")
def running_redis() -> Iterator[Callable[[str], RedisServer]]:
    """The server of a name from :func:`redis_binaries`, started at its first use."""
    with ExitStack() as servers:
        running: dict[str, RedisServer] = {}

        def running_server(name: str) -> RedisServer:
            if name not in running:
                running[name] = servers.enter_context(RedisServer(binary=redis_binaries()[name]))
            return running[name]

        yield running_server


@pytest.fixture
def redis_server(running_redis: Callable[[str], RedisServer]) -> RedisServer:
    """An empty server, the first at hand."""
    return emptied(running_redis(next(iter(redis_binaries()))))


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


def emptied(server: RedisServer) -> RedisServer:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    return server
