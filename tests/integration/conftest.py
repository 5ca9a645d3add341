"""The `podrelay` process and a played worker, on the session's Redis."""

from collections.abc import Iterator

import pytest

from tests.support.podrelay_process import PlayedWorker, Podrelay


@pytest.fixture
def podrelay(redis_url: str) -> Podrelay:
    return Podrelay(redis_url)


@pytest.fixture
def played_worker(redis_url: str) -> Iterator[PlayedWorker]:
    worker = PlayedWorker(redis_url)
    yield worker
    worker.close()
