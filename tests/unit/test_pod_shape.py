"""Templates that are not shaped like a pod: refused where they are written, and never an exception of ours later."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.errors import InvalidSpecError
from dispatcher.pod_shape import SPEC
from dispatcher.spec import JobSpec, decode_spec, parse_spec
from tests.support.junk import JUNK, places, replaced
from tests.unit.test_manifest import SPECS
from worker.rules.manifest import manifest
from worker.rules.own_credentials import OwnCredentials
from worker.rules.pod_security import Level
from worker.rules.policy import Policy, violations

BASE = {"name": "base", "image": "x"}


def built(fields: dict[str, Any]) -> dict[str, Any]:
    """The pod, as a worker builds it of what came over the wire."""
    spec = decode_spec(json.dumps({"id": "j", "image": "x", **fields}))
    pod = manifest(spec, attempt=1, namespace="ns", installation="i", return_value_image="busybox")
    own = OwnCredentials("ns", "worker", frozenset({"redis"}))
    violations(pod, Policy(frozenset({"ns"}), Level.RESTRICTED, own=own))
    json.dumps(pod)
    return pod


def containers(**fields: Any) -> dict[str, Any]:
    return {"pod_template": {"spec": {"containers": [{**BASE, **fields}]}}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        containers(env=["REGION=north"]),
        "pod_template.spec.containers[0].env[0]: must be a mapping with a name, not the",
    ),
    (containers(env={"A": "b"}), "pod_template.spec.containers[0].env: must be a list, each of its members a mapping"),
    (containers(env=[{"value": "b"}]), "pod_template.spec.containers[0].env[0]: must be a mapping with a name, not a"),
    (
        containers(env=[{"name": "A", "value": 5}]),
        "pod_template.spec.containers[0].env[0].value: must be a text, not a",
    ),
    (containers(command="sleep 5"), "pod_template.spec.containers[0].command: must be a list, each of its members a"),
    (containers(command=["sleep", 5]), "pod_template.spec.containers[0].command[1]: must be a text, not a number"),
    (
        containers(volumeMounts=["/x"]),
        "pod_template.spec.containers[0].volumeMounts[0]: must be a mapping with a mount",
    ),
    (containers(ports=[8080]), "pod_template.spec.containers[0].ports[0]: must be a mapping, not a number"),
    (containers(securityContext=[]), "pod_template.spec.containers[0].securityContext: must be a mapping, not a list"),
    (
        containers(securityContext={"capabilities": {"add": "ALL"}}),
        "pod_template.spec.containers[0].securityContext.cap",
    ),
    (containers(resources={"limits": ["cpu"]}), "pod_template.spec.containers[0].resources.limits: must be a mapping"),
    ({"pod_template": {"spec": {"containers": {"name": "base"}}}}, "pod_template.spec.containers: must be a list"),
    ({"pod_template": {"spec": {"containers": [None]}}}, "pod_template.spec.containers[0]: must be a mapping with a"),
    ({"pod_template": {"spec": {"volumes": {"name": "x"}}}}, "pod_template.spec.volumes: must be a list"),
    ({"pod_template": {"spec": {"initContainers": ["busybox"]}}}, "pod_template.spec.initContainers[0]: must be a map"),
    ({"pod_template": {"spec": {"nodeSelector": {"a": 5}}}}, "pod_template.spec.nodeSelector.a: must be a text, not a"),
    ({"pod_template": {"spec": {"hostNetwork": "true"}}}, "pod_template.spec.hostNetwork: must be true or false, not"),
    ({"pod_template": {"metadata": {"labels": ["a"]}}}, "pod_template.metadata.labels: must be a mapping of texts to"),
    ({"pod_template": {"metadata": {"annotations": {"a": {}}}}}, "pod_template.metadata.annotations.a: must be a text"),
    ({"pod_template": {"metadata": {"namespace": 5}}}, "pod_template.metadata.namespace: must be a text, not a number"),
    ({"pod_template": {"metadata": "x"}}, "pod_template.metadata: must be a mapping, not the text 'x'"),
    ({"pod_template": {"spec": ["x"]}}, "pod_template.spec: must be a mapping, not a list"),
    ({"volumes": [{"emptyDir": {}}]}, "volumes[0]: must be a mapping with a name, not a mapping of emptyDir"),
    ({"volume_mounts": [{"name": "v"}]}, "volume_mounts[0]: must be a mapping with a mountPath, not a mapping of name"),
    (
        {"init_containers": [{"image": "x"}]},
        "init_containers[0]: must be a mapping with a name, not a mapping of image",
    ),
    (
        {"container_security_context": {"capabilities": []}},
        "container_security_context.capabilities: must be a mapping",
    ),
    ({"resources": {"limits": "1"}}, "resources.limits: must be a mapping, not the text '1'"),
    ({"affinity": {"nodeAffinity": []}}, "affinity.nodeAffinity: must be a mapping, not a list"),
    ({"dns_config": {"searches": "x"}}, "dns_config.searches: must be a list, each of its members a text, not the"),
]


@pytest.mark.parametrize(("fields", "problem"), REFUSED, ids=lambda value: value[:70] if isinstance(value, str) else "")
def test_another_shape_is_refused_with_its_path_and_what_was_meant(fields: dict[str, Any], problem: str) -> None:
    for read in (lambda: parse_spec({"image": "x", **fields}), lambda: built(fields)):
        with pytest.raises(InvalidSpecError) as raised:
            read()
        assert any(found.startswith(problem) for found in raised.value.problems), raised.value.problems


def test_the_first_mistakes_are_told_one_by_one() -> None:
    with pytest.raises(InvalidSpecError) as raised:
        parse_spec({"image": "x", "volumes": [{"x": i} for i in range(1000)]})
    assert len(raised.value.problems) == 10


@pytest.mark.parametrize(
    "fields",
    [
        {"pod_template": None},
        {"pod_template": {}},
        {"pod_template": {"metadata": None, "spec": None}},
        {"pod_template": {"spec": {"containers": None, "volumes": None, "hostNetwork": None, "restartPolicy": None}}},
        {"pod_template": {"metadata": {"labels": {"a": None}}, "fromTheFuture": {"x": [1]}}},
        containers(env=[{"name": "A", "value": None}], command=None, fromTheFuture=5),
        containers(resources={"limits": {"cpu": 1, "memory": "1Gi", "x.y/z": 0.5}}),
        containers(ports=[{"containerPort": 80}], livenessProbe={"httpGet": {"port": "http", "path": "/"}}),
        {"tolerations": [{"key": "a", "tolerationSeconds": 5}], "volumes": [{"name": "v", "emptyDir": {}}]},
    ],
)
def test_what_the_api_server_takes_passes(fields: dict[str, Any]) -> None:
    built(fields)


KNOWN = [
    *("name", "env", "volumes", "containers", "initContainers", "volumeMounts", "mountPath", "securityContext", "add"),
    *("capabilities", "metadata", "labels", "annotations", "spec", "limits", "ports", "restartPolicy", "finalizers"),
    *("ownerReferences", "restartPolicyRules", "resources", "namespace", "x"),
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KNOWN), inner, max_size=4),
    max_leaves=12,
)


def is_pod_or_invalid_spec(fields: dict[str, Any]) -> None:
    """The two things that may come of what is asked; another exception is the test's failure."""
    with suppress(InvalidSpecError):
        built(fields)


