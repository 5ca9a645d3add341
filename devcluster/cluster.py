"""The pocket cluster as one object: the API over HTTP, and controls for tests as plain methods.

    async with PocketCluster(namespaces=("default",)) as cluster:
        cluster.write_kubeconfig(path)
        ...
        cluster.lose_node("pocket-0")

The same controls are under ``/pocket/…`` for tests that run it as a process (``python -m devcluster``).
"""

import asyncio
import contextlib
import resource
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from devcluster.apimachinery.events import EventWriter
from devcluster.apimachinery.store import Store
from devcluster.apiserver.faults import Faults
from devcluster.apiserver.http import ApiServer
from devcluster.apiserver.kubeconfig import write_kubeconfig
from devcluster.controllers.control_plane import ControlPlane
from devcluster.controllers.namespaces import create_namespace
from devcluster.kubelet.host import Host
from devcluster.kubelet.images import ImageTable
from devcluster.kubelet.latency import QUICK, Latency
from devcluster.runtime.journal import Journal
from devcluster.runtime.oom_killer import OomKiller
from devcluster.runtime.reaper import Reaper

_MOST_OPEN_FILES = 65_536
#: Whoever asks for the API server's end is answered by it: the answer has this long to leave.
_ANSWER_S = 0.05
_BODY_LIMIT_BYTES = 8 * 1024 * 1024


