"""Whatever an argument renders to becomes what is meant, or is refused by its name. A text is never its characters."""

import collections
import datetime as dt
import uuid
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import pytest
from airflow.sdk import DAG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes import client as k8s

from airflow_bridge.argument_values import PodArgumentsError
from airflow_bridge.callbacks import PodRelayCallback
from airflow_bridge.operator import PodRelayOperator
from airflow_bridge.parameters import PARAMETERS, PodField
from dispatcher.errors import InvalidSpecError
from tests.support.task_run import TaskRun


def pod_of(*, is_native: bool = False, **arguments: Any) -> dict[str, Any]:
    """The pod of a task whose arguments are rendered first, as Airflow does."""
    with DAG("nightly", schedule=None, render_template_as_native_obj=is_native) as dag:
        operator = PodRelayOperator(**{"task_id": "t", "image": "i", "name": "n", **arguments})
    operator.render_template_fields({"dag": dag}, jinja_env=dag.get_template_env())
    return operator.build_pod_request_obj()


def base_of(**arguments: Any) -> dict[str, Any]:
    return pod_of(**arguments)["spec"]["containers"][0]


LISTS_OF_TEXTS = ("cmds", "arguments", "configmaps")
LISTS_OF_OBJECTS = (
    "ports",
    "volumes",
    "volume_mounts",
    "env_from",
    "tolerations",
    "init_containers",
    "host_aliases",
    "pod_runtime_info_envs",
)


def test_every_list_of_the_pod_is_tried_here() -> None:
    lists = {
        name
        for name, each in PARAMETERS.items()
        if isinstance(each, PodField) and isinstance(each.convert(name, None), list)
    }
    assert lists == {*LISTS_OF_TEXTS, *LISTS_OF_OBJECTS, "env_vars", "image_pull_secrets"}


@pytest.mark.parametrize("name", [*LISTS_OF_TEXTS, *LISTS_OF_OBJECTS, "env_vars", "secrets"])
@pytest.mark.parametrize("is_native", [False, True])
def test_a_text_where_a_list_is_meant_is_refused_by_name(name: str, is_native: bool) -> None:
    with pytest.raises(PodArgumentsError, match=rf"^{name}: must be a (dict or a )?list of .*, not .*text"):
        pod_of(is_native=is_native, **{name: "{{ 'hello world' }}"})


def test_what_to_write_is_said() -> None:
    with pytest.raises(PodArgumentsError) as refused:
        pod_of(arguments="{{ 'hello world' }}")
    assert str(refused.value) == (
        "arguments: must be a list of texts, not the text 'hello world'. Write ['hello world']; "
        "a template makes a list only where the DAG has render_template_as_native_obj=True"
    )


@pytest.mark.parametrize("name", [*LISTS_OF_TEXTS, *LISTS_OF_OBJECTS])
@pytest.mark.parametrize(
    "value", [{"a": 1}, 5, True, 2.5, {"a"}, frozenset("a"), b"ab", k8s.V1Toleration(key="a"), (x for x in "ab")]
)
def test_anything_else_that_is_no_list_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(PodArgumentsError, match=rf"^{name}: must be a list of"):
        pod_of(**{name: value})


@pytest.mark.parametrize("name", [*LISTS_OF_OBJECTS, "env_vars", "image_pull_secrets", "secrets"])
@pytest.mark.parametrize("member", ["text", 5, None, ["nested"]])
def test_a_member_that_is_no_object_is_refused_by_name_and_place(name: str, member: Any) -> None:
    with pytest.raises(PodArgumentsError, match=rf"^{name}\[0\]: must be"):
        pod_of(**{name: [member]})


class Lazy(collections.abc.Sequence):  # type: ignore[type-arg]
    """As Airflow's sequence of a mapped task's XComs."""

    def __getitem__(self, index: Any) -> Any:
        return ["a", "b"][index]

    def __len__(self) -> int:
        return 2


@pytest.mark.parametrize("value", [["a", "b"], ("a", "b"), Lazy()])
def test_any_sequence_is_a_list(value: Any) -> None:
    assert base_of(cmds=value)["command"] == ["a", "b"]


SCALARS = [
    (5, "5"),
    (1.5, "1.5"),
    (True, "true"),
    (False, "false"),
    (Decimal("1.10"), "1.10"),
    (dt.date(2026, 1, 2), "2026-01-02"),
    (dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), "2026-01-02T03:00:00+00:00"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (PurePosixPath("/data"), "/data"),
]


@pytest.mark.parametrize(("value", "text"), SCALARS)
def test_a_scalar_becomes_its_text_wherever_the_pod_has_texts(value: Any, text: str) -> None:
    pod = pod_of(
        cmds=[value],
        arguments=[value],
        env_vars={"A": value},
        labels={"l": value},
        annotations={"a": value},
        node_selector={"n": value},
        hostname=value,
    )
    base = pod["spec"]["containers"][0]
    assert (base["command"], base["args"], base["env"]) == ([text], [text], [{"name": "A", "value": text}])
    assert (pod["metadata"]["labels"], pod["metadata"]["annotations"]) == ({"l": text}, {"a": text})
    assert (pod["spec"]["nodeSelector"], pod["spec"]["hostname"]) == ({"n": text}, text)


