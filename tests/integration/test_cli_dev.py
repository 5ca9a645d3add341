"""`podrelay dev`, for real: what it starts works, and nothing of it is left, however it ends."""

import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.podrelay_process import PODRELAY, Podrelay, environment


@contextmanager
def running_dev() -> Iterator[tuple["subprocess.Popen[bytes]", str, Path]]:
    """The process, the URL of its Redis, and the directory of its files."""
    env = environment("")
    del env["PODRELAY_REDIS_URL"]
    command = [*PODRELAY, "dev", "--quiet"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = ""
        for line in process.stdout:
            told += line.decode()
            if told.endswith("\n") and "# Try" in told:
                break
        else:
            raise AssertionError(process.stderr.read().decode())
        try:
            url = re.search(r"^export PODRELAY_REDIS_URL=(\S+)$", told, re.M)
            kubeconfig = re.search(r"^export KUBECONFIG=(\S+)", told, re.M)
            assert url
            assert kubeconfig
            yield process, url[1], Path(kubeconfig[1]).parent
        finally:
            process.terminate()


def children_of(pid: int) -> list[int]:
    """The process' children, as Linux lists them."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_the_end_of(pids: list[int]) -> None:
    """Block until none of these processes (of whom we are not the parent) is alive."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([handle], [], [], 30)[0], f"process {pid} is alive"
        finally:
            os.close(handle)


pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes as Linux lists them")


def test_a_job_runs_on_it_and_ctrl_c_ends_everything() -> None:
    with running_dev() as (process, url, directory):
        started = children_of(process.pid)
        assert len(started) == 4, "reaper, Redis, cluster, worker"
        done = Podrelay(url)("submit", "--image", "python:3.12", "--follow", "--", "python", "-c", "print('hello')")
        assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr
        failed = Podrelay(url)("submit", "--image", "ubuntu:1604", "--follow", "--", "python", "-c", "1")
        assert failed.returncode == 70
        assert b'"python": executable file not found' in failed.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        wait_for_the_end_of(started)
        assert not directory.exists()


def test_nothing_is_left_when_it_is_killed() -> None:
    with running_dev() as (process, _, directory):
        started = children_of(process.pid)
        process.kill()
        wait_for_the_end_of(started)
        assert not directory.exists()


def test_a_worker_that_cannot_start_ends_everything_and_says_why(podrelay: Podrelay) -> None:
    done = podrelay("dev", "--quiet", PODRELAY_MAX_JOBS="many")
    assert done.returncode == 1
    assert b"worker ended with code" in done.stderr
    assert b"PODRELAY_MAX_JOBS" in done.stderr
    assert b"Traceback" not in done.stderr
