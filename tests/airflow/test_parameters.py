"""No parameter of KPO is dropped silently, whichever provider is installed; and one more is one more row of a table."""

import ast
import inspect
import runpy
import warnings
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import BaseOperator

from airflow_bridge import ignored_parameters
from airflow_bridge.ignored_parameters import IgnoredParameterWarning
from airflow_bridge.operator import PodRelayOperator
from airflow_bridge.parameters import (
    ADDED,
    PARAMETERS,
    Ignored,
    JobField,
    PodField,
)
from tests.support.task_run import TaskRun


def parameters_of(operator: type[BaseOperator]) -> dict[str, inspect.Parameter]:
    found = inspect.signature(operator.__init__).parameters
    return {name: p for name, p in found.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


KPO, OURS = parameters_of(KubernetesPodOperator), parameters_of(PodRelayOperator)
IGNORED = {name: parameter for name, parameter in PARAMETERS.items() if isinstance(parameter, Ignored)}


def test_the_table_has_every_parameter_of_the_installed_provider_and_no_other() -> None:
    assert set(PARAMETERS) == set(KPO)


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


@pytest.fixture
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that parses its first file."""
    monkeypatch.setattr("airflow_bridge.ignored_parameters._told", set())


@pytest.mark.parametrize("name", [name for name in GIVEN if not IGNORED[name].is_quiet])
@pytest.mark.usefixtures("nothing_told")
def test_an_ignored_parameter_is_accepted_with_a_warning_that_says_why(name: str, task_run: TaskRun) -> None:
    with pytest.warns(IgnoredParameterWarning) as told:
        task_run.make(**{name: GIVEN[name]})
    (warning,) = told
    assert str(warning.message) == f"PodRelayOperator ignores {name}: {IGNORED[name].why}"
    assert warning.filename.endswith("task_run.py"), "the warning points at the DAG"


@pytest.mark.parametrize("name", [name for name in GIVEN if IGNORED[name].is_quiet])
@pytest.mark.usefixtures("nothing_told")
def test_a_credential_that_does_not_matter_any_more_is_a_debug_line(
    name: str, task_run: TaskRun, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", "airflow_bridge"), warnings.catch_warnings():
        warnings.simplefilter("error")
        task_run.make(**{name: GIVEN[name]})
    assert f"PodRelayOperator ignores {name}: {IGNORED[name].why}" in caplog.messages


FIVE_TASKS = """
from airflow.sdk import DAG, task
from airflow_bridge.operator import PodRelayOperator

with DAG("five", schedule=None):
    for number in range(3):
        PodRelayOperator(task_id=f"t{number}", image="i", poll_interval=9, in_cluster=True)
    PodRelayOperator(task_id="t3", image="i", poll_interval=9,
                     logging_interval=3, config_file="/kube")
    PodRelayOperator.partial(task_id="t4", image="i", poll_interval=9).expand(cmds=[["a"], ["b"]])
"""


def parsed(file: Path, name: str = "unusual_prefix_five") -> list[str]:
    """Execute a DAG file as Airflow does, and return what it warns of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        runpy.run_path(str(file), run_name=name)
    return [f"{each.filename}:{each.lineno} {str(each.message).split(':')[0]}" for each in told]


@pytest.mark.usefixtures("nothing_told")
def test_a_dag_file_with_five_tasks_is_told_of_each_parameter_once(tmp_path: Path) -> None:
    file = tmp_path / "five.py"
    file.write_text(FIVE_TASKS)
    assert parsed(file) == [
        f"{file}:7 PodRelayOperator ignores poll_interval",
        f"{file}:8 PodRelayOperator ignores logging_interval",
    ]


@pytest.mark.usefixtures("nothing_told")
def test_a_tasks_own_process_warns_of_nothing(tmp_path: Path) -> None:
    file = tmp_path / "five.py"
    file.write_text(FIVE_TASKS)
    task_runner: dict[str, Any] = {"__name__": "airflow.sdk.execution_time.task_runner", "parsed": parsed}
    exec("def parse(file): return parsed(file)", task_runner)
    assert task_runner["parse"](file) == []


def test_the_module_that_runs_tasks_is_still_called_so() -> None:
    from airflow.sdk.execution_time import task_runner

    assert {"parse", "run", "startup"} <= vars(task_runner).keys()
    assert task_runner.__name__ == ignored_parameters._RUNS_A_TASK


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


# One more parameter


class OneMore(PodRelayOperator):
    """As the operator will be when KPO has got ``share_process_namespace``: its signature, and a row."""

    def __init__(self, *, share_process_namespace: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.share_process_namespace = share_process_namespace


def test_a_row_makes_a_field_of_the_pod(task_run: TaskRun, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = OneMore(task_id="t", image="i", share_process_namespace=True)
    monkeypatch.setitem(PARAMETERS, "share_process_namespace", PodField("spec.shareProcessNamespace"))
    assert operator.build_pod_request_obj()["spec"]["shareProcessNamespace"] is True


def test_a_row_makes_a_field_of_the_job(task_run: TaskRun, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = OneMore(task_id="t", image="i", share_process_namespace=True)
    monkeypatch.setitem(PARAMETERS, "share_process_namespace", JobField("return_value"))
    spec = operator.build_job_spec(operator.build_pod_request_obj(), task_run.context)
    assert spec.return_value


def test_a_row_makes_the_operators_attribute(task_run: TaskRun) -> None:
    operator = task_run.make()
    assert {name for name in PARAMETERS if not hasattr(operator, name)} == {
        "progress_callback",
        "is_delete_operator_pod",
    }
    assert (operator.tolerations, operator.affinity, operator.host_aliases) == ([], {}, None)


#: Read by code besides the table, and why.
READ_BY_CODE = {
    "name": "made valid when the task runs",
    "env_vars": "a dict's names are rendered too; @task.podrelay adds its own",
    "base_container_name": "its default is the class's; which container's log is wanted depends on it",
    "schedule_timeout_seconds": "KPO's 0 is none",
    "on_finish_action": "checked when the DAG is read",
    "cmds": "made by the decorators",
    "arguments": "made by the decorators",
    "do_xcom_push": "whether there is a value to return",
}


def test_a_field_of_pod_or_job_is_read_by_the_table_alone() -> None:
    fields = {name for name, parameter in PARAMETERS.items() if isinstance(parameter, PodField | JobField)}
    package = Path(inspect.getfile(PodRelayOperator)).parent
    read = set().union(*(arguments_read(package / f"{module}.py") for module in READERS))
    assert read & fields == set(READ_BY_CODE)


#: The modules that have an operator or its arguments in their hands.
READERS = ("operator", "decorators", "pod_arguments", "outcome")


def arguments_read(module: Path) -> set[str]:
    """Every ``self.x`` and ``arguments["x"]``."""
    read = set()
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                read.add(name)
            case ast.Subscript(value=ast.Name(id="arguments"), slice=ast.Constant(value=str(name))):
                read.add(name)
    return read


@pytest.mark.parametrize("name", ["on_finish_action", "on_kill_action"])
def test_an_unknown_action_is_refused_when_the_dag_is_read(name: str, task_run: TaskRun) -> None:
    with pytest.raises(ValueError, match=f"{name}: must be one of delete_pod, keep_pod"):
        task_run.make(**{name: "delete"})
