"""Pods that are taken away, doubled, cancelled or not allowed yet."""

import asyncio

import pytest

from dispatcher import names
from dispatcher.status import FailureReason, Status
from tests.chaos.caller import a_caller, start, until
from tests.support.installation import QUICK, running_installation

LABELS = (names.LABEL_INSTALLATION, names.LABEL_QUEUE, names.LABEL_JOB, names.LABEL_ATTEMPT)


async def test_a_full_namespace_waits_for_quota_and_holds_up_nobody_else() -> None:
    with running_installation(namespaces=("default", "full"), quotas={"full": 0}) as installation:
        async with a_caller(installation) as caller:
            await start(installation, "ada", **QUICK, namespaces="default,full", max_jobs=3)
            stuck = [await caller.submit(namespace="full", queue_timeout_s=6) for _ in range(5)]
            others = [await caller.submit("--lines=3") for _ in range(10)]
            await until(lambda: all(job.results for job in others), within_s=5)
            assert not any(job.results for job in stuck)
            assert "quota" in (await caller.record(stuck[0])).detail
            await caller.all_end()
            assert {job.result.reason for job in stuck if job.result} == {FailureReason.QUOTA_TIMEOUT}
            assert {job.result.status for job in others if job.result} == {Status.SUCCEEDED}


@pytest.mark.parametrize("has_worker", [True, False], ids=["while a worker lives", "while none does"])
async def test_a_cancel_leaves_no_pod_and_says_who_asked(*, has_worker: bool) -> None:
    with running_installation() as installation:
        async with a_caller(installation) as caller:
            (ada,) = await start(installation, "ada", **QUICK)
            running = [await caller.submit("--duration=600", "--lines=5") for _ in range(3)]
            await caller.until_running(*running)
            if not has_worker:
                await asyncio.to_thread(ada.kill)
            jobs = [*running, *[await caller.submit("--duration=600") for _ in range(10)]]
            for job in jobs * 2:
                await caller.client.cancel(job.job_id, by="the test")
            if not has_worker:
                await start(installation, "bob", **QUICK)
            await caller.all_end()
            assert {(job.result.status, job.result.cancelled_by) for job in jobs if job.result} == {
                (Status.CANCELLED, "the test")
            }


@pytest.mark.parametrize("has_owner", [True, False], ids=["while it is followed", "while its worker is dead"])
async def test_a_pod_that_is_taken_away_is_reported_for_what_happened_to_it(*, has_owner: bool) -> None:
    with running_installation() as installation:
        async with a_caller(installation) as caller:
            (ada,) = await start(installation, "ada", **QUICK)
            jobs = [await caller.submit("--duration=600", "--lines=5") for _ in range(4)]
            await caller.until_running(*jobs)
            await start(installation, "bob", **QUICK)
            if not has_owner:
                await asyncio.to_thread(ada.kill)
            deeds = {"evict": "evicted", "preempt": "preempted", "evict-for-pressure": "evicted"}
            for job, deed in zip(jobs, deeds, strict=False):
                installation.pocket.control(f"namespaces/default/pods/{(await caller.record(job)).pod}/{deed}")
            installation.pocket.delete_pod((await caller.record(jobs[3])).pod or "")
            await until(lambda: all(job.results for job in jobs))
            reasons = [job.result.reason for job in jobs if job.result]
            assert reasons == [*(FailureReason(reason) for reason in deeds.values()), FailureReason.POD_DELETED]


@pytest.mark.parametrize("has_owner", [True, False], ids=["while it is followed", "while its worker is dead"])
async def test_a_pod_that_is_forced_off_a_lost_node_tells_of_the_node(*, has_owner: bool) -> None:
    """``kubectl delete --force`` leaves no word of the kubelet's: that the node was given up stands in the pod."""
    with running_installation() as installation:
        async with a_caller(installation) as caller:
            (ada,) = await start(installation, "ada", **QUICK)
            jobs = [await caller.submit("--duration=600", "--lines=5") for _ in range(2)]
            await caller.until_running(*jobs)
            await start(installation, "bob", **QUICK)
            if not has_owner:
                await asyncio.to_thread(ada.kill)
            installation.pocket.delete_pod((await caller.record(jobs[0])).pod or "", grace_s=0)
            installation.pocket.control("nodes/pocket-0/lose")
            installation.pocket.delete_pod((await caller.record(jobs[1])).pod or "", grace_s=0)
            await until(lambda: all(job.results for job in jobs))
            reasons = [job.result.reason for job in jobs if job.result]
            assert reasons == [FailureReason.POD_DELETED, FailureReason.NODE_LOST]


@pytest.mark.parametrize("is_cut", [True, False], ids=["taken away", "another job's"])
async def test_a_pod_whose_labels_somebody_changes_still_tells_its_job_s_end(*, is_cut: bool) -> None:
    """No watch tells of it any more; without a log to follow nothing else does."""
    with running_installation() as installation:
        async with a_caller(installation) as caller:
            await start(installation, "ada", **QUICK)
            job = await caller.submit("--duration=4", "--exit-code=3", get_logs=False)
            await caller.until_running(job)
            pod = (await caller.record(job)).pod or ""
            labels = dict.fromkeys(LABELS) if is_cut else {names.LABEL_JOB: "another", names.LABEL_ATTEMPT: "7"}
            installation.pocket.patch_pod(pod, {"labels": labels})
            await until(lambda: bool(job.results))
            assert job.result is not None
            assert (job.result.reason, job.result.exit_code) == (FailureReason.EXIT_CODE, 3)
            assert any("does not bear podrelay's labels" in text for _, text in job.notices)
            await asyncio.to_thread(installation.pocket.wait_for_pods, lambda pods: not pods)


async def test_a_second_pod_of_an_ended_job_is_deleted_on_sight() -> None:
    """As a process frozen between its lease check and its POST would make it."""
    with running_installation() as installation:
        async with a_caller(installation) as caller:
            await start(installation, "ada", **QUICK)
            job = await caller.submit("--lines=3", "--duration=1")
            await caller.until_running(job)
            (pod,) = installation.pocket.pods()
            await caller.all_end()
            metadata = {key: pod["metadata"][key] for key in ("name", "labels", "annotations")}
            containers = [{**pod["spec"]["containers"][0], "args": ["--duration=600"]}]
            late = {"metadata": metadata, "spec": {"restartPolicy": "Never", "containers": containers}}
            installation.pocket.call(
                "POST", "/api/v1/namespaces/default/pods", {"kind": "Pod", "apiVersion": "v1", **late}
            )
            await asyncio.to_thread(installation.pocket.wait_for_pods, lambda pods: not pods)
            assert len(installation.pocket.ever_created()) == 2
