"""What a result is for the task, decided without a task: values, skips and failures with their lines and XComs."""

import logging
from typing import Any

import pytest

from airflow_bridge.outcome import Outcome, TaskFailure, TaskSkip, TaskSuccess, outcome_of
from airflow_bridge.task_log import Line
from dispatcher.events import JobResult
from dispatcher.status import FailureReason, Status

DEFAULTS = {
    "do_xcom_push": False,
    "skip_on_exit_code": (),
    "log_events_on_failure": False,
    "log_pod_spec_on_failure": False,
}


def decided(result: dict[str, Any], *, multiple_outputs: bool = False, **arguments: Any) -> Outcome:
    job = JobResult(job_id="j", pod="p", namespace="n", **result)
    return outcome_of(job, {**DEFAULTS, **arguments}, multiple_outputs=multiple_outputs, manifest={"kind": "Pod"})


SUCCEEDED = {"status": Status.SUCCEEDED, "exit_code": 0, "return_value": {"rows": 1}}
FAILED = {"status": Status.FAILED, "reason": FailureReason.EXIT_CODE, "exit_code": 1, "return_value": {"rows": 1}}
SAID = Line(logging.INFO, "The pod succeeded.")


@pytest.mark.parametrize(("do_xcom_push", "value"), [(True, {"rows": 1}), (False, None)])
def test_a_success_has_the_value_that_was_asked_for(do_xcom_push: bool, value: object) -> None:
    assert decided(SUCCEEDED, do_xcom_push=do_xcom_push) == TaskSuccess(value, (SAID,))


def test_an_exit_code_that_skips_is_asked_before_all_else() -> None:
    assert decided(FAILED, skip_on_exit_code=(1,)) == TaskSkip("Pod p returned exit code 1. Skipping.")
    assert decided(SUCCEEDED, skip_on_exit_code=(0,)) == TaskSkip("Pod p returned exit code 0. Skipping.")


@pytest.mark.parametrize(
    ("arguments", "xcoms"),
    [
        ({}, {}),
        ({"do_xcom_push": True}, {"return_value": {"rows": 1}}),
        ({"do_xcom_push": True, "multiple_outputs": True}, {"rows": 1, "return_value": {"rows": 1}}),
    ],
)
def test_a_failure_has_the_value_all_the_same(arguments: dict[str, Any], xcoms: dict[str, Any]) -> None:
    failure = decided(FAILED, **arguments)
    assert isinstance(failure, TaskFailure)
    assert failure.xcoms == xcoms
    skip = decided(FAILED, skip_on_exit_code=(1,), **arguments)
    assert isinstance(skip, TaskSkip)
    assert skip.xcoms == xcoms, "a skip too"


def test_a_skip_by_exit_code_0_pushes_nothing_as_in_kpo() -> None:
    skip = decided(SUCCEEDED, skip_on_exit_code=(0,), do_xcom_push=True)
    assert isinstance(skip, TaskSkip)
    assert skip.xcoms == {}


def test_a_failed_tasks_value_that_cannot_be_spread_is_pushed_whole_and_hides_no_failure() -> None:
    failure = decided({**FAILED, "return_value": [1]}, do_xcom_push=True, multiple_outputs=True)
    assert isinstance(failure, TaskFailure)
    assert failure.xcoms == {"return_value": [1]}
    told = "multiple_outputs: the return value is no dictionary but list: pushed whole."
    assert failure.lines[0] == Line(logging.WARNING, told)


@pytest.mark.parametrize(("outcome", "lines"), [("not_json", 1), ("too_large", 1), ("truncated", 1), ("missing", 0)])
def test_a_failed_tasks_value_that_cannot_be_used_is_told_beside_the_failure(outcome: str, lines: int) -> None:
    lost = {**FAILED, "return_value": None, "return_value_outcome": outcome}
    failure = decided(lost, do_xcom_push=True)
    assert isinstance(failure, TaskFailure)
    assert failure.message.startswith("Job j failed: exit_code") or "exit_code" in failure.message
    assert sum("return value is not pushed" in line.text for line in failure.lines) == lines
    unasked = decided(lost)
    assert isinstance(unasked, TaskFailure)
    assert not any("return value" in line.text for line in unasked.lines)


def test_a_failures_lines_are_what_was_asked_for_and_its_message_is_not_among_them() -> None:
    failure = decided(FAILED, log_pod_spec_on_failure=True, do_xcom_push=True)
    assert isinstance(failure, TaskFailure)
    assert [line.text for line in failure.lines] == [
        "::group::The pod as it was asked for",
        "The worker adds labels and annotations of its own, and the sidecar podrelay-return-value.",
        '{\n "kind": "Pod"\n}',
        "::endgroup::",
    ]


def test_what_a_failed_container_said_last_stands_right_before_the_message() -> None:
    failure = decided({**FAILED, "last_lines": {"setup": "no such table\nroll back"}})
    assert isinstance(failure, TaskFailure)
    assert [line.text for line in failure.lines] == [
        "Last lines of container 'setup', whose log was not asked for:",
        "[setup] no such table",
        "[setup] roll back",
    ]
