"""The job spec: strict when built, lenient when read, identified by what is asked."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import spec_problems
from dispatcher.errors import InvalidSpecError
from dispatcher.spec import JobSpec, OnFinish, Priority, decode_spec, parse_spec
from dispatcher.status import FailureReason
from dispatcher.version import SINCE, VERSION
from tests.support.golden_files import golden

FULL = JobSpec(
    id="job-1",
    key="dag/run/task",
    queue="gpu",
    priority=Priority.HIGH,
    name="Passing Test",
    image="python:3.12",
    command=("python", "-c"),
    args=("print('ä')",),
    env={"A": "1", "B": {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}},  # type: ignore[arg-type]
    resources={"limits": {"memory": "64Mi"}},
    labels={"foo": "bar"},
    volatile_labels={"try_number": "1"},
    namespace="jobs",
    tolerations=({"key": "gpu", "operator": "Exists"},),
    init_containers=({"name": "init", "image": "busybox"},),
    container_logs="all",
    init_container_logs=("init",),
    log_limit_bytes=1 << 20,
    queue_timeout_s=60.5,
    run_timeout_s=3600,
    on_finish=OnFinish.KEEP_POD,
    return_value=True,
    retry_on=frozenset({FailureReason.EVICTED}),
    trace={"traceparent": "00-x"},
    try_number=2,
    submitted_by="alice",
)


def test_a_spec_crosses_the_wire_as_it_always_did() -> None:
    assert FULL.encode() == golden("spec.json")
    assert decode_spec(golden("spec.json")) == FULL


def test_the_digest_of_a_spec_never_changes() -> None:
    assert FULL.digest == "acc1d168911fec8a330cff4283839cdf180cb75cc11c65dcce51bda1e6cccc48"


def test_the_digest_is_of_what_is_asked_and_not_of_who_asks() -> None:
    same = {"id": "other", "trace": {}, "try_number": 9, "volatile_labels": {"x": "y"}, "submitted_by": "bob"}
    assert FULL.model_copy(update=same).digest == FULL.digest
    for change in ({"image": "x"}, {"labels": {}}, {"key": "other"}, {"args": ()}, {"namespace": None}):
        assert FULL.model_copy(update=change).digest != FULL.digest


@given(st.permutations([FailureReason.EVICTED, FailureReason.NODE_LOST, FailureReason.PREEMPTED]))
def test_the_digest_knows_no_order_of_sets(reasons: list[FailureReason]) -> None:
    expected = JobSpec(id="j", image="x", retry_on=frozenset(FailureReason) & frozenset(reasons)).digest
    assert JobSpec(id="other", image="x", retry_on=frozenset(reasons)).digest == expected


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
lines = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), min_size=1, max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=5,
)


@given(
    args=st.lists(texts, max_size=3),
    env=st.dictionaries(lines, texts, max_size=3),
    resources=st.dictionaries(texts, json_values, max_size=3),
    key=st.none() | lines,
)
def test_what_is_encoded_is_decoded(
    args: list[str], env: dict[str, str], resources: dict[str, object], key: str
) -> None:
    spec = parse_spec({"image": "x", "args": args, "env": env, "resources": resources, "key": key})
    read = decode_spec(spec.encode())
    assert read == spec
    assert read.digest == spec.digest


def test_fields_of_a_newer_version_pass_when_read() -> None:
    newer = {**json.loads(FULL.encode()), "from_the_future": {"x": 1}}
    assert decode_spec(json.dumps(newer)) == FULL


def test_each_field_is_one_that_every_worker_knows_or_says_since_when() -> None:
    of_0_1 = set(golden("spec-fields-0.1.txt").splitlines())
    assert JobSpec.model_fields.keys() - of_0_1 == SINCE.keys(), "note it in dispatcher/version.py"


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({}, ""),
        ({"end_when": "base"}, ""),
        ({"end_when": "all"}, "0.2.0"),
        ({"min_worker_version": "0.3"}, "0.3.0"),
        ({"min_worker_version": "0.1"}, "0.2.0"),
        ({"min_worker_version": "0.1.9", "end_when": "all"}, "0.2.0"),
        ({"min_worker_version": "10.0.1", "end_when": "all"}, "10.0.1"),
    ],
)
def test_a_spec_needs_the_version_that_it_names_or_that_knows_its_fields(fields: dict[str, str], needed: str) -> None:
    spec = parse_spec({"image": "x", **fields})
    assert spec.needed_worker_version == needed
    assert decode_spec(spec.encode()).needed_worker_version == needed


def test_who_is_to_run_a_job_makes_no_other_spec() -> None:
    assert FULL.model_copy(update={"min_worker_version": "9.0"}).digest == FULL.digest


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.2, 'write it in quotes, "0.2"'),
        (10**9, 'write it in quotes, "1000000000"'),
        (True, "write it in quotes"),
        ("1000000000", "must be a version as 0.2 or 0.2.1"),
        ("v1", "must be a version"),
        ("", "must be a version"),
        ("0.2\n", "must be a version"),
        ("1.2.3.4", "must be a version"),
        (["0.2"], "must be a text"),
        ({"a": 1}, "must be a text"),
    ],
)
def test_what_is_no_version_is_refused_with_words(value: object, told: str) -> None:
    with pytest.raises(InvalidSpecError) as raised:
        parse_spec({"image": "x", "min_worker_version": value})
    (problem,) = raised.value.problems
    assert problem.startswith("min_worker_version: ")
    assert told in problem


def test_a_spec_for_a_newer_worker_keeps_what_this_version_does_not_know() -> None:
    newer = {**json.loads(FULL.encode()), "from_the_future": {"x": 1}, "min_worker_version": "99.0"}
    read = decode_spec(json.dumps(newer))
    assert json.loads(read.encode()) == newer
    assert parse_spec(newer, is_for_others=True) == read
    assert read.digest != FULL.digest
    with pytest.raises(InvalidSpecError, match="from_the_future: unknown field"):
        parse_spec(newer)
    with pytest.raises(InvalidSpecError, match="from_the_future: unknown field"):
        parse_spec({**newer, "min_worker_version": VERSION}, is_for_others=True)


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"image": 5}', '{"image": "x", "queue": "NO"}', "null"])
def test_what_is_no_spec_is_an_invalid_spec(text: str) -> None:
    with pytest.raises(InvalidSpecError):
        decode_spec(text)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"image": "x", "comand": ["a"]}, "comand: unknown field (did you mean 'command'?)"),
        ({"image": "x", "env": [{"name": "A", "valu": "1"}]}, "env[0].valu: unknown field (did you mean 'value'?)"),
        ({"image": "x", "env": {"A": {"value": "1", "valueFrom": {}}}}, "env.A: give either value or valueFrom"),
        ({}, "image: required, unless pod_template has a container 'base' with one"),
        ({"image": "x", "queue_timeout_s": 0}, "queue_timeout_s: Input should be greater than 0"),
        ({"image": "x", "queue_timeout_s": float("nan")}, "queue_timeout_s: "),
        ({"image": "x", "id": "../x"}, "id: String should match pattern"),
        ({"image": "x", "retry_on": ["tired"]}, "retry_on[0]: Input should be "),
        ({"pod_template": {"spec": []}}, "image: required"),
        ({"pod_template": {"spec": "x"}}, "pod_template.spec: must be a mapping, not the text 'x'"),
        ({"pod_template": {"spec": {"containers": 5}}}, "image: required"),
        ({"pod_template": {"spec": {"containers": ["x"]}}}, "image: required"),
        (
            {"image": "x", "pod_template": {"spec": {"restartPolicy": "Always"}}},
            "pod_template.spec.restartPolicy: only",
        ),
        ({"image": "x", "get_logs": False, "container_logs": "all"}, "get_logs: false contradicts"),
    ],
)
def test_a_mistake_is_named_with_its_path(asked: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidSpecError) as raised:
        parse_spec(asked, "job.yaml")
    assert any(found.startswith(problem) for found in raised.value.problems), raised.value.problems
    assert str(raised.value).startswith("job.yaml: ")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(InvalidSpecError) as raised:
        parse_spec({"image": "", "queue": "NO", "labels": []})
    assert len(raised.value.problems) == 3


def test_a_template_with_an_image_needs_no_other() -> None:
    assert JobSpec(pod_template={"spec": {"containers": [{"name": "base", "image": "x"}]}})


def nested(depth: int) -> object:
    found: object = "x"
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"pod_template": {"spec": {"a": nested(100_000)}}}, "pod_template: nested deeper than 90 levels"),
        ({"affinity": {"a": nested(300)}}, "affinity: nested deeper than 90 levels"),
        ({"id": "a\ud800"}, "id: half a surrogate pair"),
        ({"labels": {"a\udfff": "b"}}, "labels: half a surrogate pair"),
        ({"resources": {"limits": {"cpu": float("inf")}}}, "resources.limits.cpu: inf is no finite number"),
        ({"id": "a\0b"}, "id: a NUL: "),
        ({"args": ["x" * 300_000]}, "300034 bytes as JSON, at most 262144 are taken"),
        ({"env": [1] * 100_000}, "env: 100000 entries, at most 10000 are taken of all fields"),
        ({f"f{i}": i for i in range(20_000)}, "20002 fields: no spec has more than 200"),
        ({"\x1b[2J" + "x" * 10_000: 1}, r"\x1b[2J" + "x" * 96 + "…: unknown field"),
    ],
)
def test_what_is_out_of_all_bounds_is_refused_before_it_costs_anything(asked: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidSpecError) as raised:
        parse_spec({"id": "j", "image": "x", **asked})
    (told,) = raised.value.problems
    assert told.startswith(problem)


def test_of_many_mistakes_the_first_ten_are_told_and_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_for: list[str] = []
    monkeypatch.setattr(spec_problems, "nearest", lambda name, known: looked_for.append(name) or "")
    with pytest.raises(InvalidSpecError) as raised:
        parse_spec({"image": "x", **{f"imag{i}": 1 for i in range(150)}})
    assert len(raised.value.problems) == 11
    assert raised.value.problems[-1] == "and 140 more"
    assert len(looked_for) == 3, "a hint costs a comparison with every field"


def test_a_large_spec_of_a_version_without_the_limit_is_still_read() -> None:
    large = JobSpec(id="j", image="x", args=("x" * 300_000,))
    assert decode_spec(large.encode()) == large


@pytest.mark.parametrize("text", ["[" * 100_000, '{"image": "\\ud800"}', '{"image": NaN}', "{", "[]", b"\xff"])
def test_what_is_no_spec_on_the_wire_is_an_invalid_spec(text: str | bytes) -> None:
    with pytest.raises(InvalidSpecError):
        decode_spec(text)
