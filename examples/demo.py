"""`make demo`: the whole path on this machine, from an Airflow task to a pod's log and result, and the proof of it.

Starts an embedded Redis, the pocket cluster, a worker and `airflow dags test`, shows what a caller elsewhere hears of
the two jobs, and checks what happened. KUBECONFIG and PODRELAY_REDIS_URL select a cluster and a Redis that are there.
"""

import json
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.text import Text

from devcluster.local.processes import Child, ChildFailedError, Processes, ignore_signals, sigterm_interrupts
from devcluster.local.stack import LocalStack, start_local_stack
from dispatcher import names
from dispatcher.cli import words
from dispatcher.client import Dispatcher
from dispatcher.errors import PodrelayError
from dispatcher.events import Ended, JobResult, JobUpdate, LogChunk
from dispatcher.record import JobRecord
from dispatcher.redis_url import mask_url
from dispatcher.settings import ClientSettings
from dispatcher.status import FailureReason, Status

DAG_ID = "kubernetes_sample"
DAGS = Path(__file__).parent / "dags"
PASSING, FAILING = "passing-task", "failing-task"
NOT_FOUND = '"python": executable file not found'
#: What Airflow takes on a slow machine, many times over; and how long a pod may take to go away.
AIRFLOW_WITHIN_S = 300.0
PODS_GONE_WITHIN_S = 60.0
DISCOVERY_S = 0.1

STYLE = {Status.SUCCEEDED: "green", Status.FAILED: "red", Status.CANCELLED: "magenta"}


@dataclass
class Seen:
    """What a second reader heard of one job."""

    job_id: str
    log: bytearray = field(default_factory=bytearray)
    result: JobResult | None = None


class Screen:
    """Lines for a person, with the time since the start."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._began = time.monotonic()

    def say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style))

    def tell(self, task: str, text: str, style: str = "") -> None:
        stamp = f"{time.monotonic() - self._began:6.1f} s  "
        self._console.print(Text.assemble((stamp, "dim"), (f"{task:<14}", "bold"), (text, style)))


class Watcher:
    """Finds the queue's jobs and follows each in a thread of its own: what any caller with the Redis URL could do."""

    def __init__(self, client: Dispatcher, queue: str, screen: Screen) -> None:
        self._client = client
        self._queue = queue
        self._screen = screen
        self.seen: dict[str, Seen] = {}
        self._followers: list[threading.Thread] = []

    def look(self) -> None:
        """Begin to follow the jobs that are new."""
        for record in self._client.list(self._queue):
            task = task_of(record)
            if task not in self.seen:
                self.seen[task] = Seen(record.job_id)
                follower = threading.Thread(target=self._follow, args=(task, self.seen[task]), daemon=True)
                self._followers.append(follower)
                follower.start()

    def finish(self) -> None:
        """Wait until what was followed has ended."""
        for follower in self._followers:
            follower.join(10)

    def _follow(self, task: str, seen: Seen) -> None:
        try:
            for update in self._client.follow(seen.job_id):
                self._note(seen, update)
                self._show(task, update)
        except PodrelayError as error:
            self._screen.tell(task, str(error), "red")

    @staticmethod
    def _note(seen: Seen, update: JobUpdate) -> None:
        match update.event:
            case LogChunk(data=data):
                seen.log += data
            case Ended(result=result):
                seen.result = result
            case _:
                pass

    def _show(self, task: str, update: JobUpdate) -> None:
        match update.event:
            case LogChunk(data=data):
                for line in data.decode(errors="replace").splitlines():
                    self._screen.tell(task, f"│ {line}", "cyan")
            case Ended(result=result):
                self._screen.tell(task, words.end(result), STYLE[result.status])
            case _:
                line = words.line(update) or ""
                self._screen.tell(task, line.partition(" ")[2] if line[:2].isdigit() else line)


def task_of(record: JobRecord) -> str:
    """Name the job's task: its pod's label says it, as with Airflow's own operator."""
    return record.spec.labels.get("task_id") or record.spec.volatile_labels.get("task_id") or record.spec.name


def airflow_environment(home: Path, redis_url: str, queue: str) -> dict[str, str]:
    """Make the environment of an Airflow that reads and writes nothing outside ``home``."""
    connection = {"conn_type": "podrelay", "extra": {"redis_url": redis_url, "queue": queue}}
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "PODRELAY_"))}
    return {
        **own,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW_CONN_PODRELAY_DEFAULT": json.dumps(connection),
    }


def wait_for(child: Child, timeout_s: float, watcher: Watcher | None = None) -> int:
    """Wait for the process' end, looking for jobs meanwhile; returns its exit code."""
    deadline = time.monotonic() + timeout_s
    while child.process.poll() is None:
        if time.monotonic() > deadline:
            raise ChildFailedError(child.report(f"has not ended after {timeout_s:g} s"))
        if watcher is not None:
            watcher.look()
        time.sleep(DISCOVERY_S)
    return child.process.wait()


def pods_left(kubeconfig: str, queue: str) -> list[str]:
    """Name the queue's pods that are still there after a while in which they should go."""
    from kubernetes import client, config

    api = client.CoreV1Api(config.new_client_from_config(kubeconfig))
    selector = f"{names.LABEL_QUEUE}={queue}"
    deadline = time.monotonic() + PODS_GONE_WITHIN_S
    while True:
        pods = api.list_namespaced_pod("default", label_selector=selector).items
        if not pods or time.monotonic() > deadline:
            return [pod.metadata.name for pod in pods]
        time.sleep(DISCOVERY_S)


def task_states(home: Path) -> dict[str, str]:
    """Read from Airflow's database how the tasks ended."""
    with closing(sqlite3.connect(home / "airflow.db")) as database:
        rows = database.execute("select task_id, state from task_instance where dag_id = ?", (DAG_ID,))
        return {task: state for task, state in rows}


