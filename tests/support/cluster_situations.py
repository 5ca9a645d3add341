"""The situations of the recordings as plays: the same pod, and the same request at the same point of its life."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.cluster_driver import ClusterDriver, Reply, pods, state_of
from tests.support.cluster_recordings import Seen, ends_with_deleted, recorded_looks, recorded_pod, see, without_repeats

Json = dict[str, Any]
When = Callable[[list[Json]], bool]
Act = Callable[[ClusterDriver, str], Awaitable[Reply]]


@dataclass(frozen=True)
class Situation:
    """One recording, with what to do when; `steps` are taken in order, and it is over when the recording is."""

    name: str
    steps: tuple[tuple[When, Act], ...] = ()
    secrets: tuple[Json, ...] = ()


@dataclass
class Play:
    """What came of it."""

    namespace: str
    objects: list[Json] = field(default_factory=list)
    looks: list[Seen] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    ended_with_deleted: bool = False


def delete(query: str = "") -> Act:
    return lambda driver, namespace: driver.request("DELETE", pods(namespace, "job", query))


def evict(driver: ClusterDriver, namespace: str) -> Awaitable[Reply]:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "job"}}
    return driver.request("POST", pods(namespace, "job/eviction"), body)


def patch(body: Json) -> Act:
    kind = "application/strategic-merge-patch+json"
    return lambda driver, namespace: driver.request("PATCH", pods(namespace, "job"), body, kind=kind)


def read_log(query: str) -> Act:
    return lambda driver, namespace: driver.request("GET", pods(namespace, "job/log", query))


def is_running(objects: list[Json]) -> bool:
    return "running" in state_of(objects[-1])


def is_over(objects: list[Json]) -> bool:
    return objects[-1]["status"].get("phase") in ("Succeeded", "Failed")


def has_grace_0(objects: list[Json]) -> bool:
    return objects[-1]["metadata"].get("deletionGracePeriodSeconds") == 0


def is_waiting_with(reason: str, times: int = 1) -> When:
    def check(objects: list[Json]) -> bool:
        reasons = [state_of(one).get("waiting", {}).get("reason") for one in objects]
        changes = [one for at, one in enumerate(reasons) if at == 0 or one != reasons[at - 1]]
        return changes.count(reason) >= times and reasons[-1] == reason

    return check


def is_gated(objects: list[Json]) -> bool:
    return "conditions" in objects[-1]["status"]


def base_ended_beside_another(objects: list[Json]) -> bool:
    return "terminated" in state_of(objects[-1]) and "running" in state_of(objects[-1], "side")


_DELETE_WHEN_OVER = ((is_over, delete()),)
SITUATIONS = [
    Situation("success", _DELETE_WHEN_OVER),
    Situation("exit-code"),
    Situation("command-not-found"),
    Situation("deadline-exceeded"),
    Situation("deleted-while-running", ((is_running, delete()),)),
    Situation("deleted-while-running-ignores-term", ((is_running, delete()),)),
    Situation("evicted-through-api", ((is_running, evict),)),
    Situation(
        "finalizer-holds-pod", ((is_running, delete()), (has_grace_0, patch({"metadata": {"finalizers": None}})))
    ),
    Situation("force-deleted", ((is_running, delete("gracePeriodSeconds=0")),)),
    Situation("image-never-pull"),
    Situation("image-pull-failure", ((is_waiting_with("ErrImagePull", 2), delete("gracePeriodSeconds=0")),)),
    Situation("init-container-fails"),
    Situation("init-container-ok"),
    Situation("invalid-image-name"),
    Situation("killed-by-signal"),
    Situation("missing-secret-env"),
    Situation("missing-secret-volume"),
    Situation("native-sidecar-return-value"),
    Situation("oom-killed"),
    Situation("plain-sidecar-keeps-running", ((base_ended_beside_another, delete()),)),
    Situation("restart-on-failure"),
    Situation(
        "scheduling-gate",
        ((is_gated, patch({"spec": {"schedulingGates": [{"$patch": "delete", "name": "example.com/wait"}]}})),),
    ),
    Situation("secret-env-ok", secrets=({"metadata": {"name": "db"}, "stringData": {"password": "example"}},)),
    Situation("termination-message"),
    Situation("termination-message-over-4096-bytes"),
    Situation("unschedulable-cpu"),
    Situation("unschedulable-selector"),
    Situation("log-follow-details", _DELETE_WHEN_OVER),
    Situation("log-interleaved-streams"),
    Situation("log-same-timestamps-burst"),
    Situation("log-follow-across-delete", ((is_running, delete()),)),
]


async def play(driver: ClusterDriver, situation: Situation, *, limit_s: float) -> Play:
    """Create the pod, take the steps, and collect what the watch shows."""
    namespace = await driver.namespace()
    for secret in situation.secrets:
        await driver.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    played = Play(namespace)
    async with asyncio.timeout(limit_s):
        await _watch(driver, situation, played)
    return played


async def _watch(driver: ClusterDriver, situation: Situation, played: Play) -> None:
    steps = list(situation.steps)
    recorded = recorded_looks(situation.name)
    created = asyncio.create_task(
        _create(driver, played, recorded_pod(situation.name)), name=f"create for {situation.name}"
    )
    async for event in driver.stream(pods(played.namespace, query="watch=1")):
        played.objects.append(event["object"])
        played.looks = without_repeats([*played.looks, see(event["object"], played.namespace)])
        if event["type"] == "DELETED":
            played.ended_with_deleted = True
            break
        if steps and steps[0][0](played.objects):
            played.replies.append(await steps.pop(0)[1](driver, played.namespace))
        elif not steps and len(played.looks) >= len(recorded) and not ends_with_deleted(situation.name):
            break
    await created


async def _create(driver: ClusterDriver, played: Play, pod: Json) -> None:
    played.replies.insert(0, await driver.request("POST", pods(played.namespace), pod))
