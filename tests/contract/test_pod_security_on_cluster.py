"""The policy's table says of each pod what a real API server's Pod Security admission says of it.

The pocket cluster has no such admission: this runs where ``PODRELAY_TEST_KUBECONFIG`` names a cluster.
"""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cluster_driver import ClusterDriver, pods
from tests.support.cluster_fixture import every_cluster  # noqa: F401  # the fixture `cluster`
from tests.unit.test_pod_security import BASE, LISTS, OF_CONTAINERS, PODS, RESTRICTED, pod
from worker.rules.pod_security import Level, findings

pytestmark = pytest.mark.asyncio(loop_scope="module")
Json = dict[str, Any]
#: The table is that of this minor version, and of those after it until they change theirs.
SINCE_MINOR = 35
FEWEST_JUDGED = 100


def tried() -> Iterator[Json]:
    """Every pod of the table's own tests, as an API server takes it: containers have names of their own."""
    for _, refused, allowed in (*PODS, *RESTRICTED):
        yield from (named(one) for one in (*refused, *allowed))
    for _, refused, allowed in OF_CONTAINERS:
        for context in (*refused, *allowed):
            yield named(pod(securityContext=context))
            for where in LISTS[:2]:  # an ephemeral container comes later than its pod
                yield named(pod(**{where: [{**BASE, "securityContext": context}]}))


def named(manifest: Json) -> Json:
    made = copy.deepcopy(manifest)
    for where in LISTS:
        for i, container in enumerate(made["spec"].get(where) or []):
            container["name"] = "base" if (where, i) == ("containers", 0) else f"{where.lower()}-{i}"
    made["spec"]["restartPolicy"] = "Never"
    return {"apiVersion": "v1", "kind": "Pod", **made}


@pytest.mark.parametrize("level", [Level.BASELINE, Level.RESTRICTED])
async def test_the_table_and_the_api_server_agree_on_every_pod(cluster: ClusterDriver, level: Level) -> None:
    if cluster.is_pocket:
        pytest.skip("the pocket cluster has no Pod Security admission")
    version = (await cluster.request("GET", "/version")).json
    if int(version["minor"].rstrip("+")) < SINCE_MINOR:
        pytest.skip(f"its own table is of {version['gitVersion']}")
    namespace = await cluster.namespace()
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level.name.lower()}}}
    kind = "application/merge-patch+json"
    assert (await cluster.request("PATCH", f"/api/v1/namespaces/{namespace}", labels, kind=kind)).status == 200
    judged, differ = 0, []
    for manifest in tried():
        reply = await cluster.request("POST", pods(namespace, query="dryRun=All&fieldValidation=Strict"), manifest)
        is_refused = reply.status == 403 and "violates PodSecurity" in reply.json["message"]
        if reply.status != 201 and not is_refused:
            continue  # no pod at all: that is judged before
        judged += 1
        if is_refused is not bool(list(findings(manifest, level))):
            differ.append((manifest, reply.json.get("message", "allowed")))
    assert differ == []
    assert judged >= FEWEST_JUDGED
