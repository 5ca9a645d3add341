"""Events, results and cursors on the wire."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dispatcher.events import Cursor, Ended, JobResult, decode_event, decode_result, encode_event
from dispatcher.status import Status
from tests.support.golden_files import GOLDEN, golden
from tests.support.wire_samples import CURSOR, EVENTS, RESULT


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_written_as_it_always_was_and_read_again(name: str) -> None:
    assert encode_event(EVENTS[name]) == golden(name)
    assert decode_event(golden(name)) == EVENTS[name]


def test_a_result_is_written_as_it_always_was_and_read_again() -> None:
    assert RESULT.model_dump_json(exclude_none=True) == golden("result.json")
    assert decode_result(golden("result.json")) == RESULT


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("event-*.json")), ids=lambda path: path.name)
def test_every_event_that_was_ever_written_is_read(path: object) -> None:
    assert decode_event(path.read_text())  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", EVENTS)
def test_fields_of_a_newer_version_pass(name: str) -> None:
    newer = json.loads(golden(name)) | {"new": {"deep": [1]}}
    if "result" in newer:
        newer["result"]["new"] = 1
        for inner in newer["result"].get("containers", []):
            inner["new"] = 1
    assert decode_event(json.dumps(newer)) == EVENTS[name]


def test_the_end_is_understood_also_when_a_newer_version_words_it() -> None:
    newer = json.loads(golden("event-ended.json"))
    newer["result"] |= {"reason": "black_hole", "return_value_outcome": "sealed", "containers": [{"state": "frozen"}]}
    ended = decode_event(json.dumps(newer))
    assert isinstance(ended, Ended)
    assert (ended.result.status, ended.result.reason, ended.result.exit_code) == (Status.FAILED, None, 3)
    assert decode_result(json.dumps(newer["result"])) == ended.result


def test_a_move_is_understood_also_when_its_reason_is_newer() -> None:
    newer = json.loads(golden("event-status.json")) | {"reason": "black_hole"}
    assert decode_event(json.dumps(newer)).status is Status.STARTING  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "{}", '{"kind": "new"}', '{"kind": "ended"}', '{"kind": "status", "status": "HALTED"}']
)
def test_what_is_no_event_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        decode_event(text)


def test_half_a_character_in_a_return_value_or_a_name_cannot_stop_the_end_from_being_told() -> None:
    result = JobResult(
        job_id="j", status=Status.SUCCEEDED, return_value={"a\ud800": ["\udcff", "ü"]}, cancelled_by="\udcff"
    )
    assert (result.return_value, result.cancelled_by) == ({"a?": ["?", "ü"]}, "?")
    ended = Ended(result=result)
    assert decode_event(encode_event(ended)) == ended


def test_only_success_is_success() -> None:
    assert [s for s in Status if JobResult(job_id="j", status=s).succeeded] == [Status.SUCCEEDED]


def test_a_cursor_is_written_as_it_always_was_and_read_again() -> None:
    assert CURSOR.encode() == golden("cursor.txt")
    assert Cursor.decode(golden("cursor.txt")) == CURSOR


ids = st.builds("{}-{}".format, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
containers = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
cursors = st.builds(
    Cursor,
    st.sampled_from(["", "0123abcd"]),
    ids,
    ids,
    st.lists(st.tuples(st.integers(0, 200), containers, st.integers(0, 2**50)), max_size=4).map(tuple),
)


@given(cursors)
def test_any_cursor_survives_its_text_form(cursor: Cursor) -> None:
    assert Cursor.decode(cursor.encode()) == cursor


@pytest.mark.parametrize("text", ["", "x", "a/b/c", "a/1-0/1-0/1:base", "a/1-0/1-0/x:base:1"])
def test_what_is_no_cursor_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (json and int say it in different words)
        Cursor.decode(text)
