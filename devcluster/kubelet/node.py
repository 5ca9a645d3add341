"""One node, as its pods see it: whether it is lost, whether its kubelet runs, and who reads logs from it."""

import asyncio
from dataclasses import dataclass, field
from typing import Literal


@dataclass(slots=True)
class Node:
    """One node; a lost one goes on running what it has, and tells nobody; one whose kubelet restarts likewise."""

    name: str
    ip: str
    labels: dict[str, str] = field(default_factory=dict)
    is_lost: bool = False
    kubelet: Literal["running", "dead", "starting"] = "running"
    reachable: asyncio.Event = field(default_factory=asyncio.Event)
    log_readers: set["asyncio.Task[object]"] = field(default_factory=set)

    @property
    def is_unreachable(self) -> bool:
        """Nothing is heard of its pods, which go on."""
        return self.is_lost or self.kubelet != "running"

    def signal(self) -> None:
        """Tell those who wait for it whether it is back."""
        if self.is_unreachable:
            self.reachable.clear()
        else:
            self.reachable.set()

    def cut_log_readers(self) -> None:
        """End all reads of its logs, as an API server or kubelet that goes away does."""
        for reader in self.log_readers:
            reader.cancel()
        self.log_readers.clear()
