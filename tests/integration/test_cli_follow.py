"""Following a job from a shell: what comes out where, and with which exit code."""

import base64
import json
import os
import pty
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from dispatcher.status import FailureReason, Status
from tests.support.podrelay_process import PlayedWorker, Podrelay


def read_until(stream: Any, needle: bytes) -> bytes:
    """Everything up to and with the line that holds the needle."""
    read = b""
    for line in stream:
        read += line
        if needle in line:
            return read
    raise AssertionError(f"ended without {needle!r}: {read!r}")


@pytest.mark.parametrize(
    ("status", "reason", "container_code", "code"),
    [
        (Status.SUCCEEDED, None, 0, 0),
        (Status.FAILED, FailureReason.EXIT_CODE, 7, 7),
        (Status.FAILED, FailureReason.START_ERROR, 128, 70),
    ],
)
def test_following_exits_as_the_job_did(
    podrelay: Podrelay,
    played_worker: PlayedWorker,
    status: Status,
    reason: FailureReason | None,
    container_code: int | None,
    code: int,
) -> None:
    job_id = podrelay.submit()
    played_worker.live()
    fence = played_worker.take(job_id)
    played_worker.end(job_id, fence, status, reason, exit_code=container_code, message="because of the moon")
    done = podrelay("logs", "-f", job_id)
    assert done.returncode == code
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith(f"podrelay: {status}")
    assert ("because of the moon" in last) == (status is not Status.SUCCEEDED)
    assert done.stdout == b""


def test_log_bytes_reach_stdout_unharmed_and_everything_else_stderr(
    podrelay: Podrelay, played_worker: PlayedWorker
) -> None:
    data = b"caf\xc3\xa9 \xff\xfe\x00 \r\n\x1b[1mbold" + bytes(range(256))
    job_id = podrelay.submit(name="raw")
    played_worker.live()
    fence = played_worker.take(job_id)
    played_worker.move(job_id, fence, Status.STARTING, pod="raw-1", detail="pulling the image")
    played_worker.move(job_id, fence, Status.RUNNING, pod="raw-1", detail="")
    played_worker.log(job_id, fence, data[:10])
    played_worker.log(job_id, fence, data[10:])
    played_worker.tell(job_id, fence, "the node is slow")
    played_worker.end(job_id, fence, Status.SUCCEEDED, exit_code=0)
    done = podrelay("logs", "--follow", job_id)
    assert (done.returncode, done.stdout) == (0, data)
    told = done.stderr.decode()
    assert "STARTING (pulling the image) pod default/raw-1" in told
    assert "warning: the node is slow" in told
    assert podrelay("logs", job_id).stdout == data


def test_a_program_reads_one_json_object_a_line(podrelay: Podrelay, played_worker: PlayedWorker) -> None:
    job_id = podrelay.submit()
    played_worker.live()
    fence = played_worker.take(job_id)
    played_worker.log(job_id, fence, "grüße\n".encode())
    played_worker.log(job_id, fence, b"\xff\n")
    played_worker.end(job_id, fence, Status.FAILED, FailureReason.EXIT_CODE, exit_code=3)
    done = podrelay("logs", "-f", job_id, "--json")
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [x["kind"] for x in said] == ["status", "log", "log", "ended"]
    assert all(x["job_id"] == job_id and x["cursor"] and x["at"] for x in said)
    assert (said[1]["text"], "base64" in said[1]) == ("grüße\n", False)
    assert base64.b64decode(said[2]["base64"]) == b"\xff\n"
    assert said[3]["result"]["exit_code"] == done.returncode == 3
    assert done.stderr == b""
    # Each object holds the place after it.
    rest = podrelay("logs", "-f", job_id, "--json", "--cursor", said[1]["cursor"])
    assert [json.loads(line)["kind"] for line in rest.stdout.splitlines()] == ["log", "ended"]
    assert podrelay("logs", "-f", job_id, "--cursor", said[3]["cursor"]).returncode == 3


