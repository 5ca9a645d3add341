"""Bodies of requests and responses: objects read from JSON, named, measured, and written as JSON."""

import json
from uuid import uuid4

from aiohttp import web

from devcluster.apimachinery.admission import terminating_namespace
from devcluster.apimachinery.errors import Json, bad_request, not_found, object_too_large
from devcluster.apimachinery.store import Store

#: etcd's default limit; it counts another encoding of the object, which is about as long.
_MOST_STORED_BYTES = 1_572_864


def json_body(text: bytes) -> Json:
    """Read a request's object.

    Raises:
        StatusError: 400, it is none.
    """
    try:
        body = json.loads(text)
    except ValueError as error:
        raise bad_request(f"the object provided is unrecognized (must be of type Pod): {error}") from error
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized (must be of type Pod): not an object")
    return body


def check_namespace(store: Store, resource: str, namespace: str, name: str) -> None:
    """Refuse to create something in a namespace that does not exist, or not much longer.

    Raises:
        StatusError: 404 or 403.
    """
    stored = store.find("namespaces", ("", namespace))
    if stored is None:
        raise not_found("namespaces", namespace)
    if "deletionTimestamp" in stored.object["metadata"]:
        raise terminating_namespace(resource, name, namespace)


def check_size(obj: Json) -> None:
    """Hold an object to what etcd takes.

    Raises:
        StatusError: 500, it is larger.
    """
    if len(json.dumps(obj, ensure_ascii=False, separators=(",", ":"))) > _MOST_STORED_BYTES:
        raise object_too_large()


def named(obj: Json, namespace: str) -> Json:
    """Give an object its namespace and, by ``generateName``, its name; drop what only the server may set."""
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


def answer(body: Json, status: int = 200) -> web.Response:
    """Respond with an object."""
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return web.Response(text=text + "\n", status=status, content_type="application/json")


def is_true(value: str) -> bool:
    """Read a boolean of a query."""
    return value in ("1", "true", "True")
