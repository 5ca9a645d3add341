"""Labels and keys of a task instance."""

import re
from dataclasses import replace

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from airflow.sdk import DAG
from hypothesis import given
from hypothesis import strategies as st

from airflow_bridge.operator import PodRelayOperator
from airflow_bridge.parameters import arguments_of
from airflow_bridge.pod_arguments import job_spec
from airflow_bridge.task_identity import MAX_KEY_LENGTH, TaskIdentity, safe_label_value
from dispatcher.spec import decode_spec
from tests.support.task_run import StandInTaskInstance

ME = TaskIdentity("prod", "dag", "task", "run", -1, 1, "3.3.2+local")


#: The rule of Kubernetes (``IsValidLabelValue`` in apimachinery).
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", re.ASCII)
#: Any id, also one that no key of Airflow may be; half of them without an ASCII letter.
ids = st.text(max_size=80) | st.text("отчёт日報-_. \n\0\ud800", max_size=70) | st.text("aü-._", max_size=70)


@given(text=ids)
def test_any_id_makes_a_label_value_and_kpos_own_where_that_is_one(text: str) -> None:
    ours = safe_label_value(text)
    assert LABEL_VALUE.fullmatch(ours)
    assert len(ours) <= 63
    if not any("\ud800" <= c <= "\udfff" for c in text):
        theirs = make_safe_label_value(text)
        assert ours == theirs or not LABEL_VALUE.fullmatch(theirs)


@given(some=st.lists(ids, unique=True, min_size=2, max_size=8))
def test_distinct_ids_are_distinct_labels(some: list[str]) -> None:
    assert len({safe_label_value(each) for each in some}) == len(some)


@pytest.mark.parametrize(("dag_id", "label"), [("отчёт", "85c458b4c"), ("_", "b14a7b805"), ("отчёт_q", "q-e168b21ce")])
def test_an_id_without_ascii_letters_is_a_hash(dag_id: str, label: str) -> None:
    assert replace(ME, dag_id=dag_id).labels["dag_id"] == label


@given(dag_id=ids, task_id=ids, run_id=ids)
def test_any_ids_make_a_job_that_can_be_submitted(dag_id: str, task_id: str, run_id: str) -> None:
    identity = replace(ME, dag_id=dag_id, task_id=task_id, run_id=run_id)
    with DAG("nightly", schedule=None):
        operator = PodRelayOperator(task_id="t", image="i")
    spec = job_spec(
        operator.build_pod_request_obj(), arguments_of(operator), identity, defaults={"queue": "q", "namespace": None}
    )
    assert decode_spec(spec.encode()) == spec


@pytest.mark.parametrize("map_index", [-1, 0, 7])
def test_labels_are_kpos(map_index: int) -> None:
    ti = StandInTaskInstance(dag_id="a dag", map_index=map_index, try_number=3)
    context = {"ti": ti, "run_id": ti.run_id, "dag": None}
    ours = TaskIdentity.of(context, deployment="d", airflow_version="3")
    theirs = KubernetesPodOperator._get_ti_pod_labels(context)
    assert ours.labels | ours.volatile_labels == theirs | {"airflow_version": "3"}


def test_the_version_is_a_label_value() -> None:
    assert ME.volatile_labels["airflow_version"] == "3.3.2-local"


def test_tries_share_a_key_and_nothing_else_does() -> None:
    assert replace(ME, try_number=2, airflow_version="4").key == ME.key
    others = [
        replace(ME, deployment="staging"),
        replace(ME, dag_id="dag2"),
        replace(ME, task_id="task2"),
        replace(ME, run_id="run2"),
        replace(ME, map_index=0),
        replace(ME, dag_id='dag", "run', run_id=""),
    ]
    assert len({ME.key, *(other.key for other in others)}) == len(others) + 1


def test_a_key_is_never_too_long() -> None:
    one, other = (replace(ME, dag_id="ü" * 250, run_id="x" * 250 + end) for end in "ab")
    assert one.key != other.key
    assert len(one.key) <= MAX_KEY_LENGTH
