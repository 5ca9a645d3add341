"""A real Airflow (scheduler, triggerer, API server, LocalExecutor) with a real worker and the pocket cluster.

All in one file: one Airflow serves all tests. Every DAG run is started at once, and each test looks at its own task.
With ``PODRELAY_TEST_SLOW=1`` also what Airflow itself takes long to notice.
"""

import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_bridge.shared_client import KEEP_CURSORS_S
from airflow_bridge.trigger import DEFERRED_AT_LEAST_S
from dispatcher.client import Dispatcher
from dispatcher.events import JobResult
from tests.airflow_standalone.standalone import StandaloneAirflow, TaskAddress
from tests.support.installation import QUICK, Installation, running_installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(180)]

HERE = Path(__file__).parent
SAMPLE = HERE.parents[1] / "examples" / "dags" / "kubernetes_sample.py"
RUN = "the_run"


@pytest.fixture(scope="session")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gates")


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    with running_installation() as installation:
        yield installation


@pytest.fixture(scope="session")
def airflow(
    installation: Installation, gates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StandaloneAirflow]:
    dags = tmp_path_factory.mktemp("dags")
    (dags / "scenarios.py").write_text((HERE / "dags" / "scenarios.py").read_text())
    sample = SAMPLE.read_text()
    (dags / "sample.py").write_text(sample)
    deferrable = sample.replace("get_logs=True", "get_logs=True, deferrable=True")
    deferrable = deferrable.replace('"kubernetes_sample"', '"deferrable_sample"')
    (dags / "deferrable_sample.py").write_text(deferrable)
    airflow = StandaloneAirflow(installation, dags, {"SCENARIO_GATES": str(gates)})
    installation.start_worker(**QUICK)
    airflow.start()
    for dag_id in ("scenarios", "kubernetes_sample", "deferrable_sample"):
        airflow.run_dag(dag_id, RUN)
    try:
        yield airflow
    finally:
        airflow.close()


def scenario(task_id: str, map_index: int = -1) -> TaskAddress:
    return TaskAddress("scenarios", RUN, task_id, map_index)


def pods_of(installation: Installation, task: TaskAddress) -> list[dict[str, Any]]:
    """Every pod that the task instance ever had."""
    wanted = {"dag_id": task.dag_id, "run_id": task.run_id, "task_id": task.task_id}
    if task.map_index >= 0:
        wanted["map_index"] = str(task.map_index)
    return [pod for pod in installation.pocket.ever_created() if wanted.items() <= pod["labels"].items()]


def names_of_pods(installation: Installation) -> set[str]:
    """The pods that are there now."""
    return {pod["metadata"]["name"] for pod in installation.pocket.pods()}


def job_id_of(airflow: StandaloneAirflow, task: TaskAddress) -> str:
    return str(airflow.wait_for(f"{task}'s job", lambda: airflow.xcom(task, "podrelay_job_id")))


def result_of(installation: Installation, job_id: str) -> JobResult:
    with Dispatcher(installation.client_settings()) as dispatcher:
        return dispatcher.result(job_id, timeout_s=60)


def numbered(count: int) -> list[str]:
    return [f"line {number}" for number in range(count)]


def kill_process_of(airflow: StandaloneAirflow, task: TaskAddress, number: int, after: str) -> None:
    """Send a signal to the process that runs the task, once this line is in the task's log."""
    airflow.wait_for_line(task, after)
    os.kill(airflow.task(task)["pid"], number)


def test_lines_of_a_deferred_task_are_live_and_told_once_although_its_triggerer_is_killed(
    airflow: StandaloneAirflow, installation: Installation, gates: Path
) -> None:
    task = scenario("restarted_triggerer")
    airflow.wait_for_line(task, "line 9")
    assert airflow.state(task) == "deferred"
    assert airflow.container_lines(task) == numbered(10)
    # A place is kept once a second: only what was told in the second before a SIGKILL may be told again.
    time.sleep(2 * KEEP_CURSORS_S)
    airflow.kill_triggerer()
    (gates / "more").touch()
    airflow.start_triggerer()
    airflow.wait_for_line(task, "line 19")
    assert airflow.state(task) == "deferred"
    (gates / "go").touch()
    airflow.wait_for_state(task, "success")
    assert airflow.container_lines(task) == numbered(30)
    assert len(pods_of(installation, task)) == 1


