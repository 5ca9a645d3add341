"""The operator that stays with its job: what the task's log, its XComs and its outcome are."""

import json
import re
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from airflow_bridge.outcome import PodRelayFailure
from dispatcher.errors import InvalidSpecError
from dispatcher.events import ClusterEvent, ContainerEnd, ReturnValueOutcome
from dispatcher.status import Blame, FailureReason, Status
from tests.support.scripted_worker import NAMESPACE, PlayedJob, Script, ScriptedWorker
from tests.support.task_run import TaskLog, TaskRun, fired_by


def hello(job: PlayedJob) -> None:
    job.starting().running().log(b"hello world\n").succeed()


def succeeding(**result: Any) -> Script:
    return lambda job: job.starting().running().succeed(**result)


def failing(**result: Any) -> Script:
    return lambda job: job.starting().running().fail(**result)


def test_a_task_shows_its_log_and_succeeds(task_run: TaskRun, task_log: TaskLog) -> None:
    def hello_when_told(job: PlayedJob) -> None:
        job.starting().running()
        task_log.wait_for("RUNNING")  # within one millisecond the two streams have no order
        job.log(b"hello world\n").succeed()

    with ScriptedWorker(task_run.redis_url, hello_when_told) as worker:
        assert task_run.execute(cmds=["python", "-c"], arguments=["print('hello world')"]) is None
    job = worker.played[0]
    assert task_log.lines == [
        f"Submitted job {job.job_id} to queue 'default'.",
        "::group::Starting the pod",
        f"STARTING: pod {NAMESPACE}/{job.pod} on node node-1: pulling the image",
        "RUNNING",
        "::endgroup::",
        "[base] hello world",
        "The pod succeeded.",
    ]
    assert task_run.ti.xcoms == {"podrelay_job_id": job.job_id, "pod_name": job.pod, "pod_namespace": NAMESPACE}
    assert job.record().acknowledged


def test_the_job_is_asked_for_with_the_tasks_arguments(task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, succeeding()) as worker:
        task_run.execute(
            name="My.Task",
            namespace="etl",
            startup_timeout_seconds=5,
            schedule_timeout_seconds=9,
            on_finish_action="keep_pod",
            container_logs=["base", "side"],
            init_container_logs=True,
            podrelay_options={"retry_on": ["evicted"], "queue_timeout_s": 60},
            do_xcom_push=True,
        )
    spec = worker.played[0].spec
    assert (spec.name, spec.namespace, spec.on_finish) == ("my-task", "etl", "keep_pod")
    assert (spec.startup_timeout_s, spec.schedule_timeout_s, spec.queue_timeout_s) == (5, 9, 60)
    assert (spec.container_logs, spec.init_container_logs) == (("base", "side"), "all")
    assert spec.retry_on == {FailureReason.EVICTED}
    assert (spec.return_value, spec.try_number) == (True, 1)
    assert spec.labels["dag_id"] == "nightly"
    assert spec.volatile_labels["try_number"] == "1"
    assert spec.submitted_by == "airflow airflow: nightly.transform of manual__2026-01-01"


def test_a_pod_waits_for_a_node_as_long_as_it_takes_unless_the_task_says_how_long(task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, succeeding()) as worker:
        task_run.execute(startup_timeout_seconds=5)
    assert (worker.played[0].spec.startup_timeout_s, worker.played[0].spec.schedule_timeout_s) == (5, None)


def test_the_tasks_trace_goes_with_the_job_and_is_no_part_of_what_is_asked(task_run: TaskRun) -> None:
    task_run.ti.context_carrier = {"traceparent": "00-1-2-01"}
    with ScriptedWorker(task_run.redis_url, hello) as worker:
        task_run.submit_and_die()
        worker.join()
        task_run.next_try()
        task_run.ti.context_carrier = {"traceparent": "00-1-3-01"}
        task_run.execute()
    assert [job.spec.trace for job in worker.played] == [{"traceparent": "00-1-2-01"}]


@pytest.mark.parametrize(
    ("arguments", "logs"),
    [
        ({}, (True, None, ())),
        ({"container_logs": "base"}, (True, None, ())),
        ({"container_logs": True}, (True, "all", ())),
        ({"container_logs": "side", "init_container_logs": "setup"}, (True, ("side",), ("setup",))),
        ({"get_logs": False}, (False, None, ())),
        ({"get_logs": False, "init_container_logs": ["setup"]}, (True, (), ("setup",))),
        ({"base_container_name": "main"}, (True, None, ())),
    ],
)
def test_the_containers_whose_logs_are_wanted_are_kpos(
    arguments: dict[str, Any], logs: tuple[Any, ...], task_run: TaskRun
) -> None:
    with ScriptedWorker(task_run.redis_url, succeeding()) as worker:
        task_run.execute(**arguments)
    spec = worker.played[0].spec
    assert (spec.get_logs, spec.container_logs, spec.init_container_logs) == logs


