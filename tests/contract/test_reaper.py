"""The helper process that ends what a killed starter left behind."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devcluster.runtime.reaper import Reaper

#: Starts what is asked for, holds all but the first, says the pids, and waits to be killed.
_STARTER = """
import subprocess, sys
from devcluster.runtime.reaper import Reaper
directory, grace_s, *scripts = sys.argv[1:]
reaper = Reaper(directory, grace_s=float(grace_s))
pids = []
for script in scripts:
    child = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    child.stdout.readline()
    pids.append(child.pid)
    reaper.hold(child.pid)
reaper.release(pids[0])
print(*pids, flush=True)
sys.stdin.read()
"""
_OBEYS = "trap 'echo > {told}; exit' TERM; echo; while :; do sleep 0.05; done"
_REFUSES = "trap '' TERM; sleep 300 & echo $! > {child}; echo; while :; do sleep 0.05; done"


@contextmanager
def started(directory: Path, grace_s: float, *scripts: str) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    """A starter of these shell scripts, and their pids; the first of them is not the reaper's any more."""
    command = [sys.executable, "-c", _STARTER, str(directory), str(grace_s), *scripts]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pids = [int(pid) for pid in starter.stdout.readline().split()]
        try:
            yield starter, pids
        finally:
            starter.kill()
            for pid in pids[:1]:
                os.killpg(pid, signal.SIGKILL)


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


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes as Linux lists them")
@pytest.mark.parametrize("grace_s", [0.5, 0.0])
def test_what_a_killed_starter_left_is_asked_then_killed_with_its_group(tmp_path: Path, grace_s: float) -> None:
    directory, told, child = tmp_path / "files", tmp_path / "told", tmp_path / "child"
    directory.mkdir()
    refuses = _REFUSES.format(child=child)
    with started(directory, grace_s, "echo; sleep 300", _OBEYS.format(told=told), refuses) as (starter, pids):
        released, *held = pids
        (reaper,) = set(children_of(starter.pid)) - set(pids)
        starter.kill()
        wait_for_the_end_of([*held, int(child.read_text()), reaper])
        assert told.exists() == bool(grace_s)
        assert not directory.exists()
        os.kill(released, 0)  # it is not the reaper's: it goes on


def test_who_closes_it_has_waited_for_the_end_of_what_it_held(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "300"]) as child:  # leads no process group of its own, as an embedded Redis
        with Reaper(str(tmp_path / "files"), grace_s=0.0) as reaper:
            reaper.hold(child.pid)
        assert child.wait(10) == -signal.SIGKILL
