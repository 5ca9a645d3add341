"""A worker beside whose pod jobs run keeps its service account and its secrets to itself."""

from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from dispatcher.events import JobResult
from dispatcher.status import FailureReason
from tests.support.service_account_tokens import bound_token
from tests.support.worker_in_process import InProcess, running_in_process, simulated
from worker.cluster.client import Cluster

OWN_POD = {
    "metadata": {"name": "podrelay-worker-0"},
    "spec": {
        "containers": [
            {
                "name": "worker",
                "image": "simulated:latest",
                "args": ["--duration=600"],
                "env": [{"name": "U", "valueFrom": {"secretKeyRef": {"name": "podrelay-redis", "key": "url"}}}],
            }
        ]
    },
}
TAKES_SECRET = {"env_from": [{"secretRef": {"name": "podrelay-redis", "optional": True}}]}


@pytest.fixture
async def running(redis_url: str) -> AsyncIterator[InProcess]:
    token = bound_token("podrelay", "podrelay-worker", "podrelay-worker-0")
    async with running_in_process(redis_url, token=token, namespaces=["podrelay", "jobs"]) as made:
        yield made


async def create_own_pod() -> None:
    async with await Cluster.connect(connections=1) as cluster:
        await cluster.create_pod("podrelay", OWN_POD, may_send=lambda: True)


async def result_of(running: InProcess, **fields: object) -> JobResult:
    worker = running.workers[0] if running.workers else await running.start_worker(namespaces="podrelay,jobs")
    job_id = await running.submit(simulated(**fields), to=worker)
    return await running.client.result(job_id, timeout_s=30)


async def test_no_job_takes_the_worker_s_account_or_secret(running: InProcess) -> None:
    await create_own_pod()
    for fields, words in (
        (TAKES_SECRET, "'podrelay-redis' is the worker's own secret"),
        ({"service_account_name": "podrelay-worker"}, "'podrelay-worker' is the worker's own service account"),
    ):
        result = await result_of(running, **fields)
        assert result.reason is FailureReason.POLICY
        assert words in result.message
        elsewhere = await result_of(running, **fields, namespace="jobs")
        assert elsewhere.reason is not FailureReason.POLICY, elsewhere
    assert (await result_of(running, env_from=[{"secretRef": {"name": "theirs", "optional": True}}])).succeeded


async def test_a_job_waits_while_the_worker_cannot_read_its_own_pod(running: InProcess) -> None:
    await create_own_pod()
    worker = await running.start_worker(namespaces="podrelay")
    running.pocket.deny("get", "pods")
    job_id = await running.submit(simulated(**TAKES_SECRET), to=worker)
    async for update in running.client.follow(job_id):
        if "the worker cannot read its own pod" in getattr(update.event, "detail", ""):
            break
    running.pocket.allow("get", "pods")
    result = await running.client.result(job_id, timeout_s=60)
    assert result.reason is FailureReason.POLICY


async def test_a_worker_beside_which_jobs_run_says_so_at_its_start(running: InProcess) -> None:
    worker = await running.start_worker(namespaces="podrelay")
    with capture_logs() as logs:
        worker.loop.tell_policy()
    (told,) = logs
    assert told["log_level"] == "warning"
    assert told["event"].startswith("jobs run beside this worker: ")
    assert (told["namespace"], told["service_account"]) == ("podrelay", "podrelay-worker")


async def test_a_worker_whose_default_namespace_is_not_served_says_so(running: InProcess) -> None:
    worker = await running.start_worker(namespaces="jobs")
    with capture_logs() as logs:
        worker.loop.tell_policy()
    (told,) = logs
    assert "PODRELAY_DEFAULT_NAMESPACE" in told["event"]
    assert (told["default_namespace"], told["namespaces"]) == ("podrelay", ["jobs"])


async def test_a_worker_with_a_namespace_for_jobs_has_nothing_to_say(running: InProcess) -> None:
    worker = await running.start_worker(namespaces="jobs", default_namespace="jobs")
    with capture_logs() as logs:
        worker.loop.tell_policy()
    assert not logs
