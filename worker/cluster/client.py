"""The door to Kubernetes: the few requests of podrelay, on raw JSON, with foreign errors translated once.

On aiohttp alone: a generated client decodes some 3,000 watch events a second, plain JSON ten times as many, and none
renews what a kubeconfig points to (:mod:`worker.cluster.credentials`). What an answer means is decided in
:mod:`worker.cluster.responses`, before anybody believes it.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp
import structlog
from yarl import URL

from worker.cluster.backoff import Backoff
from worker.cluster.credentials import Credentials
from worker.cluster.kubeconfig import ClusterConfiguration, ConfigurationError, load
from worker.cluster.responses import (
    ClusterRefusedError,
    ClusterUnavailableError,
    RequestInfo,
    ResponseTooLargeError,
    WatchEvent,
    decode_list,
    decode_watch_event,
)
from worker.cluster.service_account import ServiceAccount, service_account_of
from worker.cluster.transport import REQUEST_S, HttpTransport, Request, chunks_of, lines_of

__all__ = ["Backoff", "Cluster", "ClusterRefusedError", "ClusterUnavailableError", "ConfigurationError", "WatchEvent"]

log = structlog.get_logger("podrelay.worker")

#: Nothing was heard of a watch for this long (bookmarks come every minute): it is dead.
WATCH_SILENCE_S: Final = 100.0
#: A watch that ended sooner, without an event, has not been one.
_SHORTEST_WATCH_S: Final = 1.0
#: A page of a list, which is asked for in smaller pages where it is longer.
MAX_PAGE_BYTES: Final = 64 * 1024 * 1024
_PAGE: Final = 500


class Cluster:
    """One API server. Use as an async context manager; belongs to one event loop.

    Attributes:
        is_available: set while pods can be listed and watched and the worker's credentials are taken. What many jobs
            would ask for each waits for it, so that an API server that suffers is asked by a few watches only.
        needs_probe: pods could not be listed or watched, while a watch (of another namespace) goes on: somebody is to
            ask whether it is well.
        service_account: as which the worker speaks to it; None where it is another user.
    """

    def __init__(
        self,
        configuration: ClusterConfiguration,
        credentials: Credentials,
        connections: int,
        *,
        service_account: ServiceAccount | None = None,
    ) -> None:
        self.default_namespace = configuration.namespace
        self.service_account = service_account
        self._transport = HttpTransport(
            configuration, credentials, connections=connections, on_refused=self._lose_credentials
        )
        self._watching: set[aiohttp.ClientResponse] = set()
        self.is_available = asyncio.Event()
        self.is_available.set()
        self.needs_probe = False

    @classmethod
    async def connect(cls, *, connections: int) -> Self:
        """Read ``KUBECONFIG`` (default ``~/.kube/config``) or, in a pod, its service account. Sends nothing.

        Raises:
            ConfigurationError: there is no usable configuration.
        """
        configuration = await asyncio.to_thread(load, os.environ)
        credentials = Credentials(configuration)
        await asyncio.to_thread(credentials.check)
        account = await asyncio.to_thread(service_account_of, configuration.auth)
        proxy = str(URL(configuration.proxy).with_user(None)) if configuration.proxy else None
        log.info("cluster", server=configuration.server, source=configuration.source, proxy=proxy)
        if configuration.ignored:
            log.warning("unknown fields are ignored", source=configuration.source, fields=list(configuration.ignored))
        return cls(configuration, credentials, connections, service_account=account)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.close()

    # Pods

    async def create_pod(
        self, namespace: str, manifest: dict[str, Any], *, may_send: Callable[[], bool]
    ) -> dict[str, Any]:
        """POST the pod; unknown fields are an error (``fieldValidation=Strict``).

        ``may_send`` is asked right before, after all waiting.

        Raises:
            ClusterUnavailableError: also where it may not be sent.
        """
        info = RequestInfo("create", namespace, manifest["metadata"]["name"])
        query = (("fieldValidation", "Strict"),)
        request = Request("POST", _pods(namespace), query, json.dumps(manifest).encode())
        return await self._transport.call(info, request, may_send=may_send)

    async def read_pod(self, namespace: str, name: str) -> dict[str, Any] | None:
        """GET the pod; None where the API server proves that there is none of this name."""
        try:
            return await self._transport.call(
                RequestInfo("get", namespace, name), Request("GET", _pod(namespace, name))
            )
        except ClusterRefusedError as error:
            if error.is_not_found:
                return None
            raise

    async def delete_pod(self, namespace: str, name: str, *, uid: str, grace_s: int | None = None) -> bool:
        """DELETE exactly this pod. False: it is gone, or another one has its name."""
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        request = Request("DELETE", _pod(namespace, name), body=json.dumps(body).encode())
        return await self._change(RequestInfo("delete", namespace, name, uid), request)

    async def patch_pod(self, namespace: str, name: str, metadata: dict[str, Any]) -> bool:
        """PATCH labels and annotations; ``metadata`` holds the pod's uid, so that it is no other. False: it is gone."""
        body = json.dumps({"metadata": metadata}).encode()
        request = Request("PATCH", _pod(namespace, name), (), body, "application/merge-patch+json")
        return await self._change(RequestInfo("patch", namespace, name, metadata["uid"]), request)

    async def pod_events(self, namespace: str, uid: str) -> list[dict[str, Any]]:
        """Return the events about a pod (core/v1 Event objects)."""
        query = (("fieldSelector", f"involvedObject.uid={uid}"), ("limit", "100"))
        request = Request("GET", f"/api/v1/namespaces/{quote(namespace, safe='')}/events", query)
        items, _, _ = decode_list(await self._transport.call(RequestInfo("list", namespace, kind="EventList"), request))
        return [item for item in items if isinstance(item, dict)]

    async def list_pods(self, namespace: str, selector: str) -> tuple[list[dict[str, Any]], str]:
        """List every pod of the selector; return them and the resource version to watch from.

        Waits for no slot: creates that slow admission holds up may have them all, and this tells whether the API server
        answers.
        """
        items: list[dict[str, Any]] = []
        goes_on, limit, seen = "", _PAGE, set[str]()
        while True:
            query = [("labelSelector", selector), ("limit", str(limit))]
            if goes_on:
                query.append(("continue", goes_on))
            request = Request("GET", _pods(namespace), tuple(query), max_bytes=MAX_PAGE_BYTES)
            try:
                with self._tracking_availability():
                    body = await self._transport.call_without_slot(
                        RequestInfo("list", namespace, kind="PodList"), request
                    )
            except ResponseTooLargeError:
                if limit == 1:
                    raise
                limit = max(1, limit // 5)
                continue
            found, resource_version, goes_on = decode_list(body)
            items += found
            if not goes_on:
                return items, resource_version
            if goes_on in seen:
                raise ClusterUnavailableError(f"{request}: the list goes on where it has been")
            seen.add(goes_on)

    async def watch_pods(self, namespace: str, selector: str, resource_version: str) -> AsyncIterator[WatchEvent]:
        """Watch the pods from ``resource_version`` on, until the API server or the network ends the stream.

        Raises:
            ClusterRefusedError: with status 410 when that version is too old: list again.
            ClusterUnavailableError: the stream broke, was none, or was silent for longer than bookmarks allow.
        """
        query = (
            ("labelSelector", selector),
            ("watch", "1"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", resource_version),
            ("timeoutSeconds", str(random.randint(300, 600))),
        )
        request = Request("GET", _pods(namespace), query)
        began, has_come = time.monotonic(), False
        with self._tracking_availability():
            async with self._transport.stream(
                RequestInfo("watch", namespace), request, read_s=WATCH_SILENCE_S
            ) as response:
                self.is_available.set()
                self._watching.add(response)
                try:
                    async for line in lines_of(request, response):
                        has_come = True
                        yield decode_watch_event(line, namespace)
                finally:
                    self._watching.discard(response)
            if not has_come and time.monotonic() - began < _SHORTEST_WATCH_S:
                raise ClusterUnavailableError(f"{request}: the watch ended at once, without an event")

    @asynccontextmanager
    async def log(
        self,
        namespace: str,
        name: str,
        container: str,
        *,
        since: str | None,
        follow: bool,
        tail_lines: int | None = None,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream the container's log with timestamps, as pieces of any size.

        ``since``: RFC 3339, whole seconds count; ``tail_lines``: only so many of the last ones.

        Raises:
            ClusterRefusedError: the pod is not there (``is_not_found``), or e.g. status 400 while the container has not
                started. A kubelet that does not know the pod yet is neither.
            ClusterUnavailableError: also while iterating, when the stream breaks.
        """
        query = [("container", container), ("timestamps", "true"), ("follow", "true" if follow else "false")]
        if since is not None:
            query.append(("sinceTime", since))
        if tail_lines is not None:
            query.append(("tailLines", str(tail_lines)))
        request = Request("GET", f"{_pod(namespace, name)}/log", tuple(query))
        read_s = None if follow else REQUEST_S
        async with self._transport.stream(RequestInfo("log", namespace, name), request, read_s=read_s) as response:
            yield chunks_of(request, response)

    @contextmanager
    def _tracking_availability(self) -> Iterator[None]:
        try:
            yield
            self.is_available.set()
        except ClusterUnavailableError:
            if self._watching:
                self.needs_probe = True
            else:
                self.is_available.clear()
            raise
        except ClusterRefusedError:
            self.is_available.set()  # that is an answer
            raise

    async def _change(self, info: RequestInfo, request: Request) -> bool:
        try:
            await self._transport.call(info, request)
        except ClusterRefusedError as error:
            if error.is_not_found or error.is_uid_conflict:
                return False
            raise
        return True

    def _lose_credentials(self) -> None:
        """Mark the API server unavailable, and end the watches that began with the lost credentials.

        They begin again once they may, which tells that all is well again.
        """
        self.is_available.clear()
        for response in self._watching:
            response.close()


def _pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/pods"


def _pod(namespace: str, name: str) -> str:
    return f"{_pods(namespace)}/{quote(name, safe='')}"
