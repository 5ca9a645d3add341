"""From a container's spec to what runs: command, environment and paths, then a process or a simulation."""

from pathlib import Path

from devcluster.apimachinery.errors import Json
from devcluster.apimachinery.quantity import amount
from devcluster.kubelet.environment import environment_of, expand
from devcluster.kubelet.host import Host, PodDirectories
from devcluster.kubelet.images import Image
from devcluster.runtime.logs import LogFile
from devcluster.runtime.mounts import Mounts
from devcluster.runtime.process import Container, ContainerConfig, ProcessContainer
from devcluster.runtime.simulated import SimulatedContainer


class Launcher:
    """Configures and starts the containers of one pod."""

    def __init__(self, host: Host, directories: PodDirectories) -> None:
        self._host = host
        self._directories = directories
        #: The directories that stand for the pod's volumes, by name; empty until these are set up.
        self.volumes: dict[str, Path] = {}

    def container_config(self, pod: Json, spec: Json, image: Image) -> ContainerConfig:
        """Return all that is needed to start a container of this pod.

        Raises:
            ConfigError: a secret, config map or field is missing.
        """
        given = environment_of(self._host.store, pod, spec)
        mounts = self._mounts(spec)
        search_path = "" if image.kind == "simulated" else self._host.images.search_path(image)
        home = self._directories.container(spec["name"])
        own = {"PATH": search_path, "HOSTNAME": pod["metadata"]["name"], "HOME": str(home), "TMPDIR": str(home / "tmp")}
        if image.kind == "python":
            own["LANG"] = "C.UTF-8"
        working = spec.get("workingDir")
        return ContainerConfig(
            command=[mounts.rewrite(expand(word, given)) for word in _command(spec, image)],
            environment=own | {key: mounts.rewrite(value) for key, value in given.items()},
            search_path=search_path,
            directory=home,
            working_directory=mounts.rewrite(working) if working else str(home),
            memory_limit_bytes=_memory_limit_bytes(spec),
        )

    def launch(self, spec: Json, image: Image, config: ContainerConfig, log: LogFile) -> Container:
        """Start a container.

        Raises:
            StartError: it cannot be started.
        """
        if image.kind == "simulated":
            return SimulatedContainer(spec["name"], config, log, self._mounts(spec))
        (config.directory / "tmp").mkdir(parents=True, exist_ok=True)
        Path(config.working_directory).mkdir(parents=True, exist_ok=True)
        self._directories.termination_message(spec["name"]).write_bytes(b"")
        running = ProcessContainer(config, log, self._host.reaper)
        if config.memory_limit_bytes:
            self._host.oom_killer.watch(running, config.memory_limit_bytes)
        return running

    def _mounts(self, spec: Json) -> Mounts:
        paths = {}
        for mount in spec.get("volumeMounts", []):
            directory = self.volumes.get(mount["name"])
            if directory is not None:
                target = directory / mount["subPath"] if mount.get("subPath") else directory
                paths[mount["mountPath"].rstrip("/") or "/"] = str(target)
        paths[spec["terminationMessagePath"]] = str(self._directories.termination_message(spec["name"]))
        return Mounts(paths)


def _command(spec: Json, image: Image) -> list[str]:
    command, args = spec.get("command", []), spec.get("args", [])
    if not command and not args and image.kind != "simulated":
        return image.default_command
    return [*command, *args]


def _memory_limit_bytes(spec: Json) -> int:
    return int(amount(str((spec["resources"].get("limits") or {}).get("memory", "0"))))
