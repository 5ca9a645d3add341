"""Real servers for the tests: started once a session, emptied before each use."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings

from devcluster.local.redis_server import RedisServer
from tests.support import caller_environment
from tests.support.redis_servers import emptied, redis_binaries

# Before the tests are imported, and what reads it with them.
caller_environment.forget()

# A busy machine is no failure; laws that need more examples say so themselves.
settings.register_profile("podrelay", deadline=None, max_examples=50)
settings.load_profile("podrelay")

#: These files wait most of the time: begun first, they wait beside what computes, and not alone at the end.
WAITING = (
    "test_api_away",
    "test_redis_away_for_long",
    "test_ownership",
    "test_standalone",
    "test_redis_away",
    "test_chaos",
    "test_api_pages",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in WAITING)


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