def test_lines_have_the_level_that_they_name_and_the_containers_prefix(task_run: TaskRun, task_log: TaskLog) -> None:
    def talk(job: PlayedJob) -> None:
        job.running().log(b"ERROR: no disk\n").log(b"from the side\n", "side").log(b"100%s sure\n::group::Load\n\n")
        job.log("z\u00fcg\u0308".encode()[:2]).log("z\u00fcg\u0308".encode()[2:] + b"\xff, no newline").succeed()

    with ScriptedWorker(task_run.redis_url, talk):
        task_run.execute(container_logs=True)
    assert task_log.at("error") == ["[base] ERROR: no disk"]
    assert task_log.lines[3:7] == [
        "[side] from the side",
        "[base] 100%s sure",
        "::group::Load",
        "[base] z\u00fcg\u0308\\xff, no newline",
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"container_name_log_prefix_enabled": False}, "hello world"),
        ({"log_formatter": lambda container, text: f"<{container}> {text}"}, "<base> hello world"),
    ],
)
def test_the_format_of_lines_is_the_users(
    arguments: dict[str, Any], line: str, task_run: TaskRun, task_log: TaskLog
) -> None:
    with ScriptedWorker(task_run.redis_url, hello):
        task_run.execute(**arguments)
    assert line in task_log.lines


def test_gaps_and_notices_stand_in_the_log_at_their_level(task_run: TaskRun, task_log: TaskLog) -> None:
    def troubled(job: PlayedJob) -> None:
        job.running().notice("node is under pressure", "warning").log(b"before\n").gap(1234, "rotated away")
        job.log(b"after\n").succeed()

    with ScriptedWorker(task_run.redis_url, troubled):
        task_run.execute()
    assert task_log.at("warning") == [
        "node is under pressure",
        "[base] 1,234 bytes of the log are missing here: rotated away",
    ]


def test_what_a_starting_pod_waits_for_can_be_left_out(task_run: TaskRun, task_log: TaskLog) -> None:
    with ScriptedWorker(task_run.redis_url, hello):
        task_run.execute(log_events_on_startup=False)
    assert not any("pulling the image" in line for line in task_log.lines)


def test_no_worker_on_the_queue_is_told_and_waited_for(task_run: TaskRun, task_log: TaskLog) -> None:
    worker = ScriptedWorker(task_run.redis_url, hello)
    worker.beat()
    worker.die()
    with ScriptedWorker(task_run.redis_url, hello, arrives_after=task_log.has("no worker is alive")):
        task_run.execute()
    (warning,) = task_log.at("warning")
    assert re.search(r"no worker is alive on queue 'default' \(last seen \d+ s ago", warning)


# The outcome


def test_the_return_value_is_the_tasks_xcom(task_run: TaskRun) -> None:
    value = {"rows": [1, 2], "text": "x" * 300_000}
    script = succeeding(return_value=value, return_value_outcome=ReturnValueOutcome.PRESENT)
    with ScriptedWorker(task_run.redis_url, script):
        assert task_run.execute(do_xcom_push=True) == value


def test_a_missing_return_value_is_none_and_said(task_run: TaskRun, task_log: TaskLog) -> None:
    with ScriptedWorker(task_run.redis_url, succeeding(return_value_outcome=ReturnValueOutcome.MISSING)):
        assert task_run.execute(do_xcom_push=True) is None
    assert "No return value: the container wrote no /airflow/xcom/return.json." in task_log.lines


def test_a_damaged_return_value_fails_the_task(task_run: TaskRun) -> None:
    script = failing(reason=FailureReason.RETURN_VALUE, exit_code=0, message="the return value is not JSON: line 1")
    with (
        ScriptedWorker(task_run.redis_url, script),
        pytest.raises(PodRelayFailure, match=r"return_value: .*not JSON: line 1\.\nResponsible: user code"),
    ):
        task_run.execute(do_xcom_push=True)


