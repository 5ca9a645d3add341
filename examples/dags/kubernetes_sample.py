"""The sample from Airflow's Kubernetes documentation, with podrelay's operator: one task that passes, one that fails.

It differs from the original in the import alone. `make demo` runs it; in an Airflow of yours it needs a connection
`podrelay_default` (or PODRELAY_REDIS_URL).
"""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from airflow_bridge.operator import PodRelayOperator

with DAG(dag_id="kubernetes_sample", schedule=None, catchup=False, tags=["podrelay"]):
    start = EmptyOperator(task_id="run_this_first")

    passing = PodRelayOperator(
        task_id="passing-task",
        name="passing-test",
        namespace="default",
        image="python:3.6",
        cmds=["python", "-c"],
        arguments=["print('hello world')"],
        labels={"foo": "bar"},
        get_logs=True,
    )

    # There is no python in this image.
    failing = PodRelayOperator(
        task_id="failing-task",
        name="fail",
        namespace="default",
        image="ubuntu:1604",
        cmds=["python", "-c"],
        arguments=["print('hello world')"],
        labels={"foo": "bar"},
        get_logs=True,
    )

    start >> [passing, failing]
