"""The endpoints of pods that change something, and their log. Reads, lists and watches are as for all kinds."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from devcluster.apimachinery.admission import admit
from devcluster.apimachinery.defaults import quality_of_service, with_defaults
from devcluster.apimachinery.errors import (
    Json,
    StatusError,
    bad_request,
    kubelet_dead,
    kubelet_starting,
    success,
)
from devcluster.apimachinery.patching import apply_patch, check_pod_change
from devcluster.apimachinery.paths import Target
from devcluster.apimachinery.schema import decode_pod, refuse_unknown
from devcluster.apimachinery.store import Store, Stored
from devcluster.apimachinery.validation import validate, validate_annotations
from devcluster.apiserver.bodies import answer, check_namespace, check_size, is_true, json_body, named
from devcluster.controllers.control_plane import ControlPlane
from devcluster.kubelet.node import Node
from devcluster.kubelet.pod_worker import PodWorker
from devcluster.kubelet.views import ContainerView
from devcluster.runtime.logs import LogQuery, parse_since, read_log, seconds_ago


class PodRoutes:
    """The handlers for ``pods``; each returns a response or raises ``StatusError``."""

    def __init__(self, control: ControlPlane, store: Store) -> None:
        self._control = control
        self._store = store

    async def create(self, request: web.Request, target: Target) -> web.Response:
        decoded = decode_pod(json_body(await request.read()))
        validation = request.query.get("fieldValidation", "Warn")
        if validation == "Strict":
            refuse_unknown(decoded.unknown)
        pod = with_defaults(named(decoded.pod, target.namespace))
        name = pod["metadata"].get("name", "")
        check_namespace(self._store, "pods", target.namespace, name)
        validate(pod)
        check_size(pod)
        active = self._control.pods.count_active(target.namespace) if self._has_quota(target.namespace) else 0
        admit(self._store, pod, active_pods=active)
        pod["status"] = {"qosClass": quality_of_service(pod["spec"])}
        if request.query.get("dryRun"):
            return answer(pod, 201)
        stored = self._control.pods.create(pod)
        self._control.scheduler.schedule_soon((target.namespace, name))
        response = web.Response(body=stored.bytes, status=201, content_type="application/json")
        if validation == "Warn":
            for path in decoded.unknown:
                response.headers.add("Warning", f'299 - "unknown field \\"{path}\\""')
        return response

    def _has_quota(self, namespace: str) -> bool:
        return next(self._store.each("resourcequotas", namespace), None) is not None

    async def patch(self, request: web.Request, target: Target) -> web.Response:
        before = self._store.read("pods", target.key).object
        patch = json.loads(await request.read())
        after = check_pod_change(before, apply_patch(request.content_type, before, patch))
        return _stored_answer(self._replace(target, before, after))

    async def replace(self, request: web.Request, target: Target) -> web.Response:
        before = self._store.read("pods", target.key).object
        after = with_defaults(json_body(await request.read()))
        after.pop("status", None)
        return _stored_answer(self._replace(target, before, check_pod_change(before, after)))

    def _replace(self, target: Target, before: Json, after: Json) -> Stored:
        validate_annotations("Pod", after["metadata"])
        check_size(after)
        if after == before:
            return self._store.read("pods", target.key)
        metadata = after["metadata"]
        if metadata.get("deletionGracePeriodSeconds") == 0 and not metadata.get("finalizers"):
            unchanged = self._store.read("pods", target.key)
            self._control.pods.remove(target.key)
            return unchanged
        gated = before["spec"].get("schedulingGates")
        stored = self._store.update("pods", target.key, after)
        if gated:
            self._control.scheduler.schedule_soon(target.key)
        return stored

    async def delete(self, request: web.Request, target: Target) -> web.Response:
        options = await _delete_options(request)
        return _stored_answer(self._delete(target.key, options))

    def _delete(self, key: tuple[str, str], options: Json) -> Stored:
        preconditions = options.get("preconditions") or {}
        return self._control.pods.delete(
            key,
            grace_s=options.get("gracePeriodSeconds"),
            uid=preconditions.get("uid"),
            version=preconditions.get("resourceVersion"),
        )

    async def delete_all(self, request: web.Request, target: Target, keys: list[tuple[str, str]]) -> web.Response:
        options = await _delete_options(request)
        deleted = [self._delete(key, options).object for key in keys]
        metadata = {"resourceVersion": str(self._store.version)}
        return answer({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": deleted}, 200)

    async def evict(self, request: web.Request, target: Target) -> web.Response:
        body = json_body(await request.read())
        options = body.get("deleteOptions") or {}
        self._control.pods.evict(target.key, grace_s=options.get("gracePeriodSeconds"))
        return answer(success(201), 201)

    async def log(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Respond with a log; a followed one ends a little after its container."""
        pod = self._store.read("pods", target.key).object
        container = _chosen_container(pod, request.query.get("container", ""))
        query = _log_query(request.query)
        node = pod["spec"].get("nodeName")
        if not node:
            raise bad_request(f"pod {target.name} does not have a host assigned")
        self._check_kubelet(self._control.nodes.by_name[node], request, target, container)
        pod_worker = self._control.pods.workers.get(pod["metadata"]["uid"])
        view = pod_worker.container(container) if pod_worker else None
        if pod_worker is None or view is None:
            raise bad_request(_is_waiting(target.name, container, "ContainerCreating"))
        if is_true(request.query.get("previous", "")):
            return await self._previous(request, pod_worker, view, query)
        log = pod_worker.log(container)
        if log is None or ("waiting" in view.state and not view.last_state):
            raise bad_request(_is_waiting(target.name, container, view.state.get("waiting", {}).get("reason", "")))
        return await self._send_log(request, pod_worker, log, query)

    def _check_kubelet(self, node: Node, request: web.Request, target: Target, container: str) -> None:
        if node.is_lost:
            raise _unreachable(node.ip, target, container)
        if node.kubelet == "dead":
            query = urlencode({key: value for key, value in request.query.items() if key != "container"})
            path = f"/containerLogs/{target.namespace}/{target.name}/{container}"
            raise kubelet_dead(f"{node.ip}:10250", f"{path}?{query}" if query else path)
        if node.kubelet == "starting":
            raise kubelet_starting(target.label, target.name)

    async def _previous(
        self, request: web.Request, pod_worker: PodWorker, view: ContainerView, query: LogQuery
    ) -> web.StreamResponse:
        previous = pod_worker.previous_log(view.name)
        if previous is None and not (view.has_terminated or view.last_state):
            raise bad_request(f'previous terminated container "{view.name}" in pod "{pod_worker.key[1]}" not found')
        if view.is_running and previous is not None:
            return await self._send_log(request, pod_worker, previous, query)
        # Only one dead instance is kept, and that is the last one (recording ``restart-on-failure``).
        last = view.last_state.get("terminated") or view.state.get("terminated") or {}
        text = f"unable to retrieve container logs for {last.get('containerID', view.container_id)}"
        return web.Response(text=text, content_type="text/plain")

    async def _send_log(
        self, request: web.Request, pod_worker: PodWorker, log: Any, query: LogQuery
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        task = asyncio.current_task()
        assert task is not None
        pod_worker.node.log_readers.add(task)
        try:
            await response.prepare(request)
            async for chunk in read_log(log, query):
                await response.write(chunk)
        except asyncio.CancelledError:
            if pod_worker.node.kubelet == "running":
                raise
            task.uncancel()  # the API server tells a kubelet that died from a log that ended in no way
        finally:
            pod_worker.node.log_readers.discard(task)
        return response


def _stored_answer(stored: Stored) -> web.Response:
    return web.Response(body=stored.bytes, content_type="application/json")


async def _delete_options(request: web.Request) -> Json:
    text = await request.read()
    options = json_body(text) if text else {}
    if "gracePeriodSeconds" in request.query:
        options["gracePeriodSeconds"] = int(request.query["gracePeriodSeconds"])
    return options


def _chosen_container(pod: Json, asked: str) -> str:
    spec, name = pod["spec"], pod["metadata"]["name"]
    mains = [container["name"] for container in spec["containers"]]
    inits = [container["name"] for container in spec.get("initContainers", [])]
    if asked:
        if asked not in (*mains, *inits):
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(mains) == 1:
        return str(mains[0])
    choices = f"choose one of: [{' '.join(mains)}]"
    if inits:
        choices += f" or one of the init containers: [{' '.join(inits)}]"
    raise bad_request(f"a container name must be specified for pod {name}, {choices}")


def _log_query(query: Mapping[str, str]) -> LogQuery:
    try:
        since = parse_since(query["sinceTime"]) if query.get("sinceTime") else None
        if query.get("sinceSeconds"):
            since = seconds_ago(int(query["sinceSeconds"]))
        return LogQuery(
            follow=is_true(query.get("follow", "")),
            timestamps=is_true(query.get("timestamps", "")),
            since=since,
            tail_lines=int(query["tailLines"]) if query.get("tailLines") else None,
            limit_bytes=int(query["limitBytes"]) if query.get("limitBytes") else None,
        )
    except ValueError as error:
        raise bad_request(str(error)) from error


def _is_waiting(pod: str, container: str, reason: str) -> str:
    why = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
    return f'container "{container}" in pod "{pod}" is waiting to start: {why.get(reason, reason)}'


def _unreachable(ip: str, target: Target, container: str) -> StatusError:
    url = f"https://{ip}:10250/containerLogs/{target.namespace}/{target.name}/{container}"
    return StatusError(500, "InternalError", f'Get "{url}": dial tcp {ip}:10250: connect: no route to host')
