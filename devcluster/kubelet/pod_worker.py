"""The worker of one pod on its node, as in the kubelet: from the pod's volumes to its end.

One task syncs the pod: volumes, sandbox, init containers, main containers, the end. A stop (deletion, deadline,
eviction by the node) cancels it at whatever point it has reached, and TERM, grace and KILL follow. Each change is
published through ``StatusManager``.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from devcluster.apimachinery.clock import now_text
from devcluster.apimachinery.errors import Json
from devcluster.apimachinery.store import Key
from devcluster.kubelet.containers import Containers
from devcluster.kubelet.host import Host, PodDirectories
from devcluster.kubelet.latency import pause
from devcluster.kubelet.node import Node
from devcluster.kubelet.restarts import Restarts, Sidecars
from devcluster.kubelet.status import outcome_failed
from devcluster.kubelet.status_manager import StatusManager
from devcluster.kubelet.views import ContainerView
from devcluster.kubelet.volumes import MountError, set_up_volumes
from devcluster.runtime.journal import JournalEntry
from devcluster.runtime.logs import LogFile

#: A sidecar has this much of the grace however long the containers before it took
#: (the kubelet's ``minimumGracePeriodInSeconds``).
_LEAST_GRACE_S = 2.0
_DEADLINE = "Pod was active on the node longer than the specified deadline"


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a pod is ended from outside, and with how much grace."""

    grace_s: float
    reason: str = ""
    message: str = ""
    is_deletion: bool = True


