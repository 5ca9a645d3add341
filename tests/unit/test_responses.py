"""Only the API's own word about the very object proves anything; all else is unavailable."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import recordings
from worker.cluster.responses import (
    ClusterRefusedError,
    ClusterUnavailableError,
    CredentialsError,
    RequestInfo,
    Response,
    Verb,
    decode_list,
    decode_response,
    decode_watch_event,
    printable,
)

HTML = b"<html><head><style>b {}</style><title>Not Found</title></head><body><b>nginx</b>\r\n</body></html>"
ON_A_POD: tuple[Verb, ...] = ("create", "get", "delete", "patch", "log")


def pod(name: str = "job", uid: str = "u1", namespace: str = "default") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": "7"}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {}, "status": {}}


def pod_list(*items: Any, **metadata: Any) -> dict[str, Any]:
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "9", **metadata}, "items": [*items]}


def status(code: int, reason: str, message: str, details: Any = None) -> dict[str, Any]:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    return {**body, "reason": reason, "details": details, "code": code}


def asked(verb: Verb) -> RequestInfo:
    uid = "u1" if verb in ("delete", "patch") else ""
    if verb in ("list", "watch"):
        return RequestInfo(verb, "default", kind="PodList")
    return RequestInfo(verb, "default", "job", uid)


def answer(code: int, body: Any, content_type: str = "application/json", retry_after: str = "") -> Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(code, content_type, data, retry_after)


DONE = {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"name": "job", "uid": "u1"}}

# What is asked for


@pytest.mark.parametrize(
    ("verb", "code", "body"),
    [
        ("create", 201, pod()),
        ("get", 200, pod()),
        ("delete", 200, pod()),
        ("delete", 202, pod()),
        ("patch", 200, pod()),
        ("list", 200, pod_list()),
        ("list", 200, {**pod_list(), "items": None}),
        ("list", 200, pod_list(pod(), pod("other"))),
        ("delete", 200, DONE),
    ],
)  # fmt: skip
def test_the_object_that_was_asked_for_is_taken(verb: Verb, code: int, body: Any) -> None:
    assert decode_response(asked(verb), answer(code, body)) == body


NOT_WHAT_WAS_ASKED_FOR = [
    pod("another"),
    pod(namespace="another"),
    pod(uid=""),
    {**pod(), "kind": "Secret"},
    {**pod(), "apiVersion": "v2"},
    {**pod(), "metadata": {"name": "job"}},
    {**pod(), "metadata": ["name", "job"]},
    {"kind": "Pod", "apiVersion": "v1"},
    {"kind": "PodList", "apiVersion": "v1", "items": []},
    {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}},
    {**pod_list(), "metadata": {"resourceVersion": 9}},
    {**pod_list(), "items": {"a": pod()}},
    {**pod_list(), "kind": "List"},
    pod_list(**{"continue": 5}),
    {"kind": "Status", "apiVersion": "v1", "status": "Success"},
    {"status": "ok"}, [], [pod()], "pod", None, True, 7, 1e300, {},
    b"", b" ", b"\xff\xfe", HTML, b"null", b'{"kind":"Pod"', b"[" * 100_000, b'{"a":' * 100_000,
    json.dumps(pod()).encode()[:-1],
    json.dumps({**pod(), "status": {"message": "\ud800"}}).encode(),
    b"1" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("body", NOT_WHAT_WAS_ASKED_FOR, ids=lambda body: str(body)[:40])
@pytest.mark.parametrize("verb", ["create", "get", "delete", "patch", "list"])
def test_what_is_not_the_apis_is_unavailable_whatever_its_code(verb: Verb, body: Any) -> None:
    for code in (200, 201, 202, 204, 206, 301, 302, 307, 400, 401, 403, 404, 409, 410, 413, 422, 500, 502, 599):
        with pytest.raises(ClusterUnavailableError) as raised:
            decode_response(asked(verb), answer(code, body, "text/html"))
        assert 0 < len(str(raised.value)) < 400


def test_a_pod_of_another_uid_is_no_answer_to_what_was_to_be_done_to_this_one() -> None:
    for verb in ("delete", "patch"):
        with pytest.raises(ClusterUnavailableError):
            decode_response(asked(verb), answer(200, pod(uid="u2")))


def test_it_says_what_came() -> None:
    with pytest.raises(ClusterUnavailableError) as raised:
        decode_response(asked("get"), answer(404, HTML, "text/html; charset=utf-8"))
    assert str(raised.value) == (
        "the answer is not the API server's (HTTP 404, text/html; charset=utf-8: 'Not Found nginx')"
    )
    with pytest.raises(ClusterUnavailableError, match=r"HTTP 502, no content type, empty"):
        decode_response(asked("get"), Response(502, "", b""))


# Refusals


ABSENT = status(404, "NotFound", 'pods "job" not found', {"name": "job", "kind": "pods"})
NO_NAMESPACE = status(404, "NotFound", 'namespaces "default" not found', {"name": "default", "kind": "namespaces"})
FORBIDDEN = status(403, "Forbidden", "pods is forbidden: …", {"kind": "pods"})
DENIED = 'admission webhook "guard.example.com" denied the request: no'
UID = "Precondition failed: UID in precondition: u1, UID in object meta: u2"
ANOTHER = status(
    409, "Conflict", f'Operation cannot be fulfilled on pods "job": {UID}', {"name": "job", "kind": "pods"}
)
EXISTS = status(409, "AlreadyExists", 'pods "job" already exists', {"name": "job", "kind": "pods"})
INVALID = status(422, "Invalid", "Pod …", {"name": "job", "kind": "Pod", "causes": [{"field": "f", "message": "m"}]})
ETCD = status(500, "", "etcdserver: request is too large")
GRPC = status(500, "", "rpc error: code = ResourceExhausted desc = trying to send message larger than max (3 vs. 2)")
TOO_LARGE = status(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")


@pytest.mark.parametrize(
    ("verbs", "body"),
    [
        (("get", "delete", "patch", "log"), ABSENT),
        (("create", "get"), NO_NAMESPACE),
        (("create", "get", "delete", "patch", "list", "log"), FORBIDDEN),
        (("delete", "patch"), ANOTHER),
        (("create",), EXISTS),
        (("create", "patch"), INVALID),
        (("create", "patch"), ETCD),
        (("create", "patch"), GRPC),
        (("create", "patch"), TOO_LARGE),
        (("create", "log", "list"), status(400, "BadRequest", "Pod in version …")),
        (("list", "watch"), status(410, "Expired", "too old resource version")),
        (("create",), status(400, "", DENIED)),
        (("create", "delete"), status(403, "", DENIED)),
        (("create",), status(401, "Unauthorized", 'pods "job" is forbidden: …', {"name": "job", "kind": "pods"})),
    ],
)
def test_the_apis_own_word_about_the_object_is_a_refusal(verbs: tuple[Verb, ...], body: dict[str, Any]) -> None:
    for verb in verbs:
        with pytest.raises(ClusterRefusedError) as raised:
            decode_response(asked(verb), answer(body["code"], body))
        assert raised.value.status == body["code"]
        assert raised.value.message == body["message"]


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("get", status(404, "NotFound", "the server could not find the requested resource", {})),
        ("log", status(404, "NotFound", "the server could not …", {"name": "job", "kind": "pods/log"})),
        ("get", status(404, "NotFound", 'pods "other" not found', {"name": "other", "kind": "pods"})),
        ("get", status(404, "NotFound", 'pods "job" not found')),
        ("get", status(404, "NotFound", "…", {"name": "job", "kind": "clusters"})),
        ("get", status(404, "", 'pods "job" not found', {"name": "job", "kind": "pods"})),
        ("get", {**ABSENT, "code": 403}),
        ("get", {**ABSENT, "apiVersion": None}),
        ("get", {**ABSENT, "status": "Success"}),
        ("get", {**ABSENT, "details": [1]}),
        ("create", ABSENT),
        ("create", status(404, "NotFound", "…", {"name": "other", "kind": "namespaces"})),
        ("list", NO_NAMESPACE),
        ("create", status(403, "Forbidden", 'forbidden: User "system:anonymous" cannot post path "/"', {})),
        ("list", status(403, "Forbidden", "…", {"kind": "clusters", "group": "management.cattle.io"})),
        ("create", status(409, "Conflict", "… on resourcequotas", {"name": "q", "kind": "resourcequotas"})),
        ("delete", status(409, "Conflict", "apply your changes to the latest", {"name": "job", "kind": "pods"})),
        ("create", status(429, "TooManyRequests", "too many", {"retryAfterSeconds": 3})),
        ("create", status(429, "", DENIED)),
        ("create", status(500, "InternalError", f"Internal error occurred: {DENIED}")),
        ("create", status(500, "", DENIED)),
        ("create", status(504, "Timeout", "request did not complete within requested timeout")),
        ("create", status(405, "MethodNotAllowed", "the server does not allow this method", {})),
        ("get", ETCD),
        ("get", status(410, "Expired", "…")),
    ],
)
def test_a_status_about_something_else_or_a_moments_trouble_is_unavailable(verb: Verb, body: Any) -> None:
    code = body["code"] if body["code"] != 403 or body["reason"] != "NotFound" else 404
    with pytest.raises(ClusterUnavailableError):
        decode_response(asked(verb), answer(code, body))


def test_refused_credentials_are_told_apart_whoever_refuses_them() -> None:
    for body in (status(401, "Unauthorized", "Unauthorized"), HTML, b"", {}):
        with pytest.raises(CredentialsError):
            decode_response(asked("get"), answer(401, body))


@pytest.mark.parametrize(
    ("header", "details", "wish_s"),
    [
        ("7", None, 7.0),
        ("", {"retryAfterSeconds": 4}, 4.0),
        ("1e9", None, 60.0),
        ("-5", None, 0.0),
        ("nan", None, 0.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None, 0.0),
        ("", {"retryAfterSeconds": [1]}, 0.0),
        ("", {"retryAfterSeconds": 10**400}, 0.0),
        ("", "soon", 0.0),
    ],
)
def test_the_servers_wish_when_to_come_again_is_taken_within_reason(header: str, details: Any, wish_s: float) -> None:
    with pytest.raises(ClusterUnavailableError) as raised:
        decode_response(asked("get"), answer(503, status(503, "ServiceUnavailable", "…", details), retry_after=header))
    assert raised.value.retry_after_s == wish_s


def test_each_recorded_refusal_is_taken_and_a_restarting_kubelets_is_not() -> None:
    seen = 0
    for situation in recordings.SITUATIONS:
        for line in recordings.lines(situation):
            if line["kind"] not in ("request", "log") or line["status"] in (200, 201):
                continue
            body = json.dumps(line["body"]).encode() if line["kind"] == "request" else line["text"].encode()
            parts = line.get("path", "").split("?")[0].split("/")
            verb: Verb = "log" if line["kind"] == "log" else "create" if line["verb"] == "POST" else "list"
            name = line.get("sent", {}).get("metadata", {}).get("name") or ("" if verb == "list" else "job")
            info = RequestInfo(verb, parts[4] if len(parts) > 4 else "", name)
            expected = ClusterUnavailableError if situation == "kubelet-restart" else ClusterRefusedError
            with pytest.raises(expected):
                decode_response(info, Response(line["status"], "application/json", body))
            seen += 1
    assert seen > 20


# Lists and watches


def test_a_page_says_where_the_list_goes_on() -> None:
    body = decode_response(asked("list"), answer(200, pod_list(pod(), **{"continue": "token"})))
    assert decode_list(body) == ([pod()], "9", "token")


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
def test_an_event_of_a_watch_is_read(kind: str) -> None:
    event = decode_watch_event(json.dumps({"type": kind, "object": pod()}).encode(), "default")
    assert (event.type, event.object) == (kind, pod())


@pytest.mark.parametrize(
    "line",
    [
        HTML, b"{}", b"[]", b"null", b"1", b'"ADDED"', b"\xff", b"[" * 100_000,
        {"type": "ADDED"}, {"type": "ADDED", "object": None}, {"type": "ADDED", "object": []},
        {"type": "ADDED", "object": {"metadata": None}}, {"type": "ADDED", "object": {"metadata": {"name": "job"}}},
        {"type": "ADDED", "object": pod(namespace="another")}, {"type": "ADDED", "object": pod(uid="")},
        {"type": "added", "object": pod()}, {"type": "RENAMED", "object": pod()}, {"type": [1], "object": pod()},
        {"type": None, "object": pod()}, {"object": pod()},
        {"type": "BOOKMARK", "object": {}}, {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": 5}}},
        {"type": "ERROR", "object": {}}, {"type": "ERROR", "object": "gone"},
        {"type": "ERROR", "object": {"code": 410}},
        {"type": "ERROR", "object": status(500, "InternalError", "no")}, pod(), ABSENT,
    ],
    ids=lambda line: str(line)[:40],
)  # fmt: skip
def test_a_line_that_is_no_event_is_unavailable(line: Any) -> None:
    with pytest.raises(ClusterUnavailableError):
        decode_watch_event(line if isinstance(line, bytes) else json.dumps(line).encode(), "default")


def test_too_old_a_version_is_told_apart() -> None:
    lines = [line["body"] for line in recordings.lines("watch-expired-410") if '"ERROR"' in line.get("body", "")]
    for line in lines:
        with pytest.raises(ClusterRefusedError) as raised:
            decode_watch_event(line.strip().encode(), "default")
        assert raised.value.status == 410
    assert lines


# Anything at all

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(
    st.sampled_from([*ON_A_POD, "list", "watch"]),
    st.integers(100, 599),
    st.binary() | plain.map(lambda value: json.dumps(value).encode()),
    st.text(),
    st.text(),
)
def test_any_bytes_are_unavailable_and_told_in_a_line(verb: Verb, code: int, body: bytes, kind: str, wish: str) -> None:
    with pytest.raises(ClusterUnavailableError) as raised:
        decode_response(asked(verb), Response(code, kind, body, wish))
    text = str(raised.value)
    assert text.isprintable()
    assert len(text) < 400
    text.encode()


FIELDS = ("kind", "apiVersion", "metadata", "status", "message", "reason", "details", "code")


@given(st.sampled_from([ABSENT, FORBIDDEN, INVALID, EXISTS, ETCD]), st.sampled_from(FIELDS), plain)
def test_a_status_with_junk_in_any_place_is_an_answer_or_unavailable(body: Any, field: str, junk: Any) -> None:
    for verb in ON_A_POD:
        with pytest.raises((ClusterRefusedError, ClusterUnavailableError)) as raised:
            decode_response(asked(verb), answer(body["code"], {**body, field: junk}))
        str(raised.value).encode()
        if isinstance(raised.value, ClusterRefusedError) and field != "details":
            assert raised.value.kind in ("pods", "Pod", "")


@given(st.text() | plain)
def test_words_are_one_bounded_line_that_can_be_stored(value: Any) -> None:
    found = printable(value, 50)
    assert len(found) <= 50
    assert found.isprintable()
    found.encode()
