"""The asynchronous client and its follower of many jobs, against real servers."""

# ruff: noqa: F401, F811 (fixtures are imported by the names of the tests' parameters)

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from devcluster.local.redis_server import RedisServer, free_port
from dispatcher import connection, names, steps
from dispatcher.aio import AsyncDispatcher
from dispatcher.errors import JobIdTakenError, JobUnknownError, PodrelayError, RedisUnavailableError, ResultTimeoutError
from dispatcher.events import Cursor, Ended, Heard, LogChunk, LogGap, Notice, Silence, SilenceKind, StatusChanged
from dispatcher.record import checkpoint_field
from dispatcher.status import FailureReason, Status
from dispatcher.steps import CancelOutcome, Fence, SubmitOutcome
from tests.support.job_driver import NOTICE, RedisDriver, Worker, a_spec
from tests.support.real_redis import (
    clients_of,
    eventually,
    own_server,
    own_store,
    real_store,
    settings_for,
    url,
)
from tests.support.redis_proxy import RedisProxy


@pytest.fixture
async def dispatcher(url: str) -> AsyncIterator[AsyncDispatcher]:
    async with AsyncDispatcher(settings_for(url)) as dispatcher:
        yield dispatcher


async def told(dispatcher: AsyncDispatcher, job_id: str, cursor: Cursor | None = None) -> list[Heard]:
    async with aclosing(dispatcher.follow(job_id, cursor)) as following:
        return [heard async for heard in following]


def text_of(heard: list[Heard]) -> bytes:
    return b"".join(x.event.data for x in heard if isinstance(x.event, LogChunk))


def run_job(worker: Worker, job_id: str, lines: int = 5) -> bytes:
    worker.claim(job_id)
    worker.move(job_id, Status.RUNNING)
    for i in range(lines):
        worker.log(job_id, b"line %d of %s\n" % (i, job_id.encode()))
    worker.end(job_id)
    return b"".join(b"line %d of %s\n" % (i, job_id.encode()) for i in range(lines))


async def test_many_jobs_are_followed_on_two_connections(dispatcher: AsyncDispatcher, real_store: RedisDriver) -> None:
    jobs = [(await dispatcher.submit(a_spec())).job_id for _ in range(100)]
    worker = real_store.worker()
    begun = len(jobs)
    followers = [asyncio.create_task(told(dispatcher, job_id)) for job_id in jobs]
    await eventually(lambda: len(real_store.client.pubsub_channels(names.bell("*"))) == begun)
    assert clients_of(real_store) == 2
    expected = [await asyncio.to_thread(run_job, worker, job_id, 40) for job_id in jobs]
    async with asyncio.timeout(20):
        heard = await asyncio.gather(*followers)
    assert [text_of(one) for one in heard] == expected
    assert all(isinstance(one[-1].event, Ended) for one in heard)
    assert clients_of(real_store) == 2
    await eventually(lambda: not real_store.client.pubsub_channels(names.bell("*")))


async def test_what_happens_between_the_first_read_and_the_subscription_is_not_missed(
    dispatcher: AsyncDispatcher,
    real_store: RedisDriver,
) -> None:
    """A job that runs through while its reader begins is at its end long before the first look at a silent job."""
    worker = real_store.worker()
    for _ in range(20):
        job_id = (await dispatcher.submit(a_spec())).job_id
        running = asyncio.to_thread(run_job, worker, job_id, 3)
        async with asyncio.timeout(2):
            heard, text = await asyncio.gather(told(dispatcher, job_id), running)
        assert text_of(heard) == text


async def test_a_reader_resumes_from_its_cursor(dispatcher: AsyncDispatcher, real_store: RedisDriver) -> None:
    job_id = (await dispatcher.submit(a_spec())).job_id
    run_job(real_store.worker(), job_id, lines=100)
    whole = await told(dispatcher, job_id)
    for stop in (1, 2, 50, len(whole) - 1):
        rest = await told(dispatcher, job_id, Cursor.decode(whole[stop - 1].cursor.encode()))
        assert [x.event for x in rest] == [x.event for x in whole[stop:]]


