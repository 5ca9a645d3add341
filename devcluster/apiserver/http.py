"""Every request to the API server: its token and what it may do are checked, then it is routed."""

import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web

from devcluster.apimachinery.errors import StatusError, not_allowed, request_too_large, unauthorized
from devcluster.apimachinery.paths import Target, parse_target
from devcluster.apiserver.bodies import is_true
from devcluster.apiserver.control_routes import ControlRoutes, Controls
from devcluster.apiserver.discovery import answer_access_review, answer_service
from devcluster.apiserver.faults import Faults
from devcluster.apiserver.object_routes import ObjectRoutes
from devcluster.apiserver.pod_routes import PodRoutes
from devcluster.apiserver.watch import answer_watch, list_body, list_options
from devcluster.controllers.control_plane import ControlPlane
from devcluster.kubelet.host import Host

_MOST_REQUEST_BYTES = 3 * 1024 * 1024
Handler = Callable[[web.Request, Target], Awaitable[web.StreamResponse]]


class ApiServer:
    """The server's one entrance."""

    def __init__(self, host: Host, control: ControlPlane, controls: Controls, *, token: str, faults: Faults) -> None:
        self._store = host.store
        self._latency = host.latency
        self._journal = controls.journal
        self._token = token
        self._faults = faults
        self._pods = PodRoutes(control, host.store)
        self._objects = ObjectRoutes(control, host.store)
        self._pocket = ControlRoutes(controls)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Respond to any request; a ``StatusError`` becomes its body."""
        if not request.path.startswith("/pocket/") and (page := self._faults.proxy_page()):
            return page
        try:
            self._check_token(request)
            return await self._route(request)
        except StatusError as error:
            return web.Response(body=error.body, status=error.code, content_type="application/json")

    def _check_token(self, request: web.Request) -> None:
        if request.path in ("/healthz", "/readyz", "/livez", "/version"):
            return
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(given.encode(), self._token.encode()):
            raise unauthorized()

    async def _route(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path.startswith("/pocket/"):
            return await self._pocket.respond(request)
        self._faults.check_outage()
        if path.startswith("/api/v1/"):
            return await self._answer_core(request, parse_target(path.removeprefix("/api/v1/")))
        if path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" and request.method == "POST":
            return await answer_access_review(request, self._faults)
        return answer_service(request)

    async def _answer_core(self, request: web.Request, target: Target) -> web.StreamResponse:
        if (request.content_length or 0) > _MOST_REQUEST_BYTES:
            raise request_too_large(_MOST_REQUEST_BYTES)
        verb = _verb(request, target)
        self._journal.request(verb, target.label, target.namespace)
        self._check_allowed(request, verb, target)
        if verb in ("list", "watch"):
            return await self._list_or_watch(request, target)
        if verb == "get" and not target.subresource:
            return web.Response(
                body=self._store.read(target.resource, target.key).bytes, content_type="application/json"
            )
        response = await self._handler(verb, target)(request, target)
        self._faults.cut_if_lost(request, verb, target.label)
        return response

    def _check_allowed(self, request: web.Request, verb: str, target: Target) -> None:
        user = request.headers.get("Impersonate-User")
        if user is not None or self._faults.is_denied(verb, target.label, target.namespace):
            raise not_allowed(user or "pocket", verb, target.resource, target.namespace)

    async def _list_or_watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        options = list_options(request.query)
        if options.watch:
            return await answer_watch(request, self._store, target, options, self._latency)
        return web.Response(body=list_body(self._store, target, options), content_type="application/json")

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
            raise StatusError(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        return found

    async def _delete_pods(self, request: web.Request, target: Target) -> web.StreamResponse:
        match = list_options(request.query).match
        keys = [key for key, stored in self._store.each("pods", target.namespace) if match(stored.object)]
        return await self._pods.delete_all(request, target, keys)


_VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "GET": "get", "DELETE": "delete"}


def _verb(request: web.Request, target: Target) -> str:
    verb = _VERBS.get(request.method, request.method.lower())
    if target.name:
        return verb
    if verb == "get":
        return "watch" if is_true(request.query.get("watch", "")) else "list"
    return "deletecollection" if verb == "delete" else verb