def test_the_log_of_one_container_can_be_picked(podrelay: Podrelay, played_worker: PlayedWorker) -> None:
    job_id = podrelay.submit()
    played_worker.live()
    fence = played_worker.take(job_id)
    played_worker.log(job_id, fence, b"from base\n")
    played_worker.log(job_id, fence, b"from side\n", container="side")
    assert podrelay("logs", job_id).stdout == b"from base\nfrom side\n"
    assert podrelay("logs", job_id, "-c", "side").stdout == b"from side\n"


def test_what_follows_a_job_says_within_10_s_that_no_worker_is_alive_and_goes_on(
    podrelay: Podrelay, played_worker: PlayedWorker
) -> None:
    began = time.monotonic()
    with podrelay.start("submit", "--image", "a", "--id", "lonely", "--follow") as process:
        assert process.stderr is not None
        told = read_until(process.stderr, b"no worker is alive on queue 'default'")
        assert time.monotonic() - began < 10
        assert b"none was ever seen" in told
        played_worker.live()
        played_worker.end("lonely", played_worker.take("lonely"), Status.SUCCEEDED, exit_code=0)
        assert process.wait(10) == 0


def test_ctrl_c_detaches_and_says_how_to_go_on(podrelay: Podrelay, played_worker: PlayedWorker) -> None:
    with podrelay.start("submit", "--image", "a", "--id", "left-alone", "--follow", start_new_session=True) as process:
        assert process.stderr is not None
        read_until(process.stderr, b"QUEUED")
        process.send_signal(signal.SIGINT)
        told = process.stderr.read().decode()
        assert process.wait(10) == 130
    assert "detached; job left-alone goes on" in told
    assert "podrelay logs -f left-alone" in told
    assert "Traceback" not in told
    assert b"QUEUED" in podrelay("status", "left-alone").stdout


def test_a_reader_that_closes_the_pipe_ends_the_command_quietly(
    podrelay: Podrelay, played_worker: PlayedWorker
) -> None:
    job_id = podrelay.submit()
    played_worker.live()
    fence = played_worker.take(job_id)
    for _ in range(40):
        played_worker.log(job_id, fence, b"x" * 9_999 + b"\n")
    with podrelay.start("logs", "-f", job_id) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(10) == 1


def test_a_key_attaches_to_the_job_that_has_it(podrelay: Podrelay, played_worker: PlayedWorker) -> None:
    first = podrelay.submit(key="nightly")
    assert podrelay.submit(key="nightly") == first
    played_worker.live()
    played_worker.end(first, played_worker.take(first), Status.SUCCEEDED, exit_code=0)
    again = podrelay("submit", "--image", "python:3.12", "--key", "nightly", "--follow")
    assert again.returncode == 0
    assert f"attached to job {first}" in again.stderr.decode()
    assert podrelay("acknowledge", first).returncode == 0
    assert podrelay.submit(key="nightly") != first


def test_a_terminal_shows_the_log_above_a_line_of_progress(podrelay: Podrelay, played_worker: PlayedWorker) -> None:
    job_id = podrelay.submit()
    played_worker.live()
    fence = played_worker.take(job_id)
    ours, theirs = pty.openpty()
    shown = b""
    with podrelay.start("logs", "-f", job_id, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)

        def read_past(needle: bytes) -> None:
            nonlocal shown
            while needle not in shown:
                shown += os.read(ours, 65536)

        played_worker.move(job_id, fence, Status.RUNNING, pod="p-1", detail="")
        read_past(b"RUNNING")
        played_worker.log(job_id, fence, b"half a ")
        read_past(b"half a ")
        played_worker.log(job_id, fence, b"line\n")
        played_worker.end(job_id, fence, Status.SUCCEEDED, exit_code=0)
        read_past(b"SUCCEEDED")
        assert process.wait(10) == 0
    os.close(ours)
    assert b"half a line" in shown, "the progress line never breaks a line of the log"
    assert b"\xe2\x9c\x94 SUCCEEDED" in shown


def test_help_needs_nothing_but_typer() -> None:
    heavy = ["redis", "pydantic", "rich", "yaml", "celery", "kubernetes", "worker", "devcluster"]
    program = f"import sys; from dispatcher.cli import app; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