@pytest.mark.parametrize("junk", JUNK[::2], ids=lambda junk: repr(junk)[:30])
def test_junk_in_any_place_of_a_spec_makes_a_pod_or_an_invalid_spec(junk: Any) -> None:
    full = json.loads(SPECS["manifest-full"].encode())
    for path in places(full):
        if path and path[0] in (*SPEC, "env", "annotations", "labels", "namespace"):
            is_pod_or_invalid_spec(replaced(full, path, junk))


@settings(max_examples=400, deadline=None)
@given(
    fields=st.dictionaries(
        st.sampled_from([*SPEC, "env", "annotations", "labels", "namespace"]), json_values, max_size=4
    ),
    base=st.dictionaries(st.sampled_from(["env", "volumeMounts", "resources", "securityContext"]), json_values),
    return_value=st.booleans(),
)
def test_any_json_is_a_pod_or_an_invalid_spec(fields: Any, base: Any, return_value: bool) -> None:
    for asked in (fields, {**fields, **containers(**base)}):
        is_pod_or_invalid_spec({**asked, "return_value": return_value})


@settings(max_examples=200, deadline=None)
@given(spec=st.dictionaries(st.sampled_from(["affinity", "securityContext", "dnsConfig", "x"]), json_values))
def test_lists_of_a_known_name_in_another_place_are_merged_or_replaced(spec: Any) -> None:
    fields = {"affinity": {"env": [{"name": "A"}], "nodeAffinity": {"volumes": [1]}}, "dns_config": {"containers": "x"}}
    is_pod_or_invalid_spec({**fields, "pod_template": {"spec": spec}})


def test_every_field_of_a_spec_with_kubernetes_objects_has_a_shape() -> None:
    shaped = {name for name, field in JobSpec.model_fields.items() if "dict[str, typing.Any]" in str(field.annotation)}
    assert shaped == set(SPEC)
