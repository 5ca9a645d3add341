"""The containers of one pod: each start and end, with its log, events and status."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256

from devcluster.apimachinery.clock import now_text
from devcluster.apimachinery.errors import Json
from devcluster.kubelet.environment import ConfigError
from devcluster.kubelet.host import Host, PodDirectories
from devcluster.kubelet.images import Image
from devcluster.kubelet.latency import pause
from devcluster.kubelet.launcher import Launcher
from devcluster.kubelet.pulls import image_is_present, pull_image
from devcluster.kubelet.status_manager import StatusManager
from devcluster.kubelet.views import ContainerView, waiting
from devcluster.runtime.journal import JournalEntry
from devcluster.runtime.logs import LogFile
from devcluster.runtime.process import Container, ContainerConfig, Exit, StartError

_MESSAGE_BYTES = 4096
_FALLBACK_BYTES = 2048


class Containers:
    """The containers of one pod; each has at most one running instance."""

    def __init__(self, host: Host, status: StatusManager, directories: PodDirectories, entry: JournalEntry) -> None:
        self._host = host
        self._status = status
        self._directories = directories
        self._entry = entry
        self.launcher = Launcher(host, directories)
        self.logs: dict[str, LogFile] = {}
        self.previous_logs: dict[str, LogFile] = {}
        spec = status.spec
        self._specs: dict[str, Json] = {
            one["name"]: one for one in (*spec.get("initContainers", []), *spec["containers"])
        }
        self._running: dict[str, Container] = {}

    def running(self, name: str) -> Container | None:
        return self._running.get(name)

    # The start of a container.

    async def start(self, name: str) -> Container | None:
        """Start a container, waiting for its image and configuration; return None when it cannot be started at all."""
        spec, status = self._specs[name], self._status
        await pause(self._host.latency.start_s)
        image = await pull_image(self._host, status, name, spec["image"], policy=spec["imagePullPolicy"])
        config = await self._container_config(name, spec, image)
        status.event("Normal", "Created", "Container created")
        view = self._next_instance(name, image)
        try:
            running = self.launcher.launch(spec, image, config, self.logs[name])
        except StartError as error:
            status.event("Warning", "Failed", f"Error: {error}")
            self._failed_to_start(view, str(error))
            return None
        self._running[name] = running
        status.event("Normal", "Started", "Container started")
        status.publish_start(view.with_state({"running": {"startedAt": now_text()}}))
        return running

    async def _container_config(self, name: str, spec: Json, image: Image) -> ContainerConfig:
        status = self._status
        while True:
            status.event("Normal", "Pulled", image_is_present(spec["image"]))
            try:
                return self.launcher.container_config(status.refresh(), spec, image)
            except ConfigError as error:
                status.event("Warning", "Failed", f"Error: {error}")
                state = waiting("CreateContainerConfigError", str(error))
                status.publish_container(status.container(name).with_state(state))
                await asyncio.sleep(self._host.latency.config_retry_s)

    def _next_instance(self, name: str, image: Image) -> ContainerView:
        """Open the log of the instance about to start, and return its view."""
        view = self._status.container(name)
        starts = self._entry.starts[name] = self._entry.starts.get(name, 0) + 1
        if name in self.logs:
            self.previous_logs[name] = self.logs[name]
        output = self._entry.output_of(name)
        path = self._directories.log(name, starts - 1)
        output.paths.append(str(path))
        self.logs[name] = LogFile(path, output, rotate_bytes=self._host.rotate_bytes)
        return replace(
            view,
            image=image.reference,
            image_id=image.identity,
            container_id=f"containerd://{sha256(f'{self._entry.uid}/{name}/{starts}'.encode()).hexdigest()}",
            restarts=starts - 1,
            last_state=view.state if view.has_terminated else view.last_state,
        )

    def _failed_to_start(self, view: ContainerView, message: str) -> None:
        self.logs[view.name].close()
        terminated = {"exitCode": 128, "reason": "StartError", "message": message}
        times = {"startedAt": "1970-01-01T00:00:00Z", "finishedAt": now_text(), "containerID": view.container_id}
        self._status.publish_container(view.with_state({"terminated": terminated | times}))

    # The end of a container.

    async def end(self, names: Iterable[str]) -> None:
        """Send TERM to those of these that run, and wait for their end; KILL is the caller's."""
        living = {name: self._running[name] for name in names if name in self._running}
        for name in living:
            self.terminate(name)
        await _all_ended(living.values())
        for name, running in living.items():
            self.ended(name, running.ended.result())

    def terminate(self, name: str) -> None:
        self._status.event("Normal", "Killing", f"Stopping container {name}")
        self._running[name].terminate()

    def kill_all(self) -> None:
        self.kill(list(self._running))

    def kill(self, names: Iterable[str]) -> None:
        """Send KILL to those of these that run."""
        for name in names:
            if name in self._running:
                self._running[name].kill()

    def ended(self, name: str, exit_: Exit) -> None:
        """Record an end; one that is known already changes nothing."""
        self._running.pop(name, None)
        view = self._status.container(name)
        if not view.is_running:
            return
        terminated: Json = {"exitCode": exit_.code, "reason": exit_.reason}
        message = self._termination_message(self._specs[name], exit_)
        if message:
            terminated["message"] = message
        terminated |= {"startedAt": view.state["running"]["startedAt"], "finishedAt": now_text()}
        terminated["containerID"] = view.container_id
        self._status.publish_end(view.with_state({"terminated": terminated}))
        log = self.logs[name]
        asyncio.get_running_loop().call_later(self._host.latency.log_eof_s, log.close)

    def _termination_message(self, spec: Json, exit_: Exit) -> str:
        path = self._directories.termination_message(spec["name"])
        content = path.read_bytes()[-_MESSAGE_BYTES:] if path.exists() else b""
        if not content and exit_.code != 0 and spec["terminationMessagePolicy"] == "FallbackToLogsOnError":
            content = self.logs[spec["name"]].tail(_FALLBACK_BYTES)
        return content.decode(errors="replace")

    async def close(self) -> None:
        """Kill all processes and close all logs; publish nothing."""
        self.kill_all()
        await _all_ended(self._running.values())
        for log in self.logs.values():
            log.close()


async def _all_ended(running: Iterable[Container]) -> None:
    futures = [one.ended for one in running]
    if futures:
        await asyncio.wait(futures)
