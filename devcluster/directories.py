"""Where on this machine the files of one pod lie."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from devcluster.store import Key


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
        """What a container has as its home."""
        return self._own / "c" / name

    def termination_message(self, name: str) -> Path:
        return self.container(name) / "termination-log"

    def log(self, name: str, restarts: int) -> Path:
        """The log of one instance of a container."""
        return self.root / "logs" / f"{self.key[0]}_{self.key[1]}_{self.uid}" / name / f"{restarts}.log"

    def remove(self) -> None:
        """Volumes and homes go; logs stay for those who check them."""
        shutil.rmtree(self._own, ignore_errors=True)

    @property
    def _own(self) -> Path:
        return self.root / "p" / self.uid