async def test_a_cursor_behind_the_end_yields_nothing_at_once(
    dispatcher: AsyncDispatcher, real_store: RedisDriver
) -> None:
    job_id = (await dispatcher.submit(a_spec())).job_id
    run_job(real_store.worker(), job_id)
    whole = await told(dispatcher, job_id)
    async with asyncio.timeout(2):
        assert await told(dispatcher, job_id, whole[-1].cursor) == []


async def test_two_readers_of_one_job_both_hear_all(dispatcher: AsyncDispatcher, real_store: RedisDriver) -> None:
    job_id = (await dispatcher.submit(a_spec())).job_id
    first = dispatcher.follow(job_id)
    assert (await anext(first)).event == StatusChanged(status=Status.QUEUED)
    second = asyncio.create_task(told(dispatcher, job_id))
    text = run_job(real_store.worker(), job_id)
    heard = [one async for one in first]
    assert text_of(heard) == text_of(await second) == text


async def test_a_slow_consumer_stops_nobody_else_and_its_buffer_is_bounded(
    dispatcher: AsyncDispatcher,
    real_store: RedisDriver,
) -> None:
    slow_job, quick_job = [(await dispatcher.submit(a_spec())).job_id for _ in range(2)]
    worker = real_store.worker()
    slow = dispatcher.follow(slow_job)
    slower = dispatcher.follow(slow_job)
    heard, heard_later = [await anext(slow)], [await anext(slower)]
    slow_text = await asyncio.to_thread(run_job, worker, slow_job, 1000)
    quick_text = await asyncio.to_thread(run_job, worker, quick_job, 200)
    async with asyncio.timeout(5):
        assert text_of(await told(dispatcher, quick_job)) == quick_text
    async with asyncio.timeout(10):
        heard += [one async for one in slow]
    assert text_of(heard) == slow_text
    real_store.client.xtrim(names.log(slow_job), maxlen=0)  # what was not read until now cannot be any more
    async with asyncio.timeout(10):
        heard_later += [one async for one in slower]
    assert sum(isinstance(one.event, LogChunk) for one in heard_later) <= 128
    assert isinstance(heard_later[-1].event, Ended)


async def assert_nobody_is_followed(store: RedisDriver) -> None:
    """A new bell connection subscribes to all who are followed."""
    (listening,) = store.client.client_list(_type="pubsub")
    store.client.client_kill_filter(_type="pubsub")

    def is_back() -> bool:
        ids = {each["id"] for each in store.client.client_list(_type="pubsub")}
        return bool(ids - {listening["id"]}) and bool(store.client.pubsub_channels("podrelay:bell"))

    await eventually(is_back)
    assert store.client.pubsub_channels(names.bell("*")) == []


async def test_a_cancelled_or_closed_reader_leaves_nothing_behind(
    dispatcher: AsyncDispatcher,
    real_store: RedisDriver,
) -> None:
    jobs = [(await dispatcher.submit(a_spec())).job_id for _ in range(50)]
    tasks_before = asyncio.all_tasks()
    for rounds in range(4):
        followers = [asyncio.create_task(told(dispatcher, job_id)) for job_id in jobs]
        for _ in range(rounds * 10):
            await asyncio.sleep(0)
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        await assert_nobody_is_followed(real_store)
    closed = dispatcher.follow(jobs[0])
    await anext(closed)
    await closed.aclose()
    assert asyncio.all_tasks() == tasks_before
    await assert_nobody_is_followed(real_store)
    assert clients_of(real_store) <= 2
    run_job(real_store.worker(), jobs[0])
    async with asyncio.timeout(2):
        assert isinstance((await told(dispatcher, jobs[0]))[-1].event, Ended)


async def test_a_keys_job_is_found(dispatcher: AsyncDispatcher) -> None:
    job_id = (await dispatcher.submit(a_spec(key="report"))).job_id
    assert (await dispatcher.find("report"), await dispatcher.find("another")) == (job_id, None)


async def test_commands_that_are_cancelled_any_time_hold_up_nobody(dispatcher: AsyncDispatcher) -> None:
    """The one connection for commands is waited for in turn; nobody's cancellation may lose another's turn."""
    job_id = (await dispatcher.submit(a_spec())).job_id
    for rounds in range(30):
        readers = [asyncio.create_task(dispatcher.get(job_id)) for _ in range(10)]
        for _ in range(rounds):
            await asyncio.sleep(0)
        for reader in readers[::2]:
            reader.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(*readers, return_exceptions=True)
    assert (await dispatcher.get(job_id)).job_id == job_id


