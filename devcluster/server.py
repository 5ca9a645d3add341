"""The pocket cluster as one object: the API over HTTP, and controls for tests as plain methods.

    async with PocketCluster(namespaces=("default",)) as cluster:
        cluster.write_kubeconfig(path)
        ...
        cluster.lose_node("pocket-0")

The same controls are under `/pocket/…` for tests that run it as a process (`python -m devcluster`).
"""

import asyncio
import contextlib
import resource
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from devcluster.answers import Declined, not_allowed, unauthorized
from devcluster.control_plane import ControlPlane
from devcluster.events import EventWriter
from devcluster.faults import Faults
from devcluster.images import ImageTable
from devcluster.kubeconfig import write_kubeconfig
from devcluster.latency import QUICK, Latency
from devcluster.machine import Machine
from devcluster.memory import MemoryWarden
from devcluster.nodes import Nodes
from devcluster.object_routes import ObjectRoutes, create_namespace
from devcluster.paths import Target, parse_target
from devcluster.pocket_routes import PocketRoutes
from devcluster.pod_routes import PodRoutes
from devcluster.record import PodRecord, Record
from devcluster.service_routes import answer_access_review, answer_service
from devcluster.store import Store
from devcluster.undertaker import Undertaker
from devcluster.watching import answer_watch, list_body, list_options

Handler = Callable[[web.Request, Target], Awaitable[web.StreamResponse]]

