"""What a worker does for ever, against a real Redis that answers what nobody likes to hear, and says odd things."""

# ruff: noqa: F401, F811 (fixtures are imported by the names of the tests' parameters)

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest
import redis

from devcluster.local.redis_server import RedisServer
from dispatcher import connection, names
from dispatcher.steps import ClaimOutcome, claim
from tests.support.contexts import a_context
from tests.support.job_driver import RedisDriver
from tests.support.real_redis import eventually, own_server, own_store
from worker.context import Context
from worker.guard import Guard
from worker.lease import Heartbeat, Lease
from worker.logs.outbox import LogBudget
from worker.logs.publisher import watch_room
from worker.ownership.control import Control
from worker.settings import WorkerSettings
from worker.store import Store

QUEUE = "default"


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisDriver]:
    with connection.connect(redis_server.url, timeout_s=5, retries=0) as client:
        yield RedisDriver(client, "real")


class Heard:
    """A control listener that notes what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def check(self, job_id: str) -> None:
        self.told.append(("check", job_id))

    def wake(self, job_id: str) -> None:
        self.told.append(("wake", job_id))

    def offered(self, job_id: str, namespace: str, min_worker_version: str) -> None:
        self.told.append(("offered", job_id, namespace, min_worker_version))

    def sweep_soon(self) -> None:
        self.told.append(("sweep",))


def a_beating_context(url: str, failures: Counter[str]) -> AbstractAsyncContextManager[Context]:
    guard = Guard(lambda name: failures.update([name]))
    return a_context(url, lease=Lease(2), guard=guard, redis_timeout_s=2, lease_s=2, heartbeat_s=0.05)


def a_heartbeat(ctx: Context) -> Heartbeat:
    return Heartbeat(ctx.lease, ctx.store, incarnation=ctx.incarnation, settings=ctx.settings, info=dict)


@pytest.fixture
def failures() -> Counter[str]:
    return Counter()


@pytest.fixture
async def ctx(redis_server: RedisServer, failures: Counter[str]) -> AsyncIterator[Context]:
    async with a_beating_context(redis_server.url, failures) as made:
        yield made


@pytest.fixture
async def heard(ctx: Context, store: RedisDriver) -> AsyncIterator[Heard]:
    """Control listens."""
    heard = Heard()
    listening = asyncio.create_task(ctx.guard.keep("control", Control(ctx, heard).run))
    channel = names.control(QUEUE)
    await eventually(lambda: store.client.pubsub_numsub(channel)[0][1] == 1)  # type: ignore[index]
    yield heard
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


JUNK = [
    b"",
    b"[" * 1000,
    b'{"cancel":' * 100_000,
    b"\xff\xfe",
    b"nonsense",
    b"null",
    b"42",
    b'"cancel"',
    b"[]",
    b"{}",
    b'{"cancel": null}',
    b'{"cancel": ["j"]}',
    b'{"cancel": {"a": 1}}',
    b'{"wake": 1e999}',
    b'{"wake": NaN}',
    b'{"cancel": "\\ud800"}',
    b'{"offered": "j"}',
    b'{"offered": "j", "namespace": 5}',
    b'{"offered": ["j"], "namespace": "default"}',
    json.dumps({"cancel": "x" * 1_000_000}).encode(),
    json.dumps({"released": "x" * 1_000_000}).encode(),
    b"x" * 1_000_000,
]


async def test_control_messages_that_are_none_are_dropped_and_the_next_is_heard(
    store: RedisDriver, heard: Heard, failures: Counter[str]
) -> None:
    channel = names.control(QUEUE)
    for junk in JUNK:
        store.client.publish(channel, junk)
        store.client.publish(channel, b'{"wake": "after"}')
    await eventually(lambda: len(heard.told) >= len(JUNK))
    assert heard.told == [("wake", "after")] * len(JUNK)
    assert failures["control"] > 0


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"cancel": "j"}, ("check", "j")),
        ({"wake": "j", "of a newer version": [1]}, ("wake", "j")),
        ({"offered": "j", "namespace": "n"}, ("offered", "j", "n", "")),
        ({"offered": "j", "namespace": "n", "min_worker_version": "0.3.0"}, ("offered", "j", "n", "0.3.0")),
        ({"released": "w"}, ("sweep",)),
    ],
)
async def test_control_messages_are_heard(
    store: RedisDriver, heard: Heard, message: object, told: tuple[str, ...]
) -> None:
    store.client.publish(names.control(QUEUE), json.dumps(message))
    await eventually(lambda: bool(heard.told))
    assert heard.told == [told]


def block_with_a_script(server: RedisServer, for_s: float) -> threading.Thread:
    """Another application's script that does not come to an end for so long. Redis answers BUSY meanwhile."""
    script = (
        f"local t = redis.call('TIME'); local e = t[1] + t[2] / 1e6 + {for_s} while true do t = redis.call('TIME') \
if t[1] + t[2] / 1e6 > e then return 1 end end"
    )

    def run() -> None:
        with redis.Redis.from_url(server.url, protocol=2, socket_timeout=60) as client:
            client.execute_command("EVAL", script, 0)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


