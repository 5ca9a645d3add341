"""The door to Kubernetes: the few calls that podrelay makes, on raw JSON, with foreign errors translated once.

``kubernetes.aio`` is used for configuration and authentication only, its session for everything else: its models decode
some 3,000 watch events a second, plain JSON ten times as many, and a default pool of 100 connections would starve the
log streams.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config

_SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

#: A short request that is not answered within this is tried again; a create may be answered late by slow admission.
_REQUEST_S = 30.0
#: Nothing was heard of a watch for this long (bookmarks come every minute): it is dead.
WATCH_SILENCE_S = 100.0


class ClusterUnavailableError(Exception):
    """The API server cannot be reached, is overloaded or answers nonsense: try again. ``retry_after_s``: its wish."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClusterRefusedError(Exception):
    """The API server has answered, and the answer is no. ``reason`` and ``causes`` are its own words."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        self.reason = str(body.get("reason") or "")
        self.message = str(body.get("message") or f"HTTP {status}")
        details = body.get("details") or {}
        self.causes = [
            f"{cause.get('field', '')}: {cause.get('message', '')}".removeprefix(": ")
            for cause in details.get("causes") or ()
        ]
        super().__init__(self.message)

    @property
    def is_quota(self) -> bool:
        """A resource quota is used up: it may have room later."""
        return self.status == 403 and "exceeded quota" in self.message


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, and the object as the API wrote it."""

    type: str
    object: dict[str, Any]