async def test_a_cancellation_is_never_swallowed(dispatcher: AsyncDispatcher) -> None:
    """Not even one that comes in the very step in which a command was written."""
    job_id = (await dispatcher.submit(a_spec())).job_id

    async def read_for_ever() -> None:
        while True:
            await dispatcher.get(job_id)

    for steps_first in range(40):
        reader = asyncio.create_task(read_for_ever())
        for _ in range(steps_first):
            await asyncio.sleep(0)
        reader.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait([reader])
        assert reader.cancelled()


async def test_a_broken_pubsub_connection_is_mended_by_none_of_those_who_use_it(
    own_server: RedisServer, own_store: RedisDriver
) -> None:
    client = connection.connect_async(own_server.url, timeout_s=5, retries=0, max_connections=1)
    async with connection.pubsub(client) as pubsub:
        await pubsub.subscribe("bell")
        assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
        own_store.client.client_kill_filter(_type="pubsub")
        uses = (pubsub.get_message(timeout=5), pubsub.unsubscribe("bell"), pubsub.ping())
        ends = await asyncio.gather(*uses, return_exceptions=True)
        assert isinstance(ends[0], connection.UNAVAILABLE)
        with pytest.raises(connection.UNAVAILABLE):
            await pubsub.ping()
        assert own_store.client.client_list(_type="pubsub") == []
    async with connection.pubsub(client) as pubsub:
        await pubsub.subscribe("bell")
        assert len(own_store.client.client_list(_type="pubsub")) == 1
    await client.aclose()


async def test_closing_the_dispatcher_ends_its_readers(url: str, real_store: RedisDriver) -> None:
    async with AsyncDispatcher(settings_for(url)) as dispatcher:
        job_id = (await dispatcher.submit(a_spec())).job_id
        following = dispatcher.follow(job_id)
        await anext(following)
        waiting = asyncio.create_task(anext(following))  # type: ignore[arg-type]
        await asyncio.sleep(0)
    with pytest.raises(PodrelayError, match="was closed"):
        async with asyncio.timeout(2):
            await waiting
    await eventually(lambda: clients_of(real_store) == 0)


async def test_a_damaged_entry_is_a_gap_and_an_unreadable_channel_stops_only_its_own_readers(
    dispatcher: AsyncDispatcher, real_store: RedisDriver
) -> None:
    damaged, odd, good = [(await dispatcher.submit(a_spec())).job_id for _ in range(3)]
    readers = [asyncio.create_task(told(dispatcher, job_id)) for job_id in (damaged, odd, good)]
    await eventually(lambda: len(real_store.client.pubsub_channels(names.bell("*"))) == 3)
    real_store.client.xadd(names.log(damaged), {"c": "base", "a": "1", "s": "0", "h": b"", "z": b"not deflated"})
    real_store.client.set(names.log(odd), "no stream")
    for job_id in (damaged, odd):
        real_store.client.publish(names.bell(job_id), "")
    with pytest.raises(PodrelayError, match="cannot be read"):
        async with asyncio.timeout(2):
            await readers[1]
    worker = real_store.worker()
    text, other = run_job(worker, good), run_job(worker, damaged)
    async with asyncio.timeout(2):
        assert text_of(await readers[2]) == text
        heard = await readers[0]
    assert text_of(heard) == other
    assert [x.event.end for x in heard if isinstance(x.event, LogGap)] == [None]


async def test_results_cancel_and_acknowledge(dispatcher: AsyncDispatcher, real_store: RedisDriver) -> None:
    waiting = (await dispatcher.submit(a_spec(key="k"))).job_id
    with pytest.raises(ResultTimeoutError):
        await dispatcher.result(waiting, timeout_s=0.05)
    with pytest.raises(PodrelayError, match="has not ended"):
        await dispatcher.acknowledge(waiting)
    result = asyncio.create_task(dispatcher.result(waiting))
    await asyncio.sleep(0)
    assert await dispatcher.cancel(waiting, "alice") is CancelOutcome.CANCELLED
    assert (await result).cancelled_by == "alice"
    done = await dispatcher.submit(a_spec(key="k"))
    run_job(real_store.worker(), done.job_id, 50)
    assert (await dispatcher.result(done.job_id)).succeeded
    assert (await dispatcher.submit(a_spec(key="k"))).outcome is SubmitOutcome.ATTACHED
    await dispatcher.acknowledge(done.job_id)
    assert (await dispatcher.submit(a_spec(key="k"))).outcome is SubmitOutcome.SUCCESSOR


