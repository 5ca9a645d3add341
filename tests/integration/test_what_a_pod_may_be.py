"""What a spec asks of its pod, with real processes: waiting for a node, large annotations, odd templates."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from dispatcher import names
from dispatcher.client import Dispatcher
from dispatcher.events import Ended, JobResult, StatusChanged
from dispatcher.spec import JobSpec
from dispatcher.status import FailureReason, Status
from tests.support.installation import QUICK, Installation, running_installation

GATED = {"spec": {"schedulingGates": [{"name": "example.com/wait"}]}}


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with running_installation() as running:
        running.start_worker(**QUICK)
        yield running


@pytest.fixture
def client(installation: Installation) -> Iterator[Dispatcher]:
    with Dispatcher(installation.client_settings()) as dispatcher:
        yield dispatcher


def python(code: str, **fields: Any) -> JobSpec:
    return JobSpec(image="python:3.6", command=("python", "-c"), args=(code,), **fields)


def followed(client: Dispatcher, spec: JobSpec) -> tuple[JobResult, list[str]]:
    """Submit, follow to the end, and return the result and the details that were told on the way."""
    client.submit(spec)
    details: list[str] = []
    for heard in client.follow(spec.id):
        if isinstance(heard.event, StatusChanged):
            details.append(heard.event.detail)
        if isinstance(heard.event, Ended):
            return heard.event.result, details
    raise AssertionError("the channel ended without a result")


def pod_of(installation: Installation, spec: JobSpec) -> dict[str, Any]:
    """The job's pod, as soon as there is one."""

    def of_the_job(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [pod for pod in pods if pod["metadata"].get("labels", {}).get(names.LABEL_JOB) == spec.id]

    return of_the_job(installation.pocket.wait_for_pods(lambda pods: bool(of_the_job(pods))))[0]


def test_a_gate_outlasts_the_startup_timeout_and_the_job_runs_when_it_is_lifted(
    installation: Installation, client: Dispatcher
) -> None:
    spec = python("pass", pod_template=GATED, startup_timeout_s=1)
    client.submit(spec)
    pod = pod_of(installation, spec)
    other = python("import time; time.sleep(1.5)")
    assert followed(client, other)[0].status is Status.SUCCEEDED  # longer than the startup timeout
    record = client.get(spec.id)
    assert (record.status, record.detail) == (
        Status.STARTING,
        "unscheduled: held by scheduling gates: example.com/wait",
    )
    del pod["spec"]["schedulingGates"]
    pod["metadata"].pop("resourceVersion")
    installation.pocket.call("PUT", f"/api/v1/namespaces/default/pods/{pod['metadata']['name']}", pod)
    result, _ = followed(client, spec)
    assert result.status is Status.SUCCEEDED, result.message


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"schedule_timeout_s": 1}, FailureReason.UNSCHEDULABLE),
        ({"queue_timeout_s": 1}, FailureReason.QUEUE_TIMEOUT),
    ],
)
def test_only_a_limit_about_waiting_ends_it(client: Dispatcher, limits: dict[str, Any], reason: FailureReason) -> None:
    result, details = followed(client, python("pass", node_selector={"pool": "none"}, startup_timeout_s=0.2, **limits))
    assert (result.status, result.reason) == (Status.FAILED, reason)
    assert "nodes are available" in result.message
    assert len([detail for detail in details if detail.startswith("unscheduled: ")]) == 1


@pytest.mark.parametrize("annotation", ["x" * 140_000, random.Random(1).randbytes(70_000).hex()], ids=["dull", "noise"])
def test_large_annotations_leave_room_for_ours(client: Dispatcher, annotation: str) -> None:
    spec = python("pass", annotations={"model": annotation})
    result, _ = followed(client, spec)
    assert result.status is Status.SUCCEEDED, result.message


RULES = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [7]}}]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (
            {"spec": {"containers": [{"name": "base", "env": ["REGION=north"]}]}},
            "containers[0].env[0]: must be a mapping",
        ),
        ({"spec": {"volumes": {"name": "x"}}}, "pod_template.spec.volumes: must be a list"),
        ({"metadata": {"finalizers": ["example.com/hold"]}}, "pod_template.metadata.finalizers: remove it"),
        (
            {"spec": {"initContainers": [{"name": "i", "image": "x", "restartPolicyRules": RULES}]}},
            "initContainers.i.restartPolicyRules: RestartAllContainers",
        ),
    ],
)
def test_an_odd_template_that_comes_over_the_wire_is_an_invalid_spec(
    client: Dispatcher, template: dict[str, Any], words: str
) -> None:
    """As a caller of an earlier version sends it, which checks less."""
    result, _ = followed(client, python("pass").model_copy(update={"pod_template": template}))
    assert (result.status, result.reason) == (Status.FAILED, FailureReason.INVALID_SPEC)
    assert words in result.message
