"""The pod that users get answers as KPO's does, and as a dict; what they put into it is understood."""

import copy
import json
import pickle
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG
from airflow.sdk.execution_time.task_runner import _serialize_rendered_fields
from hypothesis import HealthCheck, given, settings
from kubernetes import client as k8s

from airflow_bridge.argument_values import PodArgumentsError
from airflow_bridge.kubernetes_object import EnvVariable, KubernetesObject, kubernetes_object
from airflow_bridge.operator import PodRelayOperator
from airflow_bridge.outcome import PodRelayFailure
from airflow_bridge.pod_arguments import as_pod, manifest_of
from tests.airflow.kubernetes_fields import TABLE, installed, written
from tests.airflow.test_same_pod import CASES, CONTEXT, kpo_operator, pods
from tests.support.scripted_worker import ScriptedWorker
from tests.support.task_run import TaskLog, TaskRun

SANITIZED = k8s.ApiClient().sanitize_for_serialization


def test_the_table_of_fields_is_that_of_the_installed_client() -> None:
    known = json.loads(TABLE.read_text())
    missing = {kind: set(fields) - set(known.get(kind, {})) for kind, fields in installed().items()}
    assert {kind: fields for kind, fields in missing.items() if fields} == {}, (
        "run: python -m tests.airflow.kubernetes_fields"
    )
    assert TABLE.read_text() == written(known)


def test_every_field_has_the_clients_name() -> None:
    for kind, fields in installed().items():
        model = getattr(k8s, kind)
        ours = kubernetes_object(kind, {})
        assert set(ours.to_dict()) == set(model.attribute_map), kind
        for name, key in model.attribute_map.items():
            setattr(ours, name, "set")
            assert ours[key] == "set"
        assert set(ours) == set(fields)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(pod=pods)
def test_a_pod_is_read_as_the_clients(pod: k8s.V1Pod) -> None:
    assert as_pod(pod).to_dict()["spec"] == pod.to_dict()["spec"]
    assert SANITIZED(as_pod(pod))["spec"] == SANITIZED(pod)["spec"]


def ours(**arguments: Any) -> KubernetesObject:
    with DAG("nightly", schedule=None):
        operator = PodRelayOperator(**{"task_id": "transform", "image": "i", "name": "n", **arguments})
    return operator.build_pod_request_obj(CONTEXT)


def comparable(pod: dict[str, Any]) -> dict[str, Any]:
    pod["metadata"].pop("name")
    pod["metadata"].pop("namespace")
    pod["metadata"]["labels"].pop("airflow_kpo_in_cluster", None)
    text = json.dumps(pod, sort_keys=True, default=str)
    for volume in pod["spec"]["volumes"]:
        if volume["name"].startswith("secretvol"):
            text = text.replace(volume["name"], "secretvol")
    return json.loads(text)


#: KPO has another sidecar; and a dict stays the dict it was given, where ours answers as an object too.
OTHER = {"a return value", "security contexts"}


@pytest.mark.parametrize("case", sorted(set(CASES) - OTHER))
def test_the_pod_that_subclasses_get_says_of_each_field_what_kpos_says(case: str) -> None:
    theirs = kpo_operator(CASES[case]).build_pod_request_obj(CONTEXT)
    with DAG("nightly", schedule=None):
        operator = PodRelayOperator(task_id="transform", **copy.deepcopy(CASES[case]))
    assert comparable(operator.build_pod_request_obj(CONTEXT).to_dict()) == comparable(theirs.to_dict())