async def test_an_id_is_one_job_s(dispatcher: AsyncDispatcher) -> None:
    spec = a_spec()
    assert (await dispatcher.submit(spec)).job_id == (await dispatcher.submit(spec)).job_id
    with pytest.raises(JobIdTakenError, match="with another image"):
        await dispatcher.submit(a_spec(id=spec.id, image="other"))


async def test_an_unknown_job_is_unknown_to_every_verb(dispatcher: AsyncDispatcher) -> None:
    for verb in (
        told(dispatcher, "nothing"),
        dispatcher.result("nothing", 1),
        dispatcher.cancel("nothing", "me"),
        dispatcher.acknowledge("nothing"),
        dispatcher.get("nothing"),
    ):
        with pytest.raises(JobUnknownError, match="'nothing'"):
            await verb


async def test_an_unreachable_redis_is_one_clear_line_in_bounded_time() -> None:
    began = time.monotonic()
    at = f"redis://user:hunter2@127.0.0.1:{free_port()}/0"
    async with AsyncDispatcher(settings_for(at, timeout_s=0.5, retries=2)) as dispatcher:
        for verb in (told(dispatcher, "j"), dispatcher.submit(a_spec()), dispatcher.result("j")):
            with pytest.raises(RedisUnavailableError, match=r"redis://user:\*\*\*@127.0.0.1:\d+/0 cannot be used"):
                await verb
    assert time.monotonic() - began < 10


async def test_a_silent_job_is_looked_after(own_server: RedisServer, own_store: RedisDriver) -> None:
    """No worker, an owner that is lost, a queue timeout that nobody watches: each is told within ten seconds."""
    async with AsyncDispatcher(settings_for(own_server.url)) as dispatcher:
        lonely, owned, overdue = [
            (await dispatcher.submit(a_spec(queue=queue))).job_id for queue in ("lonely", "served", "late")
        ]
        alive, lost = own_store.worker("alive", queue="served"), own_store.worker("lost", queue="served")
        lost.claim(owned)
        followings = [dispatcher.follow(job_id) for job_id in (lonely, owned, overdue)]
        for following in followings:
            assert (await anext(following)).event == StatusChanged(status=Status.QUEUED)
        lost.die()
        own_store.client.hset(names.job(overdue), "at:queued", "1.0")
        async with asyncio.timeout(10):
            no_worker, owner_lost, end = [(await anext(following)).event for following in followings]
        assert isinstance(no_worker, Silence)
        assert isinstance(owner_lost, Silence)
        assert isinstance(end, Ended)
        assert (no_worker.kind, owner_lost.kind) == (SilenceKind.NO_WORKER, SilenceKind.OWNER_LOST)
        assert end.result.reason is FailureReason.QUEUE_TIMEOUT
        assert alive.claim(owned, former_owner="lost").outcome is steps.ClaimOutcome.CLAIMED
        async with asyncio.timeout(2):
            assert isinstance((await anext(followings[1])).event, Notice)
        for following in followings:
            await following.aclose()


async def test_readers_outlive_a_restart_of_redis_and_miss_nothing(
    own_server: RedisServer, own_store: RedisDriver
) -> None:
    async with AsyncDispatcher(settings_for(own_server.url, retries=0)) as dispatcher:
        worker = own_store.worker()
        jobs = [own_store.owned(worker) for _ in range(10)]
        heard: dict[str, list[Heard]] = {job_id: [] for job_id in jobs}

        async def follow(job_id: str) -> None:
            async with aclosing(dispatcher.follow(job_id)) as following:
                async for one in following:
                    heard[job_id].append(one)

        readers = [asyncio.create_task(follow(job_id)) for job_id in jobs]
        for job_id in jobs:
            worker.log(job_id, b"before ")
        await eventually(lambda: all(text_of(found) for found in heard.values()))
        own_server.stop()
        own_server.start()
        worker.beat()
        for job_id in jobs:
            worker.log(job_id, b"after")
            worker.end(job_id)
        async with asyncio.timeout(15):
            await asyncio.gather(*readers)
        assert {text_of(found) for found in heard.values()} == {b"before after"}
        assert {len(found) for found in heard.values()} == {4}
        assert clients_of(own_store) == 2