class PocketCluster:
    """One pocket cluster; an async context manager."""

    def __init__(
        self,
        *,
        namespaces: Sequence[str] = ("default",),
        nodes: int = 1,
        history: int = 1000,
        latency: Latency = QUICK,
        port: int = 0,
        data_dir: Path | None = None,
        log_rotate_bytes: int = 0,
        token: str | None = None,
    ) -> None:
        """Prepare a cluster.

        Args:
            namespaces: those that exist at the start.
            nodes: how many, named ``pocket-0``, ``pocket-1``, ….
            history: how many changes of each resource a watch can go back.
            latency: the pauses of kubelet and controllers.
            port: 0 for a free one.
            data_dir: where volumes and logs go; a temporary directory that is removed at the end when None.
            log_rotate_bytes: size at which log files are rotated; 0 for never.
            token: the bearer token; a random one when None.
        """
        self.token = token or secrets.token_urlsafe(24)
        self.store = Store(history)
        self.journal = Journal()
        self.latency = latency
        self._namespaces = namespaces
        self._node_count = nodes
        self._port = port
        self._given_directory = data_dir
        self._rotate_bytes = log_rotate_bytes
        self._runner: web.AppRunner | None = None
        self._url = ""
        self._restarting: asyncio.Task[None] | None = None
        self.faults = Faults()

    async def __aenter__(self) -> Self:
        _allow_many_open_files()
        self.data_dir = self._given_directory or Path(tempfile.mkdtemp(prefix="pocket-"))
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir = self.data_dir.resolve()
        host = self._host()
        await asyncio.to_thread(self.images.prepare)
        for name in dict.fromkeys(("default", "kube-system", *self._namespaces)):
            create_namespace(self.store, {"metadata": {"name": name}})
        self.control = ControlPlane(host, self._node_count, self.journal)
        await self._listen(ApiServer(host, self.control, self, token=self.token, faults=self.faults))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._restarting is not None:
            self._restarting.cancel()
        await self.control.close()
        self._oom_killer.stop()
        self.store.end_watches()
        if self._runner is not None:
            await self._runner.cleanup()
        self._reaper.close()
        if self._is_temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def _host(self) -> Host:
        self._reaper = Reaper(*([str(self.data_dir)] if self._is_temporary else []))
        self._oom_killer = OomKiller()
        self.images = ImageTable(self.data_dir / "images")
        return Host(
            store=self.store,
            events=EventWriter(self.store),
            images=self.images,
            latency=self.latency,
            directory=self.data_dir,
            reaper=self._reaper,
            oom_killer=self._oom_killer,
            rotate_bytes=self._rotate_bytes,
        )

    @property
    def _is_temporary(self) -> bool:
        return self._given_directory is None

    async def _listen(self, api: ApiServer) -> None:
        application = web.Application(client_max_size=_BODY_LIMIT_BYTES)
        application.router.add_route("*", "/{path:.*}", api.answer)
        self._runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=0.2, keepalive_timeout=75
        )
        await self._runner.setup()
        await self._bind()
        host, self._port = self._runner.addresses[0][:2]
        self._url = f"http://{host}:{self._port}"

    async def _bind(self) -> None:
        assert self._runner is not None
        await web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=1024).start()

    # What tests ask and do.

    @property
    def url(self) -> str:
        return self._url

    @property
    def requests(self) -> dict[str, int]:
        """API requests so far, by verb and resource (``create pods``, ``get pods/log``)."""
        return dict(self.journal.requests)

    def write_kubeconfig(self, path: Path | str, *, namespace: str = "default") -> None:
        write_kubeconfig(Path(path), self.url, self.token, namespace=namespace)

    def evict(self, namespace: str, name: str) -> None:
        """Evict a pod as ``kubectl drain`` does."""
        self.control.pods.evict((namespace, name))

    def preempt(self, namespace: str, name: str) -> None:
        """Evict a pod as the scheduler does, for one of higher priority."""
        self.control.pods.preempt((namespace, name))

    def evict_for_pressure(self, namespace: str, name: str) -> None:
        """Evict a pod as the kubelet of a node short of memory does: ``Failed``, reason ``Evicted``, not deleted."""
        self.control.pods.evict_for_pressure((namespace, name))

    def lose_node(self, name: str, *, kill: bool = False) -> None:
        """Cut a node off; its containers go on, unless ``kill``."""
        self.control.node_lifecycle.lose(name, kill=kill)

    def restore_node(self, name: str) -> None:
        self.control.node_lifecycle.restore(name)

    def trim_history(self) -> None:
        """Forget the history: every watch that resumes from before now gets a 410."""
        self.store.trim()

    def end_watches(self) -> None:
        """Cut all watches, as a restarting API server does."""
        self.store.end_watches()

    def deny(self, verb: str, resource: str, namespace: str = "") -> None:
        """Have RBAC deny everybody this verb on this resource (``pods/log``); "" for all namespaces.

        A watch that runs goes on, as in a real cluster.
        """
        self.faults.denied.add((verb, resource, namespace))

    def allow(self, verb: str, resource: str, namespace: str = "") -> None:
        self.faults.denied.discard((verb, resource, namespace))

    def grant(self, namespace: str, rules: Iterable[Mapping[str, Any]]) -> None:
        """Have RBAC allow, from now on, only what was granted: the rules of a Role in its namespace."""
        granted = {
            (verb, resource, namespace) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]
        }
        self.faults.granted = (self.faults.granted or set()) | granted

    def outage(self, seconds: float) -> None:
        """Answer 503 for a while and cut all streams; pods go on."""
        self.faults.begin_outage(seconds)
        self.store.end_watches()
        self.control.nodes.cut_log_readers()

    def restart_kubelet(self, seconds: float, node: str | None = None) -> None:
        """Kill a node's kubelet, or all, and start it after so long; pods go on (recording ``kubelet-restart``)."""
        for name in list(self.control.nodes.by_name) if node is None else [node]:
            self.control.node_lifecycle.restart_kubelet(name, seconds)

    def restart_api_server(self, seconds: float) -> None:
        """Kill the API server and start it after so long: connections are reset, then refused.

        Objects and history stay: they are etcd's.
        """
        if self._restarting is None or self._restarting.done():
            self._restarting = asyncio.create_task(self._restart_api_server(seconds))

    async def _restart_api_server(self, seconds: float) -> None:
        assert self._runner is not None
        await asyncio.sleep(_ANSWER_S)
        for site in list(self._runner.sites):
            await site.stop()
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(seconds)
        await self._bind()

    def answer_as_proxy(self, status: int, seconds: float, kind: str = "html") -> None:
        """Answer as a proxy that cannot reach the API server (html, json or empty), and cut all streams."""
        self.faults.begin_proxy(status, seconds, kind=kind)
        self.store.end_watches()
        self.control.nodes.cut_log_readers()

    def lose_replies(self, verb: str, resource: str, times: int = 1) -> None:
        """Carry out the next requests of this kind (``create``, ``pods``), and never answer them."""
        self.faults.lose_replies(verb, resource, times)

    def add_image(self, reference: str, kind: str) -> None:
        """Let an image be pulled from now on; ``kind`` is a name of the table, such as ``busybox``."""
        self.images.add(reference, kind)

    def quota(self, namespace: str, *, pods: int | None, name: str = "pocket-quota") -> None:
        """Set, or with None lift, a quota on the number of pods."""
        key = (namespace, name)
        spec = {"hard": {"pods": str(pods)}}
        stored = self.store.find("resourcequotas", key)
        if pods is None:
            if stored is not None:
                self.store.remove("resourcequotas", key)
        elif stored is not None:
            self.store.update("resourcequotas", key, {**stored.object, "spec": spec})
        else:
            metadata = {"name": name, "namespace": namespace}
            quota = {"kind": "ResourceQuota", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": {}}
            self.store.create("resourcequotas", quota)


def _allow_many_open_files() -> None:
    """Raise the soft limit, usually 1,024: each container takes a few files and each watcher one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
