"""What a sweep takes, launches, deletes and makes again, on a real Redis, for a lease of every kind."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from devcluster.local.redis_server import RedisServer
from dispatcher import connection, names
from dispatcher.message import MESSAGE_BUCKETS
from dispatcher.status import Status
from dispatcher.steps import Beat, ClaimOutcome
from tests.support.contexts import a_context
from tests.support.job_driver import RedisDriver, Worker, a_spec
from worker.cluster.observation import Observation
from worker.cluster.pod_json import observe
from worker.context import Context
from worker.jobs.recent_results import RecentResults
from worker.lease import Lease
from worker.ownership.reconciler import Reconciler
from worker.ownership.sweeper import Sweeper
from worker.rules.spec_copy import spec_annotations


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisDriver]:
    with connection.connect(redis_server.url, timeout_s=5, retries=0) as client:
        yield RedisDriver(client, "real")


@pytest.fixture
def other(store: RedisDriver) -> Worker:
    """Another worker of the queue, which lives until the test lets it die."""
    worker = store.worker("w2")
    worker.beat()
    return worker


class Jobs:
    """What this worker owns, as far as the sweep asks: nothing but what a test says, and every claim is noted."""

    def __init__(self) -> None:
        self.by_id: dict[str, Any] = {}
        self.has_capacity = True
        self.claimed: list[dict[str, str]] = []
        self.outcomes: dict[str, ClaimOutcome] = {}
        self.swept = asyncio.Event()

    def capacity_changed(self) -> None:
        """A sweep calls this at its end."""
        self.swept.set()

    async def claim_many(self, jobs: Mapping[str, str]) -> dict[str, ClaimOutcome]:
        self.claimed.append(dict(jobs))
        return {job_id: self.outcomes.get(job_id, ClaimOutcome.CLAIMED) for job_id in jobs}


class Pods:
    """The cluster's pods, and their watch."""

    namespaces = served = ("default",)

    def __init__(self) -> None:
        self.json: dict[str, dict[str, Any]] = {}
        self.deleted: list[tuple[str, str | None]] = []
        self.default_namespace = "default"

    def add(self, job_id: str, *, attempt: int = 1, uid: str = "u", spec: Any = None) -> Observation:
        labels = {names.LABEL_JOB: job_id, names.LABEL_ATTEMPT: str(attempt), names.LABEL_QUEUE: "default"}
        annotations = {} if spec is None else spec_annotations(spec)
        name = f"pod-of-{job_id}-{attempt}"
        metadata = {"name": name, "namespace": "default", "uid": uid, "labels": labels, "annotations": annotations}
        self.json[name] = {"metadata": metadata, "spec": {}, "status": {"phase": "Running"}}
        return observe(self.json[name])

    def pod(self, _: str, name: str) -> Observation | None:
        return observe(self.json[name]) if name in self.json else None

    async def read_pod(self, _: str, name: str) -> dict[str, Any] | None:
        return self.json.get(name)

    async def delete_pod(self, _: str, name: str, *, uid: str | None = None) -> bool:
        self.deleted.append((name, uid))
        del self.json[name]
        return True


@pytest.fixture
def pods() -> Pods:
    return Pods()


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
async def ctx(redis_server: RedisServer, pods: Pods) -> AsyncIterator[Context]:
    async with a_context(redis_server.url, cluster=pods, watches=pods, sweep_s=0.01) as made:
        yield made


def a_lease(*, changed_s_ago: float | None, lease_s: float = 100.0) -> Lease:
    """A lease at a Redis that was restarted so long ago."""
    lease = Lease(lease_s)
    note(lease, runs_since=None if changed_s_ago is None else time.time() - changed_s_ago)
    return lease


def note(lease: Lease, *, generation: str = "g", server_run: str = "r", runs_since: float | None) -> None:
    """Have the lease take a beat's answer."""
    now = time.monotonic()
    life = f"{generation} {server_run}"
    beat = Beat(at=time.time(), generation=generation, lease_was_alive=False, redis_life=life, runs_since=runs_since)
    lease.renewed(beat, sent_at=now, heard_at=now)


