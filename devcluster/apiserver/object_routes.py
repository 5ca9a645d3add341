"""Plain objects that pods need around them: namespaces, secrets, config maps, quotas, accounts, nodes, events."""

import base64
import json

from aiohttp import web

from devcluster.apimachinery.errors import Json, forbidden, success
from devcluster.apimachinery.patching import apply_patch
from devcluster.apimachinery.paths import Target
from devcluster.apimachinery.store import Store
from devcluster.apiserver.bodies import answer, check_namespace, json_body, named
from devcluster.controllers.control_plane import ControlPlane
from devcluster.controllers.namespaces import create_namespace


class ObjectRoutes:
    """Create, delete, patch and update for all kinds but pods."""

    def __init__(self, control: ControlPlane, store: Store) -> None:
        self._control = control
        self._store = store

    async def create(self, request: web.Request, target: Target) -> web.Response:
        obj = named(json_body(await request.read()), target.namespace)
        obj = {**obj, "kind": target.kind, "apiVersion": "v1"}
        if target.resource == "namespaces":
            return answer(create_namespace(self._store, obj), 201)
        check_namespace(self._store, target.resource, target.namespace, obj["metadata"].get("name", ""))
        return answer(self._store.create(target.resource, _completed(target.resource, obj)).object, 201)

    async def delete(self, _request: web.Request, target: Target) -> web.Response:
        if target.resource == "namespaces":
            if target.name in ("default", "kube-system"):
                raise forbidden("namespaces", target.name, "this namespace may not be deleted")
            return answer(self._control.namespaces.delete(target.name).object, 200)
        self._store.read(target.resource, target.key)
        removed = self._store.remove(target.resource, target.key).object["metadata"]
        details = {"name": target.name, "kind": target.resource, "uid": removed["uid"]}
        gone = success(200) | {"details": details}
        del gone["code"]
        return answer(gone, 200)

    async def patch(self, request: web.Request, target: Target) -> web.Response:
        before = self._store.read(target.resource, target.key).object
        after = apply_patch(request.content_type, before, json.loads(await request.read()))
        return answer(self._store.update(target.resource, target.key, _completed(target.resource, after)).object, 200)

    async def replace(self, request: web.Request, target: Target) -> web.Response:
        before = self._store.read(target.resource, target.key).object
        body = json_body(await request.read())
        self._store.check_version(target.resource, target.key, body.get("metadata", {}).get("resourceVersion"))
        after = {**before, **body, "metadata": {**body.get("metadata", {}), **_identity(before)}}
        return answer(self._store.update(target.resource, target.key, _completed(target.resource, after)).object, 200)


def _identity(obj: Json) -> Json:
    kept = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp")
    return {key: obj["metadata"][key] for key in kept if key in obj["metadata"]}


def _completed(resource: str, obj: Json) -> Json:
    completed = dict(obj)
    if resource == "secrets":
        plain = completed.pop("stringData", None) or {}
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
        completed["data"] = {**(completed.get("data") or {}), **encoded}
        completed.setdefault("type", "Opaque")
    if resource == "resourcequotas":
        completed.setdefault("status", {})
    return completed
