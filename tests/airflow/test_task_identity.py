"""Labels and keys of a task instance."""

from dataclasses import replace

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from hypothesis import given
from hypothesis import strategies as st

from airflow_bridge.task_identity import MAX_KEY_LENGTH, TaskIdentity, safe_label_value
from tests.support.task_run import StandInTaskInstance

ME = TaskIdentity("prod", "dag", "task", "run", -1, 1, "3.3.2+local")


@given(text=st.text(max_size=80))
def test_label_values_are_made_safe_as_kpo_makes_them(text: str) -> None:
    assert safe_label_value(text) == make_safe_label_value(text)


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
