"""The pocket cluster lives pods through as the recordings show, update by update."""

import asyncio

import pytest
import pytest_asyncio

from tests.support.cluster_driver import ClusterDriver, pods
from tests.support.cluster_fixture import every_cluster  # noqa: F401  # the fixture `cluster`
from tests.support.cluster_recordings import (
    Seen,
    plain,
    recorded_events,
    recorded_logs,
    recorded_looks,
    recorded_requests,
)
from tests.support.cluster_situations import SITUATIONS, Play, play

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plays(cluster: ClusterDriver) -> dict[str, Play | BaseException]:
    """All situations side by side: the slowest one takes as long as all."""
    limit_s = 20 if cluster.is_pocket else 180
    results = await asyncio.gather(
        *(play(cluster, situation, limit_s=limit_s) for situation in SITUATIONS), return_exceptions=True
    )
    return dict(zip((situation.name for situation in SITUATIONS), results, strict=True))


@pytest.mark.parametrize("name", [situation.name for situation in SITUATIONS])
async def test_a_pod_lives_as_recorded(
    name: str, cluster: ClusterDriver, plays: dict[str, Play | BaseException]
) -> None:
    looks = _played(plays, name).looks
    recorded = recorded_looks(name)
    if name == "killed-by-signal":
        # Kubernetes makes `$` of `$$` before the shell sees it; what `kill -9 $` ends with is the shell's affair.
        looks, recorded = _without_exit_codes(looks), _without_exit_codes(recorded)
    if name == "plain-sidecar-keeps-running" or not cluster.is_pocket:
        # The recorded kubelet was too slow to see the base container run; other clusters see or miss other moments.
        assert looks[-1] == recorded[-1]
        looks = [look for look in looks if look in recorded]
        recorded = [look for look in recorded if look in looks]
    assert looks == recorded


def _played(plays: dict[str, Play | BaseException], name: str) -> Play:
    played = plays[name]
    if isinstance(played, BaseException):
        raise played
    return played


def _without_exit_codes(looks: list[Seen]) -> list[Seen]:
    return [look._replace(containers=tuple(one._replace(exit_code=None) for one in look.containers)) for look in looks]


@pytest.mark.parametrize("name", [situation.name for situation in SITUATIONS])
async def test_requests_are_answered_with_the_recorded_status(
    name: str, plays: dict[str, Play | BaseException]
) -> None:
    replies = _played(plays, name).replies
    recorded = [one for one in recorded_requests(name) if not one["path"].endswith("/secrets")]
    assert [reply.status for reply in replies] == [one["status"] for one in recorded][: len(replies)]
    for reply, one in zip(replies, recorded, strict=False):
        assert reply.json["kind"] == one["body"]["kind"]


@pytest.mark.parametrize("name", [situation.name for situation in SITUATIONS])
async def test_events_are_those_recorded(
    name: str, cluster: ClusterDriver, plays: dict[str, Play | BaseException]
) -> None:
    played = _played(plays, name)
    reply = await cluster.request("GET", f"/api/v1/namespaces/{played.namespace}/events")
    told = {(one["type"], one["reason"], plain(one["message"], played.namespace)) for one in reply.json["items"]}
    missing = {one for one in recorded_events(name) if one not in told}
    if cluster.is_pocket and name == "force-deleted":
        missing = {one for one in missing if one[1] != "Killing"}  # comes after the object is gone, when nobody waits
    assert not missing
    assert {one for one in told if one[0] == "Warning"} <= set(recorded_events(name)) or not cluster.is_pocket


async def test_a_pod_has_the_recorded_defaults(plays: dict[str, Play | BaseException]) -> None:
    stored = _played(plays, "success").replies[0].json["spec"]
    recorded = recorded_requests("success")[0]["body"]["spec"]
    # The pocket cluster mounts no token: containers there reach no API server.
    del recorded["volumes"], recorded["containers"][0]["volumeMounts"]
    stored.pop("volumes", None)
    stored["containers"][0].pop("volumeMounts", None)
    assert stored == recorded


_END_STATES = {
    "init-container-fails": "prep base",
    "init-container-ok": "prep base",
    "native-sidecar-return-value": "base return-value",
}


@pytest.mark.parametrize(
    "name",
    [
        "exit-code",
        "command-not-found",
        "deadline-exceeded",
        "oom-killed",
        "secret-env-ok",
        "missing-secret-env",
        "missing-secret-volume",
        *_END_STATES,
    ],
)
async def test_logs_read_after_the_end_are_those_recorded(
    name: str, cluster: ClusterDriver, plays: dict[str, Play | BaseException]
) -> None:
    played = _played(plays, name)
    for recorded in recorded_logs(name):
        query = f"container={recorded['container']}{recorded['query']}"
        reply = await cluster.request("GET", pods(played.namespace, "job/log", query))
        assert (reply.status, reply.body) == (recorded["status"], recorded["data"])