class PodWorker:
    """The worker of one pod."""

    def __init__(self, host: Host, pod: Json, node: Node, entry: JournalEntry) -> None:
        self._host = host
        self.node = node
        self.key: Key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        self.uid: str = pod["metadata"]["uid"]
        self._status = StatusManager(host, pod, node)
        self._directories = PodDirectories(host.directory, self.key, self.uid)
        self._containers = Containers(host, self._status, self._directories, entry)
        self._restarts = Restarts(host.latency, self._status, self._containers)
        self._sidecars = Sidecars(self._status, self._containers, self._restarts)
        self._stop: Stop | None = None
        self._held_stop: Stop | None = None
        self._kill_timer: asyncio.TimerHandle | None = None
        self._dying: list[str] = []
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._is_syncing = False
        self.task: asyncio.Task[None] | None = None
        self._on_end: Callable[[], None] = lambda: None

    # What others ask of a pod worker.

    def start(self, on_end: Callable[[], None]) -> None:
        """Run the pod; ``on_end`` is called when nothing is left to be done for it."""
        self._on_end = on_end
        self._spawn(self._run())

    def _spawn(self, steps: Coroutine[Any, Any, None]) -> None:
        self.task = asyncio.get_running_loop().create_task(steps)
        self.task.add_done_callback(lambda _task: self._on_end())

    def stop(self, stop: Stop) -> None:
        """Stop the pod, or shorten the grace of a stop under way; on an unreachable node, once it is back."""
        if self.node.is_unreachable:
            self._held_stop = stop
            return
        if self.task is None or self.task.done():
            return
        if self._stop is None:
            self._set_stop(stop)
            if self._is_syncing:
                self.task.cancel()
        elif stop.grace_s < self._stop.grace_s or stop.is_deletion != self._stop.is_deletion:
            grace_s = min(stop.grace_s, self._stop.grace_s)
            is_deletion = stop.is_deletion or self._stop.is_deletion
            self._set_stop(replace(self._stop, grace_s=grace_s, is_deletion=is_deletion))
            self._arm_kill(grace_s)

    def _set_stop(self, stop: Stop | None) -> None:
        self._stop = stop
        self._status.holds_ends = stop is not None

    def reconnect(self) -> None:
        """Publish what changed while the node was unreachable, and carry out a stop that could not reach it."""
        self._status.publish()
        if self._held_stop is not None:
            held, self._held_stop = self._held_stop, None
            if held.is_deletion and self.task is not None and self.task.done():
                self._spawn(self._remove())
            else:
                self.stop(held)

    def kill_containers(self) -> None:
        """Kill all containers at once."""
        self._containers.kill_all()

    def container(self, name: str) -> ContainerView | None:
        return self._status.find(name)

    def log(self, name: str) -> LogFile | None:
        """Return the log of a container's newest instance; None before its first start."""
        return self._containers.logs.get(name)

    def previous_log(self, name: str) -> LogFile | None:
        """Return the log of the instance before the newest."""
        return self._containers.previous_logs.get(name)

    def remove_files(self) -> None:
        """Remove volumes and working directories, once the pod is gone."""
        self._directories.remove()

    async def close(self) -> None:
        """Kill all containers and publish nothing more: the server stops."""
        self._cancel_timers()
        if self.task is not None and not self.task.done():
            self._set_stop(None)
            self.task.cancel()
        self._sidecars.stop_restarting()
        await self._containers.close()

    # Syncing.

    async def _run(self) -> None:
        try:
            # A task that is cancelled before its first step never runs at all, so a stop that early only leaves a note.
            if self._stop is None:
                self._is_syncing = True
                await self._sync()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._stop is None or task is None:
                raise
            task.uncancel()
        if self._stop is not None:
            await self._sync_terminating(self._stop)
        self._cancel_timers()

    async def _sync(self) -> None:
        await self.node.reachable.wait()
        self._status.publish()
        self._arm_deadline()
        await self._mount_volumes()
        await pause(self._host.latency.sandbox_s)
        self._status.publish(has_sandbox=True)
        if await self._run_init_containers():
            await self._run_main_containers()
        await self._sidecars.stop()
        await pause(self._host.latency.terminated_to_phase_s)
        self._finish()

    async def _mount_volumes(self) -> None:
        wait_s = self._host.latency.config_retry_s
        while True:
            try:
                volumes = set_up_volumes(self._host.store, self._status.pod, self._directories.volumes)
                self._containers.launcher.volumes = volumes
                return
            except MountError as error:
                self._status.event("Warning", "FailedMount", str(error))
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, 122.0)

    async def _run_init_containers(self) -> bool:
        """Return whether the main containers may start."""
        for view in self._status.view.of_role("init", "sidecar"):
            if view.role == "sidecar":
                await self._sidecars.start(view.name)
                continue
            await self._restarts.run(view.name)
            if not self._status.container(view.name).has_succeeded:
                return False
        return True

    async def _run_main_containers(self) -> None:
        names = [view.name for view in self._status.view.of_role("main")]
        if len(names) == 1:
            await self._restarts.run(names[0])
            return
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._restarts.run(name))

    def _finish(self) -> None:
        failed = outcome_failed(self._status.view)
        phase = "Failed" if failed else "Succeeded"
        self._status.publish(phase=phase, has_sandbox=False, is_over=True, is_failed=failed)

    # Being stopped.

    async def _sync_terminating(self, stop: Stop) -> None:
        self._sidecars.stop_restarting()
        self._report_stop(stop)
        self._arm_kill(stop.grace_s)
        view = self._status.view
        await self._end([one.name for one in view.of_role("init", "main")])
        for sidecar in reversed(view.of_role("sidecar")):
            self._arm_kill(max(_LEAST_GRACE_S, self._grace_left_s()))
            await self._end([sidecar.name])
        self._finish_stopped(stop)
        # Asked anew, for a pod over its deadline may meanwhile have been deleted as well.
        if self._stop is not None and self._stop.is_deletion:
            await pause(self._host.latency.removal_s)
            await self._remove()

    async def _end(self, names: list[str]) -> None:
        """End these; when their grace is over they alone are killed: others may still wait for their turn."""
        self._dying = names
        await self._containers.end(names)

    def _report_stop(self, stop: Stop) -> None:
        current = self._status.refresh()
        self._status.update(generation=current["metadata"].get("generation", 1))
        if stop.reason:
            self._status.update(is_over=True, is_failed=True)
            kind = "Normal" if stop.reason == "DeadlineExceeded" else "Warning"
            self._status.event(kind, stop.reason, stop.message)
        self._status.publish()

    def _finish_stopped(self, stop: Stop) -> None:
        """Publish all containers and the phase of a stopped pod in one update, as recorded."""
        self._status.update(containers=tuple(_not_located(view) for view in self._status.view.containers))
        failed = bool(stop.reason) or outcome_failed(self._status.view)
        self._status.publish(
            phase="Failed" if failed else "Succeeded",
            reason=stop.reason,
            message=stop.message,
            has_sandbox=False,
            is_over=True,
            is_failed=failed,
        )

    async def _remove(self) -> None:
        await self.node.reachable.wait()
        store = self._host.store
        stored = store.find("pods", self.key)
        if stored is None or stored.object["metadata"]["uid"] != self.uid:
            return
        gone = {"deletionTimestamp": now_text(), "deletionGracePeriodSeconds": 0}
        stored = store.update("pods", self.key, {**stored.object, "metadata": {**stored.object["metadata"], **gone}})
        if not stored.object["metadata"].get("finalizers"):
            store.remove("pods", self.key)

    # Timers.

    def _arm_kill(self, grace_s: float) -> None:
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self._kill_timer = asyncio.get_running_loop().call_later(grace_s, self._kill_dying)

    def _kill_dying(self) -> None:
        self._containers.kill(self._dying)

    def _grace_left_s(self) -> float:
        return self._kill_timer.when() - asyncio.get_running_loop().time() if self._kill_timer is not None else 0.0

    def _arm_deadline(self) -> None:
        spec = self._status.spec
        seconds = spec.get("activeDeadlineSeconds")
        if seconds is not None:
            stop = Stop(spec["terminationGracePeriodSeconds"], "DeadlineExceeded", _DEADLINE, is_deletion=False)
            self._deadline_timer = asyncio.get_running_loop().call_later(seconds, self.stop, stop)

    def _cancel_timers(self) -> None:
        for timer in (self._kill_timer, self._deadline_timer):
            if timer is not None:
                timer.cancel()


def _not_located(view: ContainerView) -> ContainerView:
    """Return the end of a main container that never ran before its pod was stopped."""
    if view.role != "main" or view.has_terminated:
        return view
    message = "The container could not be located when the pod was terminated"
    times = {"startedAt": None, "finishedAt": None}
    terminated: Json = {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": message}
    return view.with_state({"terminated": terminated | times})
