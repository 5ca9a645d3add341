"""The gate before Celery: any bytes are a launch or a refusal, and of a message only its one argument gets through."""

import base64
import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.message import MESSAGE_LIMIT_BYTES, encode_message
from dispatcher.spec import SPEC_LIMIT_BYTES, JobSpec, Priority, parse_spec
from worker.queue.gate import DELIVERIES, DELIVERIES_HEADER, Launch, Refusal, admit, readmit

SPEC: dict[str, Any] = {"id": "j", "image": "busybox:1.37", "command": ["true"]}
Path = tuple[str, ...]


def message(job: object = "job-1") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(encode_message("x", queue="gpu", priority=Priority.HIGH))
    return with_body(found, [[job], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])


def with_body(envelope: dict[str, Any], body: object) -> dict[str, Any]:
    return {**envelope, "body": base64.b64encode(json.dumps(body).encode()).decode()}


def changed(envelope: dict[str, Any], path: Path, value: object) -> dict[str, Any]:
    found = deepcopy(envelope)
    place = found
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return found


def admitted(envelope: object, **options: Any) -> Launch | Refusal:
    return admit(json.dumps(envelope).encode(), queue="gpu", **options)


def refused(envelope: object) -> str:
    found = admitted(envelope)
    assert isinstance(found, Refusal), found
    return found.reason


def every_path(value: object, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    for name, part in value.items() if isinstance(value, dict) else ():
        yield from every_path(part, (*path, name))


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None, exclude_categories=()))
    | st.sampled_from([10**400, "base64", "zlib", "utf-8", "\ud800", "podrelay.launch", "application/json", "x" * 300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def test_a_message_of_ours_asks_for_the_launch_of_its_job() -> None:
    assert admitted(message("job-1"), bucket=3) == Launch("job-1", "gpu", 3)


def test_a_spec_is_launched_on_the_queue_that_it_came_by() -> None:
    found = admitted(message({**SPEC, "queue": "another"}))
    assert found == Launch(parse_spec({**SPEC, "queue": "gpu"}), "gpu")


def test_a_spec_without_an_id_is_given_one_so_that_a_repetition_does_no_harm() -> None:
    found = admitted(message({"image": "x"}))
    assert isinstance(found, Launch)
    assert isinstance(found.job, JobSpec)
    assert found.job.id


@given(st.binary())
def test_any_bytes_are_a_launch_or_a_refusal(item: bytes) -> None:
    assert isinstance(admit(item, queue="gpu"), Refusal)
    assert isinstance(readmit(item), Refusal)


@given(st.sampled_from([*every_path(message())]), junk)
def test_junk_at_any_position_of_a_message_is_a_launch_of_the_same_job_or_a_refusal(path: Path, value: object) -> None:
    envelope = changed(message(), path, value)
    for found in (admitted(envelope), readmit(json.dumps([envelope, "", "gpu"]).encode())):
        match found:
            case Launch():
                assert (found.job, found.queue) == ("job-1", "gpu")
            case Refusal():
                assert found.reason.isprintable()
                assert len(found.reason) < 1000


@given(junk)
def test_any_body_is_a_launch_or_a_refusal(body: object) -> None:
    admitted(with_body(message(), body))


@given(junk, junk, junk)
def test_any_arguments_are_a_launch_or_a_refusal(arguments: object, options: object, embed: object) -> None:
    admitted(with_body(message(), [arguments, options, embed]))
    admitted(with_body(message(), [[arguments], options, embed]))


@given(st.sampled_from([*JobSpec.model_fields]), junk)
def test_junk_in_any_field_of_a_spec_is_a_spec_that_can_be_written_or_a_refusal(name: str, value: object) -> None:
    match admitted(message({**SPEC, name: value})):
        case Launch(job=JobSpec() as spec):
            assert spec.encode().encode()
            assert spec.digest


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("headers", "id"), ["a"]),
        (("headers", "timelimit"), "x"),
        (("headers", "retries"), {}),
        (("headers", "group"), "g"),
        (("headers", "ignore_result"), 5),
        (("properties", "reply_to"), {"a": 1}),
        (("properties", "delivery_tag"), {}),
        (("properties", "delivery_info"), 5),
        (("properties", "priority"), "high"),
    ],
)
def test_what_only_describes_a_message_is_ignored(path: Path, value: object) -> None:
    assert admitted(changed(message(), path, value)) == Launch("job-1", "gpu")


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("headers",), "x", "headers must be a JSON object"),
        (("headers",), {}, "not a Celery task message (protocol 2): its headers name no task"),
        (("headers", "task"), ["podrelay.launch"], "unknown task a list: the task is podrelay.launch"),
        (("headers", "task"), "celery.starmap", "unknown task 'celery.starmap': the task is podrelay.launch"),
        (("headers", "task"), "\x1b[2J\n", r"unknown task '\x1b[2J\n'"),
        (("headers", "eta"), "2030-01-01T00:00:00", "eta is not served"),
        (("headers", "expires"), "2020-01-01T00:00:00", "expires is not served"),
        (("headers", "compression"), "application/x-gzip", "a compressed body is not read"),
        (("properties",), [], "properties must be a JSON object"),
        (("properties", "body_encoding"), "rot13", "body_encoding must be base64, not 'rot13'"),
        (("content-type",), ["a"], "content-type must be application/json, not a list"),
        (("content-type",), "application/x-python-serialize", "content-type must be application/json"),
        (("content-encoding",), "binary", "content-encoding must be utf-8"),
        (("body",), 5, "body must be a text, not a number"),
        (("body",), "!", "the body is no base64"),
        (("body",), "eA==", "the body is not JSON"),
    ],
)
def test_what_is_not_served_is_refused_with_its_reason(path: Path, value: object, reason: str) -> None:
    assert refused(changed(message(), path, value)).startswith(reason)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ([], "the body must be"),
        ([["a"], {}], "the body must be"),
        (["a", {}, {}], "the body must be"),
        ([[], {}, {}], "the task's one argument must be a job id or a spec, found 0 arguments"),
        ([["a", "b"], {}, {}], "the task's one argument must be a job id or a spec, found 2 arguments"),
        ([["a"], {"queue": "b"}, {}], "the task takes no keyword argument 'queue'"),
        ([["a"], {}, {"callbacks": [{"task": "podrelay.launch"}]}], "callbacks are not served"),
        ([["a"], {}, {"chain": [{}]}], "chain are not served"),
        ([["a"], {}, {"chord": 5}], "chord are not served"),
        ([[5], {}, {}], "the task's one argument must be a job id or a spec"),
        ([["a\n"], {}, {}], r"'a\n' is no job id"),
        ([["a\0b"], {}, {}], r"'a\x00b' is no job id"),
        ([["a\ud800"], {}, {}], "the body is not JSON: [0][0]: half a surrogate pair"),
        ([[{"image": "x", "id": "a/b"}], {}, {}], "message: id: String should match pattern"),
        ([[{"imagge": "x"}], {}, {}], "message: imagge: unknown field (did you mean 'image'?)"),
        ([[{"image": "x", "args": ["y" * (SPEC_LIMIT_BYTES - 20)]}], {}, {}], "message: 262"),
    ],
)
def test_a_body_that_is_no_launch_is_refused_with_its_reason(body: object, reason: str) -> None:
    assert refused(with_body(message(), body)).startswith(reason)


