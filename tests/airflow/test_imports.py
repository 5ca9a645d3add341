"""The bridge needs neither the provider that it replaces nor a Kubernetes client, and is cheap to import."""

import subprocess
import sys

import pytest

FORBIDDEN = ("kubernetes", "kubernetes_asyncio", "celery", "kombu", "worker", "devcluster", "airflow.providers.cncf")

_IMPORT = """
import sys
from airflow.sdk import BaseOperator  # what every DAG has anyway
before = set(sys.modules)
import {modules}
print(*sorted(set(sys.modules) - before))
"""


def imported_by(modules: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT.format(modules=modules)], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize(
    "modules",
    [
        "airflow_bridge.operator, airflow_bridge.decorators, airflow_bridge.hook, airflow_bridge.links",
        "airflow_bridge.trigger, airflow_bridge.shared_client, airflow_bridge.outcome, airflow_bridge.pod_arguments",
    ],
)
def test_nothing_forbidden_is_imported(modules: str) -> None:
    found = imported_by(modules)
    assert [name for name in found if name.startswith(FORBIDDEN)] == []


def test_a_dag_file_pays_for_neither_redis_nor_the_dispatchers_client() -> None:
    found = imported_by("airflow_bridge.operator")
    assert [name for name in found if name.split(".")[0] in ("redis", "pydantic_settings", "dispatcher")] == []
