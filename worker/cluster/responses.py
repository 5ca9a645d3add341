"""What a response proves: an object, a refusal, or nothing.

Between a worker and the API server stand load balancers, proxies and login pages, and a server that is just starting
does not know its own paths yet. So an answer counts only as what it proves: an object of the kind that was asked for,
or a `Status` of the API that speaks of the very object. Everything else says nothing about any pod; it is
*unavailable*, whatever its code. The same holds for a pod that is gone: only its own `NotFound` tells.

Pure: the door (:mod:`worker.cluster.client`) reads the bytes.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Json = dict[str, Any]
Verb = Literal["create", "get", "delete", "patch", "list", "watch", "log"]

#: Longest text of another's that is passed on, in characters.
_WORDS: Final = 2000
_FEW_WORDS: Final = 120
#: No refusal, but a moment's trouble: with these codes the API server (or a webhook of its) asks to come again.
_TRANSIENT: Final = frozenset({408, 429})
#: What etcd and its client say of an object that they will never take, in an answer with code 500.
_TOO_LARGE: Final = ("etcdserver: request is too large", "trying to send message larger than max")
#: The API server's own words where an admission webhook said no, with any code that the webhook likes.
_WEBHOOK_SAID_NO: Final = re.compile(r'^admission webhook ".*?" denied the request')

_TAG: Final = re.compile(r"(?s)<(script|style)\b.*?</\1\s*>|<[^>]*>")


class ClusterUnavailableError(Exception):
    """The API server is unreachable, overloaded or answers nonsense: try again. ``retry_after_s``: its wish."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CredentialsError(ClusterUnavailableError):
    """The API server does not accept the worker's credentials, or the worker has none to show."""


class ResponseTooLargeError(ClusterUnavailableError):
    """The response is longer than is read."""


class ClusterRefusedError(Exception):
    """The API server has answered, and the answer is no.

    ``status`` is HTTP's; ``reason`` and ``causes`` are the server's own words, ``kind`` and ``name`` what they are
    about.
    """

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        self.reason = printable(body.get("reason"))
        self.message = printable(body.get("message")) or f"HTTP {status}"
        details = _mapping(body.get("details"))
        self.kind = printable(details.get("kind"))
        self.name = printable(details.get("name"))
        causes = details.get("causes")
        found = [_mapping(cause) for cause in causes] if isinstance(causes, list) else []
        self.causes = [f"{printable(c.get('field'))}: {printable(c.get('message'))}".removeprefix(": ") for c in found]
        super().__init__(self.message)

    @property
    def is_quota_exceeded(self) -> bool:
        """Whether a resource quota is used up, or not yet calculated: there may be room later."""
        return self.status == 403 and any(
            text in self.message for text in ("exceeded quota", "status unknown for quota")
        )

    @property
    def is_too_large(self) -> bool:
        """Whether the object is larger than the cluster will ever take."""
        return self.status == 413 or _is_too_large(self.message)

    @property
    def is_not_found(self) -> bool:
        """Whether it is proved that the requested pod is not there."""
        return self.reason == "NotFound" and not self.is_from_webhook

    @property
    def is_uid_conflict(self) -> bool:
        """Whether the pod of this name has another uid than the request's."""
        is_precondition = "UID in precondition" in self.message or "UID in the precondition" in self.message
        return self.reason == "Conflict" and is_precondition and not self.is_from_webhook

    @property
    def is_from_webhook(self) -> bool:
        """Whether an admission webhook said no."""
        return _WEBHOOK_SAID_NO.match(self.message) is not None


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What a request asked for: pods, unless ``kind`` says otherwise. ``name`` and ``uid`` where it is one pod."""

    verb: Verb
    namespace: str
    name: str = ""
    uid: str = ""
    kind: Literal["Pod", "PodList", "EventList"] = "Pod"


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response, read to its end. ``retry_after`` is the header, '' where there was none."""

    status: int
    content_type: str
    body: bytes
    retry_after: str = ""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, and the object as the API wrote it."""

    type: str
    object: Json


def decode_response(info: RequestInfo, response: Response) -> Json:
    """Return the object that was asked for (after a deletion it may be a `Status` that says it was done).

    Raises:
        ClusterRefusedError: the API server refuses what was asked, or proves that the object is not there.
        CredentialsError: 401, whoever said it: renew them.
        ClusterUnavailableError: anything else.
    """
    body = _decoded(response.body)
    if 200 <= response.status < 300 and _is_requested(info, _mapping(body)):
        return _mapping(body)
    if response.status >= 400 and _is_status(response.status, body):
        refused = ClusterRefusedError(response.status, body)
        if _is_refusal(info, refused):
            raise refused
        if response.status == 401:
            raise CredentialsError(refused.message)
        raise ClusterUnavailableError(refused.message, _retry_after_s(response.retry_after, body))
    raise not_from_api_server(response)


def not_from_api_server(response: Response) -> ClusterUnavailableError:
    """Make the error that says, in a few words, what came instead of the API server's response."""
    what = printable(_TAG.sub(" ", response.body[:20_000].decode("utf-8", "replace")), _FEW_WORDS)
    kind = printable(response.content_type, 60) or "no content type"
    said = f"{kind}: {what!r}" if what else f"{kind}, empty"
    text = f"the answer is not the API server's (HTTP {response.status}, {said})"
    if response.status == 401:
        return CredentialsError(text)
    return ClusterUnavailableError(text, _retry_after_s(response.retry_after, {}))


def decode_list(body: Json) -> tuple[list[Json], str, str]:
    """Return a list's items, its resource version and its continue token ('' at its end)."""
    metadata = body["metadata"]
    return list(body["items"] or ()), metadata["resourceVersion"], metadata.get("continue") or ""


