"""What a task's log says, first line to last, for each way in which a task ends: held by pages that are read.

A real worker runs each task on the pocket cluster, followed by the task itself and by a trigger. What differs between
two runs (ids, nodes, times, what a start shows in passing) is made the same. The pages are in ``tests/airflow/golden``,
and may change on purpose: ``RENEW_LOG_PAGES=1 pytest tests/airflow/test_log_pages.py`` writes them anew. Read them as
somebody who has five seconds.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException

from airflow_bridge.callbacks import PodRelayCallback
from tests.support.installation import QUICK, Installation, running_installation
from tests.support.task_run import TaskLog, TaskRun, fired_by

GOLDEN = Path(__file__).parent / "golden"
IS_RENEWED = bool(os.environ.get("RENEW_LOG_PAGES"))


class AtTheFirstLine(PodRelayCallback):
    """Does to the pod what a test says, when it has written its first line."""

    installation: Installation

    @classmethod
    def progress_callback(cls, *, pod: Any, **_: Any) -> None:
        """Do it."""


class DeleteThePod(AtTheFirstLine):
    """As kubectl, a drain or a cleaner do."""

    @classmethod
    def progress_callback(cls, *, pod: Any, **_: Any) -> None:
        cls.installation.pocket.delete_pod(pod.metadata.name)


class CancelTheJob(AtTheFirstLine):
    """As ``podrelay cancel`` does."""

    @classmethod
    def progress_callback(cls, *, pod: Any, **_: Any) -> None:
        from dispatcher.client import Dispatcher

        with Dispatcher(cls.installation.client_settings()) as dispatcher:
            dispatcher.cancel(pod.job_id, "ada@laptop (podrelay cancel)")


def python(code: str) -> dict[str, Any]:
    return {"image": "python:3.12", "cmds": ["python", "-c"], "arguments": [code]}


WORK = "import sys, time; print('reading orders', flush=True); time.sleep(1); "
#: 64 MiB and more, in steps that the pocket cluster's OOM killer can see.
GROW = "import time; kept = []\nwhile True: kept.append(bytearray(4 << 20)); time.sleep(0.02)"
VALUE = "import json; json.dump({'rows': 3}, open('/airflow/xcom/return.json', 'w')); print('done')"
NO_JSON = "open('/airflow/xcom/return.json', 'w').write('{\"mean\": NaN}')"
SETUP = {
    "name": "setup",
    "image": "busybox:1.36",
    "command": ["sh", "-c", "echo connecting; echo no such table: orders; sleep 1; exit 4"],
}
SECRET = {"name": "db", "secret": {"secretName": "db-credentials"}}


@dataclass(frozen=True)
class Outcome:
    """One way to end, and how its page is written."""

    name: str
    arguments: dict[str, Any]
    does: type[AtTheFirstLine] | None = None
    more: dict[str, Any] = field(default_factory=dict)


OUTCOMES = [
    Outcome("success", python(WORK + VALUE), more={"do_xcom_push": True}),
    Outcome("exit-code", python(WORK + "print('ERROR: no such table: orders'); sys.exit(3)")),
    Outcome("return-value", python(WORK + NO_JSON), more={"do_xcom_push": True}),
    Outcome("skip", python(WORK + "sys.exit(99)"), more={"skip_on_exit_code": 99}),
    Outcome("oom", python(WORK + GROW), more={"container_resources": {"limits": {"memory": "64Mi"}}}),
    Outcome(
        "image-pull",
        {"image": "registry.example.com/no/such:1"},
        more={"podrelay_options": {"image_pull_grace_s": 1}},
    ),
    Outcome(
        "unschedulable",
        python(WORK),
        more={"container_resources": {"requests": {"cpu": "999"}}, "schedule_timeout_seconds": 1},
    ),
    Outcome("secret-volume", python(WORK), more={"volumes": [SECRET], "startup_timeout_seconds": 3}),
    Outcome("policy", python(WORK), more={"hostnetwork": True}),
    Outcome("invalid-spec", python(WORK), more={"volume_mounts": [{"name": "nowhere", "mountPath": "/data"}]}),
    Outcome("init-failed", python(WORK), more={"init_containers": [SETUP]}),
    Outcome("cancelled", python(WORK + "time.sleep(600)"), does=CancelTheJob),
    Outcome("pod-deleted", python(WORK + "time.sleep(600)"), does=DeleteThePod),
]


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with running_installation() as installation:
        installation.start_worker(**QUICK)
        AtTheFirstLine.installation = installation
        yield installation


@pytest.fixture
def real_run(installation: Installation, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> TaskRun:
    connection = {"conn_type": "podrelay", "extra": json.dumps({"redis_url": installation.redis_url})}
    monkeypatch.setenv("AIRFLOW_CONN_PODRELAY_DEFAULT", json.dumps(connection))
    run = TaskRun(installation.redis_url)
    run.ti.run_id = f"manual__{request.node.name}"
    return run


@pytest.mark.parametrize("is_deferred", [False, True], ids=["sync", "deferred"])
@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.name)
def test_the_page_of_an_outcome_is_as_it_was_read(
    outcome: Outcome, is_deferred: bool, real_run: TaskRun, task_log: TaskLog, installation: Installation
) -> None:
    arguments = {"termination_grace_period": 1, **outcome.arguments, **outcome.more, "callbacks": outcome.does}
    told = ended_by(real_run, arguments, installation if is_deferred else None)
    page = normalised("\n".join([*(f"{level:<8}{text}" for level, text in task_log.entries), *told]))
    file = GOLDEN / f"{outcome.name}-{'deferred' if is_deferred else 'sync'}.txt"
    if IS_RENEWED:
        file.write_text(page)
    assert page == file.read_text()


def ended_by(run: TaskRun, arguments: dict[str, Any], deferred_on: Installation | None) -> list[str]:
    """Run the task to its end; returns what Airflow writes of its exception."""
    try:
        if deferred_on is None:
            run.execute(**arguments)
        else:
            (worker,) = deferred_on.workers
            worker.freeze()  # a job that has ended before its task defers is not deferred
            try:
                deferred = run.defer(**arguments)
            finally:
                worker.thaw()
            event = fired_by(deferred.trigger)
            run.resume(deferred.method_name, {"event": event}, **arguments)
    except AirflowException as error:
        level = "info" if type(error).__name__ == "AirflowSkipException" else "error"
        return f"{level:<8}{type(error).__name__}: {error}".splitlines()
    return []


#: What a start shows in passing depends on when one looks.
PASSING = re.compile(
    r"^\S+ +(STARTING(: (waiting to be scheduled|preparing volumes and network|creating containers|"
    r"init container 1 of 1 \(setup\)))?|(STARTING|RUNNING): (being deleted|cancelled, waiting for the pod to go))\n",
    re.M,
)


def normalised(page: str) -> str:
    """Make the same what differs between two runs."""
    for pattern, word in (
        (r"\b[0-9a-f]{32}\b", "JOB"),
        (r"-[0-9a-f]{10}-1\b", "-HASH-1"),
        (r"\bon node \S+?(?=[:\s]|$)", "on node NODE"),
        (r'("airflow_version": )"[^"]*"', r'\1"VERSION"'),
        (r'("run_id": )"[^"]*"', r'\1"RUN"'),
        (r"\bpocket-\w+\b", "NODE"),
    ):
        page = re.sub(pattern, word, page, flags=re.M)
    page = re.sub(r"(STARTING|RUNNING)(: pod \S+)?:? on node NODE(: (?!container)[a-z ]+$)?", r"\1\2", page, flags=re.M)
    return PASSING.sub("", page) + "\n"
