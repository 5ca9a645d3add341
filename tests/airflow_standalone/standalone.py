"""A whole Airflow as real processes, seen only as a user sees it: through its REST API.

The components run one by one instead of under ``airflow standalone``, so that each can be killed and started alone.
They belong to a :class:`tests.support.installation.Installation`, which ends them, also when the test itself is killed.
"""

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from devcluster.local.processes import Child
from devcluster.local.redis_server import free_port
from tests.support.installation import Installation, clean_environment

T = TypeVar("T")

#: Limits that only a hung machine reaches.
WITHIN_S = 90.0
POLL_S = 0.25

#: What makes Airflow notice things in the time of a test. A secret that all components share is in each one's
#: environment, because every one would make up its own.
_SETTINGS = {
    "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "CORE__EXECUTOR": "LocalExecutor",
    "CORE__LOAD_EXAMPLES": "False",
    "CORE__PARALLELISM": "6",
    "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    "CORE__TEST_CONNECTION": "Enabled",
    "API__HOST": "127.0.0.1",
    "API__SECRET_KEY": "of the tests",
    "API__WORKERS": "1",
    "API_AUTH__JWT_SECRET": "of the tests, and long enough for the signature's algorithm to be content with it",
    "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
    "LOGGING__COLORED_CONSOLE_LOG": "False",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
    "TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
}


