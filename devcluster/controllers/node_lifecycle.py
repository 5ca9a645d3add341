"""The life of nodes: lost, restored, their kubelets restarted; and what that does to their pods."""

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from devcluster.apimachinery.clock import now_text
from devcluster.apimachinery.store import Key
from devcluster.controllers.nodes import Nodes
from devcluster.controllers.pods import Pods, is_over
from devcluster.kubelet.host import Host
from devcluster.kubelet.node import Node


class NodeLifecycle:
    """The node lifecycle controller; ``on_restored`` is called when a node takes pods again."""

    def __init__(self, host: Host, nodes: Nodes, pods: Pods, on_restored: Callable[[], None]) -> None:
        self._store = host.store
        self._events = host.events
        self._latency = host.latency
        self._nodes = nodes
        self._pods = pods
        self._on_restored = on_restored
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def lose(self, name: str, *, kill: bool = False) -> None:
        """Cut a node off; with ``kill`` its containers die as well.

        Raises:
            KeyError: there is no such node.
        """
        node = self._nodes.set_lost(name, lost=True)
        node.cut_log_readers()
        for worker in self._pods.workers_on(node):
            if kill:
                worker.kill_containers()
            self._mark_not_ready(worker.key)
        if name not in self._timers:  # lost already: its time goes on
            loop = asyncio.get_running_loop()
            self._timers[name] = loop.call_later(self._latency.lost_node_grace_s, self._evict_all, node)

    def restore(self, name: str) -> None:
        """Bring a node back: it reports what happened meanwhile and does what was asked of it.

        Raises:
            KeyError: there is no such node.
        """
        node = self._nodes.set_lost(name, lost=False)
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        self._reconnect(node)
        self._on_restored()

    def restart_kubelet(self, name: str, seconds: float) -> None:
        """Kill a node's kubelet and start it after so long (recording ``kubelet-restart``).

        Pods go on, and followed logs end as cleanly as if their containers had.

        Raises:
            KeyError: there is no such node.
        """
        node = self._nodes.by_name[name]
        self._set_kubelet(node, "dead")
        node.cut_log_readers()
        self._after(f"kubelet {name}", seconds, self._start_kubelet, node)

    def close(self) -> None:
        """Cancel all timers."""
        for timer in self._timers.values():
            timer.cancel()

    def _start_kubelet(self, node: Node) -> None:
        self._set_kubelet(node, "starting")
        self._after(f"kubelet {node.name}", self._latency.kubelet_start_s, self._set_kubelet, node, "running")

    def _set_kubelet(self, node: Node, kubelet: Literal["running", "dead", "starting"]) -> None:
        node.kubelet = kubelet
        node.signal()
        self._reconnect(node)

    def _after(self, timer: str, seconds: float, act: Callable[..., None], *arguments: Any) -> None:
        """Call once; a timer of this name that runs is given up."""
        if timer in self._timers:
            self._timers[timer].cancel()
        self._timers[timer] = asyncio.get_running_loop().call_later(seconds, act, *arguments)

    def _reconnect(self, node: Node) -> None:
        if not node.is_unreachable:
            for worker in self._pods.workers_on(node):
                worker.reconnect()

    def _mark_not_ready(self, key: Key) -> None:
        stored = self._store.find("pods", key)
        if stored is None or is_over(stored.object):
            return
        pod = stored.object
        conditions = [
            {**one, "status": "False", "lastTransitionTime": now_text()} if one["type"] == "Ready" else one
            for one in pod["status"].get("conditions", [])
        ]
        self._events.from_scheduler(pod, "Warning", "NodeNotReady", "Node is not ready")
        self._store.update("pods", key, {**pod, "status": {**pod["status"], "conditions": conditions}})

    def _evict_all(self, node: Node) -> None:
        for worker in self._pods.workers_on(node):
            stored = self._store.find("pods", worker.key)
            if stored is not None and not is_over(stored.object):
                self._pods.evict_from_lost_node(worker.key)
