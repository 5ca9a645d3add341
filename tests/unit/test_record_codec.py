"""What an owner writes of a record is what anybody reads of it."""

from dataclasses import fields, replace
from typing import Any, get_type_hints

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.record import (
    Changes,
    DeletionIntent,
    JobRecord,
    WaitReason,
    as_datetime,
    checkpoint_field,
    decode_record,
    encode_changes,
    encode_record,
)
from dispatcher.spec import JobSpec
from dispatcher.status import FailureReason, Status
from tests.support.wire_samples import CHECKPOINT, RESULT

SPEC = JobSpec(id="job-1", image="x")
#: What the steps write by themselves, and what only a reader says of a record.
NOT_THE_OWNERS = {
    *("job_id", "spec", "digest", "status", "generation", "owner", "epoch", "acknowledged", "is_forgotten"),
    *("reached", "checkpoints", "log_end", "last_step", "min_worker_version"),
    *("unreadable", "unreadable_state", "unreadable_result", "reason_text"),
}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.none() | texts.filter(bool)
seconds = st.integers(0, 10**16).map(lambda us: us / 1e6)
values: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("detail", "intent_message"), texts),
    **dict.fromkeys(("namespace", "pod", "pod_uid", "node", "cancel_requested_by", "predecessor"), names),
    **dict.fromkeys(("attempt", "takeovers"), st.integers(0, 10**8)),
    **dict.fromkeys(("reason", "intent_reason"), st.none() | st.sampled_from(FailureReason)),
    "wait": st.none() | st.sampled_from(WaitReason) | texts.filter(bool).map(WaitReason.carried),
    "deletion_intent": st.none() | st.sampled_from(DeletionIntent),
    "not_before": seconds,
    "result": st.none() | st.just(RESULT),
}
changes: st.SearchStrategy[Changes] = st.fixed_dictionaries({}, optional=values)  # type: ignore[assignment]
records = st.builds(
    JobRecord,
    job_id=st.just("job-1"),
    spec=st.just(SPEC),
    digest=st.just(""),
    status=st.sampled_from(Status),
    reached=st.dictionaries(st.sampled_from(["submitted", "queued", "starting", "running", "failed"]), seconds),
    checkpoints=st.dictionaries(
        st.tuples(st.integers(1, 9), st.sampled_from(["base", "side-car"])), st.just(CHECKPOINT)
    ),
    **values,
)


def as_read(record: JobRecord) -> JobRecord:
    """With what a reader adds."""
    times = {what: as_datetime(at) for what, at in record.reached.items()}
    result = record.result and record.result.model_copy(update={"times": times})
    return replace(record, result=result, reason_text=record.reason.value if record.reason else "")


def read(record: JobRecord, written: dict[str, str]) -> JobRecord:
    """The record out of a hash with these fields, and those that a step writes."""
    steps = {"spec": SPEC.encode(), "status": record.status.value, "queue": "default"}
    return decode_record("job-1", {name.encode(): text.encode() for name, text in {**steps, **written}.items()})


@given(records)
def test_what_an_owner_writes_is_read_again(record: JobRecord) -> None:
    assert read(record, encode_record(record)) == as_read(record)


@given(records, changes)
def test_changes_that_are_written_over_a_record_are_read_as_the_changed_record(
    record: JobRecord, changes: Changes
) -> None:
    written = {name: text for name, text in {**encode_record(record), **encode_changes(changes)}.items() if text}
    assert read(record, written) == as_read(replace(record, **changes))


def test_every_field_of_a_record_is_either_its_owners_to_change_or_not() -> None:
    assert {field.name for field in fields(JobRecord)} - NOT_THE_OWNERS == set(Changes.__annotations__)
    assert set(values) == set(Changes.__annotations__)
    of_record = get_type_hints(JobRecord)
    assert {name: of_record[name] for name in Changes.__annotations__} == get_type_hints(Changes)


def test_the_fields_are_called_as_the_scripts_call_them() -> None:
    record = JobRecord(
        job_id="job-1",
        spec=SPEC,
        digest="",
        status=Status.RUNNING,
        detail="d",
        reason=FailureReason.EVICTED,
        attempt=2,
        takeovers=1,
        namespace="n",
        pod="p",
        pod_uid="u",
        node="m",
        deletion_intent=DeletionIntent.FAILED,
        intent_reason=FailureReason.RUN_TIMEOUT,
        intent_message="i",
        cancel_requested_by="alice",
        predecessor="job-0",
        wait=WaitReason.QUOTA,
        not_before=5.5,
        reached={"running": 3.25},
        checkpoints={(2, "base"): CHECKPOINT},
        result=RESULT,
    )
    assert encode_record(record) == {
        "detail": "d",
        "reason": "evicted",
        "attempt": "2",
        "takeovers": "1",
        "namespace": "n",
        "pod": "p",
        "pod_uid": "u",
        "node": "m",
        "intent": "failed",
        "intent_reason": "run_timeout",
        "intent_message": "i",
        "cancel_by": "alice",
        "predecessor": "job-0",
        "wait": "quota",
        "not_before": "5.500000",
        "at:running": "3.250000",
        checkpoint_field(2, "base"): CHECKPOINT.encode(),
        "result": RESULT.model_copy(update={"times": {}}).model_dump_json(exclude_none=True),
    }


def test_what_is_not_there_is_deleted_and_a_count_of_none_is_written() -> None:
    deleted = encode_changes({"pod": None, "detail": "", "not_before": 0.0, "deletion_intent": None, "result": None})
    assert deleted == {"pod": "", "detail": "", "not_before": "", "intent": "", "result": ""}
    assert encode_changes({"attempt": 0}) == {"attempt": "0"}
