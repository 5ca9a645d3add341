"""The life of a job, and who owns it, on workers in the test's own event loop."""

import redis

from dispatcher import names
from dispatcher.events import LogChunk, StatusChanged
from dispatcher.message import MESSAGE_BUCKETS
from dispatcher.status import FailureReason, Status
from dispatcher.steps import ClaimOutcome
from dispatcher.version import VERSION
from tests.support.real_redis import eventually
from tests.support.worker_in_process import InProcess, simulated


async def reach(running: InProcess, job_id: str, status: Status) -> None:
    """Wait until the job's channel tells this status."""
    async for update in running.client.follow(job_id):
        if isinstance(update.event, StatusChanged) and update.event.status is status:
            return


async def test_a_job_succeeds_and_its_log_comes_whole(running: InProcess) -> None:
    worker = await running.start_worker()
    job_id = await running.submit(simulated("--lines=300", "--line-bytes=80"), to=worker)
    log = b""
    async for update in running.client.follow(job_id):
        if isinstance(update.event, LogChunk):
            log += update.event.data
    result = await running.client.result(job_id)
    assert (result.status, result.log_complete, result.logs["base"].bytes) == (Status.SUCCEEDED, True, len(log))
    assert log.count(b"\n") == 300
    await eventually(lambda: not worker.job_ids)
    assert len(running.pocket.journal.pods) == 1


async def test_a_job_fails_with_its_exit_code(running: InProcess) -> None:
    worker = await running.start_worker()
    result = await running.client.result(await running.submit(simulated("--exit-code=3"), to=worker), timeout_s=30)
    assert (result.status, result.reason, result.exit_code) == (Status.FAILED, FailureReason.EXIT_CODE, 3)


async def test_a_cancelled_job_ends_and_leaves_no_pod(running: InProcess) -> None:
    worker = await running.start_worker()
    job_id = await running.submit(simulated("--duration=600"), to=worker)
    await reach(running, job_id, Status.RUNNING)
    await running.client.cancel(job_id, by="ann")
    result = await running.client.result(job_id, timeout_s=30)
    assert (result.status, result.cancelled_by) == (Status.CANCELLED, "ann")
    await eventually(lambda: not worker.job_ids)


async def test_a_job_whose_message_was_lost_is_launched_by_the_sweep(running: InProcess, redis_url: str) -> None:
    await running.start_worker()
    submitted = await running.client.submit(simulated("--lines=1"))
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.delete(*(names.message_list("default", bucket) for bucket in MESSAGE_BUCKETS))
    result = await running.client.result(submitted.job_id, timeout_s=30)
    assert result.status is Status.SUCCEEDED


async def test_a_killed_worker_s_job_is_taken_over_with_its_pod_when_the_lease_has_ended(running: InProcess) -> None:
    first, second = await running.start_worker("ada"), await running.start_worker("bob")
    job_id = await running.submit(simulated("--lines=2000", "--duration=3"), to=first)
    await reach(running, job_id, Status.RUNNING)
    await first.kill()
    assert (await running.client.get(job_id)).owner == first.incarnation
    await eventually(lambda: second.job_ids == {job_id}, within_s=20)
    result = await running.client.result(job_id, timeout_s=30)
    record = await running.client.get(job_id)
    assert (result.status, result.attempt, record.epoch, record.owner) == (Status.SUCCEEDED, 1, 2, second.incarnation)
    assert (result.log_complete, len(running.pocket.journal.pods)) == (True, 1)


async def test_what_is_handed_over_is_another_s_at_once(running: InProcess) -> None:
    """Not after the lease's time: that is longer than this test may take."""
    first, second = await running.start_worker("ada", lease_s=600), await running.start_worker("bob", lease_s=600)
    job_ids = {await running.submit(simulated("--duration=600"), to=first) for _ in range(5)}
    assert first.job_ids == job_ids
    await first.hand_over()
    await eventually(lambda: second.job_ids == job_ids)
    assert {(await running.client.get(job_id)).owner for job_id in job_ids} == {second.incarnation}
    assert first.job_ids == set()


async def test_a_worker_takes_no_more_than_it_may_and_says_so(running: InProcess) -> None:
    worker = await running.start_worker(max_jobs=2)
    one = await running.submit(simulated("--duration=600"), to=worker)
    assert worker.may_consume
    await running.submit(simulated("--duration=600"), to=worker)
    assert not worker.may_consume
    await running.client.cancel(one, by="ann")
    await eventually(lambda: worker.may_consume)


async def test_it_tells_its_version_in_its_heartbeat_and_its_metrics(running: InProcess) -> None:
    worker = await running.start_worker()
    (view,) = await running.client.workers()
    assert view.info["version"] == VERSION
    assert worker.metrics.registry.get_sample_value("podrelay_build_info", {"version": VERSION}) == 1


async def test_its_metrics_count_the_jobs_that_it_follows_and_the_log_that_waits(
    running: InProcess, redis_url: str
) -> None:
    worker = await running.start_worker()
    metric = worker.metrics.registry.get_sample_value
    job_id = await running.submit(simulated("--lines=100000", "--rate=2000"), to=worker)
    assert metric("podrelay_jobs_followed") == 1
    await reach(running, job_id, Status.RUNNING)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.client_pause(60_000, all=False)
        await eventually(lambda: bool(metric("podrelay_log_buffered_bytes")))
        client.client_unpause()
    await running.client.cancel(job_id, by="ann")
    await eventually(lambda: metric("podrelay_jobs_followed") == 0)
    await eventually(lambda: metric("podrelay_log_buffered_bytes") == 0)


async def test_a_claim_of_a_job_that_is_another_s_is_none(running: InProcess) -> None:
    first, second = await running.start_worker("ada"), await running.start_worker("bob")
    job_id = await running.submit(simulated("--duration=600"), to=first)
    assert await second.loop.jobs.launch(job_id) is ClaimOutcome.OWNED
    assert second.job_ids == set()
    assert await first.loop.jobs.launch(job_id) is ClaimOutcome.OWNED