class Cluster:
    """One API server. Use as an async context manager; belongs to one event loop.

    Attributes:
        is_well: set while pods can be listed and watched. What many jobs would ask for each waits for it, so that an
            API server that suffers is asked by a few watches only.
    """

    def __init__(self, api: Any, default_namespace: str, connections: int) -> None:
        self.default_namespace = default_namespace
        self._api = api
        self._host = str(api.configuration.host).rstrip("/")
        self._session: aiohttp.ClientSession = api.rest_client.pool_manager
        self._slots = asyncio.Semaphore(connections)
        self.is_well = asyncio.Event()
        self.is_well.set()

    @classmethod
    async def connect(cls, *, connections: int) -> Self:
        """Read ``KUBECONFIG`` (default ``~/.kube/config``) or, in a pod, its service account. Sends nothing.

        Raises:
            ClusterUnavailableError: there is no usable configuration.
        """
        configuration = kubernetes_client.Configuration()
        configuration.connection_pool_maxsize = 0  # log streams are many; short requests have slots of their own
        try:
            own_namespace = await asyncio.to_thread(_own_namespace)
            namespace = await _load(configuration, own_namespace)
        except kubernetes_config.ConfigException as error:
            raise ClusterUnavailableError(
                f"no usable cluster configuration (KUBECONFIG or in-cluster): {error}"
            ) from error
        return cls(kubernetes_client.ApiClient(configuration), namespace, connections)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()

    # Pods

    async def create_pod(
        self, namespace: str, manifest: dict[str, Any], *, may_send: Callable[[], bool]
    ) -> dict[str, Any]:
        """POST the pod; unknown fields are an error (``fieldValidation=Strict``). ``may_send`` is asked right before,
        after all waiting.

        Raises:
            ClusterUnavailableError: also where it may not be sent.
        """
        path = f"/api/v1/namespaces/{namespace}/pods"
        return await self._call("POST", path, {"fieldValidation": "Strict"}, body=manifest, may_send=may_send)

    async def read_pod(self, namespace: str, name: str) -> dict[str, Any] | None:
        """GET the pod; None where the API server proves that there is none of this name."""
        try:
            return await self._call("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
        except ClusterRefusedError as error:
            if error.status == 404:
                return None
            raise

    async def delete_pod(self, namespace: str, name: str, *, uid: str, grace_s: int | None = None) -> bool:
        """Ask for the deletion of exactly this pod. False: it is gone, or another one has its name."""
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        try:
            await self._call("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", body=body)
        except ClusterRefusedError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    async def patch_pod(self, namespace: str, name: str, metadata: dict[str, Any]) -> bool:
        """Merge labels and annotations (``metadata`` with the pod's uid, so that it is no other). False: it is gone."""
        try:
            path = f"/api/v1/namespaces/{namespace}/pods/{name}"
            await self._call("PATCH", path, body={"metadata": metadata}, content_type="application/merge-patch+json")
        except ClusterRefusedError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    async def pod_warnings(self, namespace: str, uid: str) -> list[dict[str, Any]]:
        """The warning events about a pod (core/v1 Event objects)."""
        query = {"fieldSelector": f"involvedObject.uid={uid},type=Warning", "limit": "50"}
        found = await self._call("GET", f"/api/v1/namespaces/{namespace}/events", query)
        return list(found.get("items") or ())

    async def list_pods(self, namespace: str, selector: str) -> tuple[list[dict[str, Any]], str]:
        """Every pod of the selector, and the resource version from which to watch."""
        items: list[dict[str, Any]] = []
        query = {"labelSelector": selector, "limit": "500"}
        while True:
            with self._telling_health():
                page = await self._call("GET", f"/api/v1/namespaces/{namespace}/pods", query)
            items += page.get("items") or ()
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion", ""))
            query = {**query, "continue": metadata["continue"]}

    async def watch_pods(self, namespace: str, selector: str, resource_version: str) -> AsyncIterator[WatchEvent]:
        """The pods' changes after ``resource_version``, until the API server or the network ends the stream.

        Raises:
            ClusterRefusedError: with status 410 when that version is too old: list again.
            ClusterUnavailableError: the stream broke, or was silent for longer than bookmarks allow.
        """
        query = {
            "labelSelector": selector,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(random.randint(300, 600)),
        }
        path = f"/api/v1/namespaces/{namespace}/pods"
        with self._telling_health():
            async with self._stream(path, query, read_s=WATCH_SILENCE_S) as response:
                self.is_well.set()
                async for event in _events(response):
                    yield event

    @asynccontextmanager
    async def log(
        self, namespace: str, name: str, container: str, *, since: str | None, follow: bool
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The container's log with timestamps, as pieces of any size. ``since``: RFC 3339, whole seconds count.

        Raises:
            ClusterRefusedError: e.g. status 400 while the container has not started.
            ClusterUnavailableError: also while iterating, when the stream breaks.
        """
        query = {"container": container, "timestamps": "true", "follow": "true" if follow else "false"}
        if since is not None:
            query["sinceTime"] = since
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/log"
        async with self._stream(path, query, read_s=None if follow else _REQUEST_S) as response:
            yield _pieces(response)

    # Plumbing

    @contextmanager
    def _telling_health(self) -> Iterator[None]:
        try:
            yield
            self.is_well.set()
        except ClusterUnavailableError:
            self.is_well.clear()
            raise
        except ClusterRefusedError:
            self.is_well.set()  # that is an answer
            raise

    async def _headers(self) -> dict[str, str]:
        # Tokens expire: the client refreshes them here.
        headers: dict[str, str] = {"Accept": "application/json"}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"])
        return headers

    def _url(self, path: str, query: Mapping[str, str] | None) -> str:
        return f"{self._host}{path}" + (f"?{urlencode(query)}" if query else "")

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: dict[str, Any] | None = None,
        content_type: str = "application/json",
        may_send: Callable[[], bool] = lambda: True,
    ) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=_REQUEST_S, sock_connect=5)
        data = None if body is None else json.dumps(body).encode()
        async with self._slots:
            try:
                headers = {**await self._headers(), "Content-Type": content_type}
                if not may_send():
                    raise ClusterUnavailableError(f"{method} {path}: not sent, the worker's lease was lost meanwhile")
                async with self._session.request(
                    method, self._url(path, query), data=data, headers=headers, timeout=timeout
                ) as response:
                    return _answer(response, await response.read())
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise ClusterUnavailableError(f"{method} {path}: {_said(error)}") from error

    @asynccontextmanager
    async def _stream(
        self, path: str, query: Mapping[str, str], *, read_s: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=read_s)
        try:
            headers = await self._headers()
            async with self._session.get(self._url(path, query), headers=headers, timeout=timeout) as response:
                if response.status != 200:
                    _answer(response, await response.read())
                yield response
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ClusterUnavailableError(f"GET {path}: {_said(error)}") from error


def _own_namespace() -> str | None:
    """The namespace of the pod that this process runs in; None outside of a cluster."""
    return _SERVICE_ACCOUNT_NAMESPACE.read_text().strip() if _SERVICE_ACCOUNT_NAMESPACE.exists() else None


async def _load(configuration: Any, own_namespace: str | None) -> str:
    """Fill the configuration; returns the default namespace it names."""
    if "KUBECONFIG" not in os.environ and own_namespace is not None:
        kubernetes_config.load_incluster_config(client_configuration=configuration)
        return own_namespace
    await kubernetes_config.load_kube_config(client_configuration=configuration)
    _, context = kubernetes_config.list_kube_config_contexts()
    return str((context.get("context") or {}).get("namespace") or "default")


def _answer(response: aiohttp.ClientResponse, data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError:
        body = {"message": data[:500].decode("utf-8", "replace").strip()}
    if not isinstance(body, dict):
        body = {"message": str(body)[:500]}
    if response.status < 300:
        return body
    if response.status in (408, 429) or response.status >= 500:
        message = body.get("message") or f"HTTP {response.status}"
        raise ClusterUnavailableError(str(message), _retry_after_s(response))
    raise ClusterRefusedError(response.status, body)


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    try:
        return min(60.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[WatchEvent]:
    buffer = bytearray()
    async for data in response.content.iter_any():
        buffer += data
        if b"\n" not in data:
            continue
        *lines, rest = bytes(buffer).split(b"\n")
        buffer = bytearray(rest)
        for line in lines:
            if line:
                yield _watch_event(line)


def _watch_event(line: bytes) -> WatchEvent:
    try:
        found = json.loads(line)
        event = WatchEvent(found["type"], found["object"])
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterUnavailableError(f"the watch sent a line that is no event: {line[:200]!r}") from error
    if event.type != "ERROR":
        return event
    status = int(event.object.get("code") or 500)
    if status == 410:
        raise ClusterRefusedError(status, event.object)
    raise ClusterUnavailableError(str(event.object.get("message") or "the watch ended with an error"))


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for data in response.content.iter_any():
        yield data


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


class BackOff:
    """How long to wait before the next try: jittered, doubling, up to ``longest_s``; the server's own wish counts."""

    def __init__(self, *, first_s: float = 0.2, longest_s: float = 10.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._failures = 0
        self.since: float | None = None  #: monotonic seconds of the first failure in a row

    def failed(self, error: BaseException | None = None) -> float:
        """Count a failure; returns the seconds to wait."""
        self.since = self.since or time.monotonic()
        wait_s = min(self._longest_s, self._first_s * 2.0 ** min(self._failures, 20))
        self._failures += 1
        wish_s = error.retry_after_s if isinstance(error, ClusterUnavailableError) else 0.0
        return max(wait_s * random.uniform(0.5, 1.0), wish_s * random.uniform(1.0, 1.2))

    def succeeded(self) -> None:
        self._failures, self.since = 0, None
