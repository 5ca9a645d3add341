"""Restarts: whether a container that has ended is started again, and after what back-off.

Native sidecars, which are init containers that are always restarted, are stopped after all others.
"""

import asyncio
from dataclasses import replace

from devcluster.kubelet.containers import Containers
from devcluster.kubelet.latency import Latency
from devcluster.kubelet.status_manager import StatusManager
from devcluster.kubelet.views import ContainerView, waiting
from devcluster.runtime.process import Container


class Restarts:
    """The restarts of one pod's containers."""

    def __init__(self, latency: Latency, status: StatusManager, containers: Containers) -> None:
        self._latency = latency
        self._status = status
        self._containers = containers
        self._failures: dict[str, int] = {}

    async def run(self, name: str) -> None:
        """Run a container, again and again as far as the pod's restart policy wants it."""
        while True:
            running = await self._containers.start(name)
            if running is not None:
                self._containers.ended(name, await asyncio.shield(running.ended))
            if not _runs_again(self._status.container(name), self._status.spec["restartPolicy"]):
                return
            await self.back_off(name)

    async def back_off(self, name: str) -> None:
        """Wait before a restart: the first comes at once, later ones after a doubling pause in CrashLoopBackOff."""
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        if failures == 1:
            return
        status = self._status
        wait_s = min(self._latency.restart_back_off_s * 2 ** (failures - 2), self._latency.restart_back_off_limit_s)
        told_s = min(10 * 2 ** (failures - 2), 300)
        where = f"{status.key[1]}_{status.key[0]}({status.uid})"
        status.event("Warning", "BackOff", f"Back-off restarting failed container {name} in pod {where}")
        await asyncio.sleep(wait_s / 2)
        words = f"back-off {_go_duration(told_s)} restarting failed container={name} pod={where}"
        view = status.container(name)
        last = view.state if view.has_terminated else view.last_state
        status.publish_container(replace(view, state=waiting("CrashLoopBackOff", words), last_state=last))
        await asyncio.sleep(wait_s / 2)


class Sidecars:
    """The native sidecars of one pod, in the order of their start."""

    def __init__(self, status: StatusManager, containers: Containers, restarts: Restarts) -> None:
        self._status = status
        self._containers = containers
        self._restarts = restarts
        self._keepers: dict[str, asyncio.Task[None]] = {}

    async def start(self, name: str) -> None:
        """Start one, as often as that takes, and restart it whenever it ends."""
        running = await self._containers.start(name)
        while running is None:
            await self._restarts.back_off(name)
            running = await self._containers.start(name)
        self._keepers[name] = asyncio.get_running_loop().create_task(self._keep(name, running))

    async def _keep(self, name: str, running: Container | None) -> None:
        while True:
            if running is not None:
                self._containers.ended(name, await asyncio.shield(running.ended))
            await self._restarts.back_off(name)
            running = await self._containers.start(name)

    async def stop(self) -> None:
        """Stop the sidecars, the last one first, after the main containers have ended."""
        for left, name in enumerate(reversed(self._keepers), 1 - len(self._keepers)):
            self._keepers[name].cancel()
            running = self._containers.running(name)
            if running is not None:
                self._containers.terminate(name)
                grace_s = self._status.spec["terminationGracePeriodSeconds"]
                timer = asyncio.get_running_loop().call_later(grace_s, running.kill)
                exit_ = await asyncio.shield(running.ended)
                timer.cancel()
                # The sandbox goes with the last sidecar, before the phase (recording ``native-sidecar-return-value``).
                self._status.update(has_sandbox=left < 0)
                self._containers.ended(name, exit_)

    def stop_restarting(self) -> None:
        """Restart none from now on."""
        for keeper in self._keepers.values():
            keeper.cancel()


def _runs_again(view: ContainerView, policy: str) -> bool:
    if policy == "Never" or (view.role == "init" and view.has_succeeded):
        return False
    return policy == "Always" or not view.has_succeeded


def _go_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