@dataclass(frozen=True, slots=True)
class TaskAddress:
    """One task instance."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    @property
    def path(self) -> str:
        return f"/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{self.task_id}"


class StandaloneAirflow:
    """Use :meth:`start` once; everything else is what a user can do from outside.

    Args:
        installation: what the tasks' pods run on; its Redis is the connection ``podrelay_default``.
        dags: where the DAG files are.
        environment: more variables for all of Airflow's processes.
    """

    def __init__(self, installation: Installation, dags: Path, environment: Mapping[str, str]) -> None:
        self.installation = installation
        self.home = installation.processes.directory / "airflow"
        self.home.mkdir()
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        connection = {"conn_type": "podrelay", "extra": {"redis_url": installation.redis_url}}
        own = {name: value for name, value in clean_environment().items() if not name.startswith("AIRFLOW")}
        self.environment = {
            **own,
            **{f"AIRFLOW__{name}": value for name, value in _SETTINGS.items()},
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__PORT": str(self._port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db?timeout=60",
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW_CONN_PODRELAY_DEFAULT": json.dumps(connection),
            **environment,
        }
        self._client = httpx.Client(base_url=f"{self.url}/api/v2", timeout=60)
        self._components: list[Child] = []
        # A log of writes beside the database: one who reads does not lock out one who writes.
        with closing(sqlite3.connect(self.home / "airflow.db")) as database:
            database.execute("PRAGMA journal_mode=WAL")
        self._migration = self._run("migration", "db", "migrate")

    def start(self) -> None:
        """Start the components; returns when the API answers."""
        assert self._migration.process.wait(WITHIN_S) == 0, self._migration.report("failed")
        self._run("api-server", "api-server")
        self._run("dag-processor", "dag-processor")
        self.start_scheduler()
        self.start_triggerer()
        self.wait_for("Airflow's API", self._is_answering)
        token = httpx.get(f"{self.url}/auth/token", timeout=30).json()["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def start_scheduler(self) -> None:
        """Start a scheduler (again)."""
        self._scheduler = self._run("scheduler", "scheduler", "--skip-serve-logs")

    def kill_scheduler(self) -> None:
        """SIGKILL: the scheduler, its executor and all tasks end here and now, as if their machine died."""
        _kill_session(self._scheduler)

    def start_triggerer(self) -> None:
        """Start a triggerer (again)."""
        self._triggerer = self._run("triggerer", "triggerer", "--skip-serve-logs")

    def kill_triggerer(self) -> None:
        """SIGKILL: the triggerer and the process that runs its triggers end here and now, as if their machine died."""
        _kill_session(self._triggerer)

    def close(self) -> None:
        """End all components at once, and whatever they run: nobody needs this Airflow any more."""
        self._client.close()
        for child in self._components:
            _kill_session(child)

    # What a user does

    def call(self, method: str, path: str, *, body: object = None, params: Mapping[str, Any] | None = None) -> Any:
        """One request to the REST API; raises httpx.HTTPStatusError for every refusal."""
        answer = self._client.request(method, path, json=body, params=params)
        if answer.is_error:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def has_dag(self, dag_id: str) -> bool:
        return not self._client.get(f"/dags/{dag_id}").is_error

    def run_dag(self, dag_id: str, run_id: str) -> None:
        """Trigger a run as soon as the DAG is known."""
        self.wait_for(f"DAG {dag_id}", lambda: self.has_dag(dag_id))
        self.call("POST", f"/dags/{dag_id}/dagRuns", body={"dag_run_id": run_id, "logical_date": None})

    def task(self, task: TaskAddress) -> dict[str, Any]:
        """The task instance: ``state``, ``try_number``, ``pid`` …"""
        where = task.path if task.map_index < 0 else f"{task.path}/{task.map_index}"
        return dict(self.call("GET", where))

    def state(self, task: TaskAddress) -> str | None:
        return self.task(task)["state"]

    def log(self, task: TaskAddress, try_number: int = 1) -> list[dict[str, Any]]:
        """The entries of a try's log, as the task's page gets them."""
        params = {"map_index": task.map_index, "full_content": True}
        answer = self._client.get(f"{task.path}/logs/{try_number}", params=params)
        return [] if answer.status_code == httpx.codes.NOT_FOUND else list(answer.json()["content"])

    def lines(self, task: TaskAddress, try_number: int = 1) -> list[str]:
        """The log's text, line by line."""
        events = [str(entry.get("event", "")) for entry in self.log(task, try_number)]
        return [line for event in events for line in event.splitlines()]

    def container_lines(self, task: TaskAddress, try_number: int = 1) -> list[str]:
        """What the base container wrote, as the task's log shows it."""
        return [line[7:] for line in self.lines(task, try_number) if line.startswith("[base] ")]

    def xcom(self, task: TaskAddress, key: str = "return_value") -> Any:
        """An XCom of the task; None where there is none."""
        params = {"map_index": task.map_index, "deserialize": True}
        answer = self._client.get(f"{task.path}/xcomEntries/{key}", params=params)
        return None if answer.status_code == httpx.codes.NOT_FOUND else answer.json()["value"]

    def mark(self, task: TaskAddress, state: str) -> None:
        self.call("PATCH", task.path, body={"new_state": state})

    def clear(self, task: TaskAddress) -> None:
        body = {"dry_run": False, "only_failed": False, "task_ids": [task.task_id], "dag_run_id": task.run_id}
        self.call("POST", f"/dags/{task.dag_id}/clearTaskInstances", body=body)

    # Waiting

    def wait_for_state(self, task: TaskAddress, *states: str, try_number: int = 1) -> dict[str, Any]:
        """Wait until that try (or a later one) is in one of the states; returns the task instance."""

        def arrived() -> dict[str, Any] | None:
            found = self.task(task)
            return found if found["state"] in states and found["try_number"] >= try_number else None

        def what() -> str:
            found, said = self.task(task), "\n".join(self.lines(task, max(1, self.task(task)["try_number"])))
            return f"{task} is {found['state']} in try {found['try_number']}, not {states} in {try_number}:\n{said}"

        return self.wait_for(what, arrived)

    def wait_for_line(self, task: TaskAddress, text: str, try_number: int = 1) -> None:
        self.wait_for(f"{text!r} in {task}", lambda: any(text in line for line in self.lines(task, try_number)))

    def wait_for(self, what: str | Callable[[], str], look: Callable[[], T | None]) -> T:
        """Look until there is something true; the REST API has no event to wait for."""
        deadline = time.monotonic() + WITHIN_S
        while not (found := look()):
            if time.monotonic() > deadline:
                self.installation.tell_all()
                raise AssertionError(what if isinstance(what, str) else what())
            time.sleep(POLL_S)
        return found

    def _is_answering(self) -> bool:
        with suppress(httpx.TransportError):
            return not self._client.get("/version").is_error
        return False

    def _run(self, name: str, *command: str) -> Child:
        child = self.installation.processes.start(name, ["airflow", *command], self.environment)
        self._components.append(child)
        return child


def _kill_session(child: Child) -> None:
    """Kill all that a component has started, too, whatever process groups they made."""
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        with suppress(ProcessLookupError):
            if os.getsid(pid) == child.process.pid:
                os.kill(pid, signal.SIGKILL)
    child.process.wait()
