"""A controller that fails at the same step again and again ends its job, with the words of what it met."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from devcluster.local.redis_server import RedisServer
from dispatcher import connection, names
from dispatcher.status import FailureReason, Status
from tests.support.contexts import a_context
from tests.support.job_driver import RedisDriver, a_spec
from worker.cluster.client import Cluster
from worker.cluster.pod_json import observe
from worker.context import Context
from worker.jobs.controller import JobController
from worker.jobs.launcher import are_gone
from worker.jobs.owned_job import OwnedJob
from worker.jobs.recent_results import RecentResults
from worker.ownership.job_controllers import JobControllers
from worker.rules import backoff_limit


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisDriver]:
    with connection.connect(redis_server.url, timeout_s=5, retries=0) as client:
        yield RedisDriver(client, "real")


class OddCluster:
    """A cluster that answers each request with something that nobody has foreseen."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.default_namespace = "default"

    async def create_pod(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("an odd answer to a create")

    async def read_pod(self, *_: Any) -> Any:
        raise RuntimeError("an odd pod")

    async def delete_pod(self, _: str, name: str, **__: Any) -> bool:
        self.deleted.append(name)
        return True


class Watches:
    """Watches that have listed their namespace and show nothing."""

    namespaces = served = ("default",)

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.shown)

    async def of(self, _: str) -> Any:
        return SimpleNamespace(refusal="", is_synced=True)

    def pod(self, *_: str) -> None:
        return None

    gone = pod


@pytest.fixture
async def ctx(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Context]:
    monkeypatch.setattr(backoff_limit, "FIRST_WAIT_S", 0.001)
    async with a_context(redis_server.url, cluster=OddCluster(), watches=Watches()) as made:
        yield made


def claimed(store: RedisDriver, **fields: Any) -> str:
    spec = a_spec(**fields)
    store.submit(spec)
    worker = store.worker("w1")
    worker.beat()
    worker.claim(spec.id)
    return spec.id


def with_pod(store: RedisDriver, **fields: Any) -> str:
    job_id = claimed(store, **fields)
    pod = {"pod": "p", "pod_uid": "u", "namespace": "default", "attempt": "1", "at:starting": "1"}
    store.client.hset(names.job(job_id), mapping={"status": "STARTING", **pod})
    return job_id


async def controlled(ctx: Context, store: RedisDriver, job_id: str) -> None:
    """Control the job until it is forgotten."""
    async with asyncio.timeout(30):
        await JobController(ctx, store.record(job_id), RecentResults(ctx.lease, ctx.log_budget)).run()


async def test_a_job_that_cannot_be_launched_ends_with_the_exception_s_words(ctx: Context, store: RedisDriver) -> None:
    job_id = claimed(store)
    await controlled(ctx, store, job_id)
    record = store.record(job_id)
    assert (record.status, record.reason) == (Status.FAILED, FailureReason.CLUSTER_ERROR)
    assert record.result is not None
    assert "this worker failed 5 times at launching its pod: RuntimeError: an odd answer to a create" in (
        record.result.message
    )
    assert record.is_forgotten


async def test_its_detail_says_meanwhile_what_fails(ctx: Context, store: RedisDriver) -> None:
    job_id = claimed(store)
    await controlled(ctx, store, job_id)
    told = b"\n".join(fields[b"e"] for _, fields in store.events(job_id))
    assert b'"detail":"this worker failed 2 times at launching its pod: RuntimeError' in told


async def test_a_job_whose_pod_cannot_be_understood_ends_and_its_pod_is_deleted_by_its_name(
    ctx: Context, store: RedisDriver
) -> None:
    job_id = with_pod(store)
    await controlled(ctx, store, job_id)
    record = store.record(job_id)
    assert (record.status, record.reason) == (Status.FAILED, FailureReason.CLUSTER_ERROR)
    assert record.result is not None
    assert "RuntimeError: an odd pod" in record.result.message
    assert not record.result.log_complete
    assert record.is_forgotten
    cluster: Any = ctx.cluster
    assert cluster.deleted == ["p"]


async def test_a_cancelled_job_ends_as_cancelled_although_nothing_else_works(ctx: Context, store: RedisDriver) -> None:
    job_id = with_pod(store)
    store.client.hset(names.job(job_id), "cancel_by", "ann")
    await controlled(ctx, store, job_id)
    record = store.record(job_id)
    assert record.status is Status.CANCELLED
    assert record.result is not None
    assert record.result.cancelled_by == "ann"
    assert "an odd pod" in record.result.message