@pytest.mark.parametrize("deep", ["[" * 1000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000])
def test_nesting_of_any_depth_is_refused_wherever_it_is(deep: str) -> None:
    assert isinstance(admit(deep.encode(), queue="gpu"), Refusal)
    text = json.dumps(message()).replace('"stamps": {}', f'"stamps": {deep}')
    assert isinstance(admit(text.encode(), queue="gpu"), Refusal)
    body = base64.b64encode(f"[[{deep}], {{}}, {{}}]".encode()).decode()
    assert isinstance(admitted({**message(), "body": body}), Refusal)


def test_a_message_that_is_too_long_is_refused_unread() -> None:
    envelope = changed(message(), ("headers", "argsrepr"), "x" * 1024 * 1024)
    assert refused(envelope).startswith("the message is too long: ")


def test_the_largest_spec_fits_into_a_message_and_into_what_is_kept_of_it() -> None:
    spec = parse_spec({**SPEC, "args": ["y" * (SPEC_LIMIT_BYTES - 100)]})
    item = encode_message(json.loads(spec.encode()), queue="gpu", priority=Priority.LOW)
    assert len(item) < MESSAGE_LIMIT_BYTES
    assert readmit(json.dumps([json.loads(item), "", "gpu"]).encode()) == Launch(
        parse_spec({**json.loads(spec.encode()), "queue": "gpu"}), "gpu", 6
    )


def test_a_message_that_comes_back_again_and_again_is_refused_in_the_end() -> None:
    envelope = changed(message(), ("headers", DELIVERIES_HEADER), DELIVERIES - 1)
    assert admitted(envelope) == Launch("job-1", "gpu", deliveries=DELIVERIES - 1)
    assert "perhaps because of it" in refused(changed(message(), ("headers", DELIVERIES_HEADER), 10**4000))


@pytest.mark.parametrize("kept", [b"null", b"5", b"[]", b'[{}, "", "../x"]', b'[{}, "", null]', b'[{}, "", "gpu"]'])
def test_what_was_kept_by_nobody_we_know_is_refused(kept: bytes) -> None:
    assert isinstance(readmit(kept), Refusal)


def test_a_refusal_tells_who_sent_it_and_nothing_of_what_was_asked() -> None:
    secret = {"imagge": "x", "env": {"PASSWORD": "CANARY"}}
    found = admitted(changed(message(secret), ("headers", "origin"), "gen1@there\n"))
    assert isinstance(found, Refusal)
    assert found.sender["origin"] == r"'gen1@there\n'"
    assert found.sender.keys() == {"task", "id", "origin"}
    assert "CANARY" not in repr(found)


def test_a_spec_for_a_newer_worker_passes_with_all_that_it_says() -> None:
    asked = {**SPEC, "min_worker_version": "99.0", "of_the_future": [1]}
    found = admitted(message(asked))
    assert isinstance(found, Launch)
    assert isinstance(found.job, JobSpec)
    assert json.loads(found.job.encode()) == {**asked, "queue": "gpu"}
    assert "of_the_future: unknown field" in refused(message({**SPEC, "of_the_future": [1]}))


@pytest.mark.parametrize("odd", [10**9, "1000000000", ["0.2"], {}, "latest", 0.2, True, "0.2\n", "\u0660.2"])
def test_an_odd_version_is_refused_with_words(odd: object) -> None:
    assert "message: min_worker_version: " in refused(message({**SPEC, "min_worker_version": odd}))
