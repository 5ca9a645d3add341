"""The trigger beside the table of what ends a task: outages, arguments, what cannot be followed."""

import asyncio
import json
import threading
from typing import Any

import pytest
from airflow.triggers.base import TriggerEvent
from hypothesis import given
from hypothesis import strategies as st

from airflow_bridge.callbacks import PodRelayCallback
from airflow_bridge.outcome import PodRelayFailure
from airflow_bridge.shared_client import borrowed_client
from airflow_bridge.trigger import PodRelayTrigger
from airflow_bridge.trigger_event import ForeignEventError, JobTriggerEvent, JobTriggerStatus
from devcluster.local.redis_server import RedisServer
from tests.airflow.test_what_ends_a_task import Triggerer
from tests.support.scripted_worker import PlayedJob, ScriptedWorker
from tests.support.task_run import TaskLog, TaskRun, anew, fired_by


def shout(container: str, line: str) -> str:
    return f"{container.upper()}: {line}"


def test_its_arguments_hold_nothing_secret(task_run: TaskRun, monkeypatch: pytest.MonkeyPatch) -> None:
    url = task_run.redis_url.removeprefix("redis://").removesuffix("/0")
    extra = json.dumps({"redis_url": f"redis://:swordfish@{url}/0"})
    monkeypatch.setenv("AIRFLOW_CONN_PODRELAY_DEFAULT", json.dumps({"conn_type": "podrelay", "extra": extra}))
    trigger = PodRelayTrigger(job_id="j", podrelay_conn_id="podrelay_default", reader="r")
    assert "swordfish" not in repr(trigger.serialize())
    assert anew(trigger).serialize() == trigger.serialize()


def test_the_deferred_tasks_arguments_reach_it(task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url):
        trigger = task_run.defer(
            on_kill_action="keep_pod",
            log_formatter=shout,
            container_name_log_prefix_enabled=False,
            log_events_on_startup=False,
            trigger_kwargs={"mine": 1},
        ).trigger
    path, arguments = trigger.serialize()
    assert path == "airflow_bridge.trigger.PodRelayTrigger"
    assert arguments == {
        "job_id": task_run.ti.xcoms["podrelay_job_id"],
        "podrelay_conn_id": "podrelay_default",
        "reader": "airflow-1",
        "deadline_at": None,
        "on_kill_action": "keep_pod",
        "container_name_log_prefix_enabled": False,
        "log_events_on_startup": False,
        "log_formatter": "tests.airflow.test_trigger:shout",
        "callbacks": [],
        "trigger_kwargs": {"mine": 1},
    }


def test_the_users_format_and_arguments_hold_while_deferred(task_run: TaskRun, task_log: TaskLog) -> None:
    def hello(job: object) -> None:
        job.running().log(b"hello\n").succeed()  # type: ignore[attr-defined]

    with ScriptedWorker(task_run.redis_url, hello, arrives_after=task_run.is_deferred.wait):
        deferred = task_run.defer(log_formatter=shout, trigger_kwargs={"mine": 1})
        event = fired_by(deferred.trigger)
    assert "BASE: hello" in task_log.lines
    assert (event["mine"], event["status"], event["namespace"]) == (1, "success", "team-a")


def test_a_formatter_of_the_dag_file_is_left_out_and_said(task_run: TaskRun, task_log: TaskLog) -> None:
    with ScriptedWorker(task_run.redis_url):
        trigger = task_run.defer(log_formatter=lambda container, line: line).trigger
    assert trigger.log_formatter is None
    assert any("The triggerer cannot import" in line for line in task_log.at("warning"))


def test_a_formatter_that_cannot_be_imported_is_told_and_the_log_goes_on(task_run: TaskRun, task_log: TaskLog) -> None:
    def hello(job: object) -> None:
        job.running().log(b"hello\n").succeed()  # type: ignore[attr-defined]

    with ScriptedWorker(task_run.redis_url, hello, arrives_after=task_run.is_deferred.wait):
        trigger = task_run.defer().trigger
        trigger.log_formatter = "no_such_module:shout"
        fired_by(trigger)
    assert "[base] hello" in task_log.lines
    assert any("cannot import no_such_module:shout" in line for line in task_log.at("warning"))


class Stuck(PodRelayCallback):
    """Holds up the first trigger for good, and no other."""

    is_stuck = threading.Event()

    @staticmethod
    async def progress_callback(**_: object) -> None:
        if not Stuck.is_stuck.is_set():
            Stuck.is_stuck.set()
            await asyncio.Event().wait()


def test_a_trigger_that_is_stopped_within_a_hook_loses_no_line(task_run: TaskRun, task_log: TaskLog) -> None:
    """Its successor begins again with the chunk whose lines were not all told."""

    def hello(job: PlayedJob) -> None:
        job.running().log(b"one\ntwo\n")
        task_log.wait_for("a second triggerer")
        job.succeed()

    with ScriptedWorker(task_run.redis_url, hello, arrives_after=task_run.is_deferred.wait):
        trigger = task_run.defer(callbacks=Stuck).trigger
        Triggerer(trigger).until(Stuck.is_stuck.wait)
        task_log.hear(None, "info", {"event": "a second triggerer"})
        fired_by(trigger)
    assert task_log.containers_lines() == ["[base] one", "[base] one", "[base] two"]


