"""The life of a job, phase by phase: what its controller does, and how the next one goes on after each step."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from devcluster.local.redis_server import RedisServer
from dispatcher import names, steps
from dispatcher.record import JobRecord, WaitReason
from dispatcher.status import FailureReason, Status
from tests.support.controlled_jobs import ControlledJobs, controlling
from tests.support.job_driver import a_spec
from tests.support.real_redis import eventually
from worker.failpoints import Failpoint
from worker.jobs import launcher
from worker.rules import retry


@pytest.fixture
async def jobs(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ControlledJobs]:
    monkeypatch.setattr(retry, "FIRST_BACKOFF_S", 0.05)
    monkeypatch.setattr(launcher, "PREDECESSOR_LOOK_S", 0.05)
    async with controlling(redis_server.url, monkeypatch) as made:
        yield made


@dataclass(frozen=True)
class Kind:
    """A job, and how it ends."""

    args: tuple[str, ...] = ("--lines=20",)
    fields: dict[str, Any] = field(default_factory=dict)
    status: Status = Status.SUCCEEDED
    reason: FailureReason | None = None
    attempts: int = 1
    is_cancelled: bool = False


SUCCEEDING = Kind()
RETURNING = Kind(('--return-value={"a": 1}',), {"return_value": True})
TOO_LONG = Kind(("--duration=600",), {"run_timeout_s": 0.2}, Status.FAILED, FailureReason.RUN_TIMEOUT)
TWICE = Kind(
    ("--exit-code=3",),
    {"retry_on": ["exit_code"], "launch_retries": 1},
    Status.FAILED,
    FailureReason.EXIT_CODE,
    attempts=2,
)
CANCELLED = Kind(("--duration=600",), status=Status.CANCELLED, is_cancelled=True)

KINDS: dict[Failpoint, Kind] = {
    Failpoint.CLAIMED: SUCCEEDING,
    Failpoint.POD_CREATED: SUCCEEDING,
    Failpoint.POD_RECORDED: SUCCEEDING,
    Failpoint.RUNNING_RECORDED: TOO_LONG,
    Failpoint.CANCEL_SEEN: CANCELLED,
    Failpoint.INTENT_RECORDED: TOO_LONG,
    Failpoint.POD_DELETED: TOO_LONG,
    Failpoint.RETRY_RECORDED: TWICE,
    Failpoint.REQUEUED: TWICE,
    Failpoint.LOG_DRAINED: SUCCEEDING,
    Failpoint.RETURN_VALUE_READ: RETURNING,
    Failpoint.RESULT_APPENDED: SUCCEEDING,
    Failpoint.FORGOTTEN: SUCCEEDING,
}


def begun(jobs: ControlledJobs, kind: Kind) -> JobRecord:
    record = jobs.claimed(*kind.args, **kind.fields)
    if kind.is_cancelled:
        jobs.redis.run(steps.cancel(record.job_id, "ann"))
    return record


def test_every_step_but_the_log_s_has_its_job() -> None:
    assert set(KINDS) == set(Failpoint) - {Failpoint.LOG_APPENDED}


@pytest.mark.parametrize("failpoint", KINDS)
async def test_the_next_controller_goes_on_after_each_step(jobs: ControlledJobs, failpoint: Failpoint) -> None:
    kind = KINDS[failpoint]
    found = await jobs.control_until(failpoint, begun(jobs, kind))
    ended = await jobs.control(found)
    assert (ended.status, ended.reason, ended.attempt) == (kind.status, kind.reason, kind.attempts * bool(jobs.pods))
    assert ended.is_forgotten
    assert ended.result is not None
    assert ended.result.log_complete or kind in (TOO_LONG, CANCELLED)  # whose pod may go before its log is read
    assert len(jobs.pods) == len(set(jobs.pods)) == ended.attempt


# Launch


async def test_a_job_waits_for_its_predecessor_s_pod_without_holding_capacity(jobs: ControlledJobs) -> None:
    former, record = jobs.claimed(), jobs.claimed()
    jobs.redis.client.hset(names.job(record.job_id), "predecessor", former.job_id)
    async with jobs.controlled(jobs.redis.record(record.job_id)) as controller:
        await eventually(lambda: controller.record.wait is WaitReason.PREDECESSOR)
        found = jobs.redis.record(record.job_id)
        assert (found.wait, found.detail) == (WaitReason.PREDECESSOR, controller.record.detail)
        assert found.detail == f"waiting for the pod of its predecessor {former.job_id}"
        assert not controller.holds_capacity
        jobs.redis.client.hset(names.job(former.job_id), "forgotten", "1")
        await jobs.until_forgotten(record)
    found = jobs.redis.record(record.job_id)
    assert (found.status, found.predecessor, found.wait) == (Status.SUCCEEDED, None, None)


async def test_a_job_whose_namespace_is_not_listed_waits_for_the_api_server_until_it_is_woken(
    jobs: ControlledJobs,
) -> None:
    (watch,) = jobs.ctx.watches
    watch.is_synced = False
    record = jobs.claimed()
    async with jobs.controlled(record) as controller:
        await eventually(lambda: controller.record.wait is WaitReason.API_SERVER)
        watch.is_synced = True
        controller.wake()
        await jobs.until_forgotten(record)
    assert len(jobs.pods) == 1


async def test_a_job_without_quota_waits_for_it_until_it_is_woken(jobs: ControlledJobs) -> None:
    jobs.pocket.quota("default", pods=0)
    record = jobs.claimed()
    async with jobs.controlled(record) as controller:
        await eventually(lambda: controller.record.wait is WaitReason.QUOTA)
        assert jobs.redis.record(record.job_id).detail.startswith("waiting for quota in namespace default")
        jobs.pocket.quota("default", pods=None)
        controller.wake()
        await jobs.until_forgotten(record)
    assert len(jobs.pods) == 1


async def test_a_job_that_waited_too_long_fails_without_a_pod(jobs: ControlledJobs) -> None:
    ended = await jobs.control(jobs.claimed(queue_timeout_s=0.000001))
    assert (ended.status, ended.reason, ended.is_forgotten) == (Status.FAILED, FailureReason.QUEUE_TIMEOUT, True)
    assert jobs.pods == []


async def test_a_job_of_an_earlier_term_of_the_lease_is_read_again_before_it_gets_a_pod(jobs: ControlledJobs) -> None:
    mine, lost = jobs.claimed(), jobs.claimed()
    jobs.redis.client.hset(names.job(lost.job_id), mapping={"owner": "w2", "epoch": str(lost.epoch + 1)})
    controllers = [jobs.controller(record) for record in (mine, lost)]
    jobs.ctx.lease.end_term()
    async with asyncio.timeout(30):
        await asyncio.gather(*(controller.run() for controller in controllers))
    assert jobs.redis.record(mine.job_id).status is Status.SUCCEEDED
    assert (jobs.redis.record(lost.job_id).status, len(jobs.pods)) == (Status.QUEUED, 1)


async def test_a_job_whose_record_has_lost_its_pod_finds_it(jobs: ControlledJobs) -> None:
    found = await jobs.control_until(Failpoint.POD_RECORDED, jobs.claimed())
    jobs.redis.client.hdel(names.job(found.job_id), "pod", "pod_uid", "attempt")
    ended = await jobs.control(jobs.redis.record(found.job_id))
    assert (ended.status, len(jobs.pods)) == (Status.SUCCEEDED, 1)


# Follow


async def test_a_job_tells_where_it_is_while_its_pod_is_followed(jobs: ControlledJobs) -> None:
    ended = await jobs.control(jobs.claimed("--duration=0.2"))
    told = b"".join(fields[b"e"] for _, fields in jobs.redis.events(ended.job_id))
    at = [told.index(f'"status":"{status}"'.encode()) for status in ("QUEUED", "STARTING", "RUNNING", "SUCCEEDED")]
    assert at == sorted(at)
    assert ended.node is not None
    assert {"queued", "claimed", "starting", "running", "succeeded"} <= ended.reached.keys()


async def test_a_pod_that_somebody_deletes_is_the_job_s_end(jobs: ControlledJobs) -> None:
    record = jobs.claimed("--duration=600")
    async with jobs.controlled(record) as controller:
        await eventually(lambda: controller.record.status is Status.RUNNING)
        known = controller.known_pod
        assert known is not None
        await jobs.ctx.cluster.delete_pod("default", known.name, uid=known.uid)
        await jobs.until_forgotten(record)
    ended = jobs.redis.record(record.job_id)
    assert (ended.status, ended.reason) == (Status.FAILED, FailureReason.POD_DELETED)


async def test_a_pod_whose_labels_were_taken_away_is_told_of_once(jobs: ControlledJobs) -> None:
    record = jobs.claimed("--duration=600")

    def notices() -> int:
        return sum(b"does not bear podrelay" in fields[b"e"] for _, fields in jobs.redis.events(record.job_id))

    async with jobs.controlled(record) as controller:
        await eventually(lambda: controller.record.status is Status.RUNNING)
        name, uid = controller.record.pod, controller.record.pod_uid
        assert name is not None
        await jobs.ctx.cluster.patch_pod("default", name, {"uid": uid, "labels": {names.LABEL_JOB: None}})
        controller.mark_stale()
        await eventually(lambda: notices() == 1)
        controller.cancel_requested("ann")
        await eventually(lambda: controller.record.deletion_intent is not None)
    assert notices() == 1


# Finish


async def test_the_result_has_the_return_value_and_what_was_published_of_the_log(jobs: ControlledJobs) -> None:
    ended = await jobs.control(jobs.claimed("--lines=300", *RETURNING.args, **RETURNING.fields))
    assert ended.result is not None
    assert ended.result.return_value == {"a": 1}
    assert (ended.result.log_complete, ended.result.logs["base"].is_complete) == (True, True)
    assert ended.result.logs["base"].bytes == ended.checkpoints[1, "base"].end > 300
    assert jobs.redis.log(ended.job_id)


async def test_the_next_attempt_begins_with_a_record_that_tells_of_none_before(jobs: ControlledJobs) -> None:
    found = await jobs.control_until(Failpoint.REQUEUED, begun(jobs, TWICE))
    assert (found.status, found.attempt, found.wait) == (Status.QUEUED, 1, WaitReason.BACK_OFF)
    assert (found.pod, found.pod_uid, found.node, found.deletion_intent) == (None,) * 4
    assert found.not_before > 0
    again = await jobs.control_until(Failpoint.POD_RECORDED, found)
    copy = jobs.controllers[found.job_id].record
    for record in (again, copy):
        assert (record.status, record.attempt, record.wait, record.not_before) == (Status.STARTING, 2, None, 0.0)


async def test_a_job_that_was_done_when_redis_was_emptied_does_not_run_again(jobs: ControlledJobs) -> None:
    spec = a_spec(image="simulated:latest", args=["--lines=5"])
    jobs.redis.submit(spec)
    claimed = jobs.worker.claim(spec.id).record
    assert claimed is not None
    ended = await jobs.control(claimed)
    jobs.redis.client.flushall()
    jobs.worker.beat()
    jobs.redis.submit(spec)
    claimed = jobs.worker.claim(spec.id).record
    assert claimed is not None
    again = await jobs.control(claimed)
    assert ended.result is not None
    assert again.result is not None
    assert again.result.model_copy(update={"times": {}}) == ended.result.model_copy(update={"times": {}})
    assert len(jobs.pods) == 1


# Forget


@pytest.mark.parametrize(
    ("on_finish", "exit_code", "is_kept"),
    [
        ("delete_pod", 0, False),
        ("keep_pod", 0, True),
        ("delete_succeeded_pod", 0, False),
        ("delete_succeeded_pod", 3, True),
        ("delete_active_pod", 0, True),
    ],
)
async def test_the_pod_is_removed_or_marked_and_kept(
    jobs: ControlledJobs, on_finish: str, exit_code: int, is_kept: bool
) -> None:
    ended = await jobs.control(jobs.claimed(f"--exit-code={exit_code}", on_finish=on_finish))
    assert ended.pod is not None
    assert ended.is_forgotten
    left = await jobs.ctx.cluster.read_pod("default", ended.pod)
    assert (left is not None) is is_kept
    if left is not None:
        assert left["metadata"]["labels"][names.LABEL_DONE] == "true"
        assert "already_checked" not in left["metadata"]["labels"]


@pytest.mark.parametrize("exit_code", [0, 3])
async def test_a_kept_pod_that_bears_kpos_label_gets_kpos_mark(jobs: ControlledJobs, exit_code: int) -> None:
    labels = {"kubernetes_pod_operator": "True", "dag_id": "nightly"}
    ended = await jobs.control(jobs.claimed(f"--exit-code={exit_code}", on_finish="keep_pod", labels=labels))
    left = await jobs.ctx.cluster.read_pod("default", ended.pod or "")
    assert left is not None
    assert left["metadata"]["labels"].items() >= {**labels, "already_checked": "True"}.items()


async def test_a_failed_jobs_result_has_all_events_of_its_pod(jobs: ControlledJobs) -> None:
    ended = await jobs.control(jobs.claimed("--exit-code=3"))
    assert ended.result is not None
    told = [event.reason for event in ended.result.events or ()]
    assert told[0] == "Scheduled"
    assert {"Pulled", "Created", "Started"} <= set(told)
    assert ended.result.warnings == ()
