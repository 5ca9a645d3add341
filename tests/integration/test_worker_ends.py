"""Every way in which a worker process ends: told to, with 0; otherwise with one line that says why, and a code that is
not 0."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from devcluster.local.redis_server import RedisServer
from dispatcher import names
from dispatcher.client import Dispatcher
from dispatcher.message import encode_message
from dispatcher.spec import Priority
from tests.support.installation import QUICK, Installation, clean_environment, running_installation
from tests.support.podrelay_process import PODRELAY
from tests.support.redis_changes import wait_for_key

WORKER = (sys.executable, "-m", "worker")
CELERY = (sys.executable, "-m", "celery", "--quiet", "-A", "worker.app", "worker")
WITHIN_S = 60
USABLE = {
    "current-context": "x",
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {}}],
}

#: A supervisor that fails when all has begun.
FAILS_LATER = """
import asyncio, sys
from redis.exceptions import AuthenticationError
from worker.loop import WorkerLoop

run = WorkerLoop.run

async def fail(has_begun):
    await has_begun.wait()
    raise {error}

async def run_and_fail(self, *, started):
    has_begun = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run(self, started=lambda: (started(), has_begun.set())))
        tasks.create_task(fail(has_begun))

WorkerLoop.run = run_and_fail
sys.argv = ["worker"]
from worker.__main__ import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with running_installation() as running:
        yield running


@pytest.fixture
def server(installation: Installation) -> RedisServer:
    return installation.redis


@pytest.fixture
def kubeconfig(installation: Installation) -> Path:
    return installation.kubeconfig


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """Names an API server that nobody answers for."""
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(USABLE))
    return path