def checks(
    states: Mapping[str, str], seen: Mapping[str, Seen], left: list[str]
) -> Iterator[tuple[str, object, object]]:
    """Yield what is checked, what it must be, and what it is."""
    yield "states of the tasks", {"run_this_first": "success", PASSING: "success", FAILING: "failed"}, dict(states)
    yield "jobs", [FAILING, PASSING], sorted(seen)
    passed, failed = (seen[task].result if task in seen else None for task in (PASSING, FAILING))
    yield f"job of {PASSING}", (Status.SUCCEEDED, None, 0), passed and (passed.status, passed.reason, passed.exit_code)
    yield f"log of {PASSING}", b"hello world\n", bytes(seen[PASSING].log) if PASSING in seen else None
    yield f"job of {FAILING}", (Status.FAILED, FailureReason.START_ERROR), failed and (failed.status, failed.reason)
    yield f"log of {FAILING}", b"", bytes(seen[FAILING].log) if FAILING in seen else None
    told = failed.message if failed else ""
    yield f"message of {FAILING}", NOT_FOUND, NOT_FOUND if NOT_FOUND in told else told
    yield "pods that are left", [], left


def run(screen: Screen, processes: Processes) -> list[str]:
    """Run everything. Returns what differed."""
    queue = f"demo-{os.urandom(3).hex()}"
    home = processes.directory / "airflow"
    redis_url, kubeconfig = os.environ.get("PODRELAY_REDIS_URL"), os.environ.get("KUBECONFIG")
    # The database takes Airflow some seconds: it is made while the rest starts.
    migration = processes.start("airflow", ["airflow", "db", "migrate"], airflow_environment(home, "", queue))
    env = {"PODRELAY_QUEUE": queue}
    stack = start_local_stack(processes, redis_url=redis_url, kubeconfig=kubeconfig, worker_env=env)
    introduce(screen, stack)
    screen.tell("airflow", "makes its database", "dim")
    if wait_for(migration, AIRFLOW_WITHIN_S):
        raise ChildFailedError(migration.report("could not make its database"))
    settings = ClientSettings.from_environment({}, redis_url=stack.redis_url, queue=queue)
    with Dispatcher(settings) as client:
        watcher = Watcher(client, queue, screen)
        command = ["airflow", "dags", "test", DAG_ID]
        screen.tell("airflow", f"starts: {' '.join(command)}", "dim")
        airflow = processes.start("airflow", command, airflow_environment(home, stack.redis_url, queue))
        code = wait_for(airflow, AIRFLOW_WITHIN_S, watcher)
        watcher.look()
        watcher.finish()
    # A run with a failed task makes `dags test` fail: that is right here.
    screen.tell("airflow", f"`dags test` ended with code {code}", "dim")
    left = pods_left(stack.kubeconfig, queue)
    return report(screen, checks(task_states(home), watcher.seen, left))


def introduce(screen: Screen, stack: LocalStack) -> None:
    """Say what runs, and what of it was there already."""
    redis = f"embedded, {Path(stack.redis_binary).name}" if stack.redis_binary else "yours"
    cluster = f"pocket cluster at {stack.cluster_url}" if stack.cluster_url else f"yours, {stack.kubeconfig}"
    screen.say(f"  Redis    {mask_url(stack.redis_url)} ({redis})")
    screen.say(f"  cluster  {cluster}")
    screen.say(f"  worker   process {stack.children[0].process.pid}\n")


def report(screen: Screen, made: Iterator[tuple[str, object, object]]) -> list[str]:
    """Show every check. Returns what differed."""
    screen.say("")
    differed = []
    for what, expected, found in made:
        if expected == found:
            screen.say(f"  ✔ {what}: {plain(found)}", "green")
        else:
            differed.append(f"{what}: expected {plain(expected)}, found {plain(found)}")
            screen.say(f"  ✘ {differed[-1]}", "bold red")
    return differed


def plain(value: object) -> str:
    """Write a checked value as a person would."""
    match value:
        case bytes():
            return repr(value.decode(errors="replace"))
        case dict():
            return ", ".join(f"{key} {each}" for key, each in sorted(value.items())) or "none"
        case list() | tuple():
            return ", ".join(plain(each) for each in value if each is not None) or "none"
        case None:
            return "nothing"
        case _:
            return str(value)


def main() -> int:
    """Run the demo. Returns the exit code."""
    screen, began = Screen(), time.monotonic()
    screen.say("podrelay: an Airflow task runs a pod in a cluster that Airflow cannot reach\n", "bold")
    log = tempfile.NamedTemporaryFile("w", prefix="podrelay-demo-", suffix=".log", delete=False)  # noqa: SIM115 -- kept when the demo fails
    lock = threading.Lock()

    def sink(name: str, line: str) -> None:
        with lock:
            log.write(f"{name:<7} | {line}\n")
            log.flush()

    try:
        with sigterm_interrupts(), Processes(sink) as processes:
            try:
                problems = run(screen, processes)
            except KeyboardInterrupt:
                screen.say("\ninterrupted: ending everything", "yellow")
                problems = None
            except (ChildFailedError, PodrelayError) as error:
                problems = [str(error)]
                screen.say(f"\n{error}", "red")
            ignore_signals()
    finally:
        log.close()
    if problems:
        screen.say(f"\nThis is not what should have happened. What everybody said: {log.name}", "bold red")
        return 1
    Path(log.name).unlink()
    if problems is None:
        return 130
    screen.say(f"\nAll as it should be, in {time.monotonic() - began:.0f} s; all processes are gone.", "bold green")
    return 0


if __name__ == "__main__":
    sys.exit(main())
