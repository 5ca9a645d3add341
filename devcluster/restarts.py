"""Restarts: whether a container that has ended runs again, and how long it is kept waiting for that."""

import asyncio
from dataclasses import replace

from devcluster.instances import Instances
from devcluster.knowledge import Knowledge
from devcluster.latency import Latency
from devcluster.views import ContainerView, waiting


class Restarts:
    """The restarts of one pod's containers."""

    def __init__(self, latency: Latency, knowledge: Knowledge, instances: Instances) -> None:
        self._latency = latency
        self._knowledge = knowledge
        self._instances = instances
        self._failures: dict[str, int] = {}

    async def run(self, name: str) -> None:
        """Run a container until the pod's restart policy is content."""
        while True:
            running = await self._instances.start(name)
            if running is not None:
                self._instances.ended(name, await asyncio.shield(running.ended))
            if not _runs_again(self._knowledge.container(name), self._knowledge.spec["restartPolicy"]):
                return
            await self.back_off(name)

    async def back_off(self, name: str) -> None:
        """The first restart comes at once, later ones after a doubling pause in CrashLoopBackOff."""
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        if failures == 1:
            return
        knowledge = self._knowledge
        wait_s = min(self._latency.restart_back_off_s * 2 ** (failures - 2), self._latency.restart_back_off_limit_s)
        told_s = min(10 * 2 ** (failures - 2), 300)
        where = f"{knowledge.key[1]}_{knowledge.key[0]}({knowledge.uid})"
        knowledge.event("Warning", "BackOff", f"Back-off restarting failed container {name} in pod {where}")
        await asyncio.sleep(wait_s / 2)
        words = f"back-off {_go_duration(told_s)} restarting failed container={name} pod={where}"
        view = knowledge.container(name)
        last = view.state if view.has_terminated else view.last_state
        knowledge.tell_container(replace(view, state=waiting("CrashLoopBackOff", words), last_state=last))
        await asyncio.sleep(wait_s / 2)


def _runs_again(view: ContainerView, policy: str) -> bool:
    if policy == "Never" or (view.role == "init" and view.has_succeeded):
        return False
    return policy == "Always" or not view.has_succeeded


def _go_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
