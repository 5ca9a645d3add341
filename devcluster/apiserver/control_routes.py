"""The controls for tests, over HTTP: ``/pocket/…``.

GET  /pocket/pods                                every pod ever created, with bytes and digests of what it wrote
GET  /pocket/requests                            API requests so far, by verb and resource
POST /pocket/nodes/{node}/lose[?kill=true]       the node is heard of no more
POST /pocket/nodes/{node}/restore
POST /pocket/namespaces/{ns}/pods/{name}/evict   through the eviction API
POST /pocket/namespaces/{ns}/pods/{name}/preempt
POST /pocket/namespaces/{ns}/pods/{name}/evict-for-pressure   by a kubelet short of memory
POST /pocket/namespaces/{ns}/quota?pods=N        without ``pods``: lifted
POST /pocket/history/trim                        watches from the past are told 410
POST /pocket/watches/end                         all watches are cut
POST /pocket/images?name=REF&kind=busybox        this image can be pulled from now on
POST /pocket/deny?verb=V&resource=R[&namespace=NS], /pocket/allow?…   RBAC, for everybody (``get``, ``pods/log``)
POST /pocket/kubelet/restart?seconds=S[&node=N]  followed logs end cleanly, then 500 for so long, then 404 for a while
                                                 (``kubelet_start_s``), pods go on; without ``node``: on all
POST /pocket/apiserver/restart?seconds=S         all connections reset, none taken for so long; no version is lost
POST /pocket/proxy?status=404&seconds=S[&kind=html]   everything is answered by a proxy: ``html``, ``json`` or ``empty``
POST /pocket/outage?seconds=S                    503 for a while, all streams cut, pods go on
POST /pocket/lose-replies?verb=V&resource=R&times=N   carried out and never answered
"""

from collections.abc import Mapping
from typing import Protocol

from aiohttp import web

from devcluster.apimachinery.errors import Json, bad_request, no_such_path, not_found
from devcluster.apiserver.bodies import answer
from devcluster.runtime.journal import Journal


class Controls(Protocol):
    """What the cluster offers tests."""

    journal: Journal

    def evict(self, namespace: str, name: str) -> None: ...
    def preempt(self, namespace: str, name: str) -> None: ...
    def evict_for_pressure(self, namespace: str, name: str) -> None: ...
    def lose_node(self, name: str, *, kill: bool = False) -> None: ...
    def restore_node(self, name: str) -> None: ...
    def trim_history(self) -> None: ...
    def end_watches(self) -> None: ...
    def deny(self, verb: str, resource: str, namespace: str = "") -> None: ...
    def allow(self, verb: str, resource: str, namespace: str = "") -> None: ...
    def add_image(self, reference: str, kind: str) -> None: ...
    def outage(self, seconds: float) -> None: ...
    def restart_kubelet(self, seconds: float, node: str | None = None) -> None: ...
    def restart_api_server(self, seconds: float) -> None: ...
    def answer_as_proxy(self, status: int, seconds: float, kind: str = "html") -> None: ...
    def lose_replies(self, verb: str, resource: str, times: int = 1) -> None: ...
    def quota(self, namespace: str, *, pods: int | None) -> None: ...


class ControlRoutes:
    """Answers for ``/pocket/…``."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls

    async def respond(self, request: web.Request) -> web.Response:
        steps = request.path.strip("/").split("/")[1:]
        if request.method == "GET":
            return answer(self._read(steps))
        if request.method != "POST":
            raise no_such_path()
        try:
            self._act(steps, request)
        except (KeyError, ValueError) as error:
            raise bad_request(f"/pocket/{'/'.join(steps)}: {error}") from error
        return answer({"done": True})

    def _read(self, steps: list[str]) -> Json:
        match steps:
            case ["pods"]:
                return {"pods": [pod.as_json() for pod in self._controls.journal.pods.values()]}
            case ["requests"]:
                return {"requests": self._controls.journal.requests}
            case _:
                raise no_such_path()

    def _act(self, steps: list[str], request: web.Request) -> None:
        query = request.query
        match steps:
            case ["nodes", name, what]:
                self._act_on_node(name, what, kill=query.get("kill") == "true")
            case ["namespaces", namespace, "pods", name, what]:
                self._act_on_pod(namespace, name, what)
            case ["namespaces", namespace, "quota"]:
                self._controls.quota(namespace, pods=int(query["pods"]) if "pods" in query else None)
            case ["history", "trim"]:
                self._controls.trim_history()
            case ["watches", "end"]:
                self._controls.end_watches()
            case ["kubelet", "restart"]:
                self._restart_kubelet(query)
            case ["apiserver", "restart"]:
                self._controls.restart_api_server(float(query["seconds"]))
            case ["images"]:
                self._controls.add_image(query["name"], query.get("kind", "busybox"))
            case [what]:
                self._act_on_api(what, query)
            case _:
                raise no_such_path()

    def _act_on_api(self, what: str, query: Mapping[str, str]) -> None:
        match what:
            case "deny":
                self._controls.deny(query["verb"], query["resource"], query.get("namespace", ""))
            case "allow":
                self._controls.allow(query["verb"], query["resource"], query.get("namespace", ""))
            case "outage":
                self._controls.outage(float(query["seconds"]))
            case "proxy":
                status, kind = int(query["status"]), query.get("kind", "html")
                self._controls.answer_as_proxy(status, float(query["seconds"]), kind)
            case "lose-replies":
                self._controls.lose_replies(query["verb"], query["resource"], int(query.get("times", "1")))
            case _:
                raise no_such_path()

    def _restart_kubelet(self, query: Mapping[str, str]) -> None:
        seconds, node = float(query["seconds"]), query.get("node")
        try:
            self._controls.restart_kubelet(seconds, node)
        except KeyError as error:
            raise not_found("nodes", node or "") from error

    def _act_on_node(self, name: str, what: str, *, kill: bool) -> None:
        try:
            if what == "lose":
                self._controls.lose_node(name, kill=kill)
            elif what == "restore":
                self._controls.restore_node(name)
            else:
                raise no_such_path()
        except KeyError as error:
            raise not_found("nodes", name) from error

    def _act_on_pod(self, namespace: str, name: str, what: str) -> None:
        match what:
            case "evict":
                self._controls.evict(namespace, name)
            case "preempt":
                self._controls.preempt(namespace, name)
            case "evict-for-pressure":
                self._controls.evict_for_pressure(namespace, name)
            case _:
                raise no_such_path()
