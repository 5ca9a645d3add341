"""Templates that are not shaped like a pod: refused where they are written, and never an exception of ours later."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dispatcher.errors import InvalidSpecError
from dispatcher.plain_text import has_control
from dispatcher.pod_shape import OBJECT_FIELDS
from dispatcher.pod_types import OF_SPEC, TYPES, ListOf, MapOf, Object, Shape, Word
from dispatcher.spec import JobSpec, decode_spec, parse_spec
from tests.support.junk import JUNK, at, places, replaced
from tests.unit.test_manifest import SPECS
from worker.rules.manifest import manifest
from worker.rules.own_credentials import OwnCredentials
from worker.rules.pod_security import Level
from worker.rules.policy import Policy, violations

BASE = {"name": "base", "image": "x"}
FULL = json.loads(SPECS["manifest-full"].encode())
TEXT_PLACES = [path for path in places(FULL) if path and isinstance(at(FULL, path), str)]


def pod_of(spec: JobSpec) -> dict[str, Any]:
    """The pod, as a worker builds and judges it."""
    pod = manifest(spec, attempt=1, namespace="ns", installation="i", return_value_image="busybox")
    own = OwnCredentials("ns", "worker", frozenset({"redis"}))
    violations(pod, Policy(frozenset({"ns"}), Level.RESTRICTED, own=own))
    json.dumps(pod, allow_nan=False).encode()
    return pod


def built(fields: dict[str, Any]) -> dict[str, Any]:
    """The pod of what came over the wire."""
    return pod_of(decode_spec(json.dumps({"id": "j", "image": "x", **fields})))


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
    ({"resources": {"limits": "1"}}, "resources.limits: must be a mapping of texts to quantities, not the text '1'"),
    ({"affinity": {"nodeAffinity": []}}, "affinity.nodeAffinity: must be a mapping, not a list"),
    ({"dns_config": {"searches": "x"}}, "dns_config.searches: must be a list, each of its members a text, not the"),
]


#: What people write who know Docker, Compose, a shell, or another field: the whole line.
MEANT: list[tuple[dict[str, Any], str]] = [
    (
        containers(env=["R=north"]),
        "pod_template.spec.containers[0].env[0]: must be a mapping with a name, not the text 'R=north': "
        "write {name: R, value: north}",
    ),
    (
        containers(env={"A": "b"}),
        "pod_template.spec.containers[0].env: must be a list, each of its members a mapping with a name, "
        "not a mapping of A: write [{name: A, value: b}]",
    ),
    (
        containers(env=[{"name": "DEBUG", "value": True}]),
        "pod_template.spec.containers[0].env[0].value: must be a text, not true: "
        'write "true" in quotes (the variable DEBUG)',
    ),
    ({"env": {"PORT": 8080}}, 'env.PORT: must be a text, not a number: write "8080" in quotes'),
    ({"env": {"PORT": None}}, 'env.PORT: must be a text, not null: write "" for an empty text'),
    ({"env": {"A": {"value": 5}}}, 'env.A.value: must be a text, not a number: write "5" in quotes'),
    (
        {"env": [{"name": "A", "value": 5}]},
        'env[0].value: must be a text, not a number: write "5" in quotes (the variable A)',
    ),
    (
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": "db"}}]},
        "env[0].valueFrom.secretKeyRef: must be a mapping, not the text 'db': "
        "write {name: db, key: KEY} (the variable A)",
    ),
    (
        {"env": ["R=north"]},
        "env[0]: must be a mapping with a name, not the text 'R=north': write {name: R, value: north}",
    ),
    (
        {"command": "echo 'a b'"},
        'command: must be a list, each of its members a text, not the text "echo \'a b\'": write ["echo", "a b"]',
    ),
    ({"args": [5]}, 'args[0]: must be a text, not a number: write "5" in quotes'),
    ({"labels": ["a=b"]}, "labels: must be a mapping of texts to texts, not a list: write {a: b}"),
    (
        {"volumes": {"name": "x", "emptyDir": {}}},
        "volumes: must be a list, each of its members a mapping with a name, not a mapping of name, emptyDir: "
        "write a list of it: [{…}], or a dash before it",
    ),
    (
        {"volume_mounts": ["data:/data"]},
        "volume_mounts[0]: must be a mapping with a mountPath, not the text 'data:/data': "
        "write {name: VOLUME, mountPath: /data}",
    ),
    ({"ports": [8080]}, "ports[0]: must be a mapping, not a number: write {containerPort: 8080}"),
    ({"ports": ["80:8080"]}, "ports[0]: must be a mapping, not the text '80:8080': write {containerPort: 8080}"),
    (
        {"ports": [{"containerPort": "80"}]},
        "ports[0].containerPort: must be a whole number (of 32 bits), not the text '80': write 80 without quotes",
    ),
    (
        {"volumes": [{"name": "v", "secret": {"defaultMode": "0400"}}]},
        "volumes[0].secret.defaultMode: must be a whole number (of 32 bits), not the text '0400': "
        "write 256, which is 0400 in octal",
    ),
    (
        {"resources": {"limits": {"memory": "512MB"}}},
        "resources.limits.memory: must be a quantity, as 500m or 1Gi, not the text '512MB': write 512M",
    ),
    (
        {"init_containers": ["busybox"]},
        "init_containers[0]: must be a mapping with a name, not the text 'busybox': write {name: NAME, image: busybox}",
    ),
    (
        {"namespace": "Default"},
        "namespace: must be a DNS label (lower-case letters, digits and dashes, at most 63), "
        "not the text 'Default': write default",
    ),
    (
        {"queue": "GPU"},
        "queue: must be a DNS label (lower-case letters, digits and dashes, at most 63), not the text 'GPU': write gpu",
    ),
    (
        {"retry_on": "evicted"},
        "retry_on: must be a list, each of its members a text, not the text 'evicted': write [\"evicted\"]",
    ),
    ({"container_logs": "main"}, "container_logs: must be all, or a list of containers' names, as [base]"),
    ({"name": "a\x1b]0;x\x07"}, "name: must be a text without control characters, not the text 'a\\x1b]0;x\\x07'"),
    ({"host_network": "maybe"}, "host_network: must be true or false, not the text 'maybe'"),
    ({"name": None}, "name: null is not taken: leave it out"),
]


@pytest.mark.parametrize(("fields", "line"), MEANT, ids=lambda value: value[:60] if isinstance(value, str) else "")
def test_what_was_meant_is_written_out(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidSpecError) as raised:
        parse_spec({"image": "x", **fields})
    assert raised.value.problems == [line]


def test_a_long_text_is_not_taken_apart_for_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    taken_apart: list[str] = []
    monkeypatch.setattr("shlex.split", lambda text: taken_apart.append(text) or [])
    with pytest.raises(InvalidSpecError) as raised:
        parse_spec({"image": "x", "command": "a " * 100_000})
    assert len(raised.value.problems[0]) < 200
    assert taken_apart == []


TWICE: list[tuple[dict[str, Any], str]] = [
    (
        {"pod_template": {"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}}},
        "pod_template.spec.containers[2]: name a is taken by pod_template.spec.containers[0] already: give each a name",
    ),
    ({"volumes": [{"name": "v"}, {"name": "v"}]}, "volumes[1]: name v is taken by volumes[0] already"),
    (
        {"volume_mounts": [{"name": "a", "mountPath": "/x"}, {"name": "b", "mountPath": "/x"}]},
        "volume_mounts[1]: mountPath /x is taken by volume_mounts[0] already",
    ),
    (
        {"ports": [{"name": "http", "containerPort": 1}, {"containerPort": 2}, {"name": "http", "containerPort": 3}]},
        "ports[2]: name http is taken by ports[0] already",
    ),
    ({"init_containers": [{"name": "base"}]}, "init_containers: base: a container has this name already"),
    (
        {"containers": [{"name": "a"}], "pod_template": {"spec": {"initContainers": [{"name": "a"}]}}},
        "init_containers: a: a container has this name already",
    ),
]


@pytest.mark.parametrize(("fields", "problem"), TWICE)
def test_a_name_that_kubernetes_takes_once_is_refused_the_second_time(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidSpecError) as raised:
        parse_spec({"image": "x", **fields})
    (told,) = raised.value.problems
    assert told.startswith(problem)


NO_JSON: list[tuple[object, str]] = [
    ({1: 2}, "affinity.a: the name 1 is no text"),
    ({None: 2}, "affinity.a: the name None is no text"),
    ([object()], "affinity.a[0]: object: only what JSON has is taken"),
    ([{"b": {"x"}}], "affinity.a[0].b: set: only what JSON has is taken"),
    ([b"x"], "affinity.a[0]: bytes: only what JSON has is taken"),
    (10**5000, "affinity.a: a number beyond 64 bits"),
    (["x", float("nan")], "affinity.a[1]: nan is no finite number"),
    ([{"b\0": 1}], "affinity.a[0]: a NUL: "),
    ([{"b": "\udc80"}], "affinity.a[0].b: half a surrogate pair (U+DC80)"),
]


@pytest.mark.parametrize(("value", "problem"), NO_JSON, ids=range(len(NO_JSON)))
def test_what_no_json_or_no_pod_can_hold_is_refused_with_its_place(value: object, problem: str) -> None:
    with pytest.raises(InvalidSpecError) as raised:
        parse_spec({"image": "x", "affinity": {"a": value}})
    (told,) = raised.value.problems
    assert told.startswith(problem)


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


KNOWN = sorted({*OF_SPEC, *(field for fields in TYPES.values() for field in fields), "fromTheFuture"})

texts = st.text(max_size=4) | st.sampled_from(
    ["a\0", "\ud800", "x\x1b[2J", "base", "A", "1Gi", "0x1", "a" * 64, "\u202e"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KNOWN) | texts, inner, max_size=4),
    max_leaves=12,
)


def shaped(shape: Shape, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a shape, in which some part is something else now and then."""
    if depth > 4:
        return st.none()
    match shape:
        case Word():
            right: st.SearchStrategy[Any] = st.sampled_from(["a", "b", "/x", 1, True, "1Gi", 0.5, "Never"])
        case Object(name):
            fields = {
                field: st.deferred(lambda inner=inner: shaped(inner, depth + 1)) for field, inner in TYPES[name].items()
            }
            right = st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True).flatmap(
                lambda some: st.fixed_dictionaries({field: fields[field] for field in some})
            )
        case MapOf(member):
            right = st.dictionaries(
                st.sampled_from(["a", "cpu", "podrelay.dev/x"]), shaped(member, depth + 1), max_size=2
            )
        case ListOf(member):
            right = st.lists(shaped(member, depth + 1), max_size=3)
    return st.one_of(right, right, right, right, json_values)


