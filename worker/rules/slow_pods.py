"""Pods that are deleted and do not go: a finalizer, a long grace period, a node that does not answer.

They hold nothing of a worker but a place in this list, which `podrelay workers` shows. It is made of what the watches
show and of steady time, so whoever takes the jobs over comes to the same list.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from worker.cluster.observation import Observation

#: A pod that was told to go and is there after this long is slow, whatever its grace.
SLOW_AFTER_S: Final = 60.0
#: So many are named.
NAMED: Final = 20


@dataclass(frozen=True, slots=True)
class SlowPod:
    """A pod that does not go. ``for_s``: how long it has been seen to be deleted."""

    name: str
    for_s: float


class SlowPods:
    """Remembers since when each pod has been seen to be deleted."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def among(self, leaving: Iterable[Observation], now: float) -> list[SlowPod]:
        """Return the slow ones of the pods that are being deleted, slowest first. ``now``: steady seconds."""
        pods = {pod.uid: f"{pod.namespace}/{pod.name}" for pod in leaving}
        self._since = {uid: self._since.get(uid, now) for uid in pods}
        slow = [SlowPod(pods[uid], now - since) for uid, since in self._since.items() if now - since >= SLOW_AFTER_S]
        return sorted(slow, key=lambda pod: -pod.for_s)


def report(slow: list[SlowPod]) -> dict[str, Any]:
    """Return what a worker's heartbeat says of them."""
    if not slow:
        return {"count": 0}
    return {"count": len(slow), "oldest_s": round(slow[0].for_s), "pods": [pod.name for pod in slow[:NAMED]]}
