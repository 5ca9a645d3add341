"""Reading a job's record."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.record import (
    NO_CHAIN,
    Checkpoint,
    DeletionIntent,
    WaitReason,
    as_datetime,
    chain_next,
    checkpoint_field,
    decode_record,
    decode_worker,
)
from dispatcher.spec import JobSpec
from dispatcher.status import FailureReason, Status
from tests.support.golden_files import golden
from tests.support.wire_samples import CHECKPOINT, CHECKPOINT_AT_START, RESULT

SPEC = JobSpec(id="job-1", image="x")


def record(**fields: str) -> object:
    text = {"spec": SPEC.encode(), "status": "QUEUED", **fields}
    return decode_record("job-1", {k.replace("__", ":").encode(): v.encode() for k, v in text.items()})


@pytest.mark.parametrize(
    ("name", "checkpoint"), [("checkpoint.txt", CHECKPOINT), ("checkpoint-at-start.txt", CHECKPOINT_AT_START)]
)
def test_a_checkpoint_is_written_as_it_always_was_and_read_again(name: str, checkpoint: Checkpoint) -> None:
    assert checkpoint.encode() == golden(name)
    assert Checkpoint.decode(golden(name)) == checkpoint


digests = st.just("") | st.binary(min_size=32, max_size=32).map(bytes.hex)
checkpoints = st.builds(
    Checkpoint,
    st.integers(0, 2**50),
    st.sampled_from(["", "2026-01-02T03:04:05Z"]),
    st.integers(0, 9999),
    st.integers(0, 2**30),
    digests,
    digests.filter(bool),
)


@given(checkpoints)
def test_any_checkpoint_survives_its_text_form_and_begins_with_its_end(checkpoint: Checkpoint) -> None:
    assert Checkpoint.decode(checkpoint.encode()) == checkpoint
    assert checkpoint.encode().startswith(f"{checkpoint.end} ")


def test_the_chain_is_sha256_over_the_former_chain_and_the_chunk() -> None:
    first = hashlib.sha256(bytes(32) + b"one").hexdigest()
    assert chain_next(NO_CHAIN, b"one") == first
    assert chain_next(first, b"two") == hashlib.sha256(bytes.fromhex(first) + b"two").hexdigest()


def test_a_record_is_read_whole() -> None:
    found = record(
        digest="d",
        status="FAILED",
        reason="evicted",
        attempt="2",
        owner="w1",
        epoch="3",
        takeovers="1",
        namespace="n",
        pod="p",
        pod_uid="u",
        node="m",
        intent="failed",
        intent_reason="run_timeout",
        intent_message="late",
        cancel_by="alice",
        acknowledged="1.0",
        predecessor="job-0",
        wait="quota",
        not_before="5.5",
        at__queued="10.5",
        log_end="7-0",
        checkpoint__2__base=CHECKPOINT.encode(),
        result=RESULT.model_dump_json(),
        detail="x",
    )
    assert (found.status, found.reason) == (Status.FAILED, FailureReason.EVICTED)
    assert (found.attempt, found.owner, found.epoch, found.takeovers) == (2, "w1", 3, 1)
    assert (found.namespace, found.pod, found.pod_uid, found.node) == ("n", "p", "u", "m")
    assert (found.deletion_intent, found.intent_reason) == (DeletionIntent.FAILED, FailureReason.RUN_TIMEOUT)
    assert (found.cancel_requested, found.cancel_requested_by, found.acknowledged) == (True, "alice", True)
    assert (found.predecessor, found.wait, found.not_before, found.log_end) == ("job-0", "quota", 5.5, "7-0")
    assert found.checkpoints == {(2, "base"): CHECKPOINT}
    assert found.reached_at("QUEUED") == 10.5
    assert found.deadline_to_queue() == 10.5 + SPEC.queue_timeout_s
    assert found.result == RESULT.model_copy(update={"times": {"queued": as_datetime(10.5)}})


def test_what_is_not_there_is_none() -> None:
    found = record()
    assert (found.owner, found.pod, found.reason, found.result, found.wait, found.predecessor) == (None,) * 6
    assert (found.epoch, found.attempt, found.checkpoints, found.log_end) == (0, 0, {}, "0-0")


def test_what_a_newer_version_s_job_waits_for_keeps_its_name_and_is_nothing_that_is_known() -> None:
    found = record(wait="gpu", queue="default")
    assert found.wait == "gpu"
    assert found.wait not in set(WaitReason)
    assert found.unreadable_state is None
    assert record(wait="quota").wait is WaitReason.QUOTA


def test_fields_and_reasons_of_a_newer_version_pass() -> None:
    found = record(
        status="FAILED", reason="black_hole", new="x", result='{"job_id":"j","status":"FAILED","reason":"y"}'
    )
    assert (found.status, found.reason, found.result.reason) == (Status.FAILED, None, None)


def test_an_unreadable_spec_says_so_and_leaves_the_rest_readable() -> None:
    found = record(spec="nonsense", status="RUNNING", queue="gpu")
    assert found.unreadable is not None
    assert "not JSON" in found.unreadable
    assert (found.status, found.spec.queue) == (Status.RUNNING, "gpu")


def test_the_field_of_a_checkpoint_is_read_as_it_is_written() -> None:
    found = record(**{checkpoint_field(3, "side-car"): CHECKPOINT.encode()})
    assert list(found.checkpoints) == [(3, "side-car")]


def test_what_a_worker_says_of_itself_is_a_mapping_whatever_it_is() -> None:
    assert decode_worker(b'{"last_seen": 1}') == {"last_seen": 1}
    assert decode_worker(b"[]") == {}
