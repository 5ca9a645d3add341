"""A task's log: what it says of the job and when, the fold around the start, and hooks in their order."""

from datetime import UTC, datetime

import pytest

from airflow_bridge.task_log import Line, Style, TaskLog, level_of
from dispatcher.events import (
    Cursor,
    Ended,
    JobResult,
    JobUpdate,
    LogChunk,
    LogGap,
    Notice,
    Silence,
    SilenceKind,
    StatusChanged,
)
from dispatcher.status import Status


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("hello", 20),
        ("ERROR: no", 40),
        ("[warn] hm", 30),
        ("  DEBUG - x", 10),
        ("FATAL x", 50),
        ("critical", 50),
        ("information", 20),
        ("an ERROR", 20),
    ],
)
def test_a_lines_own_prefix_is_its_level_as_in_kpo(text: str, level: int) -> None:
    from airflow.providers.cncf.kubernetes.utils.pod_manager import _parse_log_level

    assert level_of(text) == _parse_log_level(text)
    if text != "information":
        assert level_of(text) == level


def rendered(log: TaskLog, event: object) -> list[str]:
    """What is due: lines as they are, hooks by name and pod."""
    update = JobUpdate("j", event, Cursor(), datetime(2026, 1, 1, tzinfo=UTC))  # type: ignore[arg-type]
    due = log.render(update)
    return [one.text if isinstance(one, Line) else f"{one.hook} of {one.pod and one.pod.metadata.name}" for one in due]


STARTING = StatusChanged(status=Status.STARTING, pod="p-1", namespace="n", attempt=1)
RUNNING = STARTING.model_copy(update={"status": Status.RUNNING})
OPEN, CLOSE = "::group::Starting the pod", "::endgroup::"


def doing(detail: str, **more: object) -> StatusChanged:
    return STARTING.model_copy(update={"detail": detail, **more})


def test_hooks_are_due_once_for_each_pod_and_after_the_line_that_says_why() -> None:
    log = TaskLog(Style())
    again = STARTING.model_copy(update={"pod": "p-2", "attempt": 2})
    assert rendered(log, StatusChanged(status=Status.QUEUED)) == []
    assert rendered(log, STARTING) == [OPEN, "STARTING: pod n/p-1", "on_pod_creation of p-1"]
    assert rendered(log, RUNNING) == ["RUNNING", CLOSE, "on_pod_starting of p-1"]
    assert rendered(log, RUNNING) == []
    assert rendered(log, LogChunk("base", 1, 0, b"x\ny")) == ["[base] x", "progress_callback of p-1"]
    assert rendered(log, again) == [
        "[base] y",
        "progress_callback of p-1",
        "::group::Starting the pod of attempt 2",
        "STARTING: pod n/p-2",
        "on_pod_creation of p-2",
    ]


def test_a_pod_that_is_first_seen_running_has_both_hooks() -> None:
    running = StatusChanged(status=Status.RUNNING, pod="p", namespace="n", attempt=1)
    assert rendered(TaskLog(Style()), running)[1:] == ["on_pod_creation of p", "on_pod_starting of p"]


def test_of_a_start_each_thing_is_said_once() -> None:
    log = TaskLog(Style())
    changes = [STARTING, doing("waiting to be scheduled"), doing("preparing volumes and network", node="k1")]
    changes += [doing("creating containers", node="k1"), RUNNING.model_copy(update={"node": "k1"})]
    assert [line for change in changes for line in rendered(log, change) if not line.startswith("on_")] == [
        OPEN,
        "STARTING: pod n/p-1",
        "STARTING: waiting to be scheduled",
        "STARTING: on node k1: preparing volumes and network",
        "STARTING: creating containers",
        "RUNNING",
        CLOSE,
    ]


ENDED = Ended(result=JobResult(job_id="j", status=Status.FAILED))


@pytest.mark.parametrize(
    "visible",
    [
        LogChunk("setup", 1, 0, b"from an init container\n"),
        LogGap("base", 1, 0, None, "lost"),
        Notice(level="warning", text="attempt 1 failed"),
        Silence(SilenceKind.OWNER_LOST, "q", None, "its worker is gone"),
        doing("container base: ErrImagePull: no such image"),
        ENDED,
    ],
)
def test_what_a_user_must_see_stands_below_the_fold(visible: object) -> None:
    log = TaskLog(Style())
    rendered(log, STARTING)
    told = rendered(log, visible)
    assert told[0] == CLOSE
    assert rendered(log, doing("creating containers")) == ["STARTING: creating containers"]
    assert CLOSE not in rendered(log, ENDED)


def test_what_keeps_a_pod_from_starting_is_a_warning() -> None:
    log = TaskLog(Style())
    at = datetime(2026, 1, 1, tzinfo=UTC)
    due = log.render(JobUpdate("j", doing("unscheduled: no node has a GPU"), Cursor(), at))
    assert due[0] == Line(30, "STARTING: pod n/p-1: unscheduled: no node has a GPU")


def test_a_job_that_waits_in_its_queue_says_what_for() -> None:
    waits = StatusChanged(status=Status.QUEUED, detail="waiting for quota in namespace n: pods 2/2")
    assert rendered(TaskLog(Style()), waits) == ["QUEUED: waiting for quota in namespace n: pods 2/2"]


def test_the_next_reader_closes_the_fold_that_the_last_one_left_open() -> None:
    begun, with_log = Cursor(event_id="5-0"), Cursor(event_id="6-0", log_id="7-0", ends=((1, "base", 3),))
    line = LogChunk("base", 1, 0, b"x\n")
    assert rendered(TaskLog(Style(), begun), line)[0] == CLOSE
    assert CLOSE not in rendered(TaskLog(Style(), with_log), line)
    assert rendered(TaskLog(Style(), begun), doing("creating containers"))[0].startswith("STARTING: pod n/p-1")


def test_details_of_the_start_are_left_out_when_they_are_not_wanted() -> None:
    log = TaskLog(Style(log_events_on_startup=False))
    assert rendered(log, doing("creating containers"))[:2] == [OPEN, "STARTING: pod n/p-1"]
    assert rendered(log, doing("preparing volumes and network")) == []
