"""The copy of the spec in a pod's annotations gives way to the user's, and is read back by its whole kind."""

import base64
import random
import zlib
from typing import Any

import pytest

from dispatcher import names
from dispatcher.errors import InvalidSpecError
from dispatcher.spec import ANNOTATION_LIMIT_BYTES, USER_ANNOTATION_BYTES, JobSpec, parse_spec
from worker.rules.manifest import manifest
from worker.rules.spec_copy import spec_annotations, spec_from_annotations


def noise(size: int) -> str:
    """Text that does not get smaller."""
    return base64.b64encode(random.Random(size).randbytes(size)).decode()[:size]


def spec_of(**fields: Any) -> JobSpec:
    return parse_spec({"id": "j", "image": "x", "key": "k", **fields})


def annotations_of(spec: JobSpec) -> dict[str, str]:
    pod = manifest(spec, attempt=1, namespace="ns", installation="i", return_value_image="busybox")
    found: dict[str, str] = pod["metadata"]["annotations"]
    return found


def size(annotations: dict[str, str]) -> int:
    return sum(len(name.encode()) + len(text.encode()) for name, text in annotations.items())


OURS = {names.ANNOTATION_SPEC, names.ANNOTATION_SPEC_ZLIB}


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, {names.ANNOTATION_SPEC}),
        ({"annotations": {"a": "x" * 100_000}}, {names.ANNOTATION_SPEC}),
        ({"annotations": {"model": "x" * 140_000}}, {names.ANNOTATION_SPEC_ZLIB}),
        ({"annotations": {"ä" * 50: "€" * 40_000}}, {names.ANNOTATION_SPEC_ZLIB}),
        ({"annotations": {"a": noise(140_000)}}, set()),
        ({"args": [noise(180_000)]}, {names.ANNOTATION_SPEC}),
        ({"args": ["x" * 250_000]}, {names.ANNOTATION_SPEC_ZLIB}),
        (
            {"pod_template": {"metadata": {"annotations": {"t": "x" * 140_000, "n": None}}}},
            {names.ANNOTATION_SPEC_ZLIB},
        ),
        ({"annotations": {"a": noise(240_000)}}, set()),
    ],
)
def test_the_copy_takes_what_the_users_annotations_leave(fields: dict[str, Any], kept: set[str]) -> None:
    spec = spec_of(**fields)
    found = annotations_of(spec)
    assert OURS & found.keys() == kept
    assert size({name: text or "" for name, text in found.items()}) <= ANNOTATION_LIMIT_BYTES
    assert found[names.ANNOTATION_DIGEST] == spec.digest
    if kept:
        assert spec_from_annotations(found, job_id="j", queue="default") == spec


def test_a_patch_takes_away_the_copy_that_it_does_not_write() -> None:
    """The pod of a key goes over to another job: no copy of the former one's may stay beside the new one's."""
    for fields in ({}, {"annotations": {"a": "x" * 140_000}}, {"annotations": {"a": noise(140_000)}}):
        assert spec_annotations(spec_of(**fields)).keys() == OURS


@pytest.mark.parametrize("where", ["spec", "template", "both"])
def test_more_annotations_than_a_pod_may_have_are_refused_with_size_and_limit(where: str) -> None:
    half = {"a": "x" * (USER_ANNOTATION_BYTES // 2)}
    whole = {"b": "x" * USER_ANNOTATION_BYTES}
    fields: dict[str, Any] = {
        "spec": {"annotations": whole},
        "template": {"pod_template": {"metadata": {"annotations": whole}}},
        "both": {"annotations": half, "pod_template": {"metadata": {"annotations": {"c": half["a"] + "x"}}}},
    }[where]
    with pytest.raises(InvalidSpecError, match=rf"annotations: \d+ bytes .* at most {USER_ANNOTATION_BYTES}"):
        spec_of(**fields)


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {names.ANNOTATION_SPEC: 5},
        {names.ANNOTATION_SPEC: None, names.ANNOTATION_SPEC_ZLIB: ["x"]},
        {names.ANNOTATION_SPEC: ""},
        {names.ANNOTATION_SPEC: "null"},
        {names.ANNOTATION_SPEC: '{"image": "x", "id": "j", "pod_template": {"spec": {"containers": 5}}}'},
        {names.ANNOTATION_SPEC: '{"image": "x", "id": "other"}'},
        {names.ANNOTATION_SPEC: '{"image": "x", "id": "j", "queue": "gpu"}'},
        {names.ANNOTATION_SPEC_ZLIB: "ä"},
        {names.ANNOTATION_SPEC_ZLIB: "eA=="},
        {names.ANNOTATION_SPEC_ZLIB: base64.b64encode(zlib.compress(b"x" * 1000)[:-9]).decode()},
        {names.ANNOTATION_SPEC_ZLIB: packed(b"\xff\xfe")},
        {names.ANNOTATION_SPEC_ZLIB: packed(b" " * 50_000_000)},
    ],
    ids=str,
)
def test_a_copy_that_somebody_changed_is_refused_by_name(annotations: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpecError):
        spec_from_annotations(annotations, job_id="j", queue="default")
