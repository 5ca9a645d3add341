"""``@task.podrelay`` and ``@task.podrelay_cmd`` against the provider's own decorators."""

import ast
import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from airflow.sdk import DAG, task

from airflow_bridge.operator import PodRelayOperator
from dispatcher.events import ReturnValueOutcome
from tests.support.scripted_worker import PlayedJob, ScriptedWorker
from tests.support.task_run import TaskRun, run


def hello(job: PlayedJob) -> None:
    job.running().succeed(return_value=5, return_value_outcome=ReturnValueOutcome.PRESENT)


def operator_of(decorated: Any, *args: Any, **kwargs: Any) -> Any:
    with DAG("nightly", schedule=None):
        operator = decorated(*args, **kwargs).operator
    operator.env_vars = [{"name": k, "value": v} for k, v in (operator.env_vars or {}).items()]
    return operator


def container_of(task_run: TaskRun, operator: PodRelayOperator) -> dict[str, Any]:
    """What the container of the submitted job is."""
    with ScriptedWorker(task_run.redis_url, hello) as worker:
        run(operator, operator.execute, context=task_run.context)
    template = worker.played[0].spec.pod_template or {}
    return template["spec"]["containers"][0]  # type: ignore[no-any-return]


def test_a_function_runs_from_the_containers_environment(task_run: TaskRun, tmp_path: Path) -> None:
    """The very script and arguments, run by a Python without Airflow's path."""

    @task.podrelay(image="python:3.12", do_xcom_push=True, env_vars={"MODE": "fast"})
    def add(a: int, b: int = 0) -> dict[str, int]:
        # a comment
        return {"sum": a + b}

    container = container_of(task_run, operator_of(add, 2, b=3))
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables.pop("MODE") == "fast"
    script, arguments = (base64.b64decode(variables[name]) for name in ("__PYTHON_SCRIPT", "__PYTHON_INPUT"))
    for name, data in (("script.py", script), ("script.in", arguments)):
        (tmp_path / name).write_bytes(data)
    subprocess.run([sys.executable, "-I", "script.py", "script.in", "return.json"], cwd=tmp_path, check=True)
    assert json.loads((tmp_path / "return.json").read_text()) == {"sum": 5}


@pytest.mark.parametrize("do_xcom_push", [True, False])
def test_the_command_is_the_providers(do_xcom_push: bool, task_run: TaskRun) -> None:
    @task.kubernetes(image="python:3.12", do_xcom_push=do_xcom_push)
    def theirs() -> int:
        return 5

    @task.podrelay(image="python:3.12", do_xcom_push=do_xcom_push)
    def ours() -> int:
        return 5

    container = container_of(task_run, operator_of(ours))
    assert container["command"] == operator_of(theirs)._generate_cmds()
    assert "args" not in container


def test_the_script_is_the_providers(task_run: TaskRun) -> None:
    @task.kubernetes(image="python:3.12")
    def theirs(a: int) -> int:
        return a

    @task.podrelay(image="python:3.12")
    def ours(a: int) -> int:
        return a

    operator = operator_of(theirs, 1)
    with patch("airflow.providers.cncf.kubernetes.operators.pod.KubernetesPodOperator.execute"):
        operator.env_vars = []
        run(operator, operator.execute, context=task_run.context)
    both = ([v.to_dict() for v in operator.env_vars], container_of(task_run, operator_of(ours, 1))["env"])
    scripts = [next(v["value"] for v in variables if v["name"] == "__PYTHON_SCRIPT") for variables in both]
    first, second = (statements(base64.b64decode(script).decode().replace("theirs", "ours")) for script in scripts)
    assert first == second


def statements(script: str) -> list[str]:
    """All but the one about Airflow's macros, which the provider guards against Pythons that are gone."""
    return [ast.dump(node) for node in ast.parse(script).body if not isinstance(node, ast.If | ast.Try)]


def test_name_and_arguments_are_as_with_the_provider(task_run: TaskRun) -> None:
    @task.podrelay(image="python:3.12", namespace="etl")
    def count() -> None:
        pass

    operator = operator_of(count)
    assert (operator.name, operator.namespace) == ("k8s-airflow-pod-count", "etl")
    assert set(operator.template_fields) == {"op_args", "op_kwargs", *PodRelayOperator.template_fields} - {
        "cmds",
        "arguments",
    }


@pytest.mark.parametrize(
    ("args_only", "command"), [(False, {"command": ["echo", "hi"]}), (True, {"args": ["echo", "hi"]})]
)
def test_a_function_returns_the_command(args_only: bool, command: dict[str, Any], task_run: TaskRun) -> None:
    @task.podrelay_cmd(image="busybox", args_only=args_only)
    def say(word: str) -> list[str]:
        return ["echo", word]

    operator = operator_of(say, "hi")
    container = container_of(task_run, operator)
    assert {k: v for k, v in container.items() if k in ("command", "args")} == command


@pytest.mark.parametrize(
    ("answer", "error"), [("echo", TypeError), ([1], TypeError), ([], ValueError)], ids=["text", "numbers", "nothing"]
)
def test_anything_but_a_list_of_texts_is_refused(answer: Any, error: type[Exception], task_run: TaskRun) -> None:
    @task.podrelay_cmd(image="busybox")
    def say() -> Any:
        return answer

    operator = operator_of(say)
    with pytest.raises(error):
        run(operator, operator.execute, context=task_run.context)


def test_a_command_that_would_be_ignored_is_said() -> None:
    @task.podrelay_cmd(image="busybox", cmds=["true"])
    def say() -> list[str]:
        return ["echo"]

    with pytest.warns(UserWarning, match="`cmds` and `arguments` are unused in @task.podrelay_cmd"):
        operator_of(say)