async def no_news() -> None:
    """A beat whose answer changes nothing."""


async def sweep(ctx: Context, jobs: Any, *strays: Observation, beat: Callable[[], Awaitable[None]] = no_news) -> None:
    """Sweep once, with these pods shown that nobody follows."""
    sweeper = Sweeper(ctx, jobs, Reconciler(ctx, jobs, RecentResults(ctx.lease, ctx.log_budget)), beat)
    for pod in strays:
        sweeper.stray_pod(pod)
    running = asyncio.create_task(sweeper.run())
    async with asyncio.timeout(10):
        await jobs.swept.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    jobs.swept.clear()


def without_messages(store: RedisDriver) -> None:
    store.client.delete(*(names.message_list("default", bucket) for bucket in MESSAGE_BUCKETS))


def submitted_before(store: RedisDriver, job_id: str, seconds: float) -> None:
    """It was submitted so long ago."""
    at = time.time() - seconds
    store.client.hset(names.job(job_id), mapping={"at:submitted": f"{at:.6f}", "at:queued": f"{at:.6f}"})
    store.client.zadd(names.active("default"), {job_id: at})


async def test_the_jobs_of_the_dead_are_claimed_of_them_and_those_of_the_living_are_not(
    ctx: Context, store: RedisDriver, jobs: Jobs, other: Worker
) -> None:
    living = store.worker("w3")
    living.beat()
    store.owned(living)
    job_id = store.owned(other)
    await sweep(ctx, jobs)
    assert jobs.claimed == []
    other.die()
    jobs.has_capacity = False  # somebody must
    await sweep(ctx, jobs)
    assert jobs.claimed == [{job_id: "w2"}]


@pytest.mark.parametrize(
    ("changed_s_ago", "is_claimed"), [(None, True), (1.0, False), (199.0, False), (201.0, True)], ids=str
)
async def test_an_owner_that_was_not_seen_since_redis_began_anew_has_its_time_to_be(
    ctx: Context, store: RedisDriver, jobs: Jobs, other: Worker, changed_s_ago: float | None, is_claimed: bool
) -> None:
    store.owned(other)
    other.die()
    store.client.hset(names.workers("default"), "w2", f'{{"last_seen": {time.time() - 300}}}')
    await sweep(replace(ctx, lease=a_lease(changed_s_ago=changed_s_ago)), jobs)
    assert bool(jobs.claimed) is is_claimed


async def test_an_owner_whose_lease_redis_lost_since_the_last_beat_has_its_time_to_be(
    ctx: Context, store: RedisDriver, jobs: Jobs, other: Worker
) -> None:
    store.owned(other)
    other.die()
    lease = a_lease(changed_s_ago=None)

    async def beat() -> None:
        note(lease, server_run="another", runs_since=time.time())

    await sweep(replace(ctx, lease=lease), jobs, beat=beat)
    assert jobs.claimed == []


@pytest.mark.parametrize("may_launch", [True, False])
async def test_what_was_let_go_of_is_claimed_whether_there_is_capacity_or_not_but_not_while_redis_recovers(
    ctx: Context, store: RedisDriver, jobs: Jobs, other: Worker, may_launch: bool
) -> None:
    job_id = store.owned(other)
    store.client.hdel(names.job(job_id), "owner")
    jobs.has_capacity = False
    await sweep(replace(ctx, lease=a_lease(changed_s_ago=None if may_launch else 1.0)), jobs)
    assert jobs.claimed == ([{job_id: ""}] if may_launch else [])


