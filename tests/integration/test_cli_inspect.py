"""Looking at jobs and workers, and ending jobs, from a shell."""

import json
import os
import re
import subprocess
import sys

import pytest
import redis

from dispatcher.status import FailureReason, Status
from dispatcher.version import VERSION
from tests.support.podrelay_process import PlayedWorker, Podrelay


def test_status_tells_who_has_the_job_and_how_it_ended(podrelay: Podrelay, played_worker: PlayedWorker) -> None:
    job_id = podrelay.submit(name="told")
    played_worker.live()
    fence = played_worker.take(job_id)
    played_worker.move(job_id, fence, Status.RUNNING, pod="told-1", node="node-a", namespace="default")
    played_worker.end(
        job_id, fence, Status.FAILED, FailureReason.EXIT_CODE, exit_code=7, message="the code ended with 7"
    )
    text = podrelay("status", job_id).stdout.decode()
    rows = dict(line.split("  ", 1) for line in text.splitlines())
    shown = {name.strip(): value.strip() for name, value in rows.items()}
    assert shown["owner"] == "played-1-abcd (epoch 1)"
    assert shown["attempt"] == "1 of 3"
    assert shown["takeovers"] == "0"
    assert shown["pod"] == "default/told-1"
    assert shown["node"] == "node-a"
    assert shown["reason"] == "exit_code (user code)"
    assert shown["message"] == "the code ended with 7"
    assert shown["exit code"] == "7"
    assert {"queued at", "running at", "failed at"} <= shown.keys()
    record = json.loads(podrelay("status", job_id, "--json").stdout)
    assert (record["owner"], record["epoch"], record["reason"]) == ("played-1-abcd", 1, "exit_code")
    assert record["result"]["message"] == "the code ended with 7"


def test_cancelling_a_waiting_job_ends_it_and_says_who_asked(podrelay: Podrelay) -> None:
    job_id = podrelay.submit()
    assert podrelay("cancel", job_id).stdout.decode() == f"{job_id}: cancelled\n"
    again = podrelay("cancel", job_id)
    assert (again.returncode, again.stdout.decode()) == (0, f"{job_id}: had ended before\n")
    assert "cancel requested by" in podrelay("status", job_id).stdout.decode()
    assert podrelay("logs", "-f", job_id).returncode == 71


def test_cancelling_a_running_job_asks_its_worker(podrelay: Podrelay, played_worker: PlayedWorker) -> None:
    job_id = podrelay.submit()
    played_worker.live()
    fence = played_worker.take(job_id)
    with podrelay.start("cancel", "--wait", job_id) as process:
        assert process.stdout is not None
        assert b"cancel requested" in process.stdout.readline()
        played_worker.end(job_id, fence, Status.CANCELLED, cancelled_by="somebody")
        assert process.stdout.read().decode() == f"{job_id}: CANCELLED\n"
        assert process.wait(10) == 0


def test_jobs_are_listed_in_columns_and_as_json(podrelay: Podrelay) -> None:
    first = podrelay.submit(name="one", queue="blue")
    second = podrelay.submit(name="two", queue="green")
    podrelay("cancel", second)
    lines = podrelay("list").stdout.decode().splitlines()
    assert lines[0].split() == ["JOB", "NAME", "QUEUE", "STATUS", "AGE", "DETAIL"]
    assert {tuple(line.split()[:4]) for line in lines[1:]} == {
        (first, "one", "blue", "QUEUED"),
        (second, "two", "green", "CANCELLED"),
    }
    assert [json.loads(x)["name"] for x in podrelay("list", "-q", "blue", "--json").stdout.splitlines()] == ["one"]
    assert second in podrelay("list", "--status", "cancelled").stdout.decode()
    assert b"did you mean 'QUEUED'?" in podrelay("list", "--status", "qeued").stderr


def test_workers_are_listed_dead_ones_included(podrelay: Podrelay, played_worker: PlayedWorker) -> None:
    assert podrelay("workers", "--check").returncode == 1
    played_worker.live(namespaces=["default", "jobs"], max_jobs=10, followed=2, version="1.2.3")
    assert podrelay("workers", "--check").returncode == 0
    assert podrelay("workers", "--check", "--name", "played").returncode == 0
    assert podrelay("workers", "--check", "--queue", "other").returncode == 1
    row = podrelay("workers").stdout.decode().splitlines()[1]
    assert row.split()[:3] == ["played-1-abcd", "default", "yes"]
    assert "2/10" in row
    assert "1.2.3" in row.split()
    assert "default jobs" in row
    with redis.Redis.from_url(podrelay.redis_url) as client:
        client.delete("podrelay:worker:played-1-abcd")
    (view,) = [json.loads(line) for line in podrelay("workers", "--json").stdout.splitlines()]
    assert (view["worker"], view["is_alive"], view["version"]) == ("played-1-abcd", False, "1.2.3")


@pytest.mark.parametrize("module", ["dispatcher.cli", "worker", "devcluster"])
def test_each_command_tells_its_version_without_settings(module: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", module, "--version"]
    done = subprocess.run(
        command, env={**os.environ, "PODRELAY_NONSENSE": "1"}, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(rf"podrelay {re.escape(VERSION)}\n", done.stdout) or module == "devcluster"
    assert done.stdout.startswith("podrelay ")
    for heavy in ("celery", "pydantic", "redis", "rich"):
        assert not re.search(rf"\| +{heavy}$", done.stderr, re.M), heavy


def test_a_workers_version_needs_nothing_of_what_a_worker_does(podrelay: Podrelay) -> None:
    assert podrelay("worker", "--version").stdout.decode() == f"podrelay {VERSION}\n"
