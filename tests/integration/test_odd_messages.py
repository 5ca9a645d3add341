"""Whatever is pushed to a queue, or written where kombu keeps what is not acknowledged: the same worker process goes
on, and nothing is lost without a word."""

import base64
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import redis
from celery import Celery

from dispatcher import names
from dispatcher.client import Dispatcher
from dispatcher.dead_letter import sha256
from dispatcher.message import encode_message
from dispatcher.spec import Priority, parse_spec
from tests.support.installation import QUICK, Installation, running_installation
from tests.support.redis_changes import wait_for_key
from worker.queue.gate import DELIVERIES, DELIVERIES_HEADER, Refusal, admit, readmit

QUEUE = names.message_list("default", 0)
DEAD = names.dead_letters("default")
UNACKED = f"{names.CELERY_PREFIX}unacked"
UNACKED_INDEX = f"{names.CELERY_PREFIX}unacked_index"
#: Junk of every type, as JSON.
JUNK = [
    *("null", "true", "0", "-1", "1e400", "NaN", "1" + "0" * 400, "1" * 5000, "0.5"),
    *('""', '"x"', '"\\u0000"', '"\\ud800"', '"podrelay.launch"', '"base64"', '"application/x-python-serialize"'),
    *("[]", '["a"]', "[[]]", "{}", '{"a": 1}', '{"__type__": "decimal", "__value__": "x"}', "[null, null]"),
    *("[" * 1000, "[" * 1000 + "]" * 1000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000),
    '"' + "x" * 1024 * 1024 + '"',
]
MARK = "@@junk@@"


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with running_installation() as running:
        running.start_worker(**QUICK)
        yield running


@pytest.fixture
def raw(installation: Installation) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(installation.redis.url) as client:
        yield client


@pytest.fixture(autouse=True)
def the_same_worker_goes_on(installation: Installation) -> Iterator[None]:
    yield
    assert [worker.is_alive for worker in installation.workers] == [True]
    with Dispatcher(installation.client_settings()) as client:
        job_id = client.submit(parse_spec({"image": "busybox:1.37", "command": ["true"]})).job_id
        assert client.result(job_id, 60).succeeded
        assert run_by_its_message(installation, "busybox:1.37")


def run_by_its_message(installation: Installation, image: str) -> bool:
    """Whether a job that only a message tells of runs: the sweep would not find it."""
    job_id = f"only-a-message-{time.monotonic_ns()}"
    spec = {"id": job_id, "image": image, "command": ["true"]}
    with (
        redis.Redis.from_url(installation.redis.url) as client,
        Dispatcher(installation.client_settings()) as dispatcher,
    ):
        client.lpush(QUEUE, encode_message(spec, queue="default", priority=Priority.HIGH))
        wait_for_key(client, names.job(job_id))
        return dispatcher.result(job_id, 60).succeeded


def letters(raw: "redis.Redis") -> list[dict[str, Any]]:
    found: Any = raw.lrange(DEAD, 0, -1)
    return [json.loads(text) for text in found]


def a_message(job: object = "never-recorded") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(encode_message("x", queue="default", priority=Priority.HIGH))
    return {**found, "body": [[job], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]}


