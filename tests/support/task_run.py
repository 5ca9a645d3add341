"""One task instance's try, as Airflow's task runner runs it, without Airflow's database.

The task instance and its context are Airflow's objects, so these stand-ins hold only what the operator uses.
"""

import asyncio
import datetime as dt
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow.sdk import DAG
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import TaskDeferred

from airflow_bridge.operator import JOB_ID_XCOM, PodRelayOperator
from dispatcher.client import Dispatcher
from dispatcher.events import JobResult
from dispatcher.record import JobRecord
from dispatcher.settings import ClientSettings


@dataclass
class StandInTaskInstance:
    dag_id: str = "nightly"
    task_id: str = "transform"
    run_id: str = "manual__2026-01-01"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    start_date: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    xcoms: dict[str, Any] = field(default_factory=dict)
    context_carrier: dict[str, str] | None = None
    #: Called when the task has pushed the XCom that names its job: the first thing that it does after the submit.
    when_submitted: Callable[[], None] = lambda: None

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value
        if key == JOB_ID_XCOM:
            self.when_submitted()

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int | None = None) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key)


class TaskLog:
    """What a task's log has, in order; can be waited on from another thread."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []
        self._grown = threading.Condition()

    def hear(self, _: Any, method: str, event: Any) -> Any:
        """A processor of structlog."""
        with self._grown:
            self.entries.append((method, str(event["event"])))
            self._grown.notify_all()
        return event

    def wait_for(self, text: str) -> None:
        """Wait until a line has this text."""
        with self._grown:
            assert self._grown.wait_for(lambda: any(text in line for line in self.lines), timeout=30), text

    def has(self, text: str) -> Callable[[], None]:
        """As :meth:`wait_for`, for later."""
        return lambda: self.wait_for(text)

    @property
    def lines(self) -> list[str]:
        return [line for _, line in self.entries]

    def at(self, level: str) -> list[str]:
        return [line for method, line in self.entries if method == level]

    def containers_lines(self, container: str = "base") -> list[str]:
        return [line for line in self.lines if line.startswith(f"[{container}] ")]


class TaskRun:
    """Runs tries of one task instance."""

    def __init__(self, redis_url: str) -> None:
        self.redis_url = redis_url
        self.ti = StandInTaskInstance()
        self.operator: PodRelayOperator | None = None
        self.second_try = threading.Event()
        self.is_deferred = threading.Event()

    def make(self, **arguments: Any) -> PodRelayOperator:
        arguments = {"task_id": self.ti.task_id, "image": "python:3.12", "name": "transform", **arguments}
        with DAG(self.ti.dag_id, schedule=None):
            self.operator = PodRelayOperator(**arguments)
        return self.operator

    @property
    def context(self) -> dict[str, Any]:
        return {"ti": self.ti, "task_instance": self.ti, "run_id": self.ti.run_id, "dag": None}

    def execute(self, operator: PodRelayOperator | None = None, **arguments: Any) -> Any:
        """A fresh operator (a try is a new process) executed."""
        operator = operator or self.make(**arguments)
        return run(operator, operator.execute, context=self.context)

    def submit_and_die(self, operator: PodRelayOperator | None = None, **arguments: Any) -> None:
        """The try's process is killed (no handler runs) when its job is submitted."""
        child = os.fork()
        if child == 0:
            try:
                self.ti.when_submitted = lambda: os._exit(0)
                self.execute(operator, **arguments)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0

    def record(self, job_id: str) -> JobRecord:
        """The job's record as it is now."""
        with self._dispatcher() as dispatcher:
            return dispatcher.get(job_id)

    def result(self, job_id: str) -> JobResult:
        """Wait for the job's end."""
        with self._dispatcher() as dispatcher:
            return dispatcher.result(job_id, timeout_s=20)

    def jobs(self) -> list[JobRecord]:
        """All jobs of the queue ``default``."""
        with self._dispatcher() as dispatcher:
            return list(dispatcher.list("default"))

    def _dispatcher(self) -> Dispatcher:
        return Dispatcher(ClientSettings(redis_url=self.redis_url))

    def next_try(self) -> None:
        """Airflow starts a try without the XComs of the last."""
        self.ti.try_number += 1
        self.ti.xcoms.clear()
        self.ti.start_date = dt.datetime.now(dt.UTC)

    def defer(self, **arguments: Any) -> TaskDeferred:
        try:
            self.execute(**{"deferrable": True, **arguments})
        except TaskDeferred as deferred:
            self.is_deferred.set()
            return deferred
        raise AssertionError("the task was not deferred")

    def run_through(self, *, deferrable: bool, **arguments: Any) -> Any:
        """One try to its end, sync or deferred. ``is_deferred`` is set when a worker may come."""
        if not deferrable:
            self.is_deferred.set()
            return self.execute(**arguments)
        deferred = self.defer(**arguments)
        return self.resume(deferred.method_name, {"event": fired_by(deferred.trigger)}, **arguments)

    def resume(self, method: str, kwargs: dict[str, Any], **arguments: Any) -> Any:
        operator = self.make(**{"deferrable": True, **arguments})
        return operator.resume_execution(method, kwargs, self.context)


def run(operator: PodRelayOperator, function: Any, **arguments: Any) -> Any:
    """As the task runner calls ``execute``: only there it may be called."""
    token = ExecutorSafeguard.tracker.set(operator)
    try:
        return function(**arguments)
    finally:
        ExecutorSafeguard.tracker.reset(token)


def anew(trigger: Any) -> Any:
    """The trigger as the triggerer makes it: by its class' path and its arguments, through Airflow's encoding."""
    from airflow.sdk._shared.module_loading import import_string
    from airflow.sdk.serde import deserialize, serialize

    path, arguments = trigger.serialize()
    arguments = json.loads(json.dumps(serialize(arguments)))
    return import_string(path)(**deserialize(arguments))


def fired_by(trigger: Any) -> dict[str, Any]:
    """Run the trigger in a loop of its own; returns the payload of its one event, as Airflow's database gives it."""

    async def events() -> list[Any]:
        return [event.payload async for event in anew(trigger).run()]

    (payload,) = asyncio.run(events())
    return json.loads(json.dumps(payload))
