"""The same arguments make the same pod: KPO's own builder against ours, through the worker's manifest.

What must differ is removed before comparing, and nothing else: the pod's name (ours is derived, KPO's random),
podrelay's labels and annotations, the label that tells how KPO reached the cluster, the return value's sidecar, and the
random part of a secret volume's name.
"""

import copy
from typing import Any

import hypothesis.strategies as st
import pytest
import yaml
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.providers.cncf.kubernetes.secret import Secret
from airflow.sdk import DAG
from hypothesis import HealthCheck, given, settings
from kubernetes import client as k8s

from airflow_bridge.kpo_merge import without_empty
from airflow_bridge.operator import PodRelayOperator
from airflow_bridge.parameters import arguments_of
from airflow_bridge.pod_arguments import job_spec
from airflow_bridge.task_identity import TaskIdentity
from tests.support.task_run import StandInTaskInstance
from worker.rules.manifest import manifest

TI = StandInTaskInstance(map_index=3, try_number=2, run_id="scheduled__2026-01-01T00:00:00+00:00")
CONTEXT = {"ti": TI, "run_id": TI.run_id, "dag": None}


class HookWithoutCluster:
    """What KPO asks its hook while it builds a pod; a real one wants a cluster."""

    is_in_cluster = False

    def _nothing(self) -> None:
        return None

    get_namespace = _nothing
    get_xcom_sidecar_container_image = get_xcom_sidecar_container_resources = _nothing
    get_xcom_sidecar_container_security_context = _nothing


def kpo_operator(arguments: dict[str, Any]) -> KubernetesPodOperator:
    """KPO with these arguments, and without a cluster."""
    with DAG("nightly", schedule=None):
        operator = KubernetesPodOperator(task_id="transform", **copy.deepcopy(arguments))
    operator.__dict__["hook"] = HookWithoutCluster()
    return operator


def kpo_pod(arguments: dict[str, Any]) -> dict[str, Any]:
    """The pod that KPO sends."""
    operator = kpo_operator(arguments)
    pod = k8s.ApiClient().sanitize_for_serialization(operator.build_pod_request_obj(CONTEXT))
    pod["metadata"]["labels"].pop("airflow_kpo_in_cluster")
    spec = pod["spec"]
    spec["containers"] = [c for c in spec["containers"] if c["name"] != "airflow-xcom-sidecar"]
    if operator.do_xcom_push:
        spec["volumes"] = [v for v in spec["volumes"] if v["name"] != "xcom"]
        base = spec["containers"][0]
        base["volumeMounts"] = [m for m in base["volumeMounts"] if m["name"] != "xcom"]
    return comparable(pod)


def our_pod(arguments: dict[str, Any]) -> dict[str, Any]:
    """The pod that our worker sends."""
    from airflow import __version__

    with DAG("nightly", schedule=None):
        operator = PodRelayOperator(task_id="transform", **copy.deepcopy(arguments))
    identity = TaskIdentity.of(CONTEXT, deployment="here", airflow_version=__version__)
    spec = job_spec(
        operator.build_pod_request_obj(CONTEXT),
        arguments_of(operator),
        identity,
        defaults={"queue": "default", "namespace": None},
    )
    made = manifest(spec, attempt=1, namespace="default", installation="podrelay", return_value_image="busybox")
    pod = copy.deepcopy(made)
    for kind in ("labels", "annotations"):
        found = pod["metadata"][kind]
        pod["metadata"][kind] = {k: v for k, v in found.items() if not k.startswith("podrelay.dev/")}
    if operator.do_xcom_push:
        without_sidecar(pod["spec"])
    return comparable(pod)


def without_sidecar(spec: dict[str, Any]) -> None:
    sidecar = next(c for c in spec["initContainers"] if c["name"] == "podrelay-return-value")
    spec["initContainers"] = [c for c in spec["initContainers"] if c is not sidecar]
    ours = {mount["name"] for mount in sidecar["volumeMounts"]}
    spec["volumes"] = [v for v in spec["volumes"] if v["name"] not in ours]
    for container in spec["containers"]:
        mounts = container.get("volumeMounts") or []
        container["volumeMounts"] = [m for m in mounts if m["name"] not in ours]


def comparable(pod: dict[str, Any]) -> dict[str, Any]:
    pod = without_empty(pod)
    pod["metadata"].pop("name")
    secret_volumes = [v["name"] for v in pod["spec"].get("volumes", []) if v["name"].startswith("secretvol")]
    text = yaml.safe_dump(pod)
    for number, name in enumerate(secret_volumes):
        text = text.replace(name, f"secretvol-{number}")
    return yaml.safe_load(text)


TEMPLATE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "templated",
        "namespace": "from-template",
        "labels": {"team": "template", "foo": "template"},
        "annotations": {"note": "template"},
    },
    "spec": {
        "serviceAccountName": "templated",
        "nodeSelector": {"disk": "ssd"},
        "volumes": [{"name": "scratch", "emptyDir": {}}],
        "securityContext": {"runAsUser": 1000},
        "initContainers": [{"name": "setup", "image": "busybox", "env": [{"name": "A", "value": "template"}]}],
        "containers": [
            {
                "name": "first",
                "image": "template:1",
                "env": [{"name": "A", "value": "template"}],
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                "resources": {"limits": {"memory": "1Gi"}},
            },
            {"name": "second", "image": "proxy:1"},
        ],
    },
}