def test_a_deferred_task_that_a_user_marks_failed_ends_its_pod(
    airflow: StandaloneAirflow, installation: Installation
) -> None:
    task = scenario("marked_deferred")
    airflow.wait_for_line(task, "working")
    airflow.wait_for_state(task, "deferred")
    job_id = job_id_of(airflow, task)
    airflow.mark(task, "failed")
    result = result_of(installation, job_id)
    assert (result.status, result.cancelled_by) == ("CANCELLED", "a user who ended its task in Airflow")
    assert result.pod not in names_of_pods(installation)
    assert airflow.state(task) == "failed"


def test_a_running_task_that_a_user_marks_failed_ends_its_pod(
    airflow: StandaloneAirflow, installation: Installation
) -> None:
    task = scenario("marked_sync")
    airflow.wait_for_line(task, "working")
    job_id = job_id_of(airflow, task)
    airflow.mark(task, "failed")
    result = result_of(installation, job_id)
    assert (result.status, result.cancelled_by) == ("CANCELLED", "Airflow: the task was killed")
    assert airflow.state(task) == "failed"


def test_a_task_whose_process_gets_term_fails_and_ends_its_pod(
    airflow: StandaloneAirflow, installation: Installation
) -> None:
    task = scenario("terminated")
    kill_process_of(airflow, task, signal.SIGTERM, after="working")
    airflow.wait_for_state(task, "failed")
    result = result_of(installation, job_id_of(airflow, task))
    assert (result.status, result.cancelled_by) == ("CANCELLED", "Airflow: the task was killed")
    assert len(pods_of(installation, task)) == 1


def test_the_try_after_a_killed_one_attaches_to_its_pod(
    airflow: StandaloneAirflow, installation: Installation, gates: Path
) -> None:
    task = scenario("attached")
    kill_process_of(airflow, task, signal.SIGKILL, after="line 9")
    airflow.wait_for_line(task, "Attached to job", try_number=2)
    (gates / "attached").touch()
    airflow.wait_for_state(task, "success", try_number=2)
    assert airflow.container_lines(task, 2) == numbered(20)
    assert len(pods_of(installation, task)) == 1


def test_the_try_after_a_killed_one_takes_the_result_of_a_pod_that_succeeded_meanwhile(
    airflow: StandaloneAirflow, installation: Installation, gates: Path
) -> None:
    task = scenario("taken")
    job_id = job_id_of(airflow, task)
    kill_process_of(airflow, task, signal.SIGKILL, after="line 9")
    (gates / "taken").touch()
    assert result_of(installation, job_id).succeeded
    airflow.wait_for_state(task, "success", try_number=2)
    (pod,) = pods_of(installation, task)
    assert airflow.xcom(task) == {"pod": pod["name"]}


def test_clearing_a_deferred_task_ends_its_pod_and_runs_anew(
    airflow: StandaloneAirflow, installation: Installation, gates: Path
) -> None:
    task = scenario("cleared_deferred")
    airflow.wait_for_line(task, "line 9")
    airflow.wait_for_state(task, "deferred")
    first = job_id_of(airflow, task)
    airflow.clear(task)
    assert result_of(installation, first).status == "CANCELLED"
    # Whether the second try waits for the cancel or overtakes it (and attaches first), it ends with a pod of its own.
    airflow.wait_for("the second pod", lambda: len(pods_of(installation, task)) == 2)
    (gates / "cleared").touch()
    airflow.wait_for_state(task, "success", try_number=2)
    assert airflow.container_lines(task, 2)[-20:] == numbered(20)
    assert len(pods_of(installation, task)) == 2


