"""What the tests of the standalone Airflow run: tasks that wait at gates (files that the test makes)."""

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_bridge.operator import PodRelayOperator

GATES = os.environ["SCENARIO_GATES"]

#: Ten lines, then a gate, for each gate that it is given; then the return value, if there is a place for it.
CODE = r"""
import json, os, sys, time
number = 0
for gate in [*sys.argv[1:], None]:
    for number in range(number, number + 10):
        print("line", number, flush=True)
    number += 1
    while gate and not os.path.exists(gate):
        time.sleep(0.05)
if os.path.isdir("/airflow/xcom"):
    json.dump({"pod": os.environ["HOSTNAME"]}, open("/airflow/xcom/return.json", "w"))
"""

#: Traps TERM and reports 0, as careful programs do: still no success.
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("working", flush=True)
while True:
    time.sleep(0.05)
"""

LARGE = "import json; json.dump({'x': 'y' * 300_000}, open('/airflow/xcom/return.json', 'w')); print('written')"


def pod(task_id: str, code: str, arguments: Sequence[str] = (), **more: Any) -> PodRelayOperator:
    command = {"image": "python:3.12", "cmds": ["python", "-c"], "arguments": [code, *arguments]}
    return PodRelayOperator(task_id=task_id, **command, **more)


def gates(*names: str) -> list[str]:
    return [f"{GATES}/{name}" for name in names]


AGAIN_SOON = {"retries": 1, "retry_delay": timedelta(seconds=3)}
# Those that a test acts on begin first.
FIRST = {"priority_weight": 10}

with DAG(dag_id="scenarios", schedule=None, catchup=False):
    pod("restarted_triggerer", CODE, gates("more", "go"), deferrable=True, **FIRST)
    pod("marked_deferred", STUBBORN, deferrable=True, **FIRST)
    # Python as the first process of a container is deaf to TERM: it ends when its grace is over.
    pod("cleared_deferred", CODE, gates("cleared"), deferrable=True, termination_grace_period=1, **FIRST)
    pod("terminated", STUBBORN, **FIRST)
    pod("attached", CODE, gates("attached"), **AGAIN_SOON, **FIRST)
    pod("taken", CODE, gates("taken"), do_xcom_push=True, **AGAIN_SOON, **FIRST)
    pod("marked_sync", STUBBORN, **FIRST)
    pod("skipped", "raise SystemExit(99)", skip_on_exit_code=99)
    pod("large_value", LARGE, do_xcom_push=True)
    pod("large_value_deferred", LARGE, do_xcom_push=True, deferrable=True)
    PodRelayOperator.partial(task_id="mapped", image="python:3.12", cmds=["python", "-c"], do_xcom_push=True).expand(
        arguments=[
            ["import json; json.dump('first', open('/airflow/xcom/return.json', 'w'))"],
            ["import json; json.dump('second', open('/airflow/xcom/return.json', 'w'))"],
        ]
    )
    PodRelayOperator.partial(task_id="short", image="simulated:1", deferrable=True).expand(
        arguments=[["--duration=1"]] * 8
    )

with DAG(dag_id="lost_machine", schedule=None, catchup=False):
    pod("lost", CODE, gates("lost"))