def test_a_failing_tasks_return_value_is_pushed_all_the_same(task_run: TaskRun) -> None:
    script = failing(return_value={"a": 1}, return_value_outcome=ReturnValueOutcome.PRESENT)
    with ScriptedWorker(task_run.redis_url, script), pytest.raises(PodRelayFailure):
        task_run.execute(do_xcom_push=True, multiple_outputs=True)
    assert task_run.ti.xcoms["return_value"] == {"a": 1}
    assert task_run.ti.xcoms["a"] == 1


def test_a_failure_is_told_once_with_reason_message_and_who_should_act(task_run: TaskRun, task_log: TaskLog) -> None:
    warnings = tuple(ClusterEvent(reason="BackOff", message=f"try {n}") for n in range(5))
    script = failing(reason=FailureReason.IMAGE_PULL, exit_code=None, message="no such image.", warnings=warnings)
    with ScriptedWorker(task_run.redis_url, script) as worker, pytest.raises(PodRelayFailure) as failure:
        task_run.execute()
    job = worker.played[0]
    assert str(failure.value).splitlines() == [
        "image_pull: no such image.",
        "Responsible: the image.",
        f"Pod: {NAMESPACE}/{job.pod}. Job: {job.job_id}.",
        *(f"Kubernetes warning: BackOff: try {n}" for n in (2, 3, 4)),
    ]
    assert isinstance(failure.value, AirflowException)
    assert task_log.at("error") == []  # Airflow writes the exception: what was written here would stand there twice
    assert "::group::The pod as it was asked for" in task_log.lines


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_pod_that_was_asked_for_has_its_name_and_labels_and_no_default_that_nobody_wrote(
    deferrable: bool, task_run: TaskRun, task_log: TaskLog
) -> None:
    arguments = {"labels": {"team": "a"}, "namespace": "etl", "deferrable": deferrable}
    with ScriptedWorker(
        task_run.redis_url, failing(), arrives_after=task_run.is_deferred.wait if deferrable else None
    ) as worker:
        if deferrable:
            deferred = task_run.defer(**arguments)
            event = fired_by(deferred.trigger)
            with pytest.raises(PodRelayFailure):
                task_run.resume(deferred.method_name, {"event": event}, **arguments)
        else:
            with pytest.raises(PodRelayFailure):
                task_run.execute(**arguments)
    pod = json.loads(next(line for line in task_log.lines if line.startswith("{")))
    assert pod["metadata"]["name"] == worker.played[0].pod
    assert pod["metadata"]["labels"].items() >= {"team": "a", "task_id": "transform", "try_number": "1"}.items()
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "python:3.12"
    assert "hostNetwork" not in pod["spec"]
    assert "terminationMessagePolicy" not in container


def test_events_and_container_states_are_logged_on_failure_when_asked_for(task_run: TaskRun, task_log: TaskLog) -> None:
    script = failing(
        warnings=(ClusterEvent(reason="OOM", message="killed"),),
        events=(
            ClusterEvent(reason="Started", message="Container started", type="Normal"),
            ClusterEvent(reason="OOM", message="killed", type="Warning"),
        ),
        containers=(ContainerEnd(name="base", state="terminated", exit_code=1, reason="Error"),),
    )
    with ScriptedWorker(task_run.redis_url, script), pytest.raises(PodRelayFailure):
        task_run.execute(log_events_on_failure=True, log_pod_spec_on_failure=False)
    assert "Pod Event: OOM - killed" in task_log.at("warning")
    assert "Pod Event: Started - Container started" in task_log.at("info")
    assert "Container 'base': state='TERMINATED', reason='Error', exit_code=1, message='None'" in task_log.at("error")
    assert not any("as it was asked for" in line for line in task_log.lines)


@pytest.mark.parametrize("skip_on_exit_code", [99, [98, 99], {99}, range(90, 100)])
def test_an_exit_code_can_skip_the_task(skip_on_exit_code: Any, task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, failing(exit_code=99)), pytest.raises(AirflowSkipException, match="99"):
        task_run.execute(skip_on_exit_code=skip_on_exit_code)


def test_another_exit_code_does_not(task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, failing(exit_code=1)), pytest.raises(PodRelayFailure, match="exit_code"):
        task_run.execute(skip_on_exit_code=99)


