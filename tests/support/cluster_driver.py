"""A plain REST client for any cluster that a kubeconfig names: what the contract tests drive.

It knows nothing of the pocket cluster, so that the same tests can be run against a real one
(`PODRELAY_TEST_KUBECONFIG`).
"""

import asyncio
import base64
import io
import json
import os
import ssl
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import aiohttp
import yaml

Json = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """An answer, read whole."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ClusterDriver:
    """One session with a cluster."""

    def __init__(self, kubeconfig: Path, *, is_pocket: bool) -> None:
        self.is_pocket = is_pocket
        config = yaml.safe_load(kubeconfig.read_text())
        named = {group: {one["name"]: one for one in config[group]} for group in ("contexts", "clusters", "users")}
        context = named["contexts"][config["current-context"]]["context"]
        self._cluster: Json = named["clusters"][context["cluster"]]["cluster"]
        self._user: Json = named["users"][context["user"]]["user"]
        self.url: str = self._cluster["server"].rstrip("/")
        self.pocket: Any = None
        """The pocket cluster behind it, for tests that cannot be run on any other."""
        self._namespaces: list[str] = []

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._user['token']}"} if "token" in self._user else {}
        connector = aiohttp.TCPConnector(ssl=self._tls(), limit=0)
        self.session = aiohttp.ClientSession(headers=headers, connector=connector)
        return self

    async def __aexit__(self, *_error: object) -> None:
        for namespace in self._namespaces:
            await self.request("DELETE", f"/api/v1/namespaces/{namespace}")
        await self.session.close()

    def _tls(self) -> ssl.SSLContext | bool:
        if not self.url.startswith("https"):
            return True
        authority = self._cluster.get("certificate-authority-data")
        context = ssl.create_default_context(
            cafile=self._cluster.get("certificate-authority"),
            cadata=base64.b64decode(authority).decode() if authority else None,
        )
        if "client-certificate-data" in self._user:
            with tempfile.NamedTemporaryFile() as pair:
                for part in ("client-certificate-data", "client-key-data"):
                    pair.write(base64.b64decode(self._user[part]) + b"\n")
                pair.flush()
                context.load_cert_chain(pair.name)
        return context

    async def request(
        self, verb: str, path: str, body: Any = None, *, kind: str = "application/json", headers: Json | None = None
    ) -> Reply:
        """Send a request and read the whole answer; `path` may bear a query."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        data = None if body is None else io.BytesIO(text)  # aiohttp warns of large bodies that are bytes
        given = {"Content-Type": kind, **(headers or {})}
        async with self.session.request(verb, f"{self.url}{path}", data=data, headers=given) as response:
            return Reply(response.status, await response.read(), {k.lower(): v for k, v in response.headers.items()})

    async def stream(self, path: str) -> AsyncIterator[Json]:
        """The events of a watch, until it ends or the reader leaves."""
        async with self.session.get(f"{self.url}{path}", timeout=aiohttp.ClientTimeout()) as response:
            buffer = b""
            async for chunk in response.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    async def namespace(self, prefix: str = "podrelay-test") -> str:
        """A new namespace in which pods can be created; deleted when the session ends."""
        name = f"{prefix}-{uuid4().hex[:8]}"
        reply = await self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        assert reply.status == 201, reply.body
        self._namespaces.append(name)
        async for event in self.stream(f"/api/v1/namespaces/{name}/serviceaccounts?watch=1"):
            if event["object"]["metadata"]["name"] == "default":
                break
        return name


def pods(namespace: str, name: str = "", query: str = "") -> str:
    """The path of pods, or of one pod or what is under it."""
    path = f"/api/v1/namespaces/{namespace}/pods" + (f"/{name}" if name else "")
    return f"{path}?{query}" if query else path


def simple_pod(name: str, image: str, command: list[str] | None = None, **spec: Any) -> Json:
    """A pod of one container named `base` that is not restarted."""
    container: Json = {"name": "base", "image": image}
    if command is not None:
        container["command"] = command
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": [container], **spec},
    }


def state_of(pod: Json, container: str = "base") -> Json:
    """A container's state: `{}` when the pod has no status of it yet."""
    status = pod.get("status", {})
    for one in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        if one["name"] == container:
            found: Json = one["state"]
            return found
    return {}


async def process_end(pid: int, limit_s: float = 10.0) -> None:
    """Wait until a process of this machine has ended, whoever's child it is; raises TimeoutError if it does not."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(limit_s):
            await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