async def answers(server: RedisServer) -> str:
    """What Redis answers a stranger now."""

    def ask() -> str:
        with redis.Redis.from_url(server.url, protocol=2, retry=None) as client:
            try:
                return str(client.execute_command("EXISTS", "x"))
            except redis.ResponseError as error:
                return str(error)

    return await asyncio.to_thread(ask)


async def test_a_redis_that_is_blocked_by_another_s_script_is_waited_out_by_every_loop(
    own_server: RedisServer, own_store: RedisDriver, failures: Counter[str]
) -> None:
    own_store.client.config_set("lua-time-limit", 100)
    async with a_beating_context(own_server.url, failures) as ctx:
        heartbeat, heard = a_heartbeat(ctx), Heard()
        await heartbeat.first()
        kept = [
            asyncio.create_task(ctx.guard.keep("heartbeat", heartbeat.run, longest_s=0.1)),
            asyncio.create_task(ctx.guard.keep("control", Control(ctx, heard).run)),
        ]
        blocking = block_with_a_script(own_server, for_s=3)
        while not (await answers(own_server)).startswith("BUSY"):
            pass
        own_step = asyncio.create_task(ctx.store.exists("podrelay:generation"))
        await asyncio.to_thread(blocking.join)
        assert await own_step
        await eventually(lambda: ctx.lease.held)
        own_store.client.publish(names.control(QUEUE), b'{"wake": "j"}')
        assert not any(task.done() for task in kept)
        for task in kept:
            task.cancel()
        await asyncio.gather(*kept, return_exceptions=True)


async def test_rights_that_are_taken_away_are_waited_for(
    own_server: RedisServer, own_store: RedisDriver, failures: Counter[str]
) -> None:
    own_store.client.execute_command("ACL", "SETUSER", "admin", "on", "nopass", "~*", "&*", "+@all")
    admin = redis.Redis.from_url(own_server.url, protocol=2, username="admin", password="x")
    async with a_beating_context(own_server.url, failures) as ctx:
        heartbeat = a_heartbeat(ctx)
        await heartbeat.first()
        kept = asyncio.create_task(ctx.guard.keep("heartbeat", heartbeat.run, longest_s=0.1))
        admin.execute_command("ACL", "SETUSER", "default", "-@scripting", "-subscribe")
        control = asyncio.create_task(ctx.guard.keep("control", Control(ctx, Heard()).run))
        own_step = asyncio.create_task(ctx.store.exists("podrelay:generation"))
        await eventually(lambda: not ctx.lease.held)
        assert not own_step.done()
        admin.execute_command("ACL", "SETUSER", "default", "+@all")
        assert await own_step
        await eventually(lambda: ctx.lease.held)
        await eventually(lambda: admin.pubsub_numsub(names.control(QUEUE))[0][1] == 1)
        assert not kept.done()
        for task in (kept, control):
            task.cancel()
        await asyncio.gather(kept, control, return_exceptions=True)
    admin.close()


async def test_a_step_that_redis_refuses_costs_its_batch_mates_nothing(ctx: Context, store: RedisDriver) -> None:
    worker = store.worker("w1")
    good = [store.submit().job_id for _ in range(3)]
    store.client.set(names.job("bad"), "no hash")
    steps = [claim(job_id, worker.incarnation, namespaces=["default"]) for job_id in (good[0], "bad", *good[1:])]
    outcomes = await ctx.store.run_each(steps)
    told = [outcome if isinstance(outcome, Exception) else outcome.outcome for outcome in outcomes]
    assert told == [ClaimOutcome.CLAIMED, ClaimOutcome.UNREADABLE, ClaimOutcome.CLAIMED, ClaimOutcome.CLAIMED]


async def test_log_is_suspended_while_anything_fills_redis_and_resumed_when_there_is_room(ctx: Context) -> None:
    watching = asyncio.create_task(ctx.guard.keep("log room", partial(watch_room, ctx.log_budget, ctx.store, 0.01)))
    for limit_bytes, is_suspended in ((1, True), (1 << 40, False), (1, True)):
        ctx.log_budget.redis_limit_bytes = limit_bytes
        await eventually(lambda is_suspended=is_suspended: ctx.log_budget.is_suspended is is_suspended)  # type: ignore[misc]
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
