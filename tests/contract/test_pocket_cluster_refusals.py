"""What is declined is declined in the recorded words."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest

from tests.support.cluster_driver import ClusterDriver, Reply, pods, simple_pod, state_of
from tests.support.cluster_fixture import every_cluster  # noqa: F401  # the fixture `cluster`
from tests.support.cluster_recordings import recorded_requests

pytestmark = pytest.mark.asyncio(loop_scope="module")
Json = dict[str, Any]


def in_namespace(body: Json, recorded: str, actual: str) -> Json:
    """A recorded body as it reads in another namespace."""
    text = json.dumps(body).replace(recorded, actual)
    found: Json = json.loads(text)
    return found


async def send(cluster: ClusterDriver, namespace: str, recorded: Json) -> Reply:
    query = recorded["path"].partition("?")[2]
    return await cluster.request("POST", pods(namespace, query=query), recorded["sent"])


@pytest.mark.parametrize("at", range(3))
async def test_400_for_fields_and_quantities_that_cannot_be_read(cluster: ClusterDriver, at: int) -> None:
    recorded = recorded_requests("refused-400-unknown-field")[at]
    reply = await send(cluster, await cluster.namespace(), recorded)
    assert reply.status == recorded["status"]
    if recorded["status"] == 201:
        assert reply.headers["warning"] == recorded["headers"]["warning"]
        assert "imagePullPolcy" not in reply.json["spec"]["containers"][0]
    else:
        assert reply.json == recorded["body"]


@pytest.mark.parametrize("at", range(4))
async def test_422_names_the_field(cluster: ClusterDriver, at: int) -> None:
    recorded = recorded_requests("refused-422-invalid")[at]
    reply = await send(cluster, await cluster.namespace(), recorded)
    assert (reply.status, reply.json) == (recorded["status"], recorded["body"])


async def test_403_for_an_account_that_does_not_exist(cluster: ClusterDriver) -> None:
    (recorded,) = recorded_requests("refused-403-service-account")
    namespace = await cluster.namespace()
    reply = await send(cluster, namespace, recorded)
    assert reply.json == in_namespace(recorded["body"], "rec-refused-403-service-account", namespace)


async def test_403_for_somebody_without_rights(cluster: ClusterDriver) -> None:
    create, list_ = recorded_requests("refused-403-rbac")
    namespace = await cluster.namespace()
    somebody = {"Impersonate-User": "somebody"}
    for recorded in (create, list_):
        reply = await cluster.request(recorded["verb"], pods(namespace), recorded.get("sent"), headers=somebody)
        assert reply.status == 403
        assert reply.json == in_namespace(recorded["body"], "rec-refused-403-rbac", namespace)


async def test_404_for_a_namespace_that_does_not_exist(cluster: ClusterDriver) -> None:
    (recorded,) = recorded_requests("refused-404-namespace")
    reply = await send(cluster, "no-such-namespace", recorded)
    assert (reply.status, reply.json) == (404, recorded["body"])


async def test_409_when_the_name_is_taken(cluster: ClusterDriver) -> None:
    first, second, _delete = recorded_requests("refused-409-already-exists")
    namespace = await cluster.namespace()
    assert (await send(cluster, namespace, first)).status == 201
    reply = await send(cluster, namespace, second)
    assert (reply.status, reply.json) == (409, second["body"])


async def test_403_while_the_quota_is_used_up_and_no_longer_than_that(cluster: ClusterDriver) -> None:
    quota, first, second, *_ = recorded_requests("refused-403-quota")
    namespace = await cluster.namespace()
    reply = await cluster.request("POST", f"/api/v1/namespaces/{namespace}/resourcequotas", quota["sent"])
    assert reply.status == 201
    if not cluster.is_pocket:
        async for event in cluster.stream(f"/api/v1/namespaces/{namespace}/resourcequotas?watch=1"):
            if "used" in event["object"]["status"]:  # the quota controller has counted
                break
    first["sent"]["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", "sleep 0.3"]
    assert (await send(cluster, namespace, first)).status == 201
    refused = await send(cluster, namespace, second)
    assert (refused.status, refused.json) == (403, second["body"])
    await ended(cluster, namespace, "job")
    assert (await send(cluster, namespace, second)).status == 201


async def ended(cluster: ClusterDriver, namespace: str, name: str) -> Json:
    """The pod once it has a final phase."""
    async with asyncio.timeout(60):
        async for event in cluster.stream(pods(namespace, query=f"watch=1&fieldSelector=metadata.name={name}")):
            found: Json = event["object"]
            if found["status"].get("phase") in ("Succeeded", "Failed"):
                return found
    raise AssertionError("the watch ended")


async def test_403_in_a_namespace_that_is_going(cluster: ClusterDriver) -> None:
    created, deleted, late = recorded_requests("refused-403-terminating-namespace")
    name = f"going-{uuid4().hex[:6]}"
    body = in_namespace(created["sent"], created["sent"]["metadata"]["name"], name)
    assert (await cluster.request("POST", "/api/v1/namespaces", body)).status == 201
    gone = await cluster.request("DELETE", f"/api/v1/namespaces/{name}")
    assert gone.status == deleted["status"]
    assert gone.json["status"] == deleted["body"]["status"]
    reply = await cluster.request("POST", pods(name), late["sent"])
    assert reply.status == 403
    assert reply.json == in_namespace(late["body"], created["sent"]["metadata"]["name"], name)


async def test_401_without_the_token(cluster: ClusterDriver) -> None:
    if not cluster.is_pocket:
        pytest.skip("a real cluster may let anonymous callers in")
    reply = await cluster.request("GET", pods("default"), headers={"Authorization": "Bearer wrong"})
    assert reply.json == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Unauthorized",
        "reason": "Unauthorized",
        "code": 401,
    }


async def test_404_for_paths_that_do_not_exist(cluster: ClusterDriver) -> None:
    reply = await cluster.request("GET", "/api/v1/nothing/here/at/all")
    assert reply.status == 404


async def test_a_delete_for_another_uid_is_a_conflict(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    pod = simple_pod("job", "busybox:1.36", ["sleep", "30"], terminationGracePeriodSeconds=1)
    created = (await cluster.request("POST", pods(namespace), pod)).json
    other = "00000000-0000-0000-0000-000000000000"
    body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": other}}
    reply = await cluster.request("DELETE", pods(namespace, "job"), body)
    assert (reply.status, reply.json["reason"]) == (409, "Conflict")
    uid = created["metadata"]["uid"]
    why = f"Precondition failed: UID in precondition: {other}, UID in object meta: {uid}"
    assert reply.json["message"] == f'Operation cannot be fulfilled on pods "job": {why}'
    body["preconditions"] = {"uid": uid}
    assert (await cluster.request("DELETE", pods(namespace, "job"), body)).status == 200


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("application/merge-patch+json", {"metadata": {"labels": {"done": "true"}}}),
        ("application/strategic-merge-patch+json", {"metadata": {"labels": {"done": "true"}}}),
        ("application/json-patch+json", [{"op": "add", "path": "/metadata/labels", "value": {"done": "true"}}]),
    ],
)
async def test_labels_can_be_patched_in_three_ways(cluster: ClusterDriver, kind: str, patch: Any) -> None:
    namespace = await cluster.namespace()
    await cluster.request("POST", pods(namespace), simple_pod("job", "busybox:1.36", ["true"]))
    reply = await cluster.request("PATCH", pods(namespace, "job"), patch, kind=kind)
    assert (reply.status, reply.json["metadata"]["labels"]) == (200, {"done": "true"})


async def test_what_a_pod_runs_cannot_be_patched(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    await cluster.request("POST", pods(namespace), simple_pod("job", "busybox:1.36", ["true"]))
    patch = {"spec": {"containers": [{"name": "base", "command": ["false"]}]}}
    kind = "application/strategic-merge-patch+json"
    reply = await cluster.request("PATCH", pods(namespace, "job"), patch, kind=kind)
    assert (reply.status, reply.json["reason"]) == (422, "Invalid")


async def test_the_log_endpoint_declines_what_it_cannot_show(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    absent = await cluster.request("GET", pods(namespace, "job/log"))
    assert (absent.status, absent.json["message"]) == (404, 'pods "job" not found')
    await cluster.request("POST", pods(namespace), simple_pod("job", "not-here:1", ["true"]))
    ghost = await cluster.request("GET", pods(namespace, "job/log", "container=ghost"))
    assert (ghost.status, ghost.json["message"]) == (400, "container ghost is not valid for pod job")


async def test_previous_log_of_a_first_instance_does_not_exist(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    pod = simple_pod("job", "busybox:1.36", ["sleep", "30"], terminationGracePeriodSeconds=1)
    await cluster.request("POST", pods(namespace), pod)
    await until(cluster, namespace, "running")
    reply = await cluster.request("GET", pods(namespace, "job/log", "previous=true"))
    assert (reply.status, reply.json["message"]) == (
        400,
        'previous terminated container "base" in pod "job" not found',
    )


async def until(cluster: ClusterDriver, namespace: str, state: str) -> None:
    async with asyncio.timeout(60):
        async for event in cluster.stream(pods(namespace, query="watch=1")):
            if state in state_of(event["object"]):
                return
