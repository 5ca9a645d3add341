"""A pod that takes a year to go, or that nobody may delete, holds neither its job's caller nor the controller."""

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
from tests.support.real_redis import eventually
from tests.support.redis_changes import wait_for_key
from worker.cluster.client import ClusterRefusedError
from worker.context import Context
from worker.jobs import controller, finisher
from worker.jobs import pod as job_pod
from worker.jobs.controller import JobController
from worker.jobs.recent_results import RecentResults
from worker.jobs.result import plain_result
from worker.ownership.job_controllers import JobControllers
from worker.ownership.reconciler import Reconciler

YEAR_S = 31536000


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisDriver]:
    with connection.connect(redis_server.url, timeout_s=5, retries=0) as client:
        yield RedisDriver(client, "real")


class StubbornCluster:
    """Its one pod ignores TERM and has a year for it."""

    default_namespace = "default"

    def __init__(self) -> None:
        self.is_well = asyncio.Event()
        self.is_well.set()
        self.is_being_deleted = False

    async def read_pod(self, namespace: str, name: str) -> dict[str, Any]:
        deletion = {"deletionTimestamp": "2027-11-25T00:00:00Z", "deletionGracePeriodSeconds": YEAR_S}
        return {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": "u",
                "labels": {names.LABEL_ATTEMPT: "1"},
                **(deletion if self.is_being_deleted else {}),
            },
            "spec": {"nodeName": "n", "containers": [{"name": "base"}]},
            "status": {
                "phase": "Running",
                "containerStatuses": [{"name": "base", "state": {"running": {"startedAt": "2026-11-25T00:00:00Z"}}}],
            },
        }

    async def delete_pod(self, *_: Any, **__: Any) -> bool:
        self.is_being_deleted = True
        return True


@pytest.fixture
async def ctx(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Context]:
    monkeypatch.setattr(controller, "CANCEL_TOLD_AFTER_S", 0.2)
    monkeypatch.setattr(finisher, "DELETE_AGAIN_S", 0.1)
    for limit in ("LONGEST_GRACE_S", "GONE_GRACE_S", "GIVE_UP_GONE_S"):
        monkeypatch.setattr(job_pod, limit, 0.1)
    watches = SimpleNamespace(pod=lambda *_: None, gone=lambda *_: None)
    async with a_context(redis_server.url, cluster=StubbornCluster(), watches=watches) as made:
        yield made


async def test_a_cancel_is_told_within_its_limit_although_the_pod_has_a_year_to_go(
    ctx: Context, store: RedisDriver
) -> None:
    spec = a_spec(get_logs=False, termination_grace_period_s=YEAR_S)
    store.submit(spec)
    worker = store.worker("w1")
    worker.beat()
    worker.claim(spec.id)
    pod = {"pod": "p", "pod_uid": "u", "namespace": "default", "attempt": "1", "at:starting": "1"}
    store.client.hset(names.job(spec.id), mapping={"status": "RUNNING", "cancel_by": "ann", **pod})
    controlling = JobController(ctx, store.record(spec.id), RecentResults(ctx.lease, ctx.log_budget))
    telling = asyncio.create_task(told_of_its_pod(controlling))
    async with asyncio.timeout(30):
        await controlling.run()
    telling.cancel()
    record = store.record(spec.id)
    assert (record.status, record.is_forgotten) == (Status.CANCELLED, True)
    assert record.result is not None
    assert record.result.cancelled_by == "ann"
    assert "its pod p still runs: it was told to end" in record.result.message
    assert f"has {YEAR_S:g} s for it" in record.result.message


