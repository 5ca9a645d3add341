"""The owner's view of a job's record in a real Redis that loses what it had confirmed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from devcluster.local.redis_server import RedisServer
from dispatcher import connection, names, steps
from dispatcher.events import Ended
from dispatcher.record import Checkpoint, DeletionIntent, JobRecord, WaitReason, encode_record
from dispatcher.status import FailureReason, Status
from dispatcher.steps import Fence
from tests.support.contexts import a_context
from tests.support.job_driver import RedisDriver, Worker
from tests.support.redis_changes import wait_for_key
from worker.cluster.observation import Observation
from worker.cluster.pod_json import observe
from worker.context import Context
from worker.jobs.owned_record import LogLostError, MovedElsewhereError, NotKeptError, OwnedRecord
from worker.jobs.recent_results import RecentResults
from worker.jobs.result import plain_result
from worker.logs import outbox as outbox_module
from worker.logs.attempt import JobLogs
from worker.logs.outbox import LogBudget, LogSource, Outbox
from worker.logs.publisher import LetGoError, append_again
from worker.logs.stream import Chunk, Gap
from worker.rules.history import PodHistory
from worker.rules.judge import judge
from worker.rules.verdict import AttemptEnded


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisDriver]:
    with connection.connect(redis_server.url, timeout_s=5, retries=0) as client:
        yield RedisDriver(client, "real")


@pytest.fixture
def worker(store: RedisDriver) -> Worker:
    return store.worker("w1")


@pytest.fixture
async def ctx(redis_server: RedisServer) -> AsyncIterator[Context]:
    async with a_context(redis_server.url) as made:
        yield made


class Cluster:
    """Has one line of log, of a container that goes on or has ended."""

    def __init__(self, *, has_ended: bool) -> None:
        self._has_ended = has_ended
        self.is_well = asyncio.Event()

    @asynccontextmanager
    async def log(self, *_: object, since: str | None, follow: bool) -> AsyncIterator[AsyncIterator[bytes]]:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"2026-11-22T09:00:00Z one\n"
            if not self._has_ended:
                await asyncio.Event().wait()

        yield pieces()


class Job:
    """What a log sees of its job."""

    def __init__(self, fence: Fence) -> None:
        self.fence = fence

    async def reload(self) -> None: ...

    def cancel_requested(self, by: str) -> None: ...

    def mark_stale(self) -> None: ...

    def recheck(self) -> None: ...


def a_pod(state: str) -> Observation:
    status = {"name": "base", "restartCount": 0, "state": {state: {"startedAt": "2026-11-22T09:00:00Z"}}}
    metadata = {"name": "p", "namespace": "ns", "uid": "u"}
    return observe(
        {"metadata": metadata, "spec": {"containers": [{"name": "base"}]}, "status": {"containerStatuses": [status]}}
    )


def logs_of(ctx: Context, store: RedisDriver, job_id: str, cluster: Any = None) -> JobLogs:
    return JobLogs(Job(Fence("w1", store.record(job_id).epoch)), cluster, ctx.store, ctx.log_budget)


def owned(ctx: Context, store: RedisDriver, job_id: str, logs: JobLogs | None = None) -> OwnedRecord:
    record = store.record(job_id)
    fence = Fence("w1", record.epoch)
    logs = logs_of(ctx, store, job_id) if logs is None else logs
    return OwnedRecord(record, fence, ctx, news=asyncio.Event(), logs=logs)


async def start(job: OwnedRecord) -> None:
    await job.move(target=Status.STARTING, pod="p", pod_uid="u", attempt=1)


async def tail_of(ctx: Context, job: OwnedRecord, *chunks: bytes, first_kept: int = 0) -> Outbox:
    """The end of a log that was appended in these chunks."""
    source = LogSource(job.record.job_id, "ns", "p", "base", 1, 1 << 20)
    at, entries = Checkpoint(), list[Chunk]()
    for data in chunks:
        end = at.end + len(data)
        after = Checkpoint(end=end, timestamp="2026-11-22T09:00:00Z", nth=1, line_bytes=1, chain=f"{end:064x}")
        entries.append(Chunk(at.end, data, after))
        at = after
    whole = sent(Outbox(source, Checkpoint(), LogBudget(0)), *entries)
    await append_again(whole, job.fence, ctx.store)
    start = entries[first_kept - 1].checkpoint if first_kept else Checkpoint()
    return sent(Outbox(source, start, ctx.log_budget), *entries[first_kept:])


def sent(outbox: Outbox, *entries: Chunk | Gap) -> Outbox:
    for entry in entries:
        outbox.append(entry)
    outbox.confirm(len(outbox.batch(len(entries))))
    return outbox


async def started(ctx: Context, store: RedisDriver, worker: Worker, cluster: Any = None) -> tuple[OwnedRecord, JobLogs]:
    """A job of this worker that has its pod, and the logs of that."""
    job_id = store.owned(worker)
    logs = logs_of(ctx, store, job_id, cluster)
    job = owned(ctx, store, job_id, logs)
    await start(job)
    return job, logs


def roll_back(store: RedisDriver, job_id: str, to: bytes) -> None:
    store.client.restore(names.job(job_id), 0, to, replace=True)


async def test_a_move_after_a_rollback_puts_back_what_was_lost_before_it(
    ctx: Context, store: RedisDriver, worker: Worker
) -> None:
    job_id = store.owned(worker)
    job, before = owned(ctx, store, job_id), store.client.dump(names.job(job_id))
    await start(job)
    roll_back(store, job_id, before)
    await job.move(target=Status.RUNNING)
    record = store.record(job_id)
    assert (record.status, record.pod, record.attempt) == (Status.RUNNING, "p", 1)
    assert record.last_step == job.record.last_step


async def test_the_copy_says_what_redis_has_after_each_change(ctx: Context, store: RedisDriver, worker: Worker) -> None:
    job_id = store.owned(worker)
    job = owned(ctx, store, job_id)

    def same() -> bool:
        found = store.record(job_id)
        copy = (encode_record(job.record), job.record.status, job.record.last_step)
        return copy == (encode_record(found), found.status, found.last_step)

    await job.move(only_from=(Status.QUEUED,), wait=WaitReason.QUOTA, detail="waiting for quota")
    assert same()
    await start(job)
    assert same()
    await job.move(deletion_intent=DeletionIntent.NEXT_ATTEMPT, not_before=12.5, intent_reason=FailureReason.EVICTED)
    assert same()
    await job.move(target=Status.QUEUED, pod=None, pod_uid=None, deletion_intent=None, intent_reason=None)
    assert same()
    await job.move(target=Status.STARTING, pod="q", pod_uid="v", attempt=2, wait=None, not_before=0.0, detail="")
    assert same()
    assert store.record(job_id).not_before == 0.0
    await job.end(Ended(result=plain_result(job.record, "why")))
    assert not same()  # one field is not copied:
    job.record = replace(job.record, deletion_intent=DeletionIntent.FINISHED)
    assert same()


@pytest.mark.parametrize("ends", ["end", "end_plainly"])
async def test_a_job_whose_result_redis_has_lost_is_not_put_back_as_one_whose_outcome_is_settled(
    ctx: Context, store: RedisDriver, worker: Worker, ends: str
) -> None:
    """Whoever found it so would tell a success, whatever its pod shows."""
    job, _ = await started(ctx, store, worker)
    job_id = job.record.job_id
    before = store.client.dump(names.job(job_id))
    await getattr(job, ends)(Ended(result=plain_result(job.record, "why")))
    assert store.record(job_id).deletion_intent is DeletionIntent.FINISHED
    for lose in (lambda: roll_back(store, job_id, before), lambda: store.client.delete(names.job(job_id))):
        lose()
        await job.reload()
        found = store.record(job_id)
        assert (found.status, found.deletion_intent, found.result) == (Status.RUNNING, None, None)
        assert isinstance(judge(found.spec, found, None, ctx.lease.now(), seen=PodHistory()), AttemptEnded)


async def test_a_result_that_redis_has_lost_is_appended_again_with_all_that_belongs_to_it(
    ctx: Context, store: RedisDriver, worker: Worker
) -> None:
    job, _ = await started(ctx, store, worker)
    job_id = job.record.job_id
    before, event = store.client.dump(names.job(job_id)), Ended(result=plain_result(job.record, "why"))
    await job.end(event)
    first = encode_record(replace(store.record(job_id), reached={}))
    roll_back(store, job_id, before)
    await job.end(event)
    found = store.record(job_id)
    assert encode_record(replace(found, reached={})) == first
    assert (found.status, found.reason) == (Status.FAILED, FailureReason.CLUSTER_ERROR)


async def test_a_record_that_redis_never_keeps_is_not_put_back_without_end(
    ctx: Context, store: RedisDriver, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, read_record = store.owned(worker), ctx.store.read_record
    job = owned(ctx, store, job_id)

    async def overwrite(job_id: str) -> JobRecord | None:
        store.client.hset(names.job(job_id), "epoch", "0")
        return await read_record(job_id)

    monkeypatch.setattr(ctx.store, "read_record", overwrite)
    store.client.hset(names.job(job_id), "epoch", "0")
    with pytest.raises(NotKeptError):
        await start(job)
    with pytest.raises(NotKeptError):
        await job.end_plainly(Ended(result=plain_result(job.record, "why")))


async def test_a_claim_that_was_lost_is_put_back(ctx: Context, store: RedisDriver, worker: Worker) -> None:
    job_id = store.submit().job_id
    before = store.client.dump(names.job(job_id))
    worker.claim(job_id)
    job = owned(ctx, store, job_id)
    roll_back(store, job_id, before)
    await job.reload()
    assert (store.record(job_id).owner, store.record(job_id).epoch) == ("w1", 1)


async def test_a_job_that_was_ended_while_its_claim_was_lost_is_let_go(
    ctx: Context, store: RedisDriver, worker: Worker
) -> None:
    job_id = store.submit().job_id
    before = store.client.dump(names.job(job_id))
    worker.claim(job_id)
    job = owned(ctx, store, job_id)
    await start(job)
    roll_back(store, job_id, before)
    assert store.run(steps.cancel(job_id, "me")) is steps.CancelOutcome.CANCELLED
    with pytest.raises(LetGoError):
        await job.reload()
    with pytest.raises(LetGoError):
        await job.move(target=Status.RUNNING)


async def test_a_job_that_expired_while_its_pod_was_lost_keeps_the_pod_so_that_it_can_be_removed(
    ctx: Context, store: RedisDriver, worker: Worker
) -> None:
    job_id = store.owned(worker, queue_timeout_s=0.000001)
    job, before = owned(ctx, store, job_id), store.client.dump(names.job(job_id))
    await start(job)
    roll_back(store, job_id, before)
    assert store.run(steps.expire(job_id, "default")) == "expired"
    with pytest.raises(MovedElsewhereError):
        await job.move(target=Status.RUNNING)
    await job.reload()
    assert (job.record.reason, job.record.pod, job.record.pod_uid) == (FailureReason.QUEUE_TIMEOUT, "p", "u")


async def test_a_cancel_that_the_owner_heard_of_outlives_a_rollback(
    ctx: Context, store: RedisDriver, worker: Worker
) -> None:
    job_id = store.owned(worker)
    job, before = owned(ctx, store, job_id), store.client.dump(names.job(job_id))
    store.run(steps.cancel(job_id, "me"))
    await job.reload()
    roll_back(store, job_id, before)
    await job.reload()
    assert job.record.cancel_requested_by == "me"


@pytest.mark.parametrize("lost", [1, 2])
async def test_the_end_of_a_log_that_nobody_follows_any_more_is_appended_again_before_the_result(
    ctx: Context, store: RedisDriver, worker: Worker, lost: int
) -> None:
    job, logs = await started(ctx, store, worker)
    job_id, log = job.record.job_id, names.log(job.record.job_id)
    before = [store.client.dump(names.job(job_id))]
    await tail_of(ctx, job, b"one\n")
    before.append(store.client.dump(names.job(job_id)))
    tail = await tail_of(ctx, job, b"one\n", b"two\n")
    logs.tails = {(1, "base"): tail}
    entries: Any = store.client.xrange(log)
    store.client.xdel(log, *(entry_id for entry_id, _ in entries[-lost:]))
    roll_back(store, job_id, before[-lost])
    await job.move(target=Status.RUNNING)
    found: Any = store.client.xrange(log)
    assert [fields[b"r"] for _, fields in found] == [b"one\n", b"two\n"]


async def test_a_log_that_is_followed_falls_back_to_what_redis_has(
    ctx: Context, store: RedisDriver, worker: Worker
) -> None:
    job, logs = await started(ctx, store, worker, Cluster(has_ended=False))
    job_id, log = job.record.job_id, names.log(job.record.job_id)
    before = store.client.dump(names.job(job_id))
    logs.see(a_pod("running"), job.record, is_gone=False)
    await until_has(store, log, 1)
    await job.reload()
    roll_back(store, job_id, before)
    await job.reload()
    await until_has(store, log, 2)
    assert store.record(job_id).checkpoints == logs.checkpoints
    found: Any = store.client.xrange(log)
    assert [fields[b"r"] for _, fields in found] == [b"one\n", b"one\n"]  # only the record had lost it
    assert not logs.is_lacking
    await logs.stop()


async def until_has(store: RedisDriver, log: str, entries: int) -> None:
    await asyncio.to_thread(wait_for_key, store.client, log, lambda: store.client.xlen(log) >= entries)  # type: ignore[operator]


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_log_that_was_read_to_its_end_while_others_go_on_is_appended_or_read_again(
    ctx: Context, store: RedisDriver, worker: Worker, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "KEPT_S", 60.0 if is_kept else -1.0)
    job, logs = await started(ctx, store, worker, Cluster(has_ended=True))
    job_id = job.record.job_id
    before = store.client.dump(names.job(job_id))
    logs.see(a_pod("terminated"), job.record, is_gone=False)
    assert (await logs.drain(10, job.record))["base"].is_complete
    there = store.record(job_id).checkpoints
    assert (there[1, "base"].end, there) == (4, logs.checkpoints)
    roll_back(store, job_id, before)
    await job.reload()
    assert logs.is_lacking is not is_kept
    assert logs.checkpoints == store.record(job_id).checkpoints == (there if is_kept else {})
    await logs.stop()


async def test_the_end_of_a_gap_of_unknown_length_is_told_again(
    ctx: Context, store: RedisDriver, worker: Worker
) -> None:
    job, logs = await started(ctx, store, worker)
    job_id, log = job.record.job_id, names.log(job.record.job_id)
    tail = await tail_of(ctx, job, b"one\n")
    before, after = store.client.dump(names.job(job_id)), tail.published
    sent(tail, Gap(after.end, after, "rotated away", is_open=True))
    await append_again(tail, job.fence, ctx.store)
    store.client.xtrim(log, maxlen=0, approximate=False)
    roll_back(store, job_id, before)
    logs.tails = {(1, "base"): tail}
    await job.move(target=Status.RUNNING)
    found: Any = store.client.xrange(log)
    assert [fields[b"g"] for _, fields in found] == [b"rotated away"]


@pytest.mark.parametrize("is_there", [True, False], ids=["its pod is there", "its pod is gone"])
async def test_the_end_of_a_log_of_which_redis_has_lost_more_than_is_kept_is_read_again_or_given_up(
    ctx: Context, store: RedisDriver, worker: Worker, is_there: bool
) -> None:
    job, logs = await started(ctx, store, worker)
    job_id = job.record.job_id
    before = store.client.dump(names.job(job_id))
    tail = await tail_of(ctx, job, b"one\n", b"two\n", first_kept=1)
    logs.tails = {(1, "base"): tail}
    job.record = replace(job.record, checkpoints={(1, "base"): tail.published})
    roll_back(store, job_id, before)
    if is_there:
        logs.see(a_pod("waiting"), job.record, is_gone=False)
        with pytest.raises(LogLostError):
            await job.move(target=Status.RUNNING)
        assert job.record.checkpoints == {}
        logs.read_again()
    await job.move(target=Status.RUNNING)
    assert store.record(job_id).status is Status.RUNNING
    assert tail.kept == []


async def test_the_ends_of_a_finished_job_s_logs_are_forgotten_with_its_result(
    ctx: Context, store: RedisDriver, worker: Worker
) -> None:
    job, _ = await started(ctx, store, worker)
    tail, results = await tail_of(ctx, job, b"four"), RecentResults(ctx.lease, ctx.log_budget)
    ended: Any = None
    results.keep(job.record, ended, {(1, "base"): tail})
    assert ctx.log_budget.kept_bytes == 4
    results.forget(job.record.job_id)
    assert (tail.kept, ctx.log_budget.kept_bytes) == ([], 0)


async def test_a_later_owners_record_is_never_put_back_over(ctx: Context, store: RedisDriver, worker: Worker) -> None:
    job, _ = await started(ctx, store, worker)
    job_id = job.record.job_id
    worker.die()
    assert store.worker("w2").claim(job_id, former_owner="w1").outcome is steps.ClaimOutcome.CLAIMED
    for attempt in (job.reload(), job.move(target=Status.RUNNING)):
        with pytest.raises(LetGoError):
            await attempt
    assert store.record(job_id).owner == "w2"
