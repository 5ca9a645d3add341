"""The life of one pod on its node, as a kubelet leads it.

One task walks through it: volumes, sandbox, init containers, main containers, the end. A stop (deletion, deadline,
eviction by the node) cancels that walk at whatever point it has reached and continues with TERM, grace, KILL. Every
change of what is known goes through `_know`, which publishes a status; on a lost node nothing is published until it is
back.
"""

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from devcluster.answers import Json
from devcluster.clock import now_text
from devcluster.containers import Exit, MemoryWarden, Plan, ProcessContainer, Running, StartTrouble
from devcluster.environment import ConfigTrouble, Rewriting, environment_of, expand
from devcluster.events import EventWriter
from devcluster.images import Image, ImageTable, ImageTrouble
from devcluster.latency import Latency
from devcluster.logs import LogFile
from devcluster.nodes import Node
from devcluster.quantity import amount
from devcluster.record import PodRecord
from devcluster.simulated import SimulatedContainer
from devcluster.status import ContainerState, ContainerView, PodView, outcome_failed, pod_status
from devcluster.store import Key, Store
from devcluster.undertaker import Undertaker
from devcluster.volumes import MountTrouble, set_up_volumes

_MESSAGE_BYTES = 4096
_FALLBACK_BYTES = 2048
_DEADLINE = "Pod was active on the node longer than the specified deadline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What all pods share."""

    store: Store
    events: EventWriter
    images: ImageTable
    latency: Latency
    directory: Path
    undertaker: Undertaker
    warden: MemoryWarden
    rotate_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a pod is ended from outside, and with how much grace."""

    grace_s: float
    reason: str = ""
    message: str = ""
    is_deletion: bool = True


class PodLife:
    """One pod on one node."""

    def __init__(self, machine: Machine, pod: Json, node: Node, record: PodRecord) -> None:
        self._machine = machine
        self._pod = pod
        self.node = node
        self._record = record
        self.key: Key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        self.uid: str = pod["metadata"]["uid"]
        self.logs: dict[str, LogFile] = {}
        self.previous_logs: dict[str, LogFile] = {}
        self._specs: dict[str, Json] = {}
        self._running: dict[str, Running] = {}
        self._sidecars: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, int] = {}
        self._volumes: dict[str, Path] = {}
        self._stop: Stop | None = None
        self._held_stop: Stop | None = None
        self._kill_timer: asyncio.TimerHandle | None = None
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._has_run = False
        self._is_walking = False
        self._view = self._first_view()
        self.task: asyncio.Task[None] | None = None
        self._on_end: Callable[[], None] = lambda: None

    # What others ask of a life.

    def begin(self, on_end: Callable[[], None]) -> None:
        """Start the walk; `on_end` is called when nothing is left to be done for this pod."""
        self._on_end = on_end
        self._spawn(self._live())

    def _spawn(self, steps: Coroutine[Any, Any, None]) -> None:
        self.task = asyncio.get_running_loop().create_task(steps)
        self.task.add_done_callback(lambda _task: self._on_end())

    def stop(self, stop: Stop) -> None:
        """End the pod; a later, shorter grace shortens what is under way."""
        if self.node.is_lost:
            self._held_stop = stop
            return
        if self.task is None or self.task.done():
            return
        if self._stop is None:
            self._stop = stop
            if self._is_walking:
                self.task.cancel()
        elif stop.grace_s < self._stop.grace_s or stop.is_deletion != self._stop.is_deletion:
            grace_s = min(stop.grace_s, self._stop.grace_s)
            self._stop = replace(self._stop, grace_s=grace_s, is_deletion=stop.is_deletion or self._stop.is_deletion)
            self._arm_kill(grace_s)

    def node_is_back(self) -> None:
        """Publish what could not be told, and obey what could not be heard."""
        self._publish()
        if self._held_stop is not None:
            held, self._held_stop = self._held_stop, None
            if held.is_deletion and self.task is not None and self.task.done():
                self._spawn(self._remove())
            else:
                self.stop(held)

    def kill_containers(self) -> None:
        """Everything dies at once, as when the machine loses power."""
        for running in self._running.values():
            running.kill()

    def container(self, name: str) -> ContainerView | None:
        return next((view for view in self._view.containers if view.name == name), None)

    async def close(self) -> None:
        """The server stops: no more publishing, all processes gone."""
        self._cancel_timers()
        if self.task is not None and not self.task.done():
            self._stop = None
            self.task.cancel()
        for sidecar in self._sidecars.values():
            sidecar.cancel()
        for running in list(self._running.values()):
            running.kill()
        await _all_ended(self._running.values())
        for log in self.logs.values():
            log.close()

    # The walk.

    async def _live(self) -> None:
        try:
            # A task that is cancelled before its first step never runs at all, so a stop that early only leaves a note.
            if self._stop is None:
                self._is_walking = True
                await self._work()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._stop is None or task is None:
                raise
            task.uncancel()
        if self._stop is not None:
            await self._obey_stop()
        self._cancel_timers()

    async def _work(self) -> None:
        self._publish()
        self._arm_deadline()
        await self._mount_volumes()
        await _pause(self._machine.latency.sandbox_s)
        self._know(has_sandbox=True)
        if await self._run_init_containers():
            await self._run_main_containers()
        await self._stop_sidecars()
        await _pause(self._machine.latency.terminated_to_phase_s)
        self._finish()

    async def _mount_volumes(self) -> None:
        wait_s = self._machine.latency.config_retry_s
        while True:
            try:
                directory = self._directory() / "v"
                self._volumes = set_up_volumes(self._machine.store, self._pod, directory)
                return
            except MountTrouble as trouble:
                self._event("Warning", "FailedMount", str(trouble))
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, 122.0)

    async def _run_init_containers(self) -> bool:
        """Whether the main containers may start."""
        for view in self._view.of_role("init", "sidecar"):
            if view.role == "sidecar":
                await self._start_sidecar(view.name)
                continue
            await self._run_with_restarts(view.name)
            ended = self.container(view.name)
            if ended is None or not ended.has_succeeded:
                return False
        return True

    async def _start_sidecar(self, name: str) -> None:
        running = await self._start(name)
        while running is None:
            await self._back_off(name)
            running = await self._start(name)
        self._sidecars[name] = asyncio.get_running_loop().create_task(self._keep_sidecar(name, running))

    async def _keep_sidecar(self, name: str, running: Running | None) -> None:
        while True:
            if running is not None:
                self._ended(name, await asyncio.shield(running.ended))
            await self._back_off(name)
            running = await self._start(name)

    async def _run_main_containers(self) -> None:
        names = [view.name for view in self._view.of_role("main")]
        if len(names) == 1:
            await self._run_with_restarts(names[0])
            return
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._run_with_restarts(name))

    async def _run_with_restarts(self, name: str) -> None:
        while True:
            running = await self._start(name)
            if running is not None:
                self._ended(name, await asyncio.shield(running.ended))
            if not self._restarts(name):
                return
            await self._back_off(name)

    def _restarts(self, name: str) -> bool:
        view = self.container(name)
        policy = self._pod["spec"]["restartPolicy"]
        if view is None or policy == "Never" or (view.role == "init" and view.has_succeeded):
            return False
        return policy == "Always" or not view.has_succeeded

    async def _back_off(self, name: str) -> None:
        """The first restart comes at once, later ones after a doubling pause in CrashLoopBackOff."""
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        if failures == 1:
            return
        latency = self._machine.latency
        wait_s = min(latency.restart_back_off_s * 2 ** (failures - 2), latency.restart_back_off_limit_s)
        told_s = min(10 * 2 ** (failures - 2), 300)
        where = f"{self.key[1]}_{self.key[0]}({self.uid})"
        self._event("Warning", "BackOff", f"Back-off restarting failed container {name} in pod {where}")
        await asyncio.sleep(wait_s / 2)
        words = f"back-off {_go_duration(told_s)} restarting failed container={name} pod={where}"
        view = self._view_of(name)
        last = view.state if view.has_terminated else view.last_state
        self._know_container(replace(view, state=_waiting("CrashLoopBackOff", words), last_state=last))
        await asyncio.sleep(wait_s / 2)

    # Starting a container.

    async def _start(self, name: str) -> Running | None:
        """Start a container, waiting out trouble that may heal; None when it cannot be started at all."""
        spec = self._specs[name]
        await _pause(self._machine.latency.start_s)
        image = await self._image_of(name, spec)
        while True:
            self._event("Normal", "Pulled", _pulled(spec["image"]))
            try:
                plan = self._plan(spec, image)
                break
            except ConfigTrouble as trouble:
                self._event("Warning", "Failed", f"Error: {trouble}")
                self._know_container(self._view_of(name).moved(_waiting("CreateContainerConfigError", str(trouble))))
                await asyncio.sleep(self._machine.latency.config_retry_s)
        self._event("Normal", "Created", "Container created")
        view = self._next_instance(name, image)
        try:
            running = self._launch(spec, image, plan)
        except StartTrouble as trouble:
            self._event("Warning", "Failed", f"Error: {trouble}")
            self._failed_to_start(view, str(trouble))
            return None
        self._running[name] = running
        self._event("Normal", "Started", "Container started")
        self._has_run = self._has_run or view.role == "main"
        self._know_container(view.moved({"running": {"startedAt": now_text()}}), wait_for_others=True)
        return running

    async def _image_of(self, name: str, spec: Json) -> Image:
        tries = 0
        while True:
            try:
                return self._machine.images.find(spec["image"], spec["imagePullPolicy"])
            except ImageTrouble as trouble:
                await self._image_trouble(name, spec["image"], trouble, tries)
                tries += 1

    async def _image_trouble(self, name: str, image: str, trouble: ImageTrouble, tries: int) -> None:
        latency = self._machine.latency
        wait_s = min(latency.image_back_off_s * 2**tries, latency.image_back_off_limit_s)
        for kind, reason, message in _image_events(image, trouble):
            self._event(kind, reason, message)
        self._know_container(self._view_of(name).moved(_waiting(trouble.reason, trouble.message)))
        if trouble.reason == "ErrImagePull":
            await asyncio.sleep(wait_s / 2)
            self._event("Normal", "BackOff", f'Back-off pulling image "{image}"')
            self._event("Warning", "Failed", "Error: ImagePullBackOff")
            words = f'Back-off pulling image "{image}": ErrImagePull: {trouble.message}'
            self._know_container(self._view_of(name).moved(_waiting("ImagePullBackOff", words)))
            await asyncio.sleep(wait_s / 2)
        else:
            await asyncio.sleep(wait_s)

    def _next_instance(self, name: str, image: Image) -> ContainerView:
        """The view of the instance about to start, and its log."""
        view = self._view_of(name)
        starts = self._record.starts[name] = self._record.starts.get(name, 0) + 1
        if name in self.logs:
            self.previous_logs[name] = self.logs[name]
        directory = self._machine.directory / "logs" / f"{self.key[0]}_{self.key[1]}_{self.uid}" / name
        written = self._record.container(name)
        path = directory / f"{starts - 1}.log"
        written.paths.append(str(path))
        self.logs[name] = LogFile(path, written, rotate_bytes=self._machine.rotate_bytes)
        return replace(
            view,
            image=image.reference,
            image_id=image.identity,
            container_id=f"containerd://{sha256(f'{self.uid}/{name}/{starts}'.encode()).hexdigest()}",
            restarts=starts - 1,
            last_state=view.state if view.has_terminated else view.last_state,
        )

    def _plan(self, spec: Json, image: Image) -> Plan:
        given = environment_of(self._machine.store, self._current(), spec)
        command = [*spec.get("command", []), *spec.get("args", [])]
        if not spec.get("command") and image.kind != "simulated":
            command = [*image.default_command, *spec.get("args", [])] if not spec.get("args") else list(spec["args"])
        rewriting = self._rewriting(spec)
        search_path = "" if image.kind == "simulated" else self._machine.images.search_path(image)
        directory = self._directory() / "c" / spec["name"]
        own = {"PATH": search_path, "HOSTNAME": self.key[1], "HOME": str(directory), "TMPDIR": str(directory / "tmp")}
        if image.kind == "python":
            own["LANG"] = "C.UTF-8"
        working = spec.get("workingDir")
        return Plan(
            command=[rewriting.apply(expand(word, given)) for word in command],
            environment=own | {key: rewriting.apply(value) for key, value in given.items()},
            search_path=search_path,
            directory=directory,
            working_directory=rewriting.apply(working) if working else str(directory),
            memory_limit_bytes=_memory_limit(spec),
        )

    def _rewriting(self, spec: Json) -> Rewriting:
        paths = {}
        for mount in spec.get("volumeMounts", []):
            place = self._volumes.get(mount["name"])
            if place is not None:
                target = place / mount["subPath"] if mount.get("subPath") else place
                paths[mount["mountPath"].rstrip("/") or "/"] = str(target)
        paths[spec["terminationMessagePath"]] = str(self._message_path(spec))
        return Rewriting(paths)

    def _launch(self, spec: Json, image: Image, plan: Plan) -> Running:
        log = self.logs[spec["name"]]
        if image.kind == "simulated":
            return SimulatedContainer(spec["name"], plan, log, self._rewriting(spec))
        (plan.directory / "tmp").mkdir(parents=True, exist_ok=True)
        Path(plan.working_directory).mkdir(parents=True, exist_ok=True)
        self._message_path(spec).write_bytes(b"")
        running = ProcessContainer(plan, log, self._machine.undertaker)
        if plan.memory_limit_bytes:
            self._machine.warden.watch(running, plan.memory_limit_bytes)
        return running

    # The end of a container.

    def _failed_to_start(self, view: ContainerView, message: str) -> None:
        self.logs[view.name].close()
        terminated = {"exitCode": 128, "reason": "StartError", "message": message}
        times = {"startedAt": "1970-01-01T00:00:00Z", "finishedAt": now_text(), "containerID": view.container_id}
        self._know_container(view.moved({"terminated": terminated | times}))

    def _ended(self, name: str, exit_: Exit) -> None:
        """A container has ended; published at once, unless the pod is being stopped."""
        self._running.pop(name, None)
        view = self._view_of(name)
        if not view.is_running:
            return
        terminated: Json = {"exitCode": exit_.code, "reason": exit_.reason}
        message = self._termination_message(self._specs[name], exit_)
        if message:
            terminated["message"] = message
        terminated |= {"startedAt": view.state["running"]["startedAt"], "finishedAt": now_text()}
        terminated["containerID"] = view.container_id
        moved = view.moved({"terminated": terminated})
        if self._stop is None:
            self._know_container(moved)
        else:
            self._view = _with_container(self._view, moved)
        log = self.logs[name]
        asyncio.get_running_loop().call_later(self._machine.latency.log_eof_s, log.close)

    def _termination_message(self, spec: Json, exit_: Exit) -> str:
        path = self._message_path(spec)
        content = path.read_bytes()[-_MESSAGE_BYTES:] if path.exists() else b""
        if not content and exit_.code != 0 and spec["terminationMessagePolicy"] == "FallbackToLogsOnError":
            content = self.logs[spec["name"]].tail(_FALLBACK_BYTES)
        return content.decode(errors="replace")

    async def _stop_sidecars(self) -> None:
        """The main containers have ended: TERM to the sidecars, the last one first."""
        for left, name in enumerate(reversed(self._sidecars), 1 - len(self._sidecars)):
            self._sidecars[name].cancel()
            running = self._running.get(name)
            if running is not None:
                self._event("Normal", "Killing", f"Stopping container {name}")
                running.terminate()
                grace_s = self._pod["spec"]["terminationGracePeriodSeconds"]
                timer = asyncio.get_running_loop().call_later(grace_s, running.kill)
                exit_ = await asyncio.shield(running.ended)
                timer.cancel()
                # The sandbox goes with the last sidecar, before the phase (recording `native-sidecar-return-value`).
                self._view = replace(self._view, has_sandbox=left < 0)
                self._ended(name, exit_)

    def _finish(self) -> None:
        phase = "Failed" if outcome_failed(self._view) else "Succeeded"
        self._know(phase=phase, has_sandbox=False, is_over=True, is_failed=phase == "Failed")

    # Being stopped.

    async def _obey_stop(self) -> None:
        stop = self._stop
        assert stop is not None
        for sidecar in self._sidecars.values():
            sidecar.cancel()
        self._announce_stop(stop)
        self._arm_kill(stop.grace_s)
        await self._terminate("init", "main")
        for view in reversed(self._view.of_role("sidecar")):
            await self._terminate_all([view.name])
        self._conclude()
        if self._stop is not None and self._stop.is_deletion:
            await _pause(self._machine.latency.removal_s)
            await self._remove()

    def _announce_stop(self, stop: Stop) -> None:
        current = self._current()
        self._view = replace(self._view, generation=current["metadata"].get("generation", 1))
        if stop.reason:
            self._view = replace(self._view, is_over=True, is_failed=True)
            self._event("Normal" if stop.reason == "DeadlineExceeded" else "Warning", stop.reason, stop.message)
        self._publish()

    async def _terminate(self, *roles: str) -> None:
        await self._terminate_all([view.name for view in self._view.of_role(*roles)])

    async def _terminate_all(self, names: list[str]) -> None:
        living = {name: self._running[name] for name in names if name in self._running}
        for name, running in living.items():
            self._event("Normal", "Killing", f"Stopping container {name}")
            running.terminate()
        await _all_ended(living.values())
        for name, running in living.items():
            self._ended(name, running.ended.result())

    def _arm_kill(self, grace_s: float) -> None:
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self._kill_timer = asyncio.get_running_loop().call_later(grace_s, self.kill_containers)

    def _conclude(self) -> None:
        """The status of a stopped pod: all containers and the phase in one update, as recorded."""
        stop = self._stop
        assert stop is not None
        self._view = replace(self._view, containers=tuple(_located(view) for view in self._view.containers))
        failed = bool(stop.reason) or outcome_failed(self._view)
        self._know(
            phase="Failed" if failed else "Succeeded",
            reason=stop.reason,
            message=stop.message,
            has_sandbox=False,
            is_over=True,
            is_failed=failed,
        )

    async def _remove(self) -> None:
        await self.node.is_back.wait()
        store = self._machine.store
        stored = store.find("pods", self.key)
        if stored is None or stored.object["metadata"]["uid"] != self.uid:
            return
        gone = {"deletionTimestamp": now_text(), "deletionGracePeriodSeconds": 0}
        stored = store.update("pods", self.key, {**stored.object, "metadata": {**stored.object["metadata"], **gone}})
        if not stored.object["metadata"].get("finalizers"):
            store.remove("pods", self.key)

    def remove_files(self) -> None:
        """The pod is gone: its volumes and working directories too; logs stay for those who check them."""
        shutil.rmtree(self._directory(), ignore_errors=True)

    # Knowing and publishing.

    def _know(self, **changes: object) -> None:
        self._view = replace(self._view, **changes)  # type: ignore[arg-type]  # names and types are PodView's
        self._publish()

    def _know_container(self, view: ContainerView, *, wait_for_others: bool = False) -> None:
        changed = _with_container(self._view, view)
        over = self._is_over(changed)
        self._view = replace(
            changed,
            pod_ip=self._pod_ip(),
            phase=self._phase(changed),
            is_over=over,
            is_failed=over and outcome_failed(changed),
        )
        if not (wait_for_others and self._others_are_starting(view)):
            self._publish()

    def _others_are_starting(self, view: ContainerView) -> bool:
        """Main containers are started in one go, and published together."""
        if view.role != "main":
            return False
        return any(
            one.state.get("waiting", {}).get("reason") in ("ContainerCreating", "PodInitializing")
            for one in self._view.of_role("main")
        )

    def _phase(self, view: PodView) -> str:
        untouched = any("waiting" in one.state and not one.last_state for one in view.of_role("main"))
        return "Running" if self._has_run and not untouched else "Pending"

    def _is_over(self, view: PodView) -> bool:
        if any(one.is_running for one in view.of_role("sidecar")):
            return False
        policy = self._pod["spec"]["restartPolicy"]
        if policy == "Never" and any(one.has_terminated and not one.has_succeeded for one in view.of_role("init")):
            return True
        mains = view.of_role("main")
        final = policy == "Never" or (policy == "OnFailure" and all(one.has_succeeded for one in mains))
        return final and all(one.has_terminated for one in mains)

    def _publish(self) -> None:
        stored = self._machine.store.find("pods", self.key)
        if self.node.is_lost or stored is None or stored.object["metadata"]["uid"] != self.uid:
            return
        status = pod_status(self._view, stored.object.get("status", {}), now_text())
        if status != stored.object.get("status"):
            self._machine.store.update("pods", self.key, {**stored.object, "status": status})

    def _current(self) -> Json:
        """The pod as it stands in the store, or as it last stood there."""
        stored = self._machine.store.find("pods", self.key)
        if stored is not None and stored.object["metadata"]["uid"] == self.uid:
            self._pod = stored.object
        return self._pod

    def _event(self, kind: str, reason: str, message: str) -> None:
        if not self.node.is_lost:
            self._machine.events.from_kubelet(self._pod, kind, reason, message)

    def _view_of(self, name: str) -> ContainerView:
        return next(view for view in self._view.containers if view.name == name)

    def _first_view(self) -> PodView:
        spec = self._pod["spec"]
        reason = "PodInitializing" if spec.get("initContainers") else "ContainerCreating"
        views = []
        for group in ("initContainers", "containers"):
            for container in spec.get(group, []):
                role = "main" if group == "containers" else "sidecar" if "restartPolicy" in container else "init"
                self._specs[container["name"]] = container
                views.append(_waiting_view(container, role, reason))
        return PodView(
            containers=tuple(views),
            generation=self._pod["metadata"].get("generation", 1),
            qos_class=self._pod["status"]["qosClass"],
            host_ip=self.node.ip,
            started_at=now_text(),
        )

    def _pod_ip(self) -> str:
        number = int(self.uid[:6], 16)
        return f"10.244.{number >> 8 & 255}.{(number & 255) or 1}"

    def _directory(self) -> Path:
        return self._machine.directory / "p" / self.uid

    def _message_path(self, spec: Json) -> Path:
        return self._directory() / "c" / str(spec["name"]) / "termination-log"

    def _arm_deadline(self) -> None:
        seconds = self._pod["spec"].get("activeDeadlineSeconds")
        if seconds is not None:
            grace_s = self._pod["spec"]["terminationGracePeriodSeconds"]
            stop = Stop(grace_s, "DeadlineExceeded", _DEADLINE, is_deletion=False)
            self._deadline_timer = asyncio.get_running_loop().call_later(seconds, self.stop, stop)

    def _cancel_timers(self) -> None:
        for timer in (self._kill_timer, self._deadline_timer):
            if timer is not None:
                timer.cancel()


def _waiting(reason: str, message: str = "") -> ContainerState:
    return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}


def _waiting_view(container: Json, role: str, reason: str) -> ContainerView:
    mounts = [
        {**mount, "recursiveReadOnly": "Disabled"} if mount.get("readOnly") else mount
        for mount in container.get("volumeMounts", [])
    ]
    return ContainerView(
        name=container["name"],
        role=role,
        image=container["image"],
        state=_waiting(reason),
        resources=container["resources"],
        mounts=tuple(mounts),
    )


def _with_container(view: PodView, container: ContainerView) -> PodView:
    return replace(view, containers=tuple(container if one.name == container.name else one for one in view.containers))


def _located(view: ContainerView) -> ContainerView:
    """A container that never came to run before its pod was stopped."""
    if view.role != "main" or view.has_terminated:
        return view
    message = "The container could not be located when the pod was terminated"
    times = {"startedAt": None, "finishedAt": None}
    return view.moved({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": message} | times})


def _pulled(image: str) -> str:
    return f'Container image "{image}" already present on machine and can be accessed by the pod'


def _image_events(image: str, trouble: ImageTrouble) -> list[tuple[str, str, str]]:
    error = ("Warning", "Failed", f"Error: {trouble.reason}")
    match trouble.reason:
        case "ErrImagePull":
            pulling = ("Normal", "Pulling", f'Pulling image "{image}"')
            return [pulling, ("Warning", "Failed", f'Failed to pull image "{image}": {trouble.message}'), error]
        case "InvalidImageName":
            return [("Warning", "InspectFailed", trouble.message), error]
        case reason:
            return [("Warning", reason, trouble.message), error]


def _memory_limit(spec: Json) -> int:
    return int(amount(str((spec["resources"].get("limits") or {}).get("memory", "0"))))


def _go_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


async def _all_ended(running: Iterable[Running]) -> None:
    futures = [one.ended for one in running]
    if futures:
        await asyncio.wait(futures)