@pytest.mark.parametrize(
    ("is_queue_empty", "age_s", "has_capacity", "may_launch", "is_claimed"),
    [
        (True, 1.0, True, True, True),
        (True, 1.0, False, True, False),
        (True, 1.0, True, False, False),
        (False, 29.0, True, True, False),
        (False, 31.0, True, True, True),
    ],
)
async def test_a_job_without_a_message_is_claimed_when_it_is_sure_that_it_has_none(
    ctx: Context,
    store: RedisDriver,
    jobs: Jobs,
    *,
    is_queue_empty: bool,
    age_s: float,
    has_capacity: bool,
    may_launch: bool,
    is_claimed: bool,
) -> None:
    job_id = store.submit().job_id
    submitted_before(store, job_id, age_s)
    if is_queue_empty:
        without_messages(store)
    jobs.has_capacity = has_capacity
    await sweep(replace(ctx, lease=a_lease(changed_s_ago=None if may_launch else 1.0)), jobs)
    assert jobs.claimed == ([{job_id: ""}] if is_claimed else [])


async def test_jobs_are_launched_oldest_first(ctx: Context, store: RedisDriver, jobs: Jobs) -> None:
    job_ids = [store.submit().job_id for _ in range(3)]
    for age_s, job_id in zip((10, 30, 20), job_ids, strict=True):
        submitted_before(store, job_id, age_s)
    without_messages(store)
    await sweep(ctx, jobs)
    assert jobs.claimed == [{job_ids[1]: ""}, {job_ids[2]: ""}, {job_ids[0]: ""}]


async def test_a_job_that_nobody_can_claim_is_set_aside_and_one_that_failed_once_is_not(
    ctx: Context, store: RedisDriver, jobs: Jobs
) -> None:
    hopeless, unlucky = store.submit().job_id, store.submit().job_id
    for job_id in (hopeless, unlucky):
        submitted_before(store, job_id, 10)
    without_messages(store)
    jobs.outcomes = {hopeless: ClaimOutcome.UNREADABLE, unlucky: ClaimOutcome.NO_LEASE}
    played: Any = jobs
    results = RecentResults(ctx.lease, ctx.log_budget)
    sweeper = Sweeper(ctx, played, Reconciler(ctx, played, results), no_news)
    running = asyncio.create_task(sweeper.run())
    for _ in range(3):
        async with asyncio.timeout(10):
            await jobs.swept.wait()
        jobs.swept.clear()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert jobs.claimed.count({hopeless: ""}) == 1
    assert jobs.claimed.count({unlucky: ""}) >= 3


async def test_a_job_that_waited_for_too_long_is_ended_without_an_owner(
    ctx: Context, store: RedisDriver, jobs: Jobs
) -> None:
    job_id = store.submit(queue_timeout_s=1).job_id
    submitted_before(store, job_id, 2)
    await sweep(ctx, jobs)
    assert store.record(job_id).status is Status.FAILED
    assert jobs.claimed == []


async def test_a_job_of_a_namespace_that_nobody_serves_is_claimed_so_that_it_says_so(
    ctx: Context, store: RedisDriver, jobs: Jobs
) -> None:
    job_id = store.submit(namespace="elsewhere").job_id
    await sweep(ctx, jobs)
    assert jobs.claimed == [{job_id: ""}]


async def test_jobs_that_need_a_newer_worker_keep_none_from_being_launched(
    ctx: Context, store: RedisDriver, jobs: Jobs
) -> None:
    too_new = [store.submit(min_worker_version="99.0").job_id for _ in range(30)]
    job_id = store.submit().job_id
    for x in (*too_new, job_id):
        submitted_before(store, x, 600)
    without_messages(store)
    jobs.outcomes = dict.fromkeys(too_new, ClaimOutcome.NOT_SERVED)
    await sweep(ctx, jobs)
    assert {job_id: ""} in jobs.claimed
    assert len(jobs.claimed) == 1 + 20  # a batch of them, so that they say what they wait for