CASES: dict[str, dict[str, Any]] = {
    "nothing but an image": {"image": "python:3.12"},
    "command and arguments": {
        "image": "p",
        "cmds": ["python", "-c"],
        "arguments": ["print(1)"],
        "name": "Say Hello"[:3],
    },
    "labels and annotations": {"image": "p", "labels": {"a": None, "b": "x"}, "annotations": {"note": "n"}},
    "env_vars as a dict": {"image": "p", "env_vars": {"A": "1", "B": "2"}},
    "env_vars as objects, and runtime infos": {
        "image": "p",
        "env_vars": [k8s.V1EnvVar(name="A", value="1")],
        "pod_runtime_info_envs": [
            k8s.V1EnvVar(
                name="POD",
                value_from=k8s.V1EnvVarSource(field_ref=k8s.V1ObjectFieldSelector(field_path="metadata.name")),
            )
        ],
    },
    "config maps and env_from": {
        "image": "p",
        "configmaps": ["settings", "more"],
        "env_from": [k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name="token"))],
    },
    "secrets of every kind": {
        "image": "p",
        "secrets": [
            Secret("env", "token", "keys", "token"),
            Secret("env", None, "all-keys"),
            Secret("volume", "/etc/keys", "keys"),
            Secret("volume", "/etc/one", "keys", items=[k8s.V1KeyToPath(key="a", path="b")]),
        ],
    },
    "volumes, mounts and ports": {
        "image": "p",
        "volumes": [k8s.V1Volume(name="data", empty_dir=k8s.V1EmptyDirVolumeSource())],
        "volume_mounts": [k8s.V1VolumeMount(name="data", mount_path="/data")],
        "ports": [k8s.V1ContainerPort(container_port=80, name="http")],
    },
    "resources": {"image": "p", "container_resources": k8s.V1ResourceRequirements(limits={"cpu": "1"})},
    "scheduling": {
        "image": "p",
        "node_selector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}, k8s.V1Toleration(key="spot", value="yes")],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "schedulername": "other",
        "priority_class_name": "high",
        "runtime_class_name": "gvisor",
    },
    "identity and network": {
        "image": "p",
        "service_account_name": "me",
        "automount_service_account_token": False,
        "hostnetwork": True,
        "host_aliases": [k8s.V1HostAlias(ip="10.0.0.1", hostnames=["db"])],
        "hostname": "h",
        "subdomain": "s",
        "dnspolicy": "None",
        "dns_config": k8s.V1PodDNSConfig(nameservers=["10.0.0.2"]),
        "image_pull_secrets": [k8s.V1LocalObjectReference(name="registry")],
    },
    "pull secrets as a text": {"image": "p", "image_pull_secrets": "one,two"},
    "security contexts": {
        "image": "p",
        "security_context": {"runAsNonRoot": True},
        "container_security_context": {"allowPrivilegeEscalation": False},
    },
    "security contexts as objects": {
        "image": "p",
        "security_context": k8s.V1PodSecurityContext(run_as_user=0),
        "container_security_context": k8s.V1SecurityContext(privileged=False),
    },
    "time limits": {"image": "p", "active_deadline_seconds": 60, "termination_grace_period": 0},
    "a template alone": {"pod_template_dict": TEMPLATE},
    "arguments over a template": {
        "pod_template_dict": TEMPLATE,
        "image": "argument:1",
        "namespace": "argued",
        "name": "argued",
        "labels": {"foo": "argument"},
        "env_vars": {"A": "argument"},
        "node_selector": {"zone": "b"},
        "volumes": [k8s.V1Volume(name="more", empty_dir=k8s.V1EmptyDirVolumeSource())],
        "init_containers": [k8s.V1Container(name="setup", image="busybox:2"), k8s.V1Container(name="then", image="b")],
        "security_context": {},
        "container_resources": k8s.V1ResourceRequirements(),
    },
    "a full pod spec": {"full_pod_spec": PodGenerator.deserialize_model_dict(TEMPLATE), "base_container_name": "main"},
    "a full pod spec over a template": {
        "pod_template_dict": TEMPLATE,
        "full_pod_spec": k8s.V1Pod(
            metadata=k8s.V1ObjectMeta(labels={"foo": "full"}),
            spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="full", image="full:1")], host_network=True),
        ),
    },
    "a return value": {"image": "p", "do_xcom_push": True, "volumes": [k8s.V1Volume(name="v", host_path=None)]},
}


@pytest.mark.parametrize("case", CASES)
def test_the_pod_is_the_same(case: str) -> None:
    assert our_pod(CASES[case]) == kpo_pod(CASES[case])