def verdict(read: Callable[[], JobSpec]) -> JobSpec | list[str]:
    try:
        return read()
    except InvalidSpecError as refused:
        return refused.problems


def is_decided_alike(asked: dict[str, Any]) -> None:
    """Client and worker take it, and it makes a pod; or both refuse it, with its place."""
    asked = {"id": "j", "image": "x", **asked}
    by_client, by_worker = verdict(lambda: parse_spec(asked)), verdict(lambda: decode_spec(json.dumps(asked)))
    if isinstance(by_client, JobSpec):
        assert by_worker == by_client == decode_spec(by_client.encode())
        with suppress(InvalidSpecError):  # it has something of podrelay's own
            pod_of(by_client)
    else:
        assert not isinstance(by_worker, JobSpec)
        for problem in by_client:
            assert not has_control(problem)
        for problem in [x for x in by_client if not re.fullmatch(r"and \d+ more", x)]:
            assert re.match(r"[a-z_]+", problem)[0] in JobSpec.model_fields or "unknown field" in problem, problem  # type: ignore[index]


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:30])
def test_junk_in_any_place_of_a_spec_is_refused_with_its_place_or_makes_a_pod(junk: Any) -> None:
    for path in places(FULL):
        if path:
            is_decided_alike(replaced(FULL, path, junk))


