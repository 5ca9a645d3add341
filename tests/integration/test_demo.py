"""`make demo` for real, and what it does when something differs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher.events import JobResult
from dispatcher.status import FailureReason, Status
from examples import demo
from tests.integration.test_cli_dev import children_of, wait_for_the_end_of
from tests.support.podrelay_process import environment

ROOT = Path(__file__).parents[2]


def demo_process(tmp_path: Path) -> "subprocess.Popen[str]":
    env = {**environment(""), "TMPDIR": str(tmp_path)}
    del env["PODRELAY_REDIS_URL"]
    command = [sys.executable, "-m", "examples.demo"]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.airflow
@pytest.mark.timeout(240)
def test_the_demo_shows_and_proves_the_whole_path_and_leaves_nothing(tmp_path: Path) -> None:
    with demo_process(tmp_path) as process:
        assert process.stdout is not None
        shown = process.stdout.read()
        assert process.wait() == 0, shown
    assert "passing-task  │ hello world" in shown
    assert "passing-task  SUCCEEDED, exit code 0" in shown
    assert "failing-task  FAILED, start_error" in shown
    assert '"python": executable file not found' in shown
    assert "✘" not in shown
    assert os.listdir(tmp_path) == [], "no file is left"


@pytest.mark.airflow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes as Linux lists them")
def test_ctrl_c_ends_everything_that_the_demo_started(tmp_path: Path) -> None:
    with demo_process(tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "makes its database" in line:
                break
        started = children_of(process.pid)
        assert len(started) >= 4, "reaper, Airflow, cluster, Redis, worker"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        wait_for_the_end_of(started)
    assert os.listdir(tmp_path) == []


def _seen() -> dict[str, demo.Seen]:
    passed = JobResult(job_id="1", status=Status.SUCCEEDED, exit_code=0)
    failed = JobResult(
        job_id="2", status=Status.FAILED, reason=FailureReason.START_ERROR, message=f"exec: {demo.NOT_FOUND} in $PATH"
    )
    return {
        demo.PASSING: demo.Seen("1", bytearray(b"hello world\n"), passed),
        demo.FAILING: demo.Seen("2", bytearray(), failed),
    }


STATES = {"run_this_first": "success", demo.PASSING: "success", demo.FAILING: "failed"}


def _differs(states: dict[str, str], seen: dict[str, demo.Seen], left: list[str]) -> list[str]:
    return [what for what, expected, found in demo.checks(states, seen, left) if expected != found]


def test_the_demo_is_content_with_exactly_what_should_happen() -> None:
    assert _differs(STATES, _seen(), []) == []


def test_the_demo_tells_each_difference() -> None:
    assert _differs({**STATES, demo.FAILING: "success"}, _seen(), []) == ["states of the tasks"]
    assert _differs(STATES, _seen(), ["pod-1"]) == ["pods that are left"]
    seen = _seen()
    seen[demo.PASSING].log += b"hello world\n"
    assert _differs(STATES, seen, []) == [f"log of {demo.PASSING}"]
    seen = _seen()
    assert seen[demo.FAILING].result is not None
    seen[demo.FAILING].result = JobResult(job_id="2", status=Status.FAILED, reason=FailureReason.IMAGE_PULL)
    assert _differs(STATES, seen, []) == [f"job of {demo.FAILING}", f"message of {demo.FAILING}"]
    assert len(_differs({}, {}, [])) == 7
