"""Templates, mapped tasks, task groups, setup and teardown: the operator as Airflow handles it before it runs."""

import json
import types
from typing import Any

import pluggy
import pytest
from airflow.sdk import DAG, TaskGroup, task
from airflow.serialization.serialized_objects import DagSerialization
from kubernetes import client as k8s

from airflow_bridge.operator import PodRelayOperator
from tests.support.task_run import TaskLog, TaskRun


def rendered(task_run: TaskRun, **arguments: Any) -> PodRelayOperator:
    operator = task_run.make(**arguments)
    operator.render_template_fields({"word": "rendered", **task_run.context})
    return operator


def test_nested_kubernetes_objects_are_rendered_as_in_kpo(task_run: TaskRun) -> None:
    text = "{{ word }}"
    operator = rendered(
        task_run,
        env_vars=[k8s.V1EnvVar(name=text, value=text)],
        volumes=[
            k8s.V1Volume(name=text, config_map=k8s.V1ConfigMapVolumeSource(name=text)),
            k8s.V1Volume(name="b", persistent_volume_claim=k8s.V1PersistentVolumeClaimVolumeSource(claim_name=text)),
        ],
        volume_mounts=[k8s.V1VolumeMount(name=text, mount_path="/x", sub_path=text)],
        env_from=[k8s.V1EnvFromSource(config_map_ref=k8s.V1ConfigMapEnvSource(name=text))],
        container_resources=k8s.V1ResourceRequirements(limits={"memory": text}, requests={"cpu": text}),
        pod_template_dict={"metadata": {"annotations": {"a": text}}},
        node_selector={"zone": text},
        podrelay_queue=text,
    )
    assert "{{" not in json.dumps(operator.build_pod_request_obj())
    assert operator.podrelay_queue == "rendered"
    container = operator.build_pod_request_obj()["spec"]["containers"][0]
    assert container["env"] == [{"name": "rendered", "value": "rendered"}]
    assert container["resources"] == {"limits": {"memory": "rendered"}, "requests": {"cpu": "rendered"}}


def test_names_of_variables_in_a_dict_are_rendered_too(task_run: TaskRun) -> None:
    operator = rendered(task_run, env_vars={"{{ word }}": "{{ word }}"})
    assert operator.env_vars == [{"name": "rendered", "value": "rendered"}]


def test_the_containers_of_the_log_follow_the_rendered_base_container(task_run: TaskRun) -> None:
    assert rendered(task_run, base_container_name="{{ word }}").container_logs == "rendered"


def test_a_subclass_may_name_the_base_container(task_run: TaskRun) -> None:
    class Other(PodRelayOperator):
        BASE_CONTAINER_NAME = "main"

    with DAG("nightly", schedule=None):
        assert Other(task_id="t", image="i").base_container_name == "main"


def test_a_dag_with_everything_crosses_airflows_serialization() -> None:
    with DAG("nightly", schedule=None) as dag:

        @task.podrelay(image="python:3.12")
        def decorated(number: int) -> int:
            return number

        with TaskGroup("group"):
            mapped = PodRelayOperator.partial(
                task_id="mapped", image="i", env_vars=[k8s.V1EnvVar(name="A", value="1")]
            ).expand(arguments=[["a"], ["b"]])
        setup = PodRelayOperator(task_id="setup", image="i", name="s").as_setup()
        teardown = PodRelayOperator(task_id="teardown", image="i", name="s", deferrable=True).as_teardown(setups=setup)
        setup >> mapped >> decorated.expand(number=[1, 2]) >> teardown
    text = json.dumps(DagSerialization.to_dict(dag))
    read = DagSerialization.from_dict(json.loads(text))
    assert set(read.task_ids) == {"group.mapped", "decorated", "setup", "teardown"}
    assert read.get_task("teardown").is_teardown
    assert read.get_task("setup").operator_extra_link_dict["Pod log"].xcom_key == "_link_PodLogLink"


def test_a_mapped_task_is_made_with_its_element() -> None:
    with DAG("nightly", schedule=None):
        mapped = PodRelayOperator.partial(task_id="mapped", image="i").expand(arguments=[["a"], ["b"]])
    assert mapped.unmap({"arguments": ["b"], "task_id": "mapped", "image": "i"}).arguments == ["b"]


def test_default_args_reach_the_operator() -> None:
    with DAG("nightly", schedule=None, default_args={"podrelay_queue": "b", "durable": False, "image": "i"}):
        operator = PodRelayOperator(task_id="t")
    assert (operator.podrelay_queue, operator.durable, operator.image) == ("b", False, "i")


def test_a_pod_mutation_hook_is_not_applied_and_that_is_said(
    task_run: TaskRun, task_log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.settings import get_policy_plugin_manager

    from tests.support.scripted_worker import ScriptedWorker

    site = types.SimpleNamespace(pod_mutation_hook=pluggy.HookimplMarker("airflow.policy")(lambda pod: None))
    manager = get_policy_plugin_manager()
    manager.register(site, "site-policy")
    try:
        with ScriptedWorker(task_run.redis_url, lambda job: job.running().succeed()):
            task_run.execute()
    finally:
        manager.unregister(site)
    assert task_log.at("warning") == [
        "The pod_mutation_hook of site-policy is not applied: the worker's policy decides."
    ]


def test_a_dry_run_prints_the_pod(task_run: TaskRun, capsys: pytest.CaptureFixture[str]) -> None:
    task_run.make(cmds=["true"]).dry_run()
    assert "image: python:3.12" in capsys.readouterr().out
