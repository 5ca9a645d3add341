"""What all pods of one server share."""

from dataclasses import dataclass
from pathlib import Path

from devcluster.events import EventWriter
from devcluster.images import ImageTable
from devcluster.latency import Latency
from devcluster.memory import MemoryWarden
from devcluster.reaper import Reaper
from devcluster.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The means of a node: where pods are stored and told of, where their files go, who watches their processes."""

    store: Store
    events: EventWriter
    images: ImageTable
    latency: Latency
    directory: Path
    reaper: Reaper
    warden: MemoryWarden
    rotate_bytes: int = 0
