"""One node, as its pods see it: whether it is lost, whether its kubelet runs, and who reads logs from it."""

import asyncio
from dataclasses import dataclass, field
from typing import Literal


@dataclass(slots=True)
class Node:
    """One node. Its pods go on running while it is unreachable: lost, or with a kubelet that restarts."""

    name: str
    ip: str
    labels: dict[str, str] = field(default_factory=dict)
    is_lost: bool = False
    kubelet: Literal["running", "dead", "starting"] = "running"
    reachable: asyncio.Event = field(default_factory=asyncio.Event)
    log_readers: set["asyncio.Task[object]"] = field(default_factory=set)

    @property
    def is_unreachable(self) -> bool:
        """Return whether the API server hears nothing from it."""
        return self.is_lost or self.kubelet != "running"

    def signal(self) -> None:
        """Wake those who wait for it if it is reachable; call this after each change."""
        if self.is_unreachable:
            self.reachable.clear()
        else:
            self.reachable.set()

    def cut_log_readers(self) -> None:
        """End all reads of its logs, as an API server or kubelet that goes away does."""
        for reader in self.log_readers:
            reader.cancel()
        self.log_readers.clear()
