"""What all pods of a cluster share on this machine, and the directories of each pod."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from devcluster.apimachinery.events import EventWriter
from devcluster.apimachinery.store import Key, Store
from devcluster.kubelet.images import ImageTable
from devcluster.kubelet.latency import Latency
from devcluster.runtime.oom_killer import OomKiller
from devcluster.runtime.reaper import Reaper


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What all pods share: store, events, images, a directory, and the helpers that watch their processes."""

    store: Store
    events: EventWriter
    images: ImageTable
    latency: Latency
    directory: Path
    reaper: Reaper
    oom_killer: OomKiller
    rotate_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PodDirectories:
    """The paths of one pod below the server's directory."""

    root: Path
    key: Key
    uid: str

    @property
    def volumes(self) -> Path:
        return self._own / "v"

    def container(self, name: str) -> Path:
        """Return the home directory of a container."""
        return self._own / "c" / name

    def termination_message(self, name: str) -> Path:
        return self.container(name) / "termination-log"

    def log(self, name: str, restarts: int) -> Path:
        """Return the log of one instance of a container."""
        return self.root / "logs" / f"{self.key[0]}_{self.key[1]}_{self.uid}" / name / f"{restarts}.log"

    def remove(self) -> None:
        """Remove volumes and homes; logs stay, for tests to check."""
        shutil.rmtree(self._own, ignore_errors=True)

    @property
    def _own(self) -> Path:
        return self.root / "p" / self.uid