def decode_watch_event(line: bytes, namespace: str) -> WatchEvent:
    """Read one line of a watch of the namespace's pods.

    Raises:
        ClusterRefusedError: with status 410 where the resource version is too old: list again.
        ClusterUnavailableError: another error, or a line that is no event.
    """
    found = _mapping(_decoded(line))
    kind, body = printable(found.get("type")), _mapping(found.get("object"))
    is_bookmark = kind == "BOOKMARK" and _is_text(_mapping(body.get("metadata")).get("resourceVersion"))
    if is_bookmark or (kind in ("ADDED", "MODIFIED", "DELETED") and _is_pod(body, namespace)):
        return WatchEvent(kind, body)
    if kind == "ERROR" and _is_status(None, body):
        if body["code"] == 410:
            raise ClusterRefusedError(410, body)
        said = printable(body.get("message")) or "the watch ended with an error"
        raise ClusterUnavailableError(said, _retry_after_s("", body))
    raise ClusterUnavailableError(f"the watch sent a line that is no event: {_quoted(line)}")


def printable(value: object, longest: int = _WORDS) -> str:
    """Return a foreign text fit to store and show: one line, of bounded length; '' where it is no text."""
    if not isinstance(value, str):
        return ""
    text = " ".join("".join(c if c.isprintable() else " " for c in value[: 4 * longest]).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


# What was asked for


def _is_requested(info: RequestInfo, body: Json) -> bool:
    match info.kind, body:
        case "Pod", {"kind": "Pod", "apiVersion": "v1"}:
            return _is_pod(body, info.namespace) and _names_object(info, body["metadata"])
        case "Pod", {"kind": "Status", "apiVersion": "v1", "status": "Success"} if info.verb == "delete":
            return _names_object(info, _mapping(body.get("details")))
        case (("PodList" | "EventList"), {"apiVersion": "v1", "items": list() | None}):
            # What an item is worth is seen one by one: one that is odd must not hide the others.
            return body.get("kind") == info.kind and _is_list(_mapping(body.get("metadata")))
        case _:
            return False


def _is_list(metadata: Json) -> bool:
    return _is_text(metadata.get("resourceVersion")) and isinstance(metadata.get("continue", ""), str)


def _is_pod(body: object, namespace: str) -> bool:
    """Whether it says which pod it is, and which version of it."""
    metadata = _mapping(_mapping(body).get("metadata"))
    is_named = all(_is_text(metadata.get(field)) for field in ("name", "uid", "resourceVersion"))
    return is_named and metadata.get("namespace") == namespace


def _names_object(info: RequestInfo, named: Json) -> bool:
    """Whether metadata, or the details of a `Status`, are those of the pod that was asked about."""
    is_same_uid = not info.uid or named.get("uid") == info.uid
    return named.get("name") == info.name and is_same_uid


# Refusals


def _is_status(code: int | None, body: object) -> bool:
    """Whether it is a `Status` of a failure; ``code``: HTTP's, which it repeats."""
    match body:
        case {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": int() as said}:
            return code is None or said == code
        case _:
            return False


def _is_refusal(info: RequestInfo, said: ClusterRefusedError) -> bool:
    """Whether the `Status` speaks of what was asked, and will say the same until something is changed."""
    if info.verb in ("create", "patch") and said.is_too_large:
        return True
    if said.status >= 500 or said.status in _TRANSIENT:
        return False
    return said.status != 409 if said.is_from_webhook else _is_permanent(info, said)


def _is_permanent(info: RequestInfo, said: ClusterRefusedError) -> bool:
    is_about_pods = said.kind in ("pods", "Pod") and said.name in ("", info.name)
    is_about_this = is_about_pods and said.name != ""
    match said.reason:
        case "NotFound":
            return _proves_absence(info, said)
        case "AlreadyExists":
            return is_about_this and info.verb == "create"
        case "Conflict":
            return is_about_this and info.verb != "create" and said.is_uid_conflict
        case "Forbidden" | "Invalid":
            return is_about_pods
        case "Unauthorized":  # a policy of the cluster may give this as its reason; a refused token names no pod
            return is_about_this
        case "BadRequest":
            return is_about_pods or not said.kind
        case "Expired" | "Gone":
            return info.verb in ("list", "watch")
        case _:
            return False


def _proves_absence(info: RequestInfo, said: ClusterRefusedError) -> bool:
    if said.kind == "namespaces":
        return said.name == info.namespace and info.verb != "list"
    # While a kubelet restarts, the log of a pod that runs is "not found" with kind `pods/log`.
    return said.kind == "pods" and said.name == info.name != "" and info.verb != "create"


def _is_too_large(text: str) -> bool:
    return any(sign in text for sign in _TOO_LARGE)


# Reading


def _decoded(data: bytes) -> Any:
    """Decode JSON; None where it is none, or could not be stored."""
    try:
        found = json.loads(data)
        if b"\\ud" in data or b"\\uD" in data:
            json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair cannot be passed on
    except (ValueError, RecursionError):
        return None
    return found


def _mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _quoted(data: bytes) -> str:
    return repr(printable(data[:_WORDS].decode("utf-8", "replace"), _FEW_WORDS))


def _retry_after_s(header: str, body: Json) -> float:
    wish = header or _mapping(body.get("details")).get("retryAfterSeconds") or 0
    try:
        wish_s = float(wish)
    except (TypeError, ValueError, OverflowError):
        return 0.0  # a date: as good as none
    return min(60.0, wish_s) if wish_s > 0 else 0.0  # also where it is not a number