@pytest.mark.parametrize("dag_id", ["kubernetes_sample", "deferrable_sample"])
def test_the_sample_dag_passes_and_fails_as_its_authors_say(
    dag_id: str, airflow: StandaloneAirflow, installation: Installation
) -> None:
    passing, failing = (TaskAddress(dag_id, RUN, task_id) for task_id in ("passing-task", "failing-task"))
    airflow.wait_for_state(passing, "success")
    assert airflow.container_lines(passing) == ["hello world"]
    airflow.wait_for_state(failing, "failed")
    errors = [entry for entry in airflow.log(failing) if entry.get("error_detail")]
    told = " ".join(str(errors[-1]["error_detail"][0]["exc_value"]).split())
    assert "start_error" in told
    assert '"python": executable file not found' in told
    assert "Responsible: the image." in told
    assert [len(pods_of(installation, task)) for task in (passing, failing)] == [1, 1]


def test_clearing_a_task_that_succeeded_runs_anew(airflow: StandaloneAirflow, installation: Installation) -> None:
    task = TaskAddress("kubernetes_sample", RUN, "passing-task")
    airflow.wait_for_state(task, "success")
    airflow.clear(task)
    airflow.wait_for_state(task, "success", try_number=2)
    assert airflow.container_lines(task, 2) == ["hello world"]
    assert len(pods_of(installation, task)) == 2


def test_mapped_tasks_take_their_own_results(airflow: StandaloneAirflow, installation: Installation) -> None:
    tasks = [scenario("mapped", index) for index in range(2)]
    for task in tasks:
        airflow.wait_for_state(task, "success")
    assert [airflow.xcom(task) for task in tasks] == ["first", "second"]
    assert [len(pods_of(installation, task)) for task in tasks] == [1, 1]


def test_deferred_tasks_that_are_shorter_than_airflows_own_steps_succeed_in_their_first_try(
    airflow: StandaloneAirflow, installation: Installation
) -> None:
    for index in range(8):
        task = scenario("short", index)
        found = airflow.wait_for_state(task, "success", "failed")
        assert (found["state"], found["try_number"]) == ("success", 1), airflow.lines(task)
        submitted_at = result_of(installation, job_id_of(airflow, task)).times["submitted"]
        assert datetime.fromisoformat(found["end_date"]) - submitted_at >= timedelta(seconds=DEFERRED_AT_LEAST_S)


def test_an_exit_code_skips(airflow: StandaloneAirflow) -> None:
    airflow.wait_for_state(scenario("skipped"), "skipped")


@pytest.mark.parametrize("task_id", ["large_value", "large_value_deferred"])
def test_three_hundred_kilobytes_of_return_value(task_id: str, airflow: StandaloneAirflow) -> None:
    airflow.wait_for_state(scenario(task_id), "success")
    assert airflow.xcom(scenario(task_id)) == {"x": "y" * 300_000}


def test_the_connection_forms_test_button_names_the_workers(
    airflow: StandaloneAirflow, installation: Installation
) -> None:
    body = {"connection_id": "tried", "conn_type": "podrelay", "host": "127.0.0.1", "port": installation.redis.port}
    answer = airflow.call("POST", "/connections/test", body=body)
    assert answer["status"] is True
    assert "is served by 1 worker(s): worker" in answer["message"]


def test_the_connection_forms_test_button_says_that_redis_does_not_answer(airflow: StandaloneAirflow) -> None:
    body = {"connection_id": "tried", "conn_type": "podrelay", "host": "127.0.0.1", "port": 1, "password": "hush"}
    answer = airflow.call("POST", "/connections/test", body=body)
    assert answer["status"] is False
    assert "hush" not in answer["message"]


@pytest.mark.skipif(not os.environ.get("PODRELAY_TEST_SLOW"), reason="takes a minute: set PODRELAY_TEST_SLOW=1")
def test_the_try_after_a_lost_machine_with_scheduler_and_task_attaches_to_its_pod(
    airflow: StandaloneAirflow, installation: Installation, gates: Path
) -> None:
    task = TaskAddress("lost_machine", RUN, "lost")
    airflow.run_dag(task.dag_id, RUN)
    airflow.wait_for_line(task, "line 9")
    airflow.kill_scheduler()
    airflow.start_scheduler()
    airflow.wait_for_line(task, "Attached to job", try_number=2)
    (gates / "lost").touch()
    airflow.wait_for_state(task, "success", try_number=2)
    assert airflow.container_lines(task, 2) == numbered(20)
    assert len(pods_of(installation, task)) == 1