@pytest.mark.parametrize(
    "end",
    [
        {"status": Status.CANCELLED, "cancelled_by": "podrelay cancel", "exit_code": 0},
        {"status": Status.FAILED, "reason": FailureReason.POD_DELETED, "exit_code": 0},
        {"status": Status.FAILED, "reason": FailureReason.EVICTED, "exit_code": 0},
    ],
)
def test_a_pod_that_was_stopped_is_never_success_nor_skip(end: dict[str, Any], task_run: TaskRun) -> None:
    def stopped(job: PlayedJob) -> None:
        job.running().end(end["status"], **{k: v for k, v in end.items() if k != "status"})

    with ScriptedWorker(task_run.redis_url, stopped), pytest.raises(PodRelayFailure):
        task_run.execute(skip_on_exit_code=0)


@pytest.mark.parametrize("reason", FailureReason)
def test_every_reason_says_who_should_act(reason: FailureReason, task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, failing(reason=reason)), pytest.raises(PodRelayFailure) as failure:
        task_run.execute()
    assert f"Responsible: {reason.traits.blame.value}." in str(failure.value)
    assert isinstance(reason.traits.blame, Blame)


def test_an_impossible_job_fails_before_anything_is_submitted(task_run: TaskRun) -> None:
    with pytest.raises(InvalidSpecError, match="task transform: image: required"):
        task_run.execute(image=None)
    with pytest.raises(InvalidSpecError, match=r"retry_onn: unknown field .*'retry_on'"):
        task_run.execute(podrelay_options={"retry_onn": []})
    with ScriptedWorker(task_run.redis_url) as worker:
        assert worker.client.keys("podrelay:job:*") == []


def test_the_link_to_the_log_elsewhere_is_the_results(task_run: TaskRun) -> None:
    from airflow_bridge.links import PodLogLink

    operator = task_run.make(get_logs=False)
    assert PodLogLink().get_link(operator, ti_key=None) == ""
    with ScriptedWorker(task_run.redis_url, succeeding(log_url="https://loki/pod")):
        task_run.execute(operator)
    assert PodLogLink().get_link(operator, ti_key=None) == "https://loki/pod"


# Retries and clears


def test_a_retry_takes_the_result_of_a_job_that_succeeded_while_nobody_watched(
    task_run: TaskRun, task_log: TaskLog
) -> None:
    with ScriptedWorker(task_run.redis_url, hello) as worker:
        task_run.submit_and_die()
        worker.join()
        task_run.next_try()
        task_run.execute()
    assert f"Attached to job {worker.played[0].job_id}, which an earlier try submitted." in task_log.lines
    assert task_log.containers_lines() == ["[base] hello world"]


def test_a_retry_attaches_to_the_running_job_and_shows_its_log_from_the_beginning(
    task_run: TaskRun, task_log: TaskLog
) -> None:
    def in_two_tries(job: PlayedJob) -> None:
        job.running().log(b"while the first try watched\n")
        task_log.wait_for("Attached to job")
        job.log(b"while the second did\n").succeed()

    with ScriptedWorker(task_run.redis_url, in_two_tries) as worker:
        task_run.submit_and_die()
        task_run.next_try()
        task_run.execute()
    assert len(worker.played) == 1
    assert task_log.containers_lines() == ["[base] while the first try watched", "[base] while the second did"]


@pytest.mark.parametrize("arguments", [{}, {"durable": False}])
def test_a_clear_runs_anew_what_had_succeeded(arguments: dict[str, Any], task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, hello, hello) as worker:
        task_run.execute(**arguments)
        task_run.next_try()
        task_run.execute(**arguments)
    assert len({job.job_id for job in worker.played}) == 2


def test_without_durable_every_try_is_a_job_of_its_own(task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, hello, hello) as worker:
        task_run.submit_and_die(durable=False)
        task_run.next_try()
        task_run.execute(durable=False)
    assert len({job.job_id for job in worker.played}) == 2
    assert all(job.spec.key is None for job in worker.played)


def test_a_retry_of_a_failed_job_makes_a_new_one(task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, failing(), hello) as worker:
        with pytest.raises(PodRelayFailure):
            task_run.execute()
        task_run.next_try()
        task_run.execute()
    assert len({job.job_id for job in worker.played}) == 2


def test_a_mapped_list_that_changed_never_takes_another_elements_result(task_run: TaskRun) -> None:
    task_run.ti.map_index = 0
    with ScriptedWorker(task_run.redis_url, hello, hello) as worker:
        task_run.submit_and_die(arguments=["alice"])
        worker.await_end_of(0)
        task_run.next_try()
        task_run.execute(arguments=["bob"])
    jobs = worker.played
    assert [job.spec.pod_template["spec"]["containers"][0]["args"] for job in jobs] == [["alice"], ["bob"]]  # type: ignore[index]
