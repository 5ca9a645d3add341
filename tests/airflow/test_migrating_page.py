"""The migration page says what the code does."""

import re
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG

from airflow_bridge.operator import PodRelayOperator
from airflow_bridge.pod_arguments import manifest_of
from tests.airflow.migrating_tables import PAGE, renewed
from tests.airflow.test_callbacks import HOOKS
from tests.support.task_run import TaskRun

TEXT = PAGE.read_text()


def test_the_tables_are_those_of_the_code() -> None:
    assert renewed(TEXT) == TEXT, "run: python -m tests.airflow.migrating_tables"


def test_every_hook_stands_in_the_table_of_hooks() -> None:
    section = TEXT.partition("## Callbacks")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.M)) == set(HOOKS)


def test_the_example_is_a_change_of_two_lines() -> None:
    (diff,) = re.findall(r"```diff\n(.*?)```", TEXT, re.S)
    changed = [line for line in diff.splitlines() if line.startswith(("+", "-"))]
    assert len(changed) == 4
    code = "\n".join(line[1:] for line in diff.splitlines() if not line.startswith("-"))
    names: dict[str, object] = {}
    exec(compile(code, "docs/migrating-from-kpo.md", "exec"), names)
    assert isinstance(names["task"], PodRelayOperator)


def test_both_can_be_used_in_one_dag(task_run: TaskRun) -> None:
    code, _ = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    names: dict[str, object] = {}
    exec(compile(code, "docs/migrating-from-kpo.md", "exec"), names)
    dag = names["dag"]
    kinds = {type(dag.get_task(task_id)) for task_id in ("load", "load_by_podrelay")}  # type: ignore[attr-defined]
    assert kinds == {KubernetesPodOperator, PodRelayOperator}


def test_the_subclass_edits_its_pod() -> None:
    _, code = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/migrating-from-kpo.md", "exec"), names)
    with DAG("nightly", schedule=None):
        pod = names["Traced"](task_id="t", image="i").build_pod_request_obj()
    assert manifest_of(pod)["spec"]["containers"][0]["env"] == [{"name": "TRACE", "value": "00-1"}]
    assert pod.metadata.annotations == {"trace": "00-1"}
