"""Objects of the pocket cluster: their schema, validation, selectors, quantities, patches, store; and the images."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.client import models

from devcluster.apimachinery import schema
from devcluster.apimachinery.defaults import quality_of_service, with_defaults
from devcluster.apimachinery.errors import StatusError
from devcluster.apimachinery.patching import apply_patch
from devcluster.apimachinery.quantity import amount
from devcluster.apimachinery.selectors import selector
from devcluster.apimachinery.store import Store
from devcluster.apimachinery.validation import validate
from devcluster.kubelet.images import ImageError, ImageTable

Json = dict[str, Any]


def test_the_schema_has_the_fields_of_the_kubernetes_client() -> None:
    """A new client that knows more fields breaks this: derive `pod_schema.json` anew."""
    for kind, fields in schema._SCHEMA.items():
        model = getattr(models, f"V1{kind}")
        assert set(fields) == set(model.attribute_map.values()), kind


def test_unknown_fields_are_named_with_their_place_and_dropped() -> None:
    body = {"spec": {"containers": [{"name": "a", "imagePullPolcy": "x", "env": [{"nme": 1}]}]}, "extra": {}}
    decoded = schema.decode_pod(body)
    assert decoded.unknown == ["spec.containers[0].imagePullPolcy", "spec.containers[0].env[0].nme", "extra"]
    assert decoded.pod == {"spec": {"containers": [{"name": "a", "env": [{}]}]}}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"activeDeadlineSeconds": "4"}, "cannot unmarshal string into Go struct field Pod.spec.activeDeadlineSeconds"),
        ({"containers": {}}, "cannot unmarshal object into Go struct field Pod.spec.containers"),
        ({"hostNetwork": "yes"}, "of type bool"),
        (
            {"containers": [{"command": "sh"}]},
            "cannot unmarshal string into Go struct field Pod.spec.containers.command",
        ),
    ],
)
def test_values_of_the_wrong_type_are_a_bad_request(spec: Json, words: str) -> None:
    with pytest.raises(StatusError, match=words) as error:
        schema.decode_pod({"spec": spec})
    assert error.value.code == 400


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"containers": []}, "spec.containers", "FieldValueRequired"),
        ({"restartPolicy": "Sometimes"}, "spec.restartPolicy", "FieldValueNotSupported"),
        ({"activeDeadlineSeconds": 0}, "spec.activeDeadlineSeconds", "FieldValueInvalid"),
        ({"terminationGracePeriodSeconds": -1}, "spec.terminationGracePeriodSeconds", "FieldValueInvalid"),
        ({"containers": [{"name": "A", "image": "i"}]}, "spec.containers[0].name", "FieldValueInvalid"),
        ({"containers": [{"name": "", "image": "i"}]}, "spec.containers[0].name", "FieldValueRequired"),
        ({"containers": [{"name": "a", "image": "i"}] * 2}, "spec.containers[1].name", "FieldValueDuplicate"),
        ({"volumes": [{"name": "v"}] * 2}, "spec.volumes[1].name", "FieldValueDuplicate"),
        (
            {"initContainers": [{"name": "i", "image": "i", "restartPolicy": "Never"}]},
            "spec.initContainers[0].restartPolicy",
            "FieldValueNotSupported",
        ),
    ],
)
def test_invalid_pods_are_told_what_is_wrong(change: Json, field: str, reason: str) -> None:
    spec = {"containers": [{"name": "a", "image": "i"}], **change}
    with pytest.raises(StatusError) as error:
        validate(with_defaults({"metadata": {"name": "job"}, "spec": spec}))
    assert error.value.code == 422
    assert error.value.details is not None
    assert [(one["field"], one["reason"]) for one in error.value.details["causes"]] == [(field, reason)]


@pytest.mark.parametrize("label", ["a" * 64, "-a", "a b"])
def test_label_values_have_a_form(label: str) -> None:
    pod = {"metadata": {"name": "job", "labels": {"x": label}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
    with pytest.raises(StatusError, match=r"metadata\.labels"):
        validate(with_defaults(pod))


@pytest.mark.parametrize(
    ("image", "policy"),
    [("busybox", "Always"), ("busybox:latest", "Always"), ("busybox:1.36", "IfNotPresent"), ("host:5000/x", "Always")],
)
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    pod = with_defaults({"metadata": {}, "spec": {"containers": [{"name": "a", "image": image}]}})
    assert pod["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_requests_are_taken_from_limits() -> None:
    container = {"name": "a", "image": "i", "resources": {"limits": {"memory": "32Mi"}}}
    pod = with_defaults({"metadata": {}, "spec": {"containers": [container]}})
    assert pod["spec"]["containers"][0]["resources"]["requests"] == {"memory": "32Mi"}


@pytest.mark.parametrize(
    ("resources", "quality"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1"}, "requests": {"cpu": "1", "memory": "1"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1"}, "requests": {"cpu": "1", "memory": "0"}}, "Burstable"),
    ],
)
def test_quality_of_service(resources: Json, quality: str) -> None:
    assert quality_of_service({"containers": [{"resources": resources}]}) == quality


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", "1"),
        ("100m", "0.1"),
        ("32Mi", "33554432"),
        ("1.5Gi", "1610612736"),
        ("2e3", "2000"),
        ("1E", "1e18"),
        ("1k", "1000"),
    ],
)
def test_quantities(text: str, number: str) -> None:
    assert amount(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "lots", "1 Gi", "Mi"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        amount(text)


_LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), max_size=3)


@given(labels=_LABELS, key=st.sampled_from("abc"), values=st.sets(st.sampled_from("xyz"), min_size=1))
def test_in_and_notin_are_opposites(labels: dict[str, str], key: str, values: set[str]) -> None:
    pod = {"metadata": {"labels": labels}}
    listed = f"({','.join(sorted(values))})"
    assert selector(f"{key} in {listed}", "")(pod) != selector(f"{key} notin {listed}", "")(pod)


@given(labels=_LABELS, key=st.sampled_from("abc"), value=st.sampled_from("xyz"))
def test_equal_and_unequal_are_opposites(labels: dict[str, str], key: str, value: str) -> None:
    pod = {"metadata": {"labels": labels}}
    assert selector(f"{key}={value}", "")(pod) != selector(f"{key}!={value}", "")(pod)


def test_strategic_patches_merge_lists_by_name_and_finalizers_as_a_set() -> None:
    kind = "application/strategic-merge-patch+json"
    pod = {"metadata": {"finalizers": ["a"]}, "spec": {"containers": [{"name": "x", "image": "1"}, {"name": "y"}]}}
    patch = {"metadata": {"finalizers": ["b"]}, "spec": {"containers": [{"name": "x", "image": "2"}]}}
    patched = apply_patch(kind, pod, patch)
    assert patched["metadata"]["finalizers"] == ["a", "b"]
    assert patched["spec"]["containers"] == [{"name": "x", "image": "2"}, {"name": "y"}]
    assert pod["spec"]["containers"][0]["image"] == "1"


def test_json_patches_that_fail_their_test_change_nothing() -> None:
    patch = [{"op": "test", "path": "/metadata/name", "value": "other"}, {"op": "remove", "path": "/metadata/name"}]
    with pytest.raises(StatusError) as error:
        apply_patch("application/json-patch+json", {"metadata": {"name": "job"}}, patch)
    assert error.value.code == 422


def test_other_kinds_of_patch_are_not_understood() -> None:
    with pytest.raises(StatusError) as error:
        apply_patch("application/apply-patch+yaml", {}, {})
    assert error.value.code == 415


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("python:3.12", "python"),
        ("docker.io/library/python:3.12-slim", "python"),
        ("busybox", "shell"),
        ("ubuntu:1604", "shell"),
        ("alpine@sha256:" + "a" * 64, "shell"),
        ("simulated:anything", "simulated"),
    ],
)
def test_images_of_the_table(tmp_path: Path, reference: str, kind: str) -> None:
    assert ImageTable(tmp_path).find(reference, "IfNotPresent").kind == kind


@pytest.mark.parametrize(
    ("reference", "policy", "reason"),
    [
        ("UPPER/Case:!!", "IfNotPresent", "InvalidImageName"),
        ("a b", "IfNotPresent", "InvalidImageName"),
        ("nginx:1", "IfNotPresent", "ErrImagePull"),
        ("registry.example.com/python:3", "Always", "ErrImagePull"),
        ("nginx:1", "Never", "ErrImageNeverPull"),
    ],
)
def test_images_that_are_not_there(tmp_path: Path, reference: str, policy: str, reason: str) -> None:
    with pytest.raises(ImageError) as error:
        ImageTable(tmp_path).find(reference, policy)
    assert error.value.reason == reason


async def test_a_short_history_forgets_the_oldest_changes() -> None:
    store = Store(history=2)
    versions = [store.create("pods", {"metadata": {"namespace": "d", "name": name}}).version for name in "abc"]
    assert not store.reaches("pods", versions[0] - 1)
    assert store.reaches("pods", versions[0])


async def test_an_object_is_turned_into_bytes_once_for_all_watchers() -> None:
    store = Store(history=10)
    watchers = [store.watch("pods", "", lambda _pod: True, since=None) for _ in range(2)]
    store.create("pods", {"metadata": {"namespace": "d", "name": "a"}})
    first, second = (watcher.take() for watcher in watchers)
    assert first is second
