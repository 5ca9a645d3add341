"""No parameter of KPO is dropped silently, whichever provider is installed."""

import inspect
import warnings
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import BaseOperator
from task_run import TaskRun

from airflow_bridge.operator import PodRelayOperator
from airflow_bridge.parameters import ADDED, IGNORED, SUPPORTED, IgnoredParameterWarning


def parameters_of(operator: type[BaseOperator]) -> dict[str, inspect.Parameter]:
    found = inspect.signature(operator.__init__).parameters
    return {name: p for name, p in found.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


KPO, OURS = parameters_of(KubernetesPodOperator), parameters_of(PodRelayOperator)


def test_the_table_has_every_parameter_of_the_installed_provider_and_no_other() -> None:
    assert set(SUPPORTED) | set(IGNORED) == set(KPO)
    assert not set(SUPPORTED) & set(IGNORED)


def test_our_constructor_takes_them_all_and_what_the_table_adds() -> None:
    assert set(OURS) == set(KPO) | set(ADDED)


def test_defaults_are_kpos() -> None:
    assert {name: OURS[name].default for name in KPO} == {name: parameter.default for name, parameter in KPO.items()}
    assert {name: ignored.default for name, ignored in IGNORED.items()} == {name: KPO[name].default for name in IGNORED}


def test_every_template_field_of_kpo_is_one_of_ours() -> None:
    assert set(KubernetesPodOperator.template_fields) <= set(PodRelayOperator.template_fields)
    assert PodRelayOperator.template_fields_renderers == KubernetesPodOperator.template_fields_renderers


GIVEN: dict[str, Any] = {
    "kubernetes_conn_id": "other",
    "in_cluster": True,
    "cluster_context": "prod",
    "config_file": "/kube/config",
    "random_name_suffix": False,
    "xcom_sidecar_container_security_context": {},
    "startup_check_interval_seconds": 1,
    "base_container_status_polling_interval": 3,
    "poll_interval": 30,
    "logging_interval": 10,
    "progress_callback": print,
    "is_delete_operator_pod": True,
}


def test_every_ignored_parameter_has_a_value_to_try() -> None:
    assert set(GIVEN) == set(IGNORED)


@pytest.mark.parametrize("name", GIVEN)
def test_an_ignored_parameter_is_accepted_with_a_warning_that_says_why(name: str, task_run: TaskRun) -> None:
    with pytest.warns(IgnoredParameterWarning) as told:
        task_run.make(**{name: GIVEN[name]})
    (warning,) = told
    assert str(warning.message) == f"PodRelayOperator ignores {name}: {IGNORED[name].why}"
    assert warning.filename.endswith("task_run.py"), "the warning points at the DAG"


def test_the_defaults_warn_of_nothing(task_run: TaskRun) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task_run.make(**{name: ignored.default for name, ignored in IGNORED.items()})


def test_airflows_own_queue_stays_airflows(task_run: TaskRun) -> None:
    operator = task_run.make(queue="big-machines", podrelay_queue="cluster-b")
    assert (operator.queue, operator.podrelay_queue) == ("big-machines", "cluster-b")


@pytest.mark.parametrize(("given", "expected"), [({}, True), ({"durable": False}, False)])
def test_durable_is_the_default(given: dict[str, Any], expected: bool, task_run: TaskRun) -> None:
    assert task_run.make(**given).durable is expected


@pytest.mark.parametrize(
    ("reattach_on_restart", "durable", "expected"), [(False, None, False), (False, True, True), (True, False, False)]
)
def test_durable_wins_over_reattach_on_restart(
    reattach_on_restart: bool, durable: bool | None, expected: bool, task_run: TaskRun
) -> None:
    assert task_run.make(reattach_on_restart=reattach_on_restart, durable=durable).durable is expected


@pytest.mark.parametrize("name", ["on_finish_action", "on_kill_action"])
def test_an_unknown_action_is_refused_when_the_dag_is_read(name: str, task_run: TaskRun) -> None:
    with pytest.raises(ValueError, match=f"{name}: must be one of delete_pod, keep_pod"):
        task_run.make(**{name: "delete"})