@pytest.mark.parametrize(
    "env_vars", [{"N": "{{ 5 }}"}, [{"name": "N", "value": "{{ 5 }}"}], [k8s.V1EnvVar(name="N", value="{{ 5 }}")]]
)
def test_numbers_of_native_rendering_are_texts(env_vars: Any) -> None:
    base = base_of(is_native=True, env_vars=env_vars, arguments=["{{ 5 }}"], image="{{ 7 }}")
    assert (base["env"], base["args"], base["image"]) == ([{"name": "N", "value": "5"}], ["5"], "7")


def test_a_native_template_makes_lists_and_dicts() -> None:
    base = base_of(is_native=True, arguments="{{ ['a', 5] }}", env_vars="{{ {'A': 1} }}", configmaps="{{ ['c'] }}")
    assert (base["args"], base["env"]) == (["a", "5"], [{"name": "A", "value": "1"}])
    assert base["envFrom"] == [{"configMapRef": {"name": "c"}}]


@pytest.mark.parametrize("value", [{"x": 1}, ["x"], {"x"}, object()])
@pytest.mark.parametrize("name", ["env_vars", "labels", "annotations", "node_selector"])
def test_a_nested_value_of_a_mapping_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(PodArgumentsError, match=rf"^{name}\['A'\]: must be a text, not"):
        pod_of(**{name: {"A": value}})


@pytest.mark.parametrize("name", ["cmds", "arguments"])
@pytest.mark.parametrize("value", [{"x": 1}, ["x"], None])
def test_a_nested_value_of_a_list_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(PodArgumentsError, match=rf"^{name}\[1\]: must be a text, not"):
        pod_of(**{name: ["a", value]})


def test_none_is_an_empty_label_and_an_empty_variable_as_in_kpo() -> None:
    pod = pod_of(labels={"a": None}, env_vars={"A": None})
    assert pod["metadata"]["labels"] == {"a": ""}
    assert [(each["name"], each.get("value")) for each in pod["spec"]["containers"][0]["env"]] == [("A", None)]


@pytest.mark.parametrize("name", ["labels", "annotations", "node_selector"])
@pytest.mark.parametrize("value", ["a=b", ["a"], 5])
def test_what_is_no_mapping_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(PodArgumentsError, match=rf"^{name}: must be a dict"):
        pod_of(**{name: value})


@pytest.mark.parametrize("name", ["affinity", "security_context", "container_resources", "dns_config", "full_pod_spec"])
@pytest.mark.parametrize("value", ["text", ["a"], 5])
def test_what_is_no_object_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(PodArgumentsError, match=rf"^{name}: (must be|is no)"):
        pod_of(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("active_deadline_seconds", "60"),
        ("termination_grace_period", dt.timedelta(seconds=5)),
        ("hostnetwork", "yes"),
        ("automount_service_account_token", 1),
        ("image", ["i"]),
        ("service_account_name", {"a": 1}),
        ("podrelay_options", "evicted"),
        ("trigger_kwargs", "{{ 'a text' }}"),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(name: str, value: Any, task_run: TaskRun) -> None:
    with pytest.raises(PodArgumentsError, match=f"^{name}: must be"):
        task_run.execute(**{name: value})


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("cmds", r"cmds\[0\]"),
        ("arguments", r"arguments\[0\]"),
        ("env_vars", r"env_vars\['A'\]"),
        ("labels", r"labels\['A'\]"),
        ("annotations", r"annotations\['A'\]"),
        ("hostname", "hostname"),
        ("configmaps", r"configmaps\[0\]"),
    ],
)
def test_what_no_pod_can_have_is_refused_by_name(name: str, where: str, text: str) -> None:
    value: Any = text if name == "hostname" else [text] if name in LISTS_OF_TEXTS else {"A": text}
    with pytest.raises(PodArgumentsError, match=rf"^{where}: holds U\+(0000|D800)"):
        pod_of(**{name: value})


def test_a_variables_value_is_never_told() -> None:
    for value in ({"A": {"x": "CANARY"}}, "CANARY", [{"name": "A", "value": ["CANARY"]}], ["A=CANARY"]):
        with pytest.raises(PodArgumentsError) as refused:
            pod_of(env_vars=value)
        assert "CANARY" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "expected"), [("one, two,", ["one", "two"]), ([{"name": "one"}], ["one"]), ("", []), (None, [])]
)
def test_pull_secrets_may_be_names_in_a_text(value: Any, expected: list[str]) -> None:
    found = pod_of(image_pull_secrets=value)["spec"].get("imagePullSecrets") or []
    assert [each["name"] for each in found] == expected


