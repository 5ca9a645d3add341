"""Native sidecars: init containers that are started in their turn, restarted for ever, and stopped after all others."""

import asyncio

from devcluster.containers import Running
from devcluster.instances import Instances
from devcluster.knowledge import Knowledge
from devcluster.restarts import Restarts


class Sidecars:
    """The sidecars of one pod, in the order of their start."""

    def __init__(self, knowledge: Knowledge, instances: Instances, restarts: Restarts) -> None:
        self._knowledge = knowledge
        self._instances = instances
        self._restarts = restarts
        self._keepers: dict[str, asyncio.Task[None]] = {}

    async def start(self, name: str) -> None:
        """Start one, as often as that takes, and have it kept running."""
        running = await self._instances.start(name)
        while running is None:
            await self._restarts.back_off(name)
            running = await self._instances.start(name)
        self._keepers[name] = asyncio.get_running_loop().create_task(self._keep(name, running))

    async def _keep(self, name: str, running: Running | None) -> None:
        while True:
            if running is not None:
                self._instances.ended(name, await asyncio.shield(running.ended))
            await self._restarts.back_off(name)
            running = await self._instances.start(name)

    async def stop(self) -> None:
        """The main containers have ended: TERM to the sidecars, the last one first."""
        for left, name in enumerate(reversed(self._keepers), 1 - len(self._keepers)):
            self._keepers[name].cancel()
            running = self._instances.running(name)
            if running is not None:
                self._instances.terminate(name)
                grace_s = self._knowledge.spec["terminationGracePeriodSeconds"]
                timer = asyncio.get_running_loop().call_later(grace_s, running.kill)
                exit_ = await asyncio.shield(running.ended)
                timer.cancel()
                # The sandbox goes with the last sidecar, before the phase (recording `native-sidecar-return-value`).
                self._knowledge.note(has_sandbox=left < 0)
                self._instances.ended(name, exit_)

    def forsake(self) -> None:
        """None is restarted from now on."""
        for keeper in self._keepers.values():
            keeper.cancel()
