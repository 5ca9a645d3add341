"""The return value of a task that fails or is skipped: pushed before that, as KPO does, sync and deferred."""

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from airflow_bridge.outcome import PodRelayFailure
from tests.support.scripted_worker import PlayedJob, ScriptedWorker
from tests.support.task_run import TaskRun

HAS_A_VALUE = {"return_value": {"rows": 3}, "return_value_outcome": "present"}


def fails(job: PlayedJob) -> None:
    job.running().fail(exit_code=3, **HAS_A_VALUE)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("arguments", "ends_with", "value"),
    [
        ({"do_xcom_push": True}, PodRelayFailure, {"rows": 3}),
        ({"do_xcom_push": True, "skip_on_exit_code": 3}, AirflowSkipException, {"rows": 3}),
        ({"do_xcom_push": False}, PodRelayFailure, None),
        ({"do_xcom_push": False, "skip_on_exit_code": 3}, AirflowSkipException, None),
    ],
    ids=["fails", "skipped", "fails, not asked", "skipped, not asked"],
)
def test_the_value_is_pushed(
    arguments: dict[str, Any], ends_with: type[Exception], value: Any, deferrable: bool, task_run: TaskRun
) -> None:
    with (
        ScriptedWorker(task_run.redis_url, fails, arrives_after=task_run.is_deferred.wait),
        pytest.raises(ends_with),
    ):
        task_run.run_through(deferrable=deferrable, **arguments)
    assert task_run.ti.xcoms.get("return_value") == value
