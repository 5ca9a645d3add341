"""Version, health, discovery and access reviews: what clients ask of an API server besides objects."""

import sys

from aiohttp import web

from devcluster.apimachinery.errors import Json, no_such_path
from devcluster.apimachinery.paths import CLUSTER_SCOPED, KINDS
from devcluster.apiserver.bodies import answer
from devcluster.apiserver.faults import Faults

VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.2+pocket",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": f"python{sys.version_info.major}.{sys.version_info.minor}",
    "platform": sys.platform,
}
_GROUPS: Json = {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}


def answer_service(request: web.Request) -> web.Response:
    """Respond to health, version and discovery.

    Raises:
        StatusError: 404, it is none of these.
    """
    match request.path.rstrip("/"):
        case "/healthz" | "/readyz" | "/livez":
            return web.Response(text="ok")
        case "/version":
            return answer(VERSION)
        case "/api":
            return answer({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        case "/apis":
            return answer(_GROUPS)
        case "/api/v1":
            return answer({"kind": "APIResourceList", "groupVersion": "v1", "resources": _resources()})
        case _:
            raise no_such_path()


def _resources() -> list[Json]:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    return [
        {
            "name": name,
            "singularName": kind.lower(),
            "namespaced": name not in CLUSTER_SCOPED,
            "kind": kind,
            "verbs": verbs,
        }
        for name, kind in KINDS.items()
    ]


async def answer_access_review(request: web.Request, faults: Faults) -> web.Response:
    """Respond to a ``SelfSubjectAccessReview``: everything is allowed but what a test denied."""
    review = await request.json()
    asked = review.get("spec", {}).get("resourceAttributes") or {}
    resource = asked.get("resource", "")
    if asked.get("subresource"):
        resource += f"/{asked['subresource']}"
    denied = faults.is_denied(asked.get("verb", ""), resource, asked.get("namespace", ""))
    return answer({**review, "status": {"allowed": not denied}}, 201)
