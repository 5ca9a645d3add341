"""kombu's transport with our gate in it, on a real Redis: what Celery is handed, and what is kept until then."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Queue, transport
from kombu.transport import TRANSPORT_ALIASES

from dispatcher import names
from dispatcher.message import encode_message
from dispatcher.settings import ClientSettings
from dispatcher.spec import Priority, parse_spec
from worker.queue.consumer import use_dead_letters
from worker.queue.dead_letters import DeadLetters
from worker.queue.gate import DELIVERIES_HEADER

UNACKED = f"{names.CELERY_PREFIX}unacked"
SPEC = {"id": "j", "image": "x"}
ODD = {"image": "x", "id": "j", "pod_template": {"spec": {"a": {"__type__": "decimal", "__value__": "no number"}}}}


@pytest.fixture
def raw(redis_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def broker(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    monkeypatch.setitem(TRANSPORT_ALIASES, "redis", "worker.queue.consumer:Transport")
    monkeypatch.setattr(transport, "_transport_cache", {})  # kombu keeps what another test has had it resolve
    settings = ClientSettings.from_environment({}, redis_url=redis_url, queue="gpu")
    use_dead_letters(DeadLetters(settings))
    options = {
        "endpoint": settings.redis,
        "global_keyprefix": names.CELERY_PREFIX,
        "priority_steps": [0, 3, 6, 9],
        "visibility_timeout": 0,
    }
    with Connection(redis_url, transport_options=options) as connection:
        yield connection


class Taken:
    """What a consumer of the queue is handed."""

    def __init__(self, broker: Connection) -> None:
        self.messages: list[Any] = []
        self._broker = broker
        self.channel = broker.channel()
        self.consumer = Consumer(self.channel, [Queue("gpu")], on_message=self.messages.append, accept=["json"])
        self.consumer.consume()

    def next(self) -> Any:
        while not self.messages:
            self._broker.drain_events(timeout=10)
        return self.messages.pop()


def push(raw: "redis.Redis", job: Any, priority: Priority = Priority.LOW, **foreign: Any) -> None:
    message = json.loads(encode_message(job, queue="gpu", priority=priority))
    message["headers"].update(foreign)
    raw.lpush(names.message_list("gpu", message["properties"]["priority"]), json.dumps(message))


def test_celery_is_handed_the_argument_alone_and_so_is_what_is_kept(raw: "redis.Redis", broker: Connection) -> None:
    push(raw, ODD, foreign="CANARY", id=["a"], retries={}, argsrepr="CANARY")
    message = Taken(broker).next()
    ((text, deliveries), options, embed) = message.decode()
    assert (json.loads(text), deliveries, options, embed) == ({**ODD, "queue": "gpu"}, 0, {}, {})
    (kept,) = raw.hvals(UNACKED)
    assert b"CANARY" not in kept
    assert b"CANARY" not in repr(message.headers).encode()
    message.ack()
    assert raw.hlen(UNACKED) == 0


def test_what_is_kept_is_a_message_that_any_worker_takes(raw: "redis.Redis", broker: Connection) -> None:
    push(raw, "job-1", Priority.NORMAL)
    Taken(broker).next()
    (kept,) = raw.hvals(UNACKED)
    found, exchange, queue = json.loads(kept)
    expected = json.loads(encode_message("job-1", queue="gpu", priority=Priority.NORMAL))
    assert (exchange, queue) == ("", "gpu")
    assert found.pop("headers").keys() - expected.pop("headers").keys() == {DELIVERIES_HEADER}
    assert found.pop("properties").keys() == expected.pop("properties").keys()
    assert found == expected


def test_what_was_not_launched_comes_back_into_its_own_list_and_is_counted(
    raw: "redis.Redis", broker: Connection
) -> None:
    push(raw, SPEC, Priority.LOW)
    taken = Taken(broker)
    taken.next()
    for count in (1, 2):
        taken.channel.qos.restore_unacked()
        assert raw.hlen(UNACKED) == 0
        (item,) = raw.lrange(names.message_list("gpu", 6), 0, -1)
        assert json.loads(item)["headers"][DELIVERIES_HEADER] == count
        assert taken.next().decode()[0] == [parse_spec({**SPEC, "queue": "gpu"}).encode(), count]


def test_what_comes_while_the_queue_is_paused_goes_back_uncounted(raw: "redis.Redis", broker: Connection) -> None:
    taken = Taken(broker)
    push(raw, SPEC, Priority.LOW)
    broker.transport._callbacks.pop("gpu")
    broker.drain_events(timeout=10)
    assert raw.hlen(UNACKED) == 0
    (item,) = raw.lrange(names.message_list("gpu", 6), 0, -1)
    assert json.loads(item)["headers"][DELIVERIES_HEADER] == 0
    assert not taken.messages


def test_a_message_of_another_queue_goes_back_to_that(raw: "redis.Redis", broker: Connection) -> None:
    message = json.loads(encode_message("job-1", queue="other", priority=Priority.NORMAL))
    raw.hset(UNACKED, "tag", json.dumps([message, "", "other"]))
    raw.zadd(f"{UNACKED}_index", {"tag": 0})
    Taken(broker).channel.qos.restore_visible(interval=1)
    assert raw.llen(names.message_list("other", 3)) == 1
    assert raw.llen(names.dead_letters("gpu")) == 0
