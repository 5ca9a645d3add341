"""A namespace that nobody is to serve: which jobs fail soon, and which wait for a worker that may come (back)."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from dispatcher import names, steps
from dispatcher.events import Ended, decode_event
from dispatcher.status import FailureReason, Status
from dispatcher.steps import ClaimOutcome
from tests.contract.steps.states import overdue, twice
from tests.support.job_driver import RedisDriver

HOUR_S = 3600.0


@dataclass(frozen=True)
class Other:
    """A worker of the queue, beside the one that meets the job."""

    namespaces: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    is_alive: bool = True
    seen_ago_s: float = 1.0


def tell(store: RedisDriver, incarnation: str, other: Other) -> None:
    """As if the other had said so of itself, then."""
    worker = store.worker(incarnation)
    said: dict[str, Any] = {"namespaces": other.namespaces, "refused": dict.fromkeys(other.refused, "forbidden")}
    seen_at = worker.beat().at - other.seen_ago_s
    store.client.hset(names.workers("default"), incarnation, json.dumps({**said, "last_seen": seen_at}))
    if not other.is_alive:
        worker.die()


def its_time_is_over(store: RedisDriver, job_id: str) -> None:
    assert store.client.hget(names.job(job_id), "unserved_until") is not None
    store.client.hset(names.job(job_id), "unserved_until", "1.0")


def waits(store: RedisDriver, job_id: str) -> bool:
    return store.client.hget(names.job(job_id), "unserved_until") is None


SERVES_X = Other(("x",))
CASES: list[tuple[str, tuple[Other, ...], bool]] = [
    ("nobody else", (), False),
    ("others serve other namespaces", (Other(("b",)), Other(("c",))), False),
    ("one serves it", (Other(("b",)), SERVES_X), True),
    ("one is to serve it and is refused yet: a RoleBinding may come", (Other(("b",), refused=("x",)),), True),
    ("the one that serves it died a moment ago: a failover", (Other(("x",), is_alive=False),), True),
    ("the one that was to serve it died a moment ago", (Other(refused=("x",), is_alive=False),), True),
    ("the one that served it is away for most of an hour", (Other(("x",), is_alive=False, seen_ago_s=3500),), True),
    ("the one that served it is gone for good", (Other(("x",), is_alive=False, seen_ago_s=HOUR_S + 1),), False),
    ("one that cannot see its cluster is to serve others", (Other(refused=("b",)),), False),
]


@pytest.mark.parametrize(("others", "is_awaited"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_who_is_waited_for(store: RedisDriver, others: tuple[Other, ...], is_awaited: bool) -> None:
    met_by = store.worker(namespaces=["a"])
    for number, other in enumerate(others):
        tell(store, f"other-{number}", other)
    job_id = store.submit(namespace="x").job_id
    step = steps.claim(job_id, met_by.incarnation, namespaces=["a"])
    assert [reply.outcome for reply in twice(store, step)] == [ClaimOutcome.NOT_SERVED] * 2  # type: ignore[attr-defined]
    assert waits(store, job_id) is is_awaited
    assert store.run(steps.expire(job_id, "default")) == "early"


def test_a_job_of_a_namespace_that_nobody_serves_fails_with_what_is_served(store: RedisDriver) -> None:
    met_by = store.worker(namespaces=["b", "a"])
    tell(store, "w2", Other(('te"am',), refused=("blind",)))
    job_id = store.submit(namespace="prodd").job_id
    met_by.claim(job_id, namespaces=["a", "b"])
    present = store.run(steps.presence(job_id))
    assert present.unserved_until == pytest.approx(present.at + 30, abs=5)
    assert not present.is_overdue
    its_time_is_over(store, job_id)
    assert store.run(steps.presence(job_id)).is_overdue
    assert [row.is_overdue for row in store.run(steps.survey("default", 0, -1))] == [True]
    assert twice(store, steps.expire(job_id, "default")) == ("expired", "early")
    record = store.record(job_id)
    assert (record.status, record.reason) == (Status.FAILED, FailureReason.INVALID_SPEC)
    assert record.result is not None
    assert record.result.message.startswith(
        "no worker of queue 'default' serves namespace 'prodd'; those that are alive serve: a, b, blind, te\"am. "
    )
    last = decode_event(store.events(job_id)[-1][1][b"e"])
    assert isinstance(last, Ended)
    assert last.result.message == record.result.message
    assert store.client.zcard(names.active("default")) == 0


def test_a_worker_that_serves_it_in_time_gets_the_job(store: RedisDriver) -> None:
    met_by = store.worker(namespaces=["a"])
    job_id = store.submit(namespace="x").job_id
    met_by.claim(job_id, namespaces=["a"])
    its_time_is_over(store, job_id)
    tell(store, "w2", SERVES_X)
    with store.client.pubsub(ignore_subscribe_messages=True) as control:
        control.subscribe(names.control("default"))
        assert store.run(steps.expire(job_id, "default")) == "early"
        assert json.loads(next(control.listen())["data"]) == {"offered": job_id, "namespace": "x"}
    assert waits(store, job_id)
    assert store.run(steps.claim(job_id, "w2", namespaces=["x"])).outcome is ClaimOutcome.CLAIMED


def test_a_claim_ends_the_waiting_for_good(store: RedisDriver) -> None:
    met_by, other = store.worker(namespaces=["a"]), store.worker("w2", namespaces=["x"])
    other.die()
    store.client.hdel(names.workers("default"), "w2")
    job_id = store.submit(namespace="x").job_id
    met_by.claim(job_id, namespaces=["a"])
    its_time_is_over(store, job_id)
    other.beat(namespaces=["x"])
    assert other.claim(job_id, namespaces=["x"]).outcome is ClaimOutcome.CLAIMED
    assert waits(store, job_id)


def test_where_no_worker_is_alive_any_more_the_job_waits(store: RedisDriver) -> None:
    met_by = store.worker(namespaces=["a"])
    job_id = store.submit(namespace="x").job_id
    met_by.claim(job_id, namespaces=["a"])
    its_time_is_over(store, job_id)
    met_by.die()
    assert store.run(steps.expire(job_id, "default")) == "early"
    assert waits(store, job_id)


def test_a_job_that_names_no_namespace_waits_for_its_worker(store: RedisDriver) -> None:
    worker = store.worker(namespaces=["a"])
    job_id = store.submit().job_id
    step = steps.claim(job_id, worker.incarnation, namespaces=["a"], default_namespace="b")
    assert store.run(step).outcome is ClaimOutcome.NOT_SERVED
    assert waits(store, job_id)


@pytest.mark.parametrize("case", ["owned", "running", "pod"])
def test_nothing_but_a_waiting_job_is_ended(store: RedisDriver, case: str) -> None:
    worker = store.worker(namespaces=["x"])
    job_id = store.submit(namespace="x").job_id
    worker.claim(job_id, namespaces=["x"])
    if case == "running":
        worker.move(job_id, Status.RUNNING)
    if case == "pod":
        worker.move(job_id, fields={"pod": "p"}, event=None)
    store.client.hset(names.job(job_id), "unserved_until", "1.0")
    before = store.snapshot()
    assert store.run(steps.expire(job_id, "default")) == "early"
    assert store.snapshot() == before


def test_the_queue_timeout_goes_before(store: RedisDriver) -> None:
    met_by = store.worker(namespaces=["a"])
    job_id = store.submit(namespace="x").job_id
    met_by.claim(job_id, namespaces=["a"])
    its_time_is_over(store, job_id)
    overdue(store, job_id)
    assert store.run(steps.expire(job_id, "default")) == "expired"
    record = store.record(job_id)
    assert record.reason is FailureReason.QUEUE_TIMEOUT
    assert record.result is not None
    assert "it last said: no worker serves namespace x" in record.result.message