@pytest.mark.parametrize(
    "template",
    [
        {"spec": {"containers": [{"name": "base", "image": "x"}], "initContainers": ["busybox"]}},
        {"metadata": "x", "spec": {"containers": [{"name": "base", "image": "x"}]}},
    ],
)
async def test_a_spec_of_which_no_pod_can_be_made_is_refused_at_the_first_try(
    ctx: Context, store: RedisDriver, template: Any
) -> None:
    job_id = claimed(store, env={"A": "1"})
    record = store.record(job_id)
    spec = record.spec.model_copy(update={"pod_template": template})  # past every check, as one that is missed
    async with asyncio.timeout(30):
        await JobController(ctx, replace(record, spec=spec), RecentResults(ctx.lease, ctx.log_budget)).run()
    ended = store.record(job_id)
    assert (ended.status, ended.reason) == (Status.FAILED, FailureReason.INVALID_SPEC)


async def test_another_owner_s_job_is_let_go_of_and_not_ended(ctx: Context, store: RedisDriver) -> None:
    job_id = with_pod(store)
    record = store.record(job_id)
    store.client.hset(names.job(job_id), mapping={"owner": "w2", "epoch": str(record.epoch + 1)})
    async with asyncio.timeout(30):
        await JobController(ctx, record, RecentResults(ctx.lease, ctx.log_budget)).run()
    assert store.record(job_id).status is Status.STARTING


def test_the_verbs_of_the_odd_cluster_are_the_cluster_s() -> None:
    for verb in ("create_pod", "read_pod", "delete_pod"):
        assert hasattr(Cluster, verb)


async def test_a_pod_of_which_the_record_does_not_tell_is_left_to_the_sweep_when_its_job_ends_without_it(
    ctx: Context, store: RedisDriver
) -> None:
    """Its former owner made it and died; this worker's policy does not allow it, so nobody looks for it."""
    job_id = claimed(store, pod_template={"spec": {"hostNetwork": True}})
    record = store.record(job_id)
    name = names.pod_name(name=record.spec.name, installation=ctx.settings.installation, job_id=job_id, attempt=1)
    pod = observe({"metadata": {"name": name, "uid": "u", "labels": {names.LABEL_JOB: job_id}}})
    watches: Any = ctx.watches
    watches.shown.append(SimpleNamespace(pods={name: pod}))
    ended = asyncio.Queue[JobController]()
    results = RecentResults(ctx.lease, ctx.log_budget)
    jobs = JobControllers(ctx, results, capacity_changed=lambda: None, ended=ended.put_nowait)
    jobs.begin(record)
    async with asyncio.timeout(30):
        left = (await ended.get()).pod_left
    assert (store.record(job_id).reason, store.record(job_id).is_forgotten) == (FailureReason.POLICY, True)
    assert left == pod


@pytest.mark.parametrize("of_redis", [b"86400", b""])
async def test_a_job_that_redis_lets_wait_longer_than_its_owner_thinks_is_not_asked_about_without_a_pause(
    ctx: Context, store: RedisDriver, monkeypatch: pytest.MonkeyPatch, of_redis: bytes
) -> None:
    """Redis' clock was set back, or somebody has changed the record."""
    job_id = claimed(store, queue_timeout_s=0.001)
    store.client.hset(names.job(job_id), "queue_timeout_s", of_redis)
    controller, asked = JobController(ctx, store.record(job_id), RecentResults(ctx.lease, ctx.log_budget)), list[None]()
    waited = asyncio.Event()

    async def wait(*_: Any) -> None:
        waited.set()
        await asyncio.Event().wait()

    run = ctx.store.run

    async def counted(step: Any) -> Any:
        asked.append(None)
        assert len(asked) < 50, "asked without a pause"
        return await run(step)

    ctx.store.run = counted  # type: ignore[method-assign]
    monkeypatch.setattr(OwnedJob, "wait", wait)
    running = asyncio.create_task(controller.run())
    async with asyncio.timeout(30):
        await waited.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert store.record(job_id).status is Status.QUEUED


async def test_predecessors_that_name_each_other_are_waited_for_no_longer_than_they_are_there(
    ctx: Context, store: RedisDriver
) -> None:
    ids = [claimed(store), claimed(store)]
    for job_id, other in zip(ids, reversed(ids), strict=True):
        store.client.hset(names.job(job_id), mapping={"status": "FAILED", "predecessor": other})
    async with asyncio.timeout(10):
        assert not await are_gone(ctx.store, ids[0])
        for job_id in ids:
            store.client.hset(names.job(job_id), "forgotten", "1")
        assert await are_gone(ctx.store, ids[0])


@pytest.mark.parametrize(("attempt", "is_let_go_of"), [(0, True), (1, False)])
async def test_a_blind_worker_lets_go_of_a_job_that_has_not_run_and_of_no_other(
    ctx: Context, store: RedisDriver, attempt: int, is_let_go_of: bool
) -> None:
    """A Redis that is emptied loses a job without an owner, and that it has run before."""
    job_id = claimed(store)
    store.client.hset(names.job(job_id), "attempt", attempt)
    ctx.health.blind = "it cannot see its cluster"
    await controlled(ctx, store, job_id)
    assert (store.record(job_id).owner is None) is is_let_go_of
    assert (store.record(job_id).status is Status.QUEUED) is is_let_go_of