def every_position(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from every_position(part, (*path, name))


def with_junk(envelope: Any, path: tuple[Any, ...], junk: str) -> bytes:
    """The message with junk at a position of it, or of its body, which is then encoded."""
    if not path:
        return junk.encode()
    found = deepcopy(envelope)
    place = found
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = MARK
    if found["body"] != MARK:
        body = json.dumps(found["body"]).replace(json.dumps(MARK), junk)
        found["body"] = base64.b64encode(body.encode()).decode()
    return json.dumps(found).replace(json.dumps(MARK), junk).encode()


def odd_items() -> list[bytes]:
    items = [b"", b"\xff\xfe not JSON", b'"\\', b"\x80\x04K\x05.", b'{"body": "x"}', os.urandom(1000)]
    for message in (a_message(), a_message({"image": "x", "args": ["y"], "pod_template": {"spec": {}}})):
        # Junk in the place of a harmless field may leave a whole launch: of a job that nobody has recorded.
        positions = [path for path in every_position(message) if path[:1] == ("body",) or message == a_message()]
        items += [with_junk(message, path, junk) for path in positions for junk in JUNK if is_odd(path, junk)]
    return items


def is_odd(path: tuple[Any, ...], junk: str) -> bool:
    """The largest are tried at some positions only: they are refused unread."""
    return len(junk) < 50_000 or path in ((), ("body",), ("headers", "id"), ("body", 0, 0), ("properties",))


def refused(items: list[bytes]) -> list[bytes]:
    return [item for item in items if isinstance(admit(item, queue="default"), Refusal)]


def test_junk_at_every_position_of_a_message_is_launched_or_set_aside(
    installation: Installation, raw: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [item for item in odd_items() if b'"image": "x"' not in item]
    assert len(items) > 500
    batches = [items[i : i + 500] for i in range(0, len(items), 500)]
    for batch in batches:
        raw.delete(DEAD)
        raw.lpush(QUEUE, *batch)
        expected = Counter(sha256(item) for item in refused(batch))
        wait_for_key(raw, QUEUE, lambda: raw.llen(QUEUE) == 0)
        wait_for_key(raw, DEAD, lambda: Counter(letter["sha256"] for letter in letters(raw)) == expected)  # noqa: B023
        assert all(letter["reason"] for letter in letters(raw))
        wait_for_key(raw, UNACKED, lambda: raw.hlen(UNACKED) == 0)


def test_a_message_whose_id_another_job_has_is_set_aside_with_the_reason(
    installation: Installation, raw: "redis.Redis"
) -> None:
    raw.delete(DEAD)
    spec = {"id": "by-hand-1", "image": "busybox:1.37", "command": ["true"]}
    with Dispatcher(installation.client_settings()) as client:
        client.submit(parse_spec(spec))
        for again in (spec, {**spec, "command": ["false"]}):
            raw.lpush(QUEUE, encode_message(again, queue="default", priority=Priority.HIGH))
        wait_for_key(raw, DEAD)
        (letter,) = letters(raw)
        assert "job id 'by-hand-1' is taken: it was submitted before with another command" in letter["reason"]
        assert client.result("by-hand-1", 60).succeeded


def test_junk_where_kombu_keeps_what_is_not_acknowledged_is_put_back_or_set_aside(
    installation: Installation, raw: "redis.Redis"
) -> None:
    raw.delete(DEAD)
    message = json.loads(encode_message("never-recorded", queue="default", priority=Priority.HIGH))
    kept = [message, "", "default"]
    items = [junk.encode() for junk in JUNK] + [b"\xff", b""]
    items += [
        json.dumps([MARK if i == place else part for i, part in enumerate(kept)])
        .replace(json.dumps(MARK), junk)
        .encode()
        for place in range(3)
        for junk in JUNK
    ]
    items += [json.dumps([{**message, "headers": {**message["headers"], "task": "other"}}, "", "default"]).encode()]
    items += [json.dumps(kept).encode(), json.dumps([message, None, "default"]).encode()]
    odd = [item for item in items if isinstance(readmit(item), Refusal)]
    raw.hset(UNACKED, mapping={f"tag-{i}": item for i, item in enumerate(items)})
    raw.zadd(UNACKED_INDEX, {f"tag-{i}": 0 for i in range(len(items))} | {b"\xff\xfe": 0, "nothing": 0})
    wait_for_key(raw, UNACKED_INDEX, lambda: raw.zcard(UNACKED_INDEX) == 0)
    wait_for_key(raw, DEAD, lambda: Counter(x["sha256"] for x in letters(raw)) == Counter(sha256(item) for item in odd))
    wait_for_key(raw, UNACKED, lambda: raw.hlen(UNACKED) == 0)


def test_a_message_that_comes_back_again_and_again_is_set_aside_in_the_end(
    installation: Installation, raw: "redis.Redis"
) -> None:
    raw.delete(DEAD)
    message = json.loads(encode_message({"image": "x"}, queue="default", priority=Priority.HIGH))
    message["headers"][DELIVERIES_HEADER] = DELIVERIES - 1
    raw.hset(UNACKED, "tag", json.dumps([message, "", "default"]))
    raw.zadd(UNACKED_INDEX, {"tag": 0})
    wait_for_key(raw, DEAD, lambda: raw.llen(DEAD) == 1)
    assert "perhaps because of it" in letters(raw)[0]["reason"]


def test_an_ordinary_celery_client_is_served(installation: Installation, raw: "redis.Redis") -> None:
    app = Celery("theirs", broker=installation.redis.url, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": names.CELERY_PREFIX}
    spec = {"id": f"celery-{time.monotonic_ns()}", "image": "busybox:1.37", "command": ["echo", "hello"]}
    try:
        for options in ({"priority": 0}, {"priority": 6, "task_id": "x", "time_limit": 5, "reply_to": "me"}):
            app.send_task(names.LAUNCH_TASK, args=(spec,), queue="default", **options)
        app.send_task(names.LAUNCH_TASK, args=(spec,), queue="default", countdown=3600)
    finally:
        app.close()
    with Dispatcher(installation.client_settings()) as client:
        wait_for_key(raw, names.job(str(spec["id"])))
        assert client.result(str(spec["id"]), 60).succeeded
    wait_for_key(raw, DEAD, lambda: any(letter["reason"].startswith("eta is not served") for letter in letters(raw)))


def test_tasks_of_celery_and_links_are_not_served(installation: Installation, raw: "redis.Redis") -> None:
    raw.delete(DEAD)
    spec = {"id": f"linked-{time.monotonic_ns()}", "image": "busybox:1.37"}
    for task in ("celery.starmap", "celery.map", "celery.chord_unlock", "celery.backend_cleanup", "celery.accumulate"):
        message = json.loads(encode_message(spec, queue="default", priority=Priority.HIGH))
        message["headers"]["task"] = task
        raw.lpush(QUEUE, json.dumps(message))
    for link in ("callbacks", "errbacks", "chain", "chord"):
        body = [[spec], {}, {link: [{"task": names.LAUNCH_TASK, "args": [spec], "options": {"queue": "default"}}]}]
        message["headers"]["task"] = names.LAUNCH_TASK
        message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
        raw.lpush(QUEUE, json.dumps(message))
    wait_for_key(raw, DEAD, lambda: raw.llen(DEAD) == 9)
    assert not raw.exists(names.job(str(spec["id"])))


def test_the_worker_s_log_tells_who_sent_a_message_and_nothing_of_what_it_asks(
    installation: Installation, raw: "redis.Redis"
) -> None:
    spec = {"imagge": "x", "env": {"PASSWORD": "CANARY"}}
    raw.lpush(QUEUE, encode_message(spec, queue="default", priority=Priority.HIGH, origin="the-publisher"))
    raw.lpush(QUEUE, json.dumps(spec))
    worker = installation.workers[0]
    worker.wait_for_line("message set aside", times=2)
    worker.wait_for_line("the-publisher", "imagge: unknown field")
    assert not any("CANARY" in line for line in worker.lines)


@pytest.mark.parametrize("key", [DEAD, names.dead_letters_size("default")])
def test_dead_letters_of_another_type_end_nobody(installation: Installation, raw: "redis.Redis", key: str) -> None:
    raw.delete(key)
    raw.sadd(key, "x")
    raw.lpush(QUEUE, "rubbish")
    wait_for_key(raw, QUEUE, lambda: raw.llen(QUEUE) == 0)
    assert run_by_its_message(installation, "busybox:1.37")
    raw.delete(key)


@pytest.mark.parametrize("key", [UNACKED, UNACKED_INDEX, f"{names.CELERY_PREFIX}unacked_mutex"])
def test_a_message_is_launched_also_where_it_cannot_be_kept(
    installation: Installation, raw: "redis.Redis", key: str
) -> None:
    raw.delete(key)
    raw.rpush(key, "x")
    assert run_by_its_message(installation, "busybox:1.37")
    raw.delete(key)


@pytest.mark.parametrize(
    "key", [QUEUE, names.message_list("default", 6), f"{names.CELERY_PREFIX}_kombu.binding.default"]
)
def test_a_key_of_the_queue_of_another_type_gives_way(installation: Installation, raw: "redis.Redis", key: str) -> None:
    lines = installation.workers[0].lines
    seen = len(lines)
    raw.delete(key)
    raw.set(key, "x")
    raw.client_kill_filter(_type="normal", skipme=True)  # so that everything is begun anew
    installation.workers[0].wait_for_line("gave way", after=seen)
    assert run_by_its_message(installation, "busybox:1.37")
    assert not any("Traceback" in line for line in list(lines)[seen:])