@contextmanager
def started(*command: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        command, env=clean_environment(**environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(*command: str, **environment: str) -> tuple[int, str]:
    """The code, and the one line; anything else that was written must be a line of the log, and no traceback."""
    with started(*command, **environment) as process:
        out, said = process.communicate(timeout=WITHIN_S)
    ours = [line for line in said.splitlines() if line.startswith("podrelay: ")]
    assert len(ours) == 1, said
    assert "Traceback" not in said
    assert not out.strip()
    return process.returncode, ours[0]


@pytest.mark.parametrize(
    ("command", "environment", "words"),
    [
        (WORKER, {"PODRELAY_REDIS_ULR": "x"}, "PODRELAY_REDIS_ULR: no such setting"),
        (WORKER, {"PODRELAY_METRICS_PORT": "many"}, "PODRELAY_METRICS_PORT: "),
        (WORKER, {"PODRELAY_METRICS_PORT": "99999"}, "PODRELAY_METRICS_PORT: cannot listen on port 99999"),
        (WORKER, {"PODRELAY_REDIS_URL": "http://127.0.0.1"}, "PODRELAY_REDIS_URL: must be a URL"),
        (WORKER, {"PODRELAY_REDIS_URL": "redis://:CANARY@h/abc"}, "the database must be a number, found 'abc'"),
        (WORKER, {"PODRELAY_REDIS_URL": "redis://:CANARY@h:port"}, "PODRELAY_REDIS_URL: "),
        (WORKER, {"PODRELAY_REDIS_URL": "redis://:CANARY@h:99999"}, "PODRELAY_REDIS_URL: "),
        (WORKER, {"PODRELAY_REDIS_URL": "redis://:CANARY@h?sockett_timeout=1"}, "PODRELAY_REDIS_URL: "),
        (WORKER, {"PODRELAY_POD_SECURITY": "none"}, "PODRELAY_POD_SECURITY: "),
        (
            WORKER,
            {"PODRELAY_POD_SECURITY_EXEMPT": "hostPath"},
            "no such control: 'hostPath' (did you mean 'hostPathVolumes'",
        ),
        ((*WORKER, "--queue", "gpu"), {}, "takes no arguments, found '--queue'"),
        ((*PODRELAY, "worker", "--queue", "gpu"), {}, "takes no arguments, found '--queue'"),
        ((*PODRELAY, "worker"), {"PODRELAY_REDIS_ULR": "x"}, "PODRELAY_REDIS_ULR: no such setting"),
        (CELERY, {"PODRELAY_REDIS_ULR": "x"}, "PODRELAY_REDIS_ULR: no such setting"),
    ],
)
def test_settings_and_usage_end_it_with_2(command: tuple[str, ...], environment: dict[str, str], words: str) -> None:
    code, line = ended(*command, **environment)
    assert code == 2
    assert words in line
    assert "CANARY" not in line


@pytest.mark.parametrize(
    "contents", [None, "", "{", "[]", "a: b", '{"current-context": "x"}', json.dumps({**USABLE, "clusters": 5})]
)
def test_without_a_usable_kubeconfig_it_ends_with_1(server: RedisServer, tmp_path: Path, contents: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if contents is not None:
        path.write_text(contents)
    code, line = ended(*WORKER, PODRELAY_REDIS_URL=server.url, KUBECONFIG=str(path))
    assert code == 1
    assert str(path) in line


def test_started_by_celery_it_ends_the_same_way(server: RedisServer, tmp_path: Path) -> None:
    code, line = ended(
        *CELERY,
        PODRELAY_REDIS_URL=server.url,
        KUBECONFIG=str(tmp_path / "none"),
        PYTHONWARNINGS="ignore",
        NO_COLOR="1",
    )
    assert code == 1
    assert "no usable cluster configuration" in line


@pytest.mark.parametrize("given", ["CANARY@", ""])
def test_a_wrong_password_ends_it_with_1(kubeconfig: Path, given: str) -> None:
    with RedisServer() as server, redis.Redis.from_url(server.url) as client:
        client.config_set("requirepass", "right")
        url = server.url.replace("redis://", f"redis://:{given}" if given else "redis://")
        code, line = ended(*WORKER, PODRELAY_REDIS_URL=url, KUBECONFIG=str(kubeconfig))
        client.execute_command("AUTH", "right")
        client.config_set("requirepass", "")
    assert code == 1
    assert line.startswith("podrelay: Redis at redis://")
    assert "CANARY" not in line


def test_a_metrics_port_that_is_in_use_ends_it_with_2(server: RedisServer, kubeconfig: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = ended(
            *WORKER, PODRELAY_REDIS_URL=server.url, KUBECONFIG=str(kubeconfig), PODRELAY_METRICS_PORT=str(port)
        )
    assert code == 2
    assert f"PODRELAY_METRICS_PORT: cannot listen on port {port}: " in line


def test_a_supervisor_that_fails_later_ends_it_with_1(server: RedisServer, kubeconfig: Path) -> None:
    code, line = ended(
        *(sys.executable, "-c", FAILS_LATER.format(error="AuthenticationError('no more')")),
        PODRELAY_REDIS_URL=server.url,
        KUBECONFIG=str(kubeconfig),
    )
    assert code == 1
    assert line.endswith("cannot be used: no more")


def test_a_defect_ends_it_with_1_and_its_traceback_is_in_the_log(server: RedisServer, kubeconfig: Path) -> None:
    with started(
        *(sys.executable, "-c", FAILS_LATER.format(error="ZeroDivisionError('a\\nb')")),
        PODRELAY_REDIS_URL=server.url,
        KUBECONFIG=str(kubeconfig),
    ) as process:
        _, said = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 1
    assert said.count("ZeroDivisionError: a\n") == 1
    assert said.splitlines()[-1] == "podrelay: the worker failed: ZeroDivisionError: a b"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", [WORKER, CELERY])
def test_told_to_end_it_ends_with_0_and_every_line_is_json(
    server: RedisServer, kubeconfig: Path, command: tuple[str, ...], number: signal.Signals
) -> None:
    with started(
        *command,
        PODRELAY_REDIS_URL=server.url,
        KUBECONFIG=str(kubeconfig),
        PODRELAY_LOG_FORMAT="json",
        PYTHONWARNINGS="ignore",
    ) as process:
        lines = _until(process, "worker ready")
        process.send_signal(number)
        out, said = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 0, said
    assert not out.strip()
    told = [json.loads(line) for line in (*lines, *said.splitlines())]
    assert any(line["event"] == "handed over" for line in told)
    assert all("\n" not in line["event"] for line in told)


def _until(process: "subprocess.Popen[str]", words: str) -> list[str]:
    """Read its log up to a line with these words; returns that, too."""
    assert process.stderr is not None
    timer = threading.Timer(WITHIN_S, process.kill)
    timer.start()
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            timer.cancel()
            return lines
    raise AssertionError("".join(lines))


@pytest.mark.parametrize("is_redis_away", [True, False])
def test_told_to_end_while_it_waits_it_ends_with_0_and_its_log_has_one_line_for_each_thing(
    server: RedisServer, nowhere: Path, is_redis_away: bool
) -> None:
    url, words = ("redis://127.0.0.1:1/0", "waiting to start") if is_redis_away else (server.url, "API server")
    with started(*WORKER, PODRELAY_REDIS_URL=url, KUBECONFIG=str(nowhere)) as process:
        _until(process, words)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 0, said
    assert all(line.startswith("20") for line in said.splitlines()), said


def test_podrelay_dev_tells_how_its_worker_ended(server: RedisServer, tmp_path: Path) -> None:
    result = subprocess.run(
        [*PODRELAY, "dev"],
        env=clean_environment(PODRELAY_REDIS_URL=server.url, KUBECONFIG=str(tmp_path / "of-yesterday")),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert result.returncode == 1
    assert "worker ended with code 1" in result.stderr.splitlines()[-1]
    assert "of-yesterday" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_worker_that_is_told_to_end_amid_messages_loses_none_of_them() -> None:
    """Messages with whole specs: nothing else tells of their jobs."""
    ids = [f"amid-{i}" for i in range(60)]
    messages = [
        encode_message(
            {"id": job_id, "image": "busybox:1.37", "command": ["true"]}, queue="default", priority=Priority.HIGH
        )
        for job_id in ids
    ]
    with running_installation() as installation, redis.Redis.from_url(installation.redis.url) as raw:
        for name in ("first", "second"):
            worker = installation.start_worker(name, **QUICK)
            raw.lpush(names.message_list("default", 0), *messages)
            queue = names.message_list("default", 0)
            wait_for_key(raw, queue, lambda queue=queue: raw.llen(queue) != len(messages))
            worker.terminate()
            assert worker.wait_for_end(WITHIN_S) == 0
        installation.start_worker("third", **QUICK)
        with Dispatcher(installation.client_settings()) as client:
            assert all(client.result(job_id, WITHIN_S).succeeded for job_id in _recorded(raw, ids))
        assert raw.llen(names.dead_letters("default")) == 0
        assert len(installation.pocket.ever_created()) == len(ids)


def _recorded(raw: "redis.Redis", ids: list[str]) -> list[str]:
    for job_id in ids:
        wait_for_key(raw, names.job(job_id), within_s=WITHIN_S)
    return ids


def test_celery_s_own_variables_send_a_worker_to_no_other_broker() -> None:
    elsewhere = "amqp://elsewhere.invalid:1//"
    told = {"CELERY_BROKER_URL": elsewhere, "CELERY_BROKER_READ_URL": elsewhere}
    code = "import worker.app as w; print(w.app.connection_for_read().as_uri())"
    own = "redis://127.0.0.1:7/3"
    env = clean_environment(PODRELAY_REDIS_URL=own, **told)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == own