async def test_a_reader_of_an_emptied_redis_waits_for_the_record_to_come_back(
    own_server: RedisServer,
    own_store: RedisDriver,
) -> None:
    async with AsyncDispatcher(settings_for(own_server.url)) as dispatcher:
        worker = own_store.worker()
        job_id = own_store.owned(worker)
        following = dispatcher.follow(job_id)
        await anext(following)
        worker.log(job_id, b"before ")
        heard = [await anext(following)]
        record = own_store.record(job_id)
        own_server.stop()
        own_server.forget_data()
        own_server.start()
        async with asyncio.timeout(10):
            silence = (await anext(following)).event
        assert isinstance(silence, Silence)
        assert silence.kind is SilenceKind.JOB_UNKNOWN
        checkpoint = {checkpoint_field(1, "base"): record.checkpoints[1, "base"].encode()}
        assert (
            own_store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields=checkpoint)).outcome == "restored"
        )
        worker.log(job_id, b"after")
        worker.end(job_id)
        async with asyncio.timeout(10):
            heard += [one async for one in following]
    assert text_of(heard) == b"before after"
    assert [type(x.event).__name__ for x in heard] == ["LogChunk", "Notice", "LogChunk", "Ended"]


async def test_half_open_connections_are_noticed_and_nothing_is_missed(
    own_server: RedisServer,
    own_store: RedisDriver,
) -> None:
    async with (
        RedisProxy(own_server.port) as proxy,
        AsyncDispatcher(settings_for(proxy.url, timeout_s=0.5, retries=1)) as dispatcher,
    ):
        worker = own_store.worker()
        job_id = own_store.owned(worker)
        following = dispatcher.follow(job_id)
        await anext(following)
        worker.log(job_id, b"before ")
        heard = [await anext(following)]
        proxy.swallow()
        worker.log(job_id, b"after")
        worker.end(job_id)
        async with asyncio.timeout(10):
            heard += [one async for one in following]
        assert text_of(heard) == b"before after"
        async with asyncio.timeout(5):
            assert (await dispatcher.get(job_id)).status is Status.SUCCEEDED


async def test_a_reader_of_events_on_the_old_generation_hears_nothing_twice(
    own_server: RedisServer,
    own_store: RedisDriver,
) -> None:
    """Emptied and restored between two reads: the reader notices by the generation, not by the silence."""
    async with AsyncDispatcher(settings_for(own_server.url)) as dispatcher:
        worker = own_store.worker()
        job_id = own_store.owned(worker)
        following = dispatcher.follow(job_id)
        heard = [await anext(following)]
        record = own_store.record(job_id)
        own_store.client.flushall()
        worker.beat()
        own_store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields={}))
        worker.move(job_id, Status.RUNNING)
        worker.log(job_id, b"log")
        worker.end(job_id)
        async with asyncio.timeout(5):
            heard += [one async for one in following]
    assert [type(x.event).__name__ for x in heard] == ["StatusChanged", "Notice", "StatusChanged", "LogChunk", "Ended"]


async def test_jobs_queues_and_workers_are_listed(url: str, real_store: RedisDriver) -> None:
    async with AsyncDispatcher(settings_for(url)) as dispatcher:
        ids = [(await dispatcher.submit(a_spec())).job_id for _ in range(3)]
        Worker(real_store, "someone").beat()
        assert [record.job_id for record in await dispatcher.list()] == ids[::-1]
        assert a_spec().queue in await dispatcher.queues()
        (worker,) = await dispatcher.workers()
        assert worker.is_alive


async def test_a_text_that_no_utf_8_can_carry_is_refused_in_words(dispatcher: AsyncDispatcher) -> None:
    job_id = (await dispatcher.submit(a_spec())).job_id
    for call in (dispatcher.cancel(job_id, by="me\udcff"), dispatcher.get("odd\udcff")):
        with pytest.raises(PodrelayError, match=r"udcff.*: half a surrogate pair \(U\+DCFF\)"):
            await call
    assert (await dispatcher.get(job_id)).cancel_requested_by is None, "nothing was sent"