_MOST_OPEN_FILES = 65_536
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
            nodes: how many, named `pocket-0`, `pocket-1`, ….
            history: how many changes of each resource a watch can go back.
            latency: the pauses of kubelet and controllers.
            port: 0 for a free one.
            data_dir: where volumes and logs go; a temporary directory that is removed at the end when None.
            log_rotate_bytes: size at which log files are rotated; 0 for never.
            token: the bearer token; a random one when None.
        """
        self.token = token or secrets.token_urlsafe(24)
        self.store = Store(history)
        self.record = Record()
        self.latency = latency
        self._namespaces = namespaces
        self._node_count = nodes
        self._port = port
        self._given_directory = data_dir
        self._rotate_bytes = log_rotate_bytes
        self._runner: web.AppRunner | None = None
        self._url = ""
        self.faults = Faults()

    async def __aenter__(self) -> Self:
        _allow_many_open_files()
        self.data_dir = self._given_directory or Path(tempfile.mkdtemp(prefix="pocket-"))
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir = self.data_dir.resolve()
        machine = self._machine()
        self._undertaker.start()
        await asyncio.to_thread(self.images.prepare)
        for name in dict.fromkeys(("default", "kube-system", *self._namespaces)):
            create_namespace(self.store, {"metadata": {"name": name}})
        self.control = ControlPlane(machine, Nodes(self.store, self._node_count), self.record)
        self._pods = PodRoutes(self.control, self.store)
        self._objects = ObjectRoutes(self.control, self.store)
        self._pocket = PocketRoutes(self)
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.control.close()
        self._warden.stop()
        self.store.end_watches()
        if self._runner is not None:
            await self._runner.cleanup()
        self._undertaker.dismiss()
        if self._is_temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def _machine(self) -> Machine:
        self._undertaker = Undertaker(temporary_directory=str(self.data_dir) if self._is_temporary else "")
        self._warden = MemoryWarden()
        self.images = ImageTable(self.data_dir / "images")
        return Machine(
            store=self.store,
            events=EventWriter(self.store),
            images=self.images,
            latency=self.latency,
            directory=self.data_dir,
            undertaker=self._undertaker,
            warden=self._warden,
            rotate_bytes=self._rotate_bytes,
        )

    @property
    def _is_temporary(self) -> bool:
        return self._given_directory is None

    async def _listen(self) -> None:
        application = web.Application(client_max_size=_BODY_LIMIT_BYTES)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=0.2, keepalive_timeout=75
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=1024)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self._url = f"http://{host}:{port}"

    # What tests ask and do.

    @property
    def url(self) -> str:
        return self._url

    @property
    def pods_created(self) -> list[PodRecord]:
        """Every pod ever created, oldest first, with what its containers have written so far."""
        return list(self.record.pods.values())

    @property
    def requests(self) -> dict[str, int]:
        """API requests so far, by verb and resource (`create pods`, `get pods/log`)."""
        return dict(self.record.requests)

    def write_kubeconfig(self, path: Path | str, *, namespace: str = "default") -> None:
        write_kubeconfig(Path(path), self.url, self.token, namespace=namespace)

    def evict(self, namespace: str, name: str) -> None:
        """As by `kubectl drain`."""
        self.control.evict((namespace, name))

    def preempt(self, namespace: str, name: str) -> None:
        """As by the scheduler, for a pod of higher priority."""
        self.control.preempt((namespace, name))

    def press_out(self, namespace: str, name: str) -> None:
        """As by the kubelet of a node short of memory: `Failed`, reason `Evicted`, not deleted."""
        self.control.press_out((namespace, name))

    def lose_node(self, name: str, *, kill: bool = False) -> None:
        """The node is heard of no more; its containers go on, unless `kill`."""
        self.control.lose_node(name, kill=kill)

    def restore_node(self, name: str) -> None:
        self.control.restore_node(name)

    def trim_history(self) -> None:
        """Every watch that resumes from before now is told 410."""
        self.store.trim()

    def end_watches(self) -> None:
        """Cut all watches, as a restarting API server does."""
        self.store.end_watches()

    def deny(self, verb: str, resource: str) -> None:
        """RBAC no longer allows this verb on this resource (`pods/log`), for anybody."""
        self.faults.denied.add((verb, resource))

    def allow(self, verb: str, resource: str) -> None:
        self.faults.denied.discard((verb, resource))

    def outage(self, seconds: float) -> None:
        """The API answers 503 for a while and all streams are cut; pods go on."""
        self.faults.begin_outage(seconds)
        self.store.end_watches()
        self.control.cut_log_readers()

    def lose_replies(self, verb: str, resource: str, times: int = 1) -> None:
        """The next requests of this kind (`create`, `pods`) are carried out, and never answered."""
        self.faults.lose_replies(verb, resource, times)

    def add_image(self, reference: str, kind: str) -> None:
        """An image that could not be pulled can be from now on; `kind` is a name of the table, such as `busybox`."""
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

    # Answering.

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            self._check_token(request)
            return await self._route(request)
        except Declined as declined:
            return web.Response(body=declined.body, status=declined.code, content_type="application/json")

    def _check_token(self, request: web.Request) -> None:
        if request.path in ("/healthz", "/readyz", "/livez", "/version"):
            return
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            raise unauthorized()

    async def _route(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path.startswith("/pocket/"):
            return await self._pocket.answer(request)
        self.faults.check_outage()
        if path.startswith("/api/v1/"):
            return await self._answer_core(request, parse_target(path.removeprefix("/api/v1/")))
        if path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" and request.method == "POST":
            return await answer_access_review(request, self.faults.denied)
        return answer_service(request)

    async def _answer_core(self, request: web.Request, target: Target) -> web.StreamResponse:
        verb = _verb(request, target)
        self.record.request(verb, target.label)
        self._check_allowed(request, verb, target)
        if verb in ("list", "watch"):
            return await self._list_or_watch(request, target)
        if verb == "get" and not target.subresource:
            return web.Response(
                body=self.store.read(target.resource, target.key).bytes, content_type="application/json"
            )
        response = await self._handler(verb, target)(request, target)
        self.faults.cut_if_lost(request, verb, target.label)
        return response

    def _check_allowed(self, request: web.Request, verb: str, target: Target) -> None:
        user = request.headers.get("Impersonate-User")
        if user is not None or (verb, target.label) in self.faults.denied:
            raise not_allowed(user or "pocket", verb, target.resource, target.namespace)

    async def _list_or_watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        options = list_options(request.query)
        if options.watch:
            return await answer_watch(request, self.store, target, options, self.latency)
        return web.Response(body=list_body(self.store, target, options), content_type="application/json")

    def _handler(self, verb: str, target: Target) -> Handler:
        pods, objects = self._pods, self._objects
        of_pods: dict[tuple[str, str], Handler] = {
            ("create", "pods"): pods.create,
            ("patch", "pods"): pods.patch,
            ("update", "pods"): pods.replace,
            ("delete", "pods"): pods.delete,
            ("deletecollection", "pods"): self._delete_pods,
            ("get", "pods/log"): pods.log,
            ("create", "pods/eviction"): pods.evict,
        }
        of_objects: dict[str, Handler] = {
            "create": objects.create,
            "delete": objects.delete,
            "patch": objects.patch,
            "update": objects.replace,
        }
        if target.resource == "pods":
            found = of_pods.get((verb, target.label))
        else:
            found = of_objects.get(verb) if not target.subresource else None
        if found is None:
            raise Declined(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        return found

    async def _delete_pods(self, request: web.Request, target: Target) -> web.StreamResponse:
        match = list_options(request.query).match
        keys = [key for key, stored in self.store.each("pods", target.namespace) if match(stored.object)]
        return await self._pods.delete_all(request, target, keys)


_VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "GET": "get", "DELETE": "delete"}


def _verb(request: web.Request, target: Target) -> str:
    verb = _VERBS.get(request.method, request.method.lower())
    if target.name:
        return verb
    if verb == "get":
        return "watch" if request.query.get("watch", "") in ("1", "true", "True") else "list"
    return "deletecollection" if verb == "delete" else verb


def _allow_many_open_files() -> None:
    """Each container takes a few files and each watcher one: the usual soft limit of 1,024 is not for that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
