"""The queue message: the one that Celery itself writes, and one that a real worker takes."""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from dispatcher import names, steps
from dispatcher.message import PRIORITY_BUCKETS, encode_message
from dispatcher.spec import Priority
from tests.support.job_driver import RedisDriver, a_spec

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"

#: What differs from message to message, by path.
VARYING = [
    *(("headers", name) for name in ("id", "root_id", "origin")),
    *(("properties", name) for name in ("correlation_id", "delivery_tag")),
]


@pytest.fixture
def client(redis_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def celery(redis_url: str) -> Iterator[Celery]:
    app = Celery("golden", broker=redis_url, set_as_current=False)
    app.conf.broker_transport_options = {
        "global_keyprefix": names.CELERY_PREFIX,
        "priority_steps": [0, 3, 6, 9],
    }
    yield app
    app.close()


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """The message with what varies replaced by its type, after checking how it hangs together."""
    headers, properties = message["headers"], message["properties"]
    assert headers["id"] == headers["root_id"] == properties["correlation_id"]
    for part, name in VARYING:
        message[part][name] = type(message[part][name]).__name__
    # Nobody awaits a result by Celery's own means: a caller's mailbox is not named.
    assert isinstance(properties.pop("reply_to"), str)
    message["body"] = json.loads(base64.b64decode(message["body"]))
    return message


@pytest.mark.parametrize("priority", list(Priority))
def test_our_message_is_the_one_that_celery_writes(celery: Celery, client: "redis.Redis", priority: Priority) -> None:
    celery.send_task(
        names.LAUNCH_TASK, args=("job-1",), queue="gpu", priority=PRIORITY_BUCKETS[priority], ignore_result=True
    )
    (key,) = [x for x in client.keys("podrelay:celery:gpu*") if client.type(x) == b"list"]
    assert key.decode() == names.message_list("gpu", PRIORITY_BUCKETS[priority])
    theirs = json.loads(client.lindex(key, 0))
    ours = json.loads(encode_message("job-1", queue="gpu", priority=priority))
    assert _shape(ours) == _shape(theirs)
    assert comparable(ours) == comparable(theirs)


def _shape(message: dict[str, Any]) -> list[Any]:
    """Names in their order."""
    return [(name, list(part) if isinstance(part, dict) else None) for name, part in message.items()]


def test_our_message_is_written_as_it_always_was() -> None:
    ours = comparable(json.loads(encode_message("job-1", queue="gpu", priority=Priority.NORMAL)))
    assert ours == json.loads((GOLDEN / "queue-message.json").read_text())


def test_a_message_may_carry_a_whole_spec() -> None:
    message = json.loads(encode_message({"id": "j", "image": "x"}, queue="q", priority=Priority.LOW))
    assert json.loads(base64.b64decode(message["body"]))[0] == [{"id": "j", "image": "x"}]
    assert message["headers"]["argsrepr"] == "('j',)"


@pytest.fixture
def echo_worker(redis_url: str, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    worker = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "celery",
                "-A",
                "tests.contract.celery_echo_app",
                "worker",
                "--pool",
                "solo",
                "--loglevel",
                "ERROR",
            ),
            *("--queues", "echo", "--without-gossip", "--without-mingle", "--without-heartbeat"),
        ],
        env={**os.environ, "ECHO_REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
    )
    yield worker
    worker.send_signal(signal.SIGTERM)
    try:
        worker.wait(10)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def test_a_real_worker_takes_our_messages_the_highest_priority_first(
    client: "redis.Redis", redis_url: str, request: pytest.FixtureRequest
) -> None:
    store = RedisDriver(client, "real")
    ids = {p: store.run(steps.submit(a_spec(queue="echo", priority=p))).job_id for p in Priority}
    foreign = {"id": "foreign", "image": "x", "args": ["ü"]}
    client.lpush(
        names.message_list("echo", 3), encode_message(foreign, queue="echo", priority=Priority.NORMAL, origin="go")
    )
    request.getfixturevalue("echo_worker")
    echoes = []
    for _ in range(4):
        popped: Any = client.blpop(["echoes"], timeout=30)
        assert popped, "the worker took nothing within 30 s"
        echoes.append(json.loads(popped[1])[0])
    assert echoes == [ids[Priority.HIGH], ids[Priority.NORMAL], foreign, ids[Priority.LOW]]
    own = {key.split(b":")[0] for key in client.keys("*")}
    assert own <= {b"podrelay", b"echoes"}