def test_a_template_file_is_read_as_kpo_reads_it(tmp_path: Any) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump(TEMPLATE))
    arguments = {"pod_template_file": str(path), "image": "argument:1", "env_vars": {"B": "1"}}
    assert our_pod(arguments) == kpo_pod(arguments)


names = st.sampled_from(["a", "b", "base", "data", "x-1"])
texts = st.sampled_from(["", "1", "x", "{{ y }}", "ü"])
maps = st.dictionaries(names, texts, max_size=3)
volumes = st.builds(
    k8s.V1Volume,
    name=names,
    empty_dir=st.builds(k8s.V1EmptyDirVolumeSource, medium=st.sampled_from([None, "Memory"])),
)
mounts = st.builds(
    k8s.V1VolumeMount, name=names, mount_path=st.sampled_from(["/a", "/b"]), read_only=st.sampled_from([None, True])
)
variables = st.builds(k8s.V1EnvVar, name=names, value=texts)
containers = st.builds(
    k8s.V1Container,
    name=names,
    image=st.sampled_from([None, "one:1", "two:2"]),
    command=st.none() | st.lists(texts, max_size=2),
    env=st.none() | st.lists(variables, max_size=2),
    volume_mounts=st.none() | st.lists(mounts, max_size=2),
    resources=st.none() | st.builds(k8s.V1ResourceRequirements, limits=st.none() | st.just({"cpu": "1"})),
    security_context=st.none() | st.builds(k8s.V1SecurityContext, privileged=st.sampled_from([None, False, True])),
    image_pull_policy=st.sampled_from([None, "Always"]),
)


def different(strategy: Any, *, at_most: int = 3, at_least: int = 0) -> Any:
    return st.lists(strategy, min_size=at_least, max_size=at_most, unique_by=lambda thing: thing.name)


pods = st.builds(
    k8s.V1Pod,
    metadata=st.none()
    | st.builds(
        k8s.V1ObjectMeta,
        labels=st.none() | maps,
        annotations=st.none() | maps,
        namespace=st.none() | names,
        name=st.none() | names,
    ),
    spec=st.builds(
        k8s.V1PodSpec,
        containers=different(containers, at_least=1),
        init_containers=st.none() | different(containers),
        volumes=st.none() | different(volumes),
        host_network=st.sampled_from([None, False, True]),
        automount_service_account_token=st.sampled_from([None, False, True]),
        service_account_name=st.none() | names,
        node_selector=st.none() | maps,
        active_deadline_seconds=st.sampled_from([None, 5]),
        termination_grace_period_seconds=st.sampled_from([None, 0, 5]),
        security_context=st.none() | st.builds(k8s.V1PodSecurityContext, run_as_user=st.sampled_from([None, 0, 1])),
    ),
)
secrets = st.sampled_from(CASES["secrets of every kind"]["secrets"])

arguments_ = st.fixed_dictionaries(
    {"image": st.just("argument:1")},
    optional={
        "namespace": names,
        "name": names,
        "cmds": st.lists(texts, max_size=2),
        "arguments": st.lists(texts, max_size=2),
        "labels": st.dictionaries(names, texts | st.none(), max_size=2),
        "annotations": maps,
        "env_vars": maps | st.lists(variables, max_size=2),
        "configmaps": st.lists(names, max_size=2),
        "secrets": st.lists(secrets, max_size=2, unique_by=repr),
        "volumes": different(volumes),
        "volume_mounts": st.lists(mounts, max_size=2),
        "init_containers": different(containers),
        "container_resources": st.builds(k8s.V1ResourceRequirements, limits=st.none() | st.just({"cpu": "2"})),
        "security_context": st.just({}) | st.builds(k8s.V1PodSecurityContext, run_as_user=st.sampled_from([None, 0])),
        "container_security_context": st.sampled_from([{}, {"privileged": False}]),
        "node_selector": maps,
        "hostnetwork": st.booleans(),
        "automount_service_account_token": st.booleans(),
        "service_account_name": st.sampled_from(["", "me"]),
        "termination_grace_period": st.sampled_from([0, 7]),
        "active_deadline_seconds": st.sampled_from([7]),
        "base_container_name": names,
        "do_xcom_push": st.booleans(),
        "full_pod_spec": pods,
        "pod_template_dict": pods.map(k8s.ApiClient().sanitize_for_serialization),
    },
)


def names_are_unique(pod: dict[str, Any]) -> bool:
    """Kubernetes would refuse others, and so does our worker."""
    spec = pod["spec"]
    containers = spec["containers"] + spec.get("initContainers", [])
    paths = [[mount["mountPath"] for mount in c.get("volumeMounts", [])] for c in containers]
    names = [[c["name"] for c in containers], [v["name"] for v in spec.get("volumes", [])]]
    return all(len(set(members)) == len(members) for members in (*names, *paths))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(arguments=arguments_)
def test_any_arguments_make_the_same_pod(arguments: dict[str, Any]) -> None:
    theirs = kpo_pod(arguments)
    if names_are_unique(theirs):
        assert our_pod(arguments) == theirs
