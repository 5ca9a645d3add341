"""Reading a record is total: any bytes in any field give a record that every command can show."""

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.cli import jobs, words
from dispatcher.cli import status as status_command
from dispatcher.client import worker_view
from dispatcher.record import as_datetime, checkpoint_field, decode_record, no_record
from dispatcher.script import script_text
from dispatcher.spec import JobSpec
from dispatcher.status import FailureReason, Status
from dispatcher.steps import claim
from tests.support.wire_samples import CHECKPOINT, RESULT

SPEC = JobSpec(id="job-1", image="x")
WHOLE = {
    "spec": SPEC.encode(),
    "status": "FAILED",
    "queue": "default",
    "reason": "evicted",
    "attempt": "2",
    "owner": "w1",
    "epoch": "3",
    "takeovers": "1",
    "namespace": "n",
    "pod": "p",
    "pod_uid": "u",
    "node": "m",
    "intent": "failed",
    "intent_reason": "run_timeout",
    "cancel_by": "alice",
    "acknowledged": "1.0",
    "predecessor": "job-0",
    "wait": "quota",
    "not_before": "5.5",
    "at:queued": "10.5",
    "log_end": "7-0",
    checkpoint_field(2, "base"): CHECKPOINT.encode(),
    "result": RESULT.model_dump_json(),
    "detail": "x",
}
DEEP = "[" * 3000 + "]" * 3000
JUNK = [
    *(
        "",
        "x",
        "nan",
        "inf",
        "-inf",
        "1e30",
        "-1",
        "9" * 40,
        "1e999",
        "0x1",
        " 1",
        "1 ",
        "null",
        "{}",
        "[]",
        '"x"',
        "\0",
    ),
    *('{"id":"job-1","image":' + DEEP + "}", '{"status":"FAILED","job_id":{}}', '{"return_value":' + DEEP + "}", DEEP),
    *('{"job_id":"j","status":"HALTED"}', '{"job_id":"j","status":"FAILED","times":{"queued":1e300}}', "9" * 5000),
    '{"job_id":"j","status":"FAILED","attempt":' + "9" * 5000 + "}",
]


def record(**fields: str) -> object:
    text = {"spec": SPEC.encode(), "status": "QUEUED", "queue": "default", **fields}
    return decode_record("job-1", {k.replace("__", ":").encode(): v.encode() for k, v in text.items()})


def shown(found: object) -> str:
    row = jobs.row_of(found, time.time())  # type: ignore[arg-type]
    text = " ".join([*row, *(value for pair in status_command.rows_of(found) for value in pair)])  # type: ignore[arg-type]
    return (text + json.dumps(words.record_object(found))).encode().decode()  # type: ignore[arg-type]


def test_a_record_of_this_version_is_read_whole_and_nothing_of_it_is_unreadable() -> None:
    found = decode_record("job-1", {k.encode(): v.encode() for k, v in WHOLE.items()})
    assert found.why_unreadable == ""
    assert words.record_object(found)["unreadable"] is None
    assert not {"unreadable"} & {name for name, value in status_command.rows_of(found) if value}


@pytest.mark.parametrize("name", WHOLE)
def test_a_field_that_is_junk_is_no_error_and_can_be_shown(name: str) -> None:
    for junk in [*(x.encode() for x in JUNK), b"\xff\xfe", bytes(range(256))]:
        fields = {k.encode(): v.encode() for k, v in WHOLE.items()} | {name.encode(): junk}
        shown(decode_record("job-1", fields))
    without = {k.encode(): v.encode() for k, v in WHOLE.items() if k != name}
    shown(decode_record("job-1", without))


raw = st.binary(max_size=40) | st.sampled_from([x.encode() for x in JUNK])
some_names = st.sampled_from([*WHOLE, "at:x", "at:", "checkpoint:", "checkpoint:1:", "checkpoint:x:base"]).map(
    str.encode
)


@given(st.dictionaries(some_names | st.binary(max_size=20), raw, max_size=8))
@example({})
def test_any_hash_is_a_record(fields: dict[bytes, bytes]) -> None:
    shown(decode_record("job-1", fields))


@given(st.binary(max_size=200) | st.sampled_from([x.encode() for x in JUNK]), st.binary(max_size=20))
def test_any_bytes_are_what_a_worker_says_of_itself(text: bytes, incarnation: bytes) -> None:
    view = worker_view("default", incarnation, text, is_alive=True)
    as_datetime(view.last_seen_at)
    json.dumps(view.info)
    view.incarnation.encode()


def test_what_a_newer_version_says_is_carried_by_its_name() -> None:
    found = record(status="PAUSED", intent="foo", reason="bar", wait="moon", colour="blue")
    assert (found.status, found.reason, found.reason_text) == ("PAUSED", None, "bar")
    assert not found.status.is_final
    assert found.status not in set(Status)
    assert found.deletion_intent is None
    assert found.unreadable is None
    assert found.unreadable_state is not None
    assert "status: 'PAUSED' is not known" in found.unreadable_state
    assert "intent: 'foo' is not known" in found.unreadable_state
    told = words.record_object(found)
    assert (told["status"], told["reason"]) == ("PAUSED", "bar")
    assert told["unreadable"] == found.why_unreadable


def test_an_unreadable_result_is_an_end_that_is_no_success() -> None:
    found = record(status="SUCCEEDED", result="{", at__succeeded="5.0")
    assert found.result is not None
    assert (found.status, found.result.status) == (Status.SUCCEEDED, Status.FAILED)
    assert found.result.reason is FailureReason.RETURN_VALUE
    assert "SUCCEEDED" in found.result.message
    assert "succeeded" in found.result.times
    assert found.unreadable_state is None, "its pod can be removed: that touches no result"
    assert found.unreadable_result is not None
    assert record(status="CANCELLED", result="{").result.status is Status.CANCELLED


def test_scripts_know_what_this_version_knows() -> None:
    text = script_text("claim")
    for value in (*Status, *FailureReason, "finished", "next_attempt"):
        assert f"{value} = true" in text


def test_what_is_no_record_is_shown_as_that() -> None:
    assert "unreadable: record: WRONGTYPE" in shown(no_record("x" * 200, "WRONGTYPE of a key"))


def test_a_reply_of_a_claim_tells_the_field_that_cannot_be_read() -> None:
    claimed = claim("j", "w", namespaces=["n"]).decode([b"unreadable", b"at:\xff"])
    assert (claimed.record, claimed.unreadable) == (None, "at:\\xff")
