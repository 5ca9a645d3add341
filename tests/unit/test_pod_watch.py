"""What the watch makes of things that are no pods: it goes on with the others."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from tests.support.recordings import steps
from worker.cluster.client import WatchEvent
from worker.cluster.observation import Observation
from worker.cluster.watch import PodWatch

POD = steps("success")[0].pod
NOT_PODS: list[Any] = [{}, {"metadata": None}, {"metadata": {"name": 5, "resourceVersion": 7}}, {"metadata": []}]


class ScriptedCluster:
    """Lists one pod among things that are none, then sends events of the same kinds, then nothing more."""

    def __init__(self) -> None:
        self.versions: list[str] = []

    async def list_pods(self, namespace: str, selector: str) -> tuple[list[Any], str]:
        return [*NOT_PODS, POD, "pod"], "1"

    async def watch_pods(self, namespace: str, selector: str, version: str) -> AsyncIterator[WatchEvent]:
        self.versions.append(version)
        if len(self.versions) == 1:
            for kind in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
                for junk in NOT_PODS:
                    yield WatchEvent(kind, junk)
            yield WatchEvent("DELETED", POD)
        else:
            await asyncio.Event().wait()


class Heard:
    def __init__(self) -> None:
        self.changed: list[str] = []
        self.deleted = asyncio.Event()

    def pod_changed(self, pod: Observation) -> None:
        self.changed.append(pod.name)

    def pod_deleted(self, pod: Observation) -> None:
        self.deleted.set()

    def pods_listed(self, namespace: str) -> None:
        pass


async def test_what_is_no_pod_is_left_out_and_counted_and_the_watch_goes_on() -> None:
    cluster, heard = ScriptedCluster(), Heard()
    watch = PodWatch(cluster, "ns", installation="i", queue="q", listener=heard)  # type: ignore[arg-type]  # scripted
    running = asyncio.create_task(watch.run())
    await asyncio.wait_for(heard.deleted.wait(), 10)
    running.cancel()
    assert heard.changed == [POD["metadata"]["name"]]
    assert watch.unreadable == len(NOT_PODS) + 1 + 3 * len(NOT_PODS)
