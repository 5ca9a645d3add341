"""The local Redis server leaves nothing behind where it does not start."""

import os
import tempfile
from pathlib import Path

import pytest

from devcluster.local import redis_server
from devcluster.local.redis_server import RedisServer
from tests.support import clocks


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def a_binary(directory: Path, script: str) -> str:
    path = directory / "bin" / "redis-server"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


def test_a_server_that_ends_at_once_leaves_nothing(temporary: Path) -> None:
    binary = a_binary(temporary, "exit 3")
    server = RedisServer(binary=binary)
    with pytest.raises(RuntimeError, match="ended at once with code 3"):
        server.__enter__()
    assert server.process is None
    assert list(temporary.glob("podrelay-*")) == []


def test_a_server_that_does_not_answer_is_ended_and_leaves_nothing(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: int) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(redis_server, "_answers", interrupted)
    pid_file = temporary / "pid"
    binary = a_binary(temporary, f"echo $$ > '{pid_file}'; exec sleep 600")
    server = RedisServer(binary=binary)
    with pytest.raises(KeyboardInterrupt):
        server.__enter__()
    assert server.process is None
    assert list(temporary.glob("podrelay-*")) == []
    if pid_file.exists() and (pid := pid_file.read_text()):
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_a_server_whose_clock_cannot_be_wrong_is_passed_over_with_its_reason(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why := clocks.why_not(temporary):
        pytest.skip(why)
    stubborn = a_binary(temporary, "exit 7")
    able = clocks.redis_binary()
    monkeypatch.setattr(clocks, "redis_binaries", lambda: {"able": able, "debian": stubborn})
    assert clocks.redis_binary.__wrapped__() == able
    monkeypatch.setattr(clocks, "redis_binaries", lambda: {"debian": stubborn})
    with pytest.raises(LookupError, match=r"debian: .* ended at once with code 7"):
        clocks.redis_binary.__wrapped__()
