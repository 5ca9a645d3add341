"""The container instances of one pod: each start and each end, with its log, its events and what its status shows."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256

from devcluster.answers import Json
from devcluster.clock import now_text
from devcluster.containers import Exit, Plan, Running, StartTrouble
from devcluster.environment import ConfigTrouble
from devcluster.images import Image
from devcluster.knowledge import Knowledge
from devcluster.latency import pause
from devcluster.launcher import Launcher
from devcluster.logs import LogFile
from devcluster.machine import Machine, PodDirectories
from devcluster.pulls import image_is_present, pull_image
from devcluster.record import PodRecord
from devcluster.views import ContainerView, waiting

_MESSAGE_BYTES = 4096
_FALLBACK_BYTES = 2048


class Instances:
    """What was started for one pod; each container has at most one running instance."""

    def __init__(self, machine: Machine, knowledge: Knowledge, directories: PodDirectories, record: PodRecord) -> None:
        self._machine = machine
        self._knowledge = knowledge
        self._directories = directories
        self._record = record
        self.launcher = Launcher(machine, directories)
        self.logs: dict[str, LogFile] = {}
        self.previous_logs: dict[str, LogFile] = {}
        spec = knowledge.spec
        self._specs: dict[str, Json] = {
            one["name"]: one for one in (*spec.get("initContainers", []), *spec["containers"])
        }
        self._running: dict[str, Running] = {}

    def running(self, name: str) -> Running | None:
        return self._running.get(name)

    # The start of a container.

    async def start(self, name: str) -> Running | None:
        """Start a container, waiting out trouble that may heal; None when it cannot be started at all."""
        spec, knowledge = self._specs[name], self._knowledge
        await pause(self._machine.latency.start_s)
        image = await pull_image(self._machine, knowledge, name, spec["image"], policy=spec["imagePullPolicy"])
        plan = await self._configured(name, spec, image)
        knowledge.event("Normal", "Created", "Container created")
        view = self._next_instance(name, image)
        try:
            running = self.launcher.launch(spec, image, plan, self.logs[name])
        except StartTrouble as trouble:
            knowledge.event("Warning", "Failed", f"Error: {trouble}")
            self._failed_to_start(view, str(trouble))
            return None
        self._running[name] = running
        knowledge.event("Normal", "Started", "Container started")
        knowledge.tell_started(view.moved({"running": {"startedAt": now_text()}}))
        return running

    async def _configured(self, name: str, spec: Json, image: Image) -> Plan:
        knowledge = self._knowledge
        while True:
            knowledge.event("Normal", "Pulled", image_is_present(spec["image"]))
            try:
                return self.launcher.plan(knowledge.look_again(), spec, image)
            except ConfigTrouble as trouble:
                knowledge.event("Warning", "Failed", f"Error: {trouble}")
                state = waiting("CreateContainerConfigError", str(trouble))
                knowledge.tell_container(knowledge.container(name).moved(state))
                await asyncio.sleep(self._machine.latency.config_retry_s)

    def _next_instance(self, name: str, image: Image) -> ContainerView:
        """The view of the instance about to start, and its log."""
        view = self._knowledge.container(name)
        starts = self._record.starts[name] = self._record.starts.get(name, 0) + 1
        if name in self.logs:
            self.previous_logs[name] = self.logs[name]
        written = self._record.container(name)
        path = self._directories.log(name, starts - 1)
        written.paths.append(str(path))
        self.logs[name] = LogFile(path, written, rotate_bytes=self._machine.rotate_bytes)
        return replace(
            view,
            image=image.reference,
            image_id=image.identity,
            container_id=f"containerd://{sha256(f'{self._record.uid}/{name}/{starts}'.encode()).hexdigest()}",
            restarts=starts - 1,
            last_state=view.state if view.has_terminated else view.last_state,
        )

    def _failed_to_start(self, view: ContainerView, message: str) -> None:
        self.logs[view.name].close()
        terminated = {"exitCode": 128, "reason": "StartError", "message": message}
        times = {"startedAt": "1970-01-01T00:00:00Z", "finishedAt": now_text(), "containerID": view.container_id}
        self._knowledge.tell_container(view.moved({"terminated": terminated | times}))

    # The end of a container.

    async def end(self, names: Iterable[str]) -> None:
        """TERM to those of these that run, and wait for their end; KILL is for the caller to send."""
        living = {name: self._running[name] for name in names if name in self._running}
        for name in living:
            self.terminate(name)
        await _all_ended(living.values())
        for name, running in living.items():
            self.ended(name, running.ended.result())

    def terminate(self, name: str) -> None:
        self._knowledge.event("Normal", "Killing", f"Stopping container {name}")
        self._running[name].terminate()

    def kill_all(self) -> None:
        for running in list(self._running.values()):
            running.kill()

    def ended(self, name: str, exit_: Exit) -> None:
        """Take note of an end; for one that is known already, do nothing."""
        self._running.pop(name, None)
        view = self._knowledge.container(name)
        if not view.is_running:
            return
        terminated: Json = {"exitCode": exit_.code, "reason": exit_.reason}
        message = self._termination_message(self._specs[name], exit_)
        if message:
            terminated["message"] = message
        terminated |= {"startedAt": view.state["running"]["startedAt"], "finishedAt": now_text()}
        terminated["containerID"] = view.container_id
        self._knowledge.tell_end(view.moved({"terminated": terminated}))
        log = self.logs[name]
        asyncio.get_running_loop().call_later(self._machine.latency.log_eof_s, log.close)

    def _termination_message(self, spec: Json, exit_: Exit) -> str:
        path = self._directories.termination_message(spec["name"])
        content = path.read_bytes()[-_MESSAGE_BYTES:] if path.exists() else b""
        if not content and exit_.code != 0 and spec["terminationMessagePolicy"] == "FallbackToLogsOnError":
            content = self.logs[spec["name"]].tail(_FALLBACK_BYTES)
        return content.decode(errors="replace")

    async def close(self) -> None:
        """All processes and all logs end, and nobody is told."""
        self.kill_all()
        await _all_ended(self._running.values())
        for log in self.logs.values():
            log.close()


async def _all_ended(running: Iterable[Running]) -> None:
    futures = [one.ended for one in running]
    if futures:
        await asyncio.wait(futures)