def test_a_pod_is_changed_as_kpos() -> None:
    pod = ours(volumes=[{"name": "v", "emptyDir": {}}])
    pod.metadata.labels["team"] = "a"
    pod.metadata.annotations.update({"note": "n"})
    base = pod.spec.containers[0]
    base.env.append(k8s.V1EnvVar(name="A", value="1"))
    base.resources = k8s.V1ResourceRequirements(limits={"cpu": "1"})
    base.volume_mounts += [k8s.V1VolumeMount(name="v", mount_path="/v")]
    pod.spec.volumes = (pod.spec.volumes or []) + [k8s.V1Volume(name="w", empty_dir=k8s.V1EmptyDirVolumeSource())]
    pod.spec.init_containers.append({"name": "i", "image": "i"})
    pod.spec.containers += [k8s.V1Container(name="side", image="s", env=[k8s.V1EnvVar(name="B", value="2")])]
    pod.spec.host_aliases = [k8s.V1HostAlias(ip="10.0.0.1", hostnames=["db"])]
    pod.spec.security_context = k8s.V1PodSecurityContext(run_as_user=7)
    pod.spec.affinity = {"nodeAffinity": {}}
    pod.spec.node_selector["disk"] = "ssd"
    del pod.spec.tolerations
    manifest = manifest_of(pod)
    spec = manifest["spec"]
    assert manifest["metadata"]["labels"]["team"] == "a"
    assert manifest["metadata"]["annotations"] == {"note": "n"}
    assert spec["containers"][0] | {"terminationMessagePolicy": ""} == {
        "name": "base",
        "image": "i",
        "env": [{"name": "A", "value": "1"}],
        "resources": {"limits": {"cpu": "1"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "terminationMessagePolicy": "",
    }
    assert spec["containers"][1] == {"name": "side", "image": "s", "env": [{"name": "B", "value": "2"}]}
    assert spec["volumes"] == [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}]
    assert (spec["initContainers"], spec["securityContext"]) == ([{"name": "i", "image": "i"}], {"runAsUser": 7})
    assert (spec["nodeSelector"], spec["affinity"]) == ({"disk": "ssd"}, {"nodeAffinity": {}})
    assert json.loads(json.dumps(manifest)) == manifest


def test_a_pod_is_changed_as_a_dict_too() -> None:
    pod = ours(env_vars={"A": "1"})
    pod["spec"]["containers"][0]["env"].append({"name": "B", "value": "2"})
    pod["metadata"]["annotations"]["note"] = "n"
    assert pod.spec.containers[0].env[0].value == pod["spec"]["containers"][0]["env"][0]["value"] == "1"
    assert pod.metadata.annotations == {"note": "n"}
    assert yaml.safe_load(yaml.safe_dump(pod)) == yaml.safe_load(yaml.dump(pod)) == json.loads(json.dumps(pod)) == pod


def test_what_kubernetes_does_not_have_is_told_with_what_is_near() -> None:
    pod = ours()
    with pytest.raises(AttributeError, match=r"V1PodSpec has no field 'volume' .*did you mean 'volumes'\?"):
        _ = pod.spec.volume
    with pytest.raises(AttributeError, match=r"V1PodSpec has no field 'image' in Kubernetes; V1Container.* has it"):
        pod.spec.image = "x"
    assert not hasattr(pod, "containers")
    assert (pod.status, pod.spec.host_ipc, pod.spec.containers[0].liveness_probe) == (None, None, None)


def test_a_pod_can_be_copied_and_pickled() -> None:
    pod = ours(env_vars={"A": "1"})
    for other in (copy.deepcopy(pod), pickle.loads(pickle.dumps(pod))):
        other.spec.containers[0].env[0].value = "2"
        assert (type(other), pod.spec.containers[0].env[0].value) == (KubernetesObject, "1")
    assert copy.copy(pod).spec.containers[0] is pod.spec.containers[0]


def test_the_clients_own_functions_take_our_objects() -> None:
    pod = ours(env_vars={"A": "1"})
    assert SANITIZED(pod) == json.loads(json.dumps(pod))
    assert SANITIZED(k8s.V1Container(name="c", env=[EnvVariable("A", "1")]))["env"] == [{"name": "A", "value": "1"}]


@pytest.mark.parametrize("returned", [None, 5, "text", [], {"metadata": "x"}, {"metadata": {"labels": "x"}}])
def test_what_is_no_pod_is_refused(returned: Any) -> None:
    with pytest.raises(PodArgumentsError, match=r"build_pod_request_obj: must|metadata of the pod: must|labels: must"):
        as_pod(returned)


GIVEN = [
    {"API_PASSWORD": "CANARY", "B": "x"},
    [{"name": "API_PASSWORD", "value": "CANARY"}, {"name": "B", "value": "x"}],
    [k8s.V1EnvVar(name="API_PASSWORD", value="CANARY"), EnvVariable("B", "x")],
]


def rendered(env_vars: Any, *, is_native: bool = False) -> PodRelayOperator:
    with DAG("nightly", schedule=None, render_template_as_native_obj=is_native) as dag:
        operator = PodRelayOperator(task_id="transform", image="i", env_vars=env_vars)
    operator.render_template_fields({"dag": dag}, jinja_env=dag.get_template_env())
    return operator


@pytest.mark.parametrize("given", [*GIVEN, tuple(GIVEN[1])])
def test_rendered_variables_are_kpos_objects_and_dicts(given: Any) -> None:
    variables = rendered(given).env_vars
    assert [(each.name, each.value, each.value_from) for each in variables] == [
        ("API_PASSWORD", "CANARY", None),
        ("B", "x", None),
    ]
    assert [dict(each) for each in variables] == GIVEN[1] == list(variables)
    assert variables[1] == k8s.V1EnvVar(name="B", value="x")
    assert variables[0].to_dict() == k8s.V1EnvVar(name="API_PASSWORD", value="CANARY").to_dict()
    with pytest.raises(KeyError):
        variables[0]["valu"] = "x"


@pytest.mark.parametrize(
    "given", [*GIVEN, "{{ [{'name': 'API_PASSWORD', 'value': 'CANARY'}] }}", {"API_PASSWORD": 12345}]
)
def test_airflow_shows_no_literal_secret(given: Any) -> None:
    """By Airflow's own function that fills the page *Rendered Templates*."""
    operator = rendered(given, is_native=True)
    shown = _serialize_rendered_fields(operator)["env_vars"]
    assert shown[0] == {"name": "API_PASSWORD", "value": "***"}
    assert "CANARY" not in str(shown) + repr(operator.env_vars) + f"{operator.env_vars}"
    assert shown[1:] in ([], [{"name": "B", "value": "x"}])
    assert operator.build_pod_request_obj().spec.containers[0].env[0].value in ("CANARY", "12345")


def test_a_reference_is_shown_whole() -> None:
    source = {"fieldRef": {"fieldPath": "metadata.name"}}
    (shown,) = _serialize_rendered_fields(rendered([{"name": "API_PASSWORD", "valueFrom": source}]))["env_vars"]
    assert shown == {"name": "API_PASSWORD", "valueFrom": source}


def test_a_failed_tasks_log_has_the_pod_without_literal_secrets(task_run: TaskRun, task_log: TaskLog) -> None:
    side = {"name": "side", "image": "s", "env": [{"name": "DB_PASSWORD", "value": "CANARY"}]}
    probe = {"httpGet": {"port": 80, "httpHeaders": [{"name": "Authorization", "value": "CANARY"}]}}
    with ScriptedWorker(task_run.redis_url, lambda job: job.running().fail()), pytest.raises(PodRelayFailure):
        task_run.execute(
            env_vars={"API_PASSWORD": "CANARY", "PLAIN": "shown"},
            annotations={"api_key": "CANARY"},
            full_pod_spec={"spec": {"containers": [{"name": "base", "livenessProbe": probe}, side]}},
            image_pull_secrets="registry",
        )
    text = "\n".join(task_log.lines)
    assert "CANARY" not in text
    assert text.count('"***"') == 4
    assert '"value": "shown"' in text
    assert '"name": "registry"' in text


def test_what_kpo_makes_objects_of_when_the_dag_is_read_answers_as_objects() -> None:
    with DAG("nightly", schedule=None):
        operator = PodRelayOperator(
            task_id="t",
            tolerations=[{"key": "gpu"}, k8s.V1Toleration(key="spot")],
            affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
            image_pull_secrets="one,two",
            ports=[{"containerPort": 80}],
        )
    assert [each.key for each in operator.tolerations] == ["gpu", "spot"]
    assert operator.affinity.node_affinity.preferred_during_scheduling_ignored_during_execution == []
    assert [each.name for each in operator.image_pull_secrets] == ["one", "two"]
    assert operator.ports[0].container_port == 80
    assert copy.deepcopy(operator).tolerations[0].key == "gpu"
