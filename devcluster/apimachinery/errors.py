"""The API server's errors: failure ``Status`` bodies, worded as in the recordings.

Each function makes one kind of error, named as apimachinery's own.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that is wrong."""

    field: str
    reason: str
    message: str

    def as_json(self) -> Json:
        return {"reason": self.reason, "message": self.message, "field": self.field}


class StatusError(Exception):
    """A request that the API server answers with a failure ``Status``; ``apiserver.http`` sends it."""

    def __init__(self, code: int, reason: str, message: str, *, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    @property
    def status(self) -> Json:
        body: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        body["message"] = self.message
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body

    @property
    def body(self) -> bytes:
        return json.dumps(self.status, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def bad_request(message: str) -> StatusError:
    """Make a 400."""
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    """Make a 401, for a wrong token."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(resource: str, name: str, why: str, causes: Sequence[Cause] = ()) -> StatusError:
    """Make a 403 of admission."""
    details: Json = {"name": name, "kind": resource}
    if causes:
        details["causes"] = [cause.as_json() for cause in causes]
    return StatusError(403, "Forbidden", f'{resource} "{name}" is forbidden: {why}', details=details)


def not_allowed(user: str, verb: str, resource: str, namespace: str) -> StatusError:
    """Make a 403 of RBAC (recording ``refused-403-rbac``)."""
    where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    message = f'{resource} is forbidden: User "{user}" cannot {verb} resource "{resource}" in API group ""{where}'
    return StatusError(403, "Forbidden", message, details={"kind": resource})


def not_found(resource: str, name: str) -> StatusError:
    """Make a 404 for an object."""
    return StatusError(404, "NotFound", f'{resource} "{name}" not found', details={"name": name, "kind": resource})


def no_such_path() -> StatusError:
    """Make a 404 for a path."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", details={})


def already_exists(resource: str, name: str) -> StatusError:
    """Make a 409 for a name that is taken."""
    message = f'{resource} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, details={"name": name, "kind": resource})


def conflict(resource: str, name: str, why: str) -> StatusError:
    """Make a 409 for an update of something else than what is stored."""
    message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
    return StatusError(409, "Conflict", message, details={"name": name, "kind": resource})


def expired(message: str) -> StatusError:
    """Make a 410, for a version that history no longer reaches."""
    return StatusError(410, "Expired", message)


def request_too_large(limit_bytes: int) -> StatusError:
    """Make a 413."""
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit_bytes}")


def object_too_large() -> StatusError:
    """Make etcd's refusal, which the API server passes on as it is: no reason, no details."""
    return StatusError(500, "", "etcdserver: request is too large")


def kubelet_dead(address: str, path: str) -> StatusError:
    """Make a 500, for a node on which nobody listens (recording ``kubelet-restart``)."""
    why = f"dial tcp {address}: connect: connection refused"
    return StatusError(500, "", f'Get "https://{address}{path}": {why}')


def kubelet_starting(resource: str, name: str) -> StatusError:
    """Make the 404 of a kubelet that serves no logs yet (recording ``kubelet-restart``); the pod may well exist."""
    message = f"the server could not find the requested resource ( {resource} {name})"
    return StatusError(404, "NotFound", message, details={"name": name, "kind": resource})


def unsupported_media_type(supported: Sequence[str]) -> StatusError:
    """Make a 415, for another kind of patch."""
    accepted = ", ".join(supported)
    message = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
    return StatusError(415, "UnsupportedMediaType", message)


def invalid(kind: str, name: str, causes: Sequence[Cause]) -> StatusError:
    """Make a 422 with every wrong field (recording ``refused-422-invalid``)."""
    words = [f"{cause.field}: {cause.message}" for cause in causes]
    said = words[0] if len(words) == 1 else f"[{', '.join(words)}]"
    details: Json = {"name": name, "kind": kind, "causes": [cause.as_json() for cause in causes]}
    return StatusError(422, "Invalid", f'{kind} "{name}" is invalid: {said}', details=details)


def success(code: int) -> Json:
    """Make the ``Status`` of a request that succeeded."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}
