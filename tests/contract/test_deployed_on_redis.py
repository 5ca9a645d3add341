"""``deploy/`` as it stands, on the pocket cluster: its worker needs exactly its Role's rights, and lives elsewhere."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import redis
import yaml

from dispatcher.events import StatusChanged
from dispatcher.record import WaitReason
from dispatcher.spec import JobSpec
from dispatcher.status import FailureReason, Status
from tests.docs.pages import ROOT
from tests.support.manifests import Rendered, render
from tests.support.real_redis import eventually
from tests.support.service_account_tokens import bound_token
from tests.support.worker_in_process import InProcess, running_in_process, simulated

JOBS = "podrelay-jobs"
#: The kinds that the pocket cluster keeps. Roles are granted, the Deployment's worker runs in the test.
APPLIED = {"Namespace": "namespaces", "ServiceAccount": "serviceaccounts"}


@pytest.fixture
def deployed() -> Rendered:
    return render(ROOT / "deploy")


@pytest.fixture
async def running(redis_url: str, deployed: Rendered) -> AsyncIterator[InProcess]:
    pod = deployed.pod
    own, account = pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]
    token = bound_token(own, account, "podrelay-worker-0")
    async with running_in_process(redis_url, token=token, namespaces=[own]) as made:
        await apply(made, deployed)
        yield made


async def apply(running: InProcess, deployed: Rendered) -> None:
    """As ``kubectl apply --server-side``: what is there already is patched. Then the Roles count, and nothing else."""
    headers = {"Authorization": f"Bearer {running.pocket.token}"}
    async with aiohttp.ClientSession(f"{running.pocket.url}/api/v1/", headers=headers) as session:
        for found in deployed.objects:
            if (resource := APPLIED.get(found["kind"])) is None:
                continue
            metadata = found["metadata"]
            path = f"namespaces/{metadata['namespace']}/{resource}" if "namespace" in metadata else resource
            async with session.post(path, json=found) as answer:
                assert answer.status in (201, 409), await answer.text()
            if answer.status == 409:
                kind = {"Content-Type": "application/merge-patch+json"}
                async with session.patch(f"{path}/{metadata['name']}", json=found, headers=kind) as answer:
                    assert answer.status == 200, await answer.text()
    for binding in deployed.of_kind("RoleBinding"):
        (role,) = [r for r in deployed.of_kind("Role") if r["metadata"] == binding["metadata"]]
        running.pocket.grant(binding["metadata"]["namespace"], role["rules"])
    running.pocket.journal.asked.clear()


async def reach(running: InProcess, job_id: str, status: Status) -> None:
    async for update in running.client.follow(job_id):
        if isinstance(update.event, StatusChanged) and update.event.status is status:
            return


async def test_a_worker_needs_exactly_the_rights_of_its_role(
    running: InProcess, deployed: Rendered, redis_url: str
) -> None:
    async def start(name: str) -> Any:
        return await running.start_worker(**deployed.settings | {"worker_name": name})

    async def end_of(spec: JobSpec, by: Any) -> Any:
        return await running.client.result(await running.submit(spec, to=by), timeout_s=60)

    ada = await start("ada")
    assert (await end_of(simulated("--lines=3"), ada)).succeeded
    assert (await end_of(simulated("--exit-code=3"), ada)).exit_code == 3
    running.pocket.quota(JOBS, pods=0)
    waiting = await running.submit(simulated(), to=ada)
    await eventually(lambda: ada.loop.jobs.by_id[waiting].record.wait is WaitReason.QUOTA)
    await running.client.cancel(waiting, by="ann")  # that it has no pod is proved by a look for it
    assert (await running.client.result(waiting, timeout_s=60)).status is Status.CANCELLED
    running.pocket.quota(JOBS, pods=None)
    unpulled = JobSpec(image="no-such-image:1", startup_timeout_s=1)
    assert (await end_of(unpulled, ada)).reason is FailureReason.IMAGE_PULL
    assert (await end_of(simulated("--exit-code=1", on_finish="keep_pod"), ada)).exit_code == 1
    returned = simulated('--return-value={"a":1}', return_value=True)
    assert (await end_of(returned, ada)).return_value == {"a": 1}

    cancelled = await running.submit(simulated("--duration=600"), to=ada)
    await reach(running, cancelled, Status.RUNNING)
    await running.client.cancel(cancelled, by="ann")
    assert (await running.client.result(cancelled, timeout_s=60)).status is Status.CANCELLED

    taken_over = await running.submit(simulated("--duration=600"), to=ada)
    await reach(running, taken_over, Status.RUNNING)
    keyed = simulated("--duration=600", key="k")
    await reach(running, await running.submit(keyed, to=ada), Status.RUNNING)
    await ada.kill()
    bob = await start("bob")
    await eventually(lambda: taken_over in bob.job_ids, within_s=30)
    await running.client.cancel(taken_over, by="ann")
    assert (await running.client.result(taken_over, timeout_s=60)).status is Status.CANCELLED

    await bob.kill()
    with redis.Redis.from_url(redis_url) as server:
        server.flushall()  # nobody knows whose the keyed pod is: whoever has its key takes it over
    cleo = await start("cleo")
    again = keyed.model_copy(update={"id": "another"})
    job_id = await running.submit(again, to=cleo)
    await reach(running, job_id, Status.RUNNING)
    await running.client.cancel(job_id, by="ann")
    assert (await running.client.result(job_id, timeout_s=60)).status is Status.CANCELLED

    rules = deployed.one("Role")["rules"]
    granted = {(verb, resource, JOBS) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert running.pocket.journal.asked == granted


async def test_jobs_have_neither_the_worker_s_account_nor_a_token(running: InProcess, deployed: Rendered) -> None:
    worker = await running.start_worker(**deployed.settings)
    job_id = await running.submit(simulated("--duration=600"), to=worker)
    await reach(running, job_id, Status.RUNNING)
    (pod,) = running.pocket.journal.pods.values()
    assert pod.namespace != deployed.pod["metadata"]["namespace"]
    (key,) = [key for key, _ in running.pocket.store.each("pods", pod.namespace)]
    spec = running.pocket.store.read("pods", key).object["spec"]
    assert spec.get("serviceAccountName", "default") == "default"
    assert yaml.safe_dump(spec).count("serviceAccountToken") == 0
    refused = await running.submit(simulated(service_account_name="podrelay-worker"), to=worker)
    result = await running.client.result(refused, timeout_s=60)
    assert result.reason is FailureReason.INVALID_SPEC, "there is no such account where jobs run"