@pytest.mark.parametrize("name", ["pod_template_dict", "full_pod_spec"])
@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"containers": {"name": "base"}}, "containers"),
        ({"containers": "base"}, "containers"),
        ({"containers": [{"name": "base", "env": "A=1"}]}, "containers[0].env"),
        ({"containers": [], "volumes": {"name": "v"}}, "volumes"),
        ({"containers": [], "initContainers": ["i"]}, "initContainers[0]"),
    ],
)
def test_a_template_of_another_shape_is_refused_by_name_and_path(name: str, spec: Any, where: str) -> None:
    with pytest.raises(PodArgumentsError) as refused:
        pod_of(**{name: {"spec": spec}}, volumes=[{"name": "w", "emptyDir": {}}], env_vars={"A": "1"})
    assert str(refused.value).startswith(f"{name}.spec.{where}: must be")


@pytest.mark.parametrize("value", [{"spec": {}}, 5, "/nowhere", "a\0b", "x" * 9000, "kind: Pod\nspec: {}\n"])
def test_a_template_file_that_is_none_is_refused_by_name(value: Any) -> None:
    with pytest.raises(PodArgumentsError, match=r"^pod_template_file"):
        pod_of(pod_template_file=value)


@pytest.mark.parametrize("name", ["container_logs", "init_container_logs"])
@pytest.mark.parametrize("value", [{"base": 1}, 5, [5.5, None], [["base"]]])
def test_names_of_containers_are_refused_by_name(name: str, value: Any, task_run: TaskRun) -> None:
    with pytest.raises(PodArgumentsError, match=rf"^{name}(\[\d\])?: must be"):
        task_run.execute(**{name: value})


@pytest.mark.parametrize("value", ["99", ["99"], {"a": 99}, 9.5, [None], True, b"c"])
def test_exit_codes_are_whole_numbers(value: Any, task_run: TaskRun) -> None:
    with pytest.raises(ValueError, match=r"^skip_on_exit_code: must be an exit code or a list of them, not"):
        task_run.make(skip_on_exit_code=value)


@pytest.mark.parametrize(
    ("value", "expected"), [(None, []), (0, [0]), (99, [99]), ([1, 2], [1, 2]), (range(3), range(3)), ({1}, {1})]
)
def test_exit_codes_are_kept_as_in_kpo(value: Any, expected: Any, task_run: TaskRun) -> None:
    assert task_run.make(skip_on_exit_code=value).skip_on_exit_code == expected


def a_function(**_: Any) -> None:
    """Not a class with hooks: what KPO's old `progress_callback` took."""


@pytest.mark.parametrize("value", ["module.Class", ["module.Class"], a_function, [object], {"a": 1}, 5])
def test_callbacks_without_a_hook_are_refused_when_the_dag_is_read(value: Any, task_run: TaskRun) -> None:
    with pytest.raises(ValueError, match=r"^callbacks: .* has none of the hooks"):
        task_run.make(callbacks=value)


class Hooks(PodRelayCallback):
    """One class with hooks."""


@pytest.mark.parametrize("given", [Hooks, [Hooks], (Hooks,)])
def test_callbacks_are_a_list_as_in_kpo(given: Any, task_run: TaskRun) -> None:
    operator = task_run.make(callbacks=given)
    assert operator.callbacks == [Hooks]
    operator.callbacks.append(Hooks)
    assert task_run.make().callbacks == []


def test_a_problem_of_the_spec_names_the_argument_from_which_it_comes(task_run: TaskRun) -> None:
    with pytest.raises(InvalidSpecError) as refused:
        task_run.execute(
            ports=[{"containerPort": 80, "name": 5}],
            startup_timeout_seconds=-1,
            podrelay_options={"retry_on": "evicted"},
        )
    problems = "\n".join(refused.value.problems)
    assert "(comes from startup_timeout_seconds)" in problems
    assert "podrelay_options: retry_on: " in problems
    with pytest.raises(InvalidSpecError, match=r"containers\[0\]\.ports\[0\]\.name: .* \(comes from ports\)"):
        task_run.execute(ports=[{"containerPort": 80, "name": 5}])


#: Whatever JSON, Python and templates can make.
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner),
    max_leaves=6,
)
ANY_ARGUMENT = [name for name, each in PARAMETERS.items() if isinstance(each, PodField)]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(ANY_ARGUMENT), value=anything)
def test_anything_at_all_is_what_was_meant_or_refused_by_its_name(name: str, value: Any) -> None:
    with DAG("nightly", schedule=None):
        operator = PodRelayOperator(task_id="t", image="i")
    setattr(operator, name, value)
    try:
        pod = operator.build_pod_request_obj()
    except PodArgumentsError as refused:
        assert str(refused).startswith((f"{name}: ", f"{name}[", f"{name} "))  # noqa: PT017 - either may happen
        return
    if isinstance(value, str) and name in LISTS_OF_TEXTS:
        assert value == ""
    base = pod["spec"]["containers"][0]
    for field in ("command", "args"):
        assert all(isinstance(each, str) for each in base.get(field, []))
    assert all(isinstance(each.get("value", ""), str | None) for each in base.get("env", []))
