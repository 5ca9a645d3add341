"""Holding the jobs that a worker owns against what their records say, on a real Redis."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from devcluster.local.redis_server import RedisServer
from dispatcher import connection, names
from dispatcher.record import JobRecord
from dispatcher.steps import Fence
from tests.support.contexts import a_context
from tests.support.job_driver import RedisDriver, Worker
from worker.context import Context
from worker.jobs.recent_results import RecentResults
from worker.lease import Lease
from worker.ownership.reconciler import Reconciler


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisDriver]:
    with connection.connect(redis_server.url, timeout_s=5, retries=0) as client:
        yield RedisDriver(client, "real")


@pytest.fixture
def worker(store: RedisDriver) -> Worker:
    """The worker whose jobs are reconciled, as far as Redis knows it."""
    worker = store.worker("w1")
    worker.beat()
    return worker


@pytest.fixture
async def ctx(redis_server: RedisServer) -> AsyncIterator[Context]:
    async with a_context(redis_server.url) as made:
        yield made


class Controller:
    """Notes what it is told."""

    def __init__(self, record: JobRecord) -> None:
        self.record = record
        self.fence = Fence("w1", record.epoch)
        self.told: list[str] = []

    def recheck(self) -> None:
        self.told.append("recheck")

    def cancel_requested(self, by: str) -> None:
        self.told.append(f"cancelled by {by}")

    async def reload(self) -> None:
        self.told.append("reload")


class Jobs:
    """The jobs that a worker owns, as far as it knows."""

    def __init__(self, *records: JobRecord) -> None:
        self.by_id = {record.job_id: Controller(record) for record in records}
        self.begun: list[str] = []

    def begin(self, record: JobRecord) -> None:
        self.begun.append(record.job_id)


async def reconcile(ctx: Context, jobs: Any) -> None:
    """Reconcile, with a Redis that has been the same for long."""
    reconciler = Reconciler(ctx, jobs, RecentResults(ctx.lease, ctx.log_budget))
    await reconciler.reconcile()
    for controller in jobs.by_id.values():  # the first time any Redis is another one
        assert controller.told.pop(0) == "recheck"
        controller.told.clear()
    await reconciler.reconcile()


async def test_a_job_that_is_as_its_controller_thinks_is_left_in_peace(
    ctx: Context, store: RedisDriver, worker: Worker
) -> None:
    jobs = Jobs(store.record(store.owned(worker)))
    await reconcile(ctx, jobs)
    assert [controller.told for controller in jobs.by_id.values()] == [[]]
    assert jobs.begun == []


async def test_a_job_that_it_owns_and_does_not_control_is_controlled_again(
    ctx: Context, store: RedisDriver, worker: Worker
) -> None:
    """The reply to its claim was lost, or its controller failed."""
    job_id = store.owned(worker)
    store.owned(store.worker("w2"))
    jobs = Jobs()
    await reconcile(ctx, jobs)
    assert set(jobs.begun) == {job_id}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"owner": "w2", "epoch": "2"}, "recheck"),
        ({"cancel_by": "ann"}, "cancelled by ann"),
        ({"last_step": "another"}, "recheck"),
    ],
    ids=["another's", "cancelled", "stepped back"],
)
async def test_what_a_record_says_otherwise_its_controller_hears(
    ctx: Context, store: RedisDriver, worker: Worker, fields: dict[str, str], told: str
) -> None:
    record = store.record(store.owned(worker))
    store.client.hset(names.job(record.job_id), mapping=fields)
    jobs = Jobs(record)
    await reconcile(ctx, jobs)
    assert jobs.by_id[record.job_id].told == [told]


async def test_a_record_that_redis_has_lost_is_written_again_also_when_its_job_was_submitted_again(
    ctx: Context, store: RedisDriver, worker: Worker
) -> None:
    record = store.record(store.owned(worker))
    store.client.delete(names.job(record.job_id))
    store.submit(record.spec)
    jobs = Jobs(record)
    await reconcile(ctx, jobs)
    assert "reload" in jobs.by_id[record.job_id].told


@pytest.mark.parametrize("is_authoritative", [True, False])
async def test_a_record_that_redis_has_lost_is_written_again_only_where_nobody_else_may_have_the_job(
    ctx: Context, store: RedisDriver, worker: Worker, redis_server: RedisServer, is_authoritative: bool
) -> None:
    record = store.record(store.owned(worker))
    store.client.delete(names.job(record.job_id))
    store.client.zrem(names.active("default"), record.job_id)
    jobs = Jobs(record)
    if is_authoritative:
        await reconcile(ctx, jobs)
    else:
        async with a_context(redis_server.url, lease=Lease(10)) as unsure:
            played: Any = jobs
            reconciler = Reconciler(unsure, played, RecentResults(unsure.lease, unsure.log_budget))
            await reconciler.reconcile()
    assert ("reload" in jobs.by_id[record.job_id].told) is is_authoritative


async def test_a_record_that_cannot_be_read_is_left_alone(ctx: Context, store: RedisDriver, worker: Worker) -> None:
    record = store.record(store.owned(worker))
    store.client.hset(names.job(record.job_id), mapping={"status": "of a newer version", "owner": "w2"})
    jobs = Jobs(record)
    await reconcile(ctx, jobs)
    assert jobs.by_id[record.job_id].told == []