class RefusingCluster(StubbornCluster):
    """Its one pod may not be deleted, and ends by itself when it was asked to a few times."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def read_pod(self, namespace: str, name: str) -> dict[str, Any]:
        pod = await super().read_pod(namespace, name)
        if self.asked > 2:
            ended = {"exitCode": 0, "startedAt": "2026-11-25T00:00:00Z", "finishedAt": "2026-11-25T00:00:09Z"}
            pod["status"] = {
                "phase": "Succeeded",
                "containerStatuses": [{"name": "base", "state": {"terminated": ended}}],
            }
        return pod

    async def delete_pod(self, _: str, name: str, **__: Any) -> bool:
        self.asked += 1
        details = {"kind": "pods", "name": name}
        raise ClusterRefusedError(403, {"reason": "Forbidden", "message": f"may not delete {name}", "details": details})


async def test_a_cancel_whose_deletion_is_refused_says_so_and_ends_with_the_pod(
    ctx: Context, store: RedisDriver
) -> None:
    cluster: Any = RefusingCluster()
    spec = a_spec(get_logs=False)
    store.submit(spec)
    worker = store.worker("w1")
    worker.beat()
    worker.claim(spec.id)
    pod = {"pod": "p", "pod_uid": "u", "namespace": "default", "attempt": "1", "at:starting": "1"}
    store.client.hset(names.job(spec.id), mapping={"status": "RUNNING", "cancel_by": "ann", **pod})
    controlling = JobController(
        replace(ctx, cluster=cluster), store.record(spec.id), RecentResults(ctx.lease, ctx.log_budget)
    )
    details = set[str]()

    async def news() -> None:
        while True:
            details.add(controlling.record.detail)
            controlling.mark_stale()
            await asyncio.sleep(0.02)  # plays the watch

    telling = asyncio.create_task(news())
    async with asyncio.timeout(30):
        await controlling.run()
    telling.cancel()
    record = store.record(spec.id)
    assert (record.status, record.is_forgotten) == (Status.CANCELLED, True)
    assert "the pod cannot be deleted yet: may not delete p" in details


async def test_a_result_that_redis_loses_while_its_pod_takes_its_time_is_appended_again_at_once(
    ctx: Context, store: RedisDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller waits, and with this worker the result would be gone."""
    monkeypatch.setattr(job_pod, "GIVE_UP_GONE_S", 600.0)
    spec = a_spec(get_logs=False, run_timeout_s=0.001)
    store.submit(spec)
    worker = store.worker("w1")
    worker.claim(spec.id)
    pod = {"pod": "p", "pod_uid": "u", "namespace": "default", "attempt": "1", "at:starting": "1", "at:running": "1"}
    store.client.hset(names.job(spec.id), mapping={"status": "RUNNING", "cancel_by": "ann", **pod})
    before = store.client.dump(names.job(spec.id))
    results = RecentResults(ctx.lease, ctx.log_budget)
    ended = list[JobController]()
    jobs = JobControllers(ctx, results, capacity_changed=lambda: None, ended=ended.append)
    jobs.begin(store.record(spec.id))
    telling = asyncio.create_task(told_of_its_pod(jobs.by_id[spec.id]))
    try:
        await asyncio.to_thread(
            wait_for_key, store.client, names.job(spec.id), lambda: store.record(spec.id).status.is_final
        )
        telling.cancel()
        store.client.restore(names.job(spec.id), 0, before, replace=True)
        await Reconciler(ctx, jobs, results).reconcile()
        assert not ended
        record = store.record(spec.id)
        assert (record.status, record.is_forgotten) == (Status.CANCELLED, False)
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        await jobs.stop()


async def test_a_former_owner_s_result_is_not_lost_with_redis_either_while_its_pod_takes_its_time(
    ctx: Context, store: RedisDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record alone would tell of a job that is over, and not how it ended: it would have succeeded."""
    monkeypatch.setattr(job_pod, "GIVE_UP_GONE_S", 600.0)
    spec = a_spec(get_logs=False)
    store.submit(spec)
    store.worker("w1").claim(spec.id)
    result = plain_result(store.record(spec.id), "its former owner's words")
    end = {"status": "FAILED", "reason": "cluster_error", "intent": "finished", "at:failed": "3"}
    pod = {"pod": "p", "pod_uid": "u", "namespace": "default", "attempt": "1", "at:starting": "1", "at:running": "2"}
    store.client.hset(names.job(spec.id), mapping={**end, **pod, "result": result.model_dump_json(exclude_none=True)})
    results = RecentResults(ctx.lease, ctx.log_budget)
    jobs = JobControllers(ctx, results, capacity_changed=lambda: None, ended=lambda _: None)
    jobs.begin(store.record(spec.id))
    cluster: Any = ctx.cluster
    try:
        await eventually(lambda: cluster.is_being_deleted)
        store.client.delete(names.job(spec.id))
        await Reconciler(ctx, jobs, results).reconcile()
        record = store.record(spec.id)
        assert (record.status, record.reason) == (Status.FAILED, FailureReason.CLUSTER_ERROR)
        assert record.result is not None
        assert record.result.message == "its former owner's words"
    finally:
        await jobs.stop()


async def told_of_its_pod(controlling: JobController) -> None:
    """The watch shows the pod as it is."""
    while True:
        controlling.mark_stale()
        await asyncio.sleep(0.05)  # plays the watch