@settings(max_examples=300, deadline=None)
@given(fields=st.dictionaries(st.sampled_from(sorted(JobSpec.model_fields)), json_values, max_size=4))
def test_any_json_in_any_field_is_a_pod_or_refused_with_its_place(fields: Any) -> None:
    is_decided_alike(fields)


@settings(max_examples=300, deadline=None)
@example(fields={"key": 1, "env": [None, *[{"action": 1}] * 10], "annotations": None}, return_value=False)
@given(
    fields=st.lists(st.sampled_from(sorted(OF_SPEC)), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: shaped(OF_SPEC[name]) for name in names})
    ),
    return_value=st.booleans(),
)
def test_almost_a_pod_is_a_pod_or_refused_with_its_place(fields: Any, return_value: bool) -> None:
    is_decided_alike({**fields, "return_value": return_value})


@given(text=texts | st.text(), path=st.sampled_from(TEXT_PLACES))
def test_any_text_in_any_text_field_is_a_pod_or_refused_with_its_place(text: str, path: tuple[Any, ...]) -> None:
    is_decided_alike(replaced(FULL, path, text))


@settings(max_examples=200, deadline=None)
@given(spec=st.dictionaries(st.sampled_from(["affinity", "securityContext", "dnsConfig", "x"]), json_values))
def test_lists_of_a_known_name_in_another_place_are_merged_or_replaced(spec: Any) -> None:
    fields = {"affinity": {"env": [{"name": "A"}], "nodeAffinity": {"volumes": [1]}}, "dns_config": {"containers": "x"}}
    is_decided_alike({**fields, "pod_template": {"spec": spec}})


def test_every_field_of_a_spec_with_kubernetes_objects_has_a_shape() -> None:
    shaped = {name for name, field in JobSpec.model_fields.items() if "dict[str, typing.Any]" in str(field.annotation)}
    assert shaped == OBJECT_FIELDS - {"env"}
