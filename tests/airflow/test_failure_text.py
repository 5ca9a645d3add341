"""What a failed task says: once, in the words of its own arguments, with the warnings that may explain it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_bridge.failure_text import asked_pod, explaining_warnings, failure_message
from dispatcher.events import ClusterEvent, ContainerEnd, JobResult
from dispatcher.spec import parse_spec
from dispatcher.status import Blame, FailureReason, Status

AT = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE, AFTER = AT - timedelta(seconds=5), AT + timedelta(seconds=5)


def failed(reason: FailureReason, message: str = "", **result: Any) -> JobResult:
    given = {"status": Status.FAILED, "pod": "p-1", "namespace": "n", **result}
    return JobResult(job_id="j", reason=reason, message=message, **given)


def warned(reason: str, message: str, at: datetime | None = None) -> ClusterEvent:
    return ClusterEvent(reason=reason, message=message, last_seen_at=at)


def unfolded(text: str) -> str:
    return " ".join(text.split())


def test_a_long_message_is_folded_where_airflows_page_would_cut_it() -> None:
    url = "https://registry.example.com/" + "x" * 100
    message = failure_message(failed(FailureReason.IMAGE_PULL, f"{'one two three ' * 20}{url} four"))
    first, *others = message.splitlines()
    assert len(first) <= 80 - len("PodRelayFailure: ")
    assert {len(line) <= 80 for line in others if line != url} == {True}
    assert url in others
    assert unfolded(message).startswith(f"image_pull: {'one two three ' * 20}{url} four. Responsible: the image.")


def test_it_says_what_happened_first_then_who_should_act_then_what_it_was() -> None:
    result = failed(FailureReason.EXIT_CODE, "container 'base' exited with code 3. See its log.")
    assert failure_message(result).splitlines() == [
        "exit_code: container 'base' exited with code 3. See its log.",
        "Responsible: user code.",
        "Pod: n/p-1. Job: j.",
    ]


def test_the_worker_knows_better_than_the_reason_who_should_act() -> None:
    late = failed(FailureReason.START_TIMEOUT, 'secret "db" not found.', responsible=Blame.SPEC)
    assert "Responsible: the job's spec." in failure_message(late)
    assert "Responsible: a time limit." in failure_message(late.model_copy(update={"responsible": None}))


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("raise startup_timeout_s", "raise startup_timeout_seconds"),
        ("within schedule_timeout_s (9 s)", "within schedule_timeout_seconds (9 s)"),
        ("Raise active_deadline_s or", "Raise active_deadline_seconds or"),
        ("raise queue_timeout_s", "raise podrelay_options={'queue_timeout_s': …}"),
        ("check command and args", "check cmds and arguments"),
        ("Raise resources.limits.memory, or", "Raise the memory limit in container_resources, or"),
        ("a drain: submit it again", "a drain: clear the task"),
        ("my_startup_timeout_s is", "my_startup_timeout_s is"),
    ],
)
def test_fields_of_the_spec_are_called_as_the_operators_arguments(message: str, told: str) -> None:
    assert told in unfolded(failure_message(failed(FailureReason.START_TIMEOUT, message)))


def test_a_cancel_says_by_whom_once() -> None:
    result = JobResult(job_id="j", status=Status.CANCELLED, message="cancelled by a user", cancelled_by="a user")
    assert failure_message(result) == "The job was cancelled by a user.\nJob: j."
    unheard = result.model_copy(update={"message": "cancelled by a user; its node does not answer"})
    assert "its node does not answer." in unfolded(failure_message(unheard))


def test_what_was_overcome_before_the_container_started_does_not_explain_its_end() -> None:
    base = ContainerEnd(name="base", state="terminated", exit_code=1, started_at=AT)
    mount, probe, undated = warned("FailedMount", "x", BEFORE), warned("Unhealthy", "y", AFTER), warned("Odd", "z")
    result = failed(FailureReason.EXIT_CODE, containers=(base,), warnings=(mount, probe, undated))
    assert explaining_warnings(result) == [probe, undated]
    late = result.model_copy(update={"reason": FailureReason.START_TIMEOUT})
    assert explaining_warnings(late) == [mount, probe, undated]


@pytest.mark.parametrize(
    "repeated",
    [
        'Failed to pull image "a:b": docker.io/a:b: not found',
        'Failed to pull image "a:b": rpc error: code = NotFound desc = docker.io/a:b: not found',
        "Error: ErrImagePull",
        "Error: ImagePullBackOff",
        "Error: failed to create containerd task: runc create failed: docker.io/a:b: not found: unknown",
        "docker.io/a:b: not found",
    ],
)
def test_a_warning_that_repeats_the_message_is_left_out(repeated: str) -> None:
    warnings = (warned("Failed", repeated), warned("FailedMount", "another thing"))
    message = "image of container 'base': ErrImagePull: docker.io/a:b: not found. There is no such image."
    assert [w.reason for w in explaining_warnings(failed(FailureReason.IMAGE_PULL, message, warnings=warnings))] == [
        "FailedMount"
    ]


def test_the_pod_that_was_asked_for_keeps_what_somebody_wrote() -> None:
    containers = [
        {"name": "base", "image": "i", "terminationMessagePolicy": "File"},
        {"name": "side", "image": "i", "terminationMessagePolicy": "FallbackToLogsOnError"},
    ]
    template = {"spec": {"hostNetwork": True, "containers": containers}}
    spec = parse_spec({"name": "t", "pod_template": template, "labels": {"a": "b"}}, source="test")
    pod = asked_pod(spec, failed(FailureReason.EXIT_CODE))
    assert pod["metadata"] == {"name": "p-1", "namespace": "n", "labels": {"a": "b"}}
    assert pod["spec"]["hostNetwork"] is True
    assert pod["spec"]["containers"] == [{"name": "base", "image": "i"}, containers[1]]
    assert template["spec"]["containers"] == containers  # untouched
