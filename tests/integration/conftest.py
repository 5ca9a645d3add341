"""The `podrelay` process, a played worker, and workers in the test's own process, on the session's Redis."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.podrelay_process import PlayedWorker, Podrelay
from tests.support.worker_in_process import InProcess, running_in_process


@pytest.fixture
def podrelay(redis_url: str) -> Podrelay:
    return Podrelay(redis_url)


@pytest.fixture
def played_worker(redis_url: str) -> Iterator[PlayedWorker]:
    worker = PlayedWorker(redis_url)
    yield worker
    worker.close()


@pytest.fixture
async def running(redis_url: str) -> AsyncIterator[InProcess]:
    async with running_in_process(redis_url) as made:
        yield made