async def test_a_blind_worker_takes_nothing_over(ctx: Context, store: RedisDriver, jobs: Jobs, other: Worker) -> None:
    """A claim of a job that waits is refused, and tells why; of one that has run none is tried."""
    waits, runs = store.owned(other), store.owned(other)
    store.client.hset(names.job(runs), "status", "RUNNING")
    other.die()
    ctx.health.blind = "it cannot see"
    await sweep(ctx, jobs)
    assert jobs.claimed == [{waits: "w2"}]


# Pods


async def test_the_pod_of_a_job_that_is_over_is_deleted_by_its_uid(
    ctx: Context, store: RedisDriver, jobs: Jobs, other: Worker, pods: Pods
) -> None:
    job_id = store.owned(other)
    other.end(job_id)
    other.forget(job_id)
    pod = pods.add(job_id, uid="its uid")
    await sweep(ctx, jobs, pod)
    assert pods.deleted == [(pod.name, "its uid")]


@pytest.mark.parametrize(
    ("attempt", "uid", "is_deleted"),
    [(1, "u", False), (2, "just made", False), (1, "another", True), (0, "former", True)],
    ids=str,
)
async def test_of_an_active_job_s_pods_only_those_of_former_attempts_are_deleted(
    ctx: Context,
    store: RedisDriver,
    jobs: Jobs,
    other: Worker,
    pods: Pods,
    attempt: int,
    uid: str,
    is_deleted: bool,
) -> None:
    job_id = store.owned(other)
    store.client.hset(names.job(job_id), mapping={"attempt": "1", "pod": "p", "pod_uid": "u"})
    pod = pods.add(job_id, attempt=attempt, uid=uid)
    await sweep(ctx, jobs, pod)
    assert bool(pods.deleted) is is_deleted


async def test_a_pod_that_is_shown_no_more_is_nobody_s_business(ctx: Context, jobs: Jobs, pods: Pods) -> None:
    pod = pods.add("unknown")
    del pods.json[pod.name]
    await sweep(ctx, jobs, pod)
    assert pods.deleted == []


@pytest.mark.parametrize("is_sure", [True, False])
async def test_a_pod_without_a_record_gets_one_when_its_owner_had_the_time_to_write_it_again(
    ctx: Context, store: RedisDriver, jobs: Jobs, pods: Pods, is_sure: bool
) -> None:
    spec = a_spec()
    pod = pods.add(spec.id, spec=spec)
    lease = a_lease(changed_s_ago=None)
    if not is_sure:
        lease.began(server_started_at=0)  # this worker has only just come
    await sweep(replace(ctx, lease=lease), jobs, pod)
    if not is_sure:
        assert jobs.claimed == []
        assert not store.client.exists(names.job(spec.id))
        return
    record = store.record(spec.id)
    assert (record.spec, record.status, record.pod, record.pod_uid) == (spec, Status.STARTING, pod.name, "u")
    assert jobs.claimed == [{spec.id: ""}]


@pytest.mark.parametrize("nth", [1, 2], ids=["before the sweep", "during the sweep"])
async def test_a_record_that_redis_lost_since_the_last_beat_is_left_to_its_owner(
    ctx: Context, store: RedisDriver, jobs: Jobs, pods: Pods, nth: int
) -> None:
    spec, beats = a_spec(), itertools.count(1)
    pod = pods.add(spec.id, spec=spec)
    lease = a_lease(changed_s_ago=None)

    async def beat() -> None:
        if next(beats) == nth:
            note(lease, generation="another", runs_since=None)

    await sweep(replace(ctx, lease=lease), jobs, pod, beat=beat)
    assert jobs.claimed == []
    assert not store.client.exists(names.job(spec.id))


async def test_a_pod_whose_record_cannot_be_made_again_is_left(
    ctx: Context, store: RedisDriver, jobs: Jobs, pods: Pods
) -> None:
    pod = pods.add("job-without-its-copy")
    await sweep(replace(ctx, lease=a_lease(changed_s_ago=None)), jobs, pod)
    assert (pods.deleted, jobs.claimed) == ([], [])
    assert not store.client.exists(names.job(pod.job_id))