def test_a_job_that_redis_does_not_know_fails_the_task(task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url) as worker:
        deferred = task_run.defer()
        worker.client.flushall()
        event = fired_by(deferred.trigger)
    assert event["status"] == "error"
    with pytest.raises(PodRelayFailure, match=r"cannot be followed: job .* is unknown"):
        task_run.resume(deferred.method_name, {"event": event})


def test_a_redis_that_is_away_when_the_triggerer_starts_is_waited_for(
    task_log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODRELAY_REDIS_RETRIES", "0")
    with RedisServer(append_only=True) as server:
        monkeypatch.setenv("AIRFLOW_CONN_PODRELAY_DEFAULT", f"podrelay://127.0.0.1:{server.port}/0")
        task_run = TaskRun(server.url)
        with ScriptedWorker(server.url):
            deferred = task_run.defer()
        server.stop()
        fired: list[object] = []
        triggerer = threading.Thread(target=lambda: fired.append(fired_by(deferred.trigger)))
        triggerer.start()
        task_log.wait_for("the job goes on meanwhile, waiting for Redis")
        server.start()
        with ScriptedWorker(server.url, lambda job: job.running().log(b"back\n").succeed()):
            triggerer.join(30)
    assert len(fired) == 1
    assert task_log.containers_lines() == ["[base] back"]


async def test_triggers_of_one_loop_share_a_client_and_it_is_made_anew_in_another(connection: str) -> None:
    async with borrowed_client("podrelay_default") as one, borrowed_client("podrelay_default") as other:
        assert one is other
    async with borrowed_client("podrelay_default") as later:
        assert later is one

    def elsewhere() -> bool:
        async def borrow() -> bool:
            async with borrowed_client("podrelay_default") as another:
                return another is not one

        return asyncio.run(borrow())

    assert await asyncio.to_thread(elsewhere)


@pytest.mark.parametrize("status", JobTriggerStatus)
def test_the_event_crosses_airflows_database_unchanged(status: JobTriggerStatus) -> None:
    fired = JobTriggerEvent("job", status, "m", "pod", "ns", "g/1-0/2-0/", "FAILED", {"mine": [1]}, ("module:Name",))
    payload = json.loads(json.dumps(TriggerEvent(fired.encode()).payload))
    assert JobTriggerEvent.decode(payload) == fired


def test_an_event_of_another_version_says_so() -> None:
    for other in (
        {"status": "paused"},
        {"status": None},
        {"job_id": 5},
        {"job_id": ""},
        {"message": {"a": 1}},
        {"uncalled": 5},
    ):
        payload = JobTriggerEvent("job", JobTriggerStatus.SUCCESS).encode() | other
        with pytest.raises(ForeignEventError, match=r"of another version of podrelay: .* Bring .* to one version"):
            JobTriggerEvent.decode(payload)


def test_what_a_newer_version_adds_to_the_event_passes() -> None:
    payload = JobTriggerEvent("job", JobTriggerStatus.SUCCESS).encode() | {"new": 1}
    assert JobTriggerEvent.decode(payload).extra == {"new": 1}


#: As the trigger of KPO 10.25 fires them; a user's ``trigger_kwargs`` stand in them too.
KPOS: list[dict[str, Any]] = [
    {"status": "success", "namespace": "etl", "name": "load-1", "last_log_time": None},
    {"status": "failed", "namespace": "etl", "name": "load-1", "message": "pod failed", "job_id": "mine"},
    {"status": "error", "namespace": "etl", "name": "load-1", "message": "boom", "stack_trace": "Traceback"},
    {"status": "timeout", "namespace": "etl", "name": "load-1", "message": "m", "_execution_deadline": 5},
    {"status": "running", "namespace": "etl", "name": "load-1", "last_log_time": "2026-01-01T00:00:00Z"},
]


@pytest.mark.parametrize("event", KPOS)
def test_kpos_own_event_says_what_to_do(event: dict[str, Any]) -> None:
    with pytest.raises(ForeignEventError) as told:
        JobTriggerEvent.decode(event)
    assert str(told.value).startswith("This task was deferred by KubernetesPodOperator (or another operator)")
    assert f"status {event['status']} for pod etl/load-1, which may still be there" in str(told.value)
    assert "clear the task, or let it retry" in str(told.value)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.sampled_from(["job_id", "status", "cursor", "name"]), inner, max_size=4)
    ),
)


@given(event=any_json)
def test_any_event_at_all_is_ours_or_gets_a_sentence(event: Any) -> None:
    try:
        assert JobTriggerEvent.decode(event).job_id
    except ForeignEventError as told:
        assert str(told).isprintable()  # noqa: PT017 - either may happen
        assert len(str(told)) < 1500  # noqa: PT017
