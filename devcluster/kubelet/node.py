"""One node, as far as its pods meet it: whether it is lost, and whether its kubelet runs."""

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
    is_back: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_silent(self) -> bool:
        """Nothing is heard of its pods, which go on."""
        return self.is_lost or self.kubelet != "running"

    def note(self) -> None:
        """Tell those who wait for it whether it is back."""
        if self.is_silent:
            self.is_back.clear()
        else:
            self.is_back.set()
