"""Bodies of requests and responses: reads objects from JSON, names and measures them, writes them as JSON."""

import json
from uuid import uuid4

from aiohttp import web

from devcluster.apimachinery.admission import terminating_namespace
from devcluster.apimachinery.errors import Json, bad_request, not_found, object_too_large
from devcluster.apimachinery.store import Store

#: etcd's default limit; it counts another encoding of the object, which is about as long.
_MOST_STORED_BYTES = 1_572_864


def json_body(text: bytes) -> Json:
    """A request's object; raises ``StatusError`` (400)."""
    try:
        body = json.loads(text)
    except ValueError as error:
        raise bad_request(f"the object provided is unrecognized (must be of type Pod): {error}") from error
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized (must be of type Pod): not an object")
    return body


def check_namespace(store: Store, resource: str, namespace: str, name: str) -> None:
    """Nothing is created in a namespace that does not exist or is going."""
    stored = store.find("namespaces", ("", namespace))
    if stored is None:
        raise not_found("namespaces", namespace)
    if "deletionTimestamp" in stored.object["metadata"]:
        raise terminating_namespace(resource, name, namespace)


def check_size(obj: Json) -> None:
    """What etcd takes in one request."""
    if len(json.dumps(obj, ensure_ascii=False, separators=(",", ":"))) > _MOST_STORED_BYTES:
        raise object_too_large()


def named(obj: Json, namespace: str) -> Json:
    """The object with its namespace and, from ``generateName``, its name."""
    metadata = dict(obj.get("metadata") or {})
    if metadata.get("namespace", namespace) != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if namespace:
        metadata["namespace"] = namespace
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = f"{metadata['generateName'][:58]}{uuid4().hex[:5]}"
    for given_by_server in ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "generation"):
        metadata.pop(given_by_server, None)
    return {**obj, "metadata": metadata}


def answer(body: Json, status: int) -> web.Response:
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return web.Response(text=text + "\n", status=status, content_type="application/json")
