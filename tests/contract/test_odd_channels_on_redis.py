"""Both clients among channels that nobody can read: each reader hears of its own, and of no Redis that is away."""

# ruff: noqa: F401, F811 (fixtures are imported by the names of the tests' parameters)

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest

from dispatcher import multiplexer, names
from dispatcher.aio import AsyncDispatcher
from dispatcher.client import Dispatcher
from dispatcher.errors import InvalidSpecError, PodrelayError, RedisUnavailableError
from dispatcher.events import Cursor, Ended, Heard, LogChunk, LogGap, Notice
from dispatcher.status import FailureReason, Status
from tests.support.forged_records import FORGERIES, Forgery, forge, mistype
from tests.support.job_driver import RedisDriver, a_spec
from tests.support.real_redis import eventually, real_store, settings_for, url

ODD_LOG = [{"c": "base"}, {"x": "y"}, {"c": b"\xff", "a": 1, "s": 0}, {"c": "base", "a": "x", "s": 0, "r": "y"}]
ODD_EVENTS = [{"e": "{"}, {"x": "y"}, {"e": b"\xff"}, {"e": "[" * 5000}, {"e": '{"kind":"status","status":"HALTED"}'}]


@pytest.fixture
def dispatcher(url: str) -> Iterator[Dispatcher]:
    with Dispatcher(settings_for(url)) as dispatcher:
        yield dispatcher


@pytest.fixture
async def many(url: str) -> AsyncIterator[AsyncDispatcher]:
    async with AsyncDispatcher(settings_for(url)) as dispatcher:
        yield dispatcher


def run_among_oddities(store: RedisDriver, job_id: str) -> None:
    worker = store.worker()
    worker.claim(job_id)
    worker.move(job_id, Status.RUNNING)
    worker.log(job_id, b"before\n")
    for fields in ODD_LOG:
        store.client.xadd(names.log(job_id), fields)
    for fields in ODD_EVENTS:
        store.client.xadd(names.events(job_id), fields)
    worker.log(job_id, b"after\n")
    worker.end(job_id)


async def test_every_reader_passes_over_what_cannot_be_read(
    dispatcher: Dispatcher, many: AsyncDispatcher, real_store: RedisDriver, url: str
) -> None:
    job_id = dispatcher.submit(a_spec()).job_id
    run_among_oddities(real_store, job_id)
    told = [await read_all(many, job_id), list(dispatcher.follow(job_id)), list(dispatcher.read_so_far(job_id))]
    for heard in told:
        assert b"".join(x.event.data for x in heard if isinstance(x.event, LogChunk)) == b"before\nafter\n"
        assert isinstance(heard[-1].event, Ended)
        assert sum(isinstance(x.event, Notice | LogGap) for x in heard) == len(ODD_LOG) + len(ODD_EVENTS) - 1
    assert dispatcher.result(job_id).succeeded
    assert (await many.result(job_id)).succeeded


async def test_a_channel_of_a_wrong_type_is_told_as_that_to_its_own_reader(
    dispatcher: Dispatcher, many: AsyncDispatcher, real_store: RedisDriver
) -> None:
    for key in (names.job, names.events, names.log):
        job_id = dispatcher.submit(a_spec()).job_id
        mistype(real_store.client, key(job_id))
        with pytest.raises(PodrelayError, match="cannot be read") as refused:
            list(dispatcher.follow(job_id))
        assert not isinstance(refused.value, RedisUnavailableError)
        with pytest.raises(PodrelayError, match="cannot be read") as refused:
            await read_all(many, job_id)
        assert not isinstance(refused.value, RedisUnavailableError)


async def read_all(many: AsyncDispatcher, job_id: str) -> list[Heard]:
    async with asyncio.timeout(10), aclosing(many.follow(job_id)) as following:
        return [heard async for heard in following]


async def test_one_jobs_odd_record_is_not_told_to_the_readers_of_others(
    many: AsyncDispatcher, real_store: RedisDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiplexer, "FIRST_LOOK_S", 0.1)
    monkeypatch.setattr(multiplexer, "LOOK_S", 0.1)
    odd, good = [(await many.submit(a_spec())).job_id for _ in range(2)]
    worker = real_store.worker()
    heard: dict[str, list[object]] = {odd: [], good: []}

    async def read(job_id: str) -> None:
        async with aclosing(many.follow(job_id)) as following:
            async for one in following:
                heard[job_id].append(one.event)

    readers = [asyncio.create_task(read(job_id)) for job_id in (odd, good)]
    await eventually(lambda: all(heard.values()))
    for at in ("nan", "x", ""):
        real_store.client.hset(names.job(odd), mapping={"at:queued": at, "queue_timeout_s": at})
    real_store.client.hset(names.workers("default"), "junk", "[" * 5000)
    looks = real_store.client.info("stats")["total_commands_processed"] + 50
    await eventually(lambda: real_store.client.info("stats")["total_commands_processed"] > looks)
    worker.claim(good)
    worker.end(good)
    async with asyncio.timeout(5):
        await readers[1]
    assert isinstance(heard[good][-1], Ended)
    assert len(heard[good]) == 2
    readers[0].cancel()
    await asyncio.gather(readers[0], return_exceptions=True)


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
async def test_both_clients_show_what_cannot_be_read_beside_what_can(
    dispatcher: Dispatcher, many: AsyncDispatcher, real_store: RedisDriver, forgery: Forgery
) -> None:
    good = dispatcher.submit(a_spec()).job_id
    forge(real_store.client, "f1", forgery.fields)
    for records in (dispatcher.list(), await many.list()):
        assert {record.job_id: bool(record.why_unreadable) for record in records} == {good: False, "f1": True}
    for record in (dispatcher.get("f1"), await many.get("f1")):
        assert forgery.field in record.why_unreadable


async def test_a_result_that_cannot_be_read_is_an_answer_nevertheless(
    dispatcher: Dispatcher, many: AsyncDispatcher, real_store: RedisDriver
) -> None:
    forge(real_store.client, "f1", {"status": "SUCCEEDED", "result": "[" * 300})
    for result in (dispatcher.result("f1", 5), await many.result("f1", 5)):
        assert (result.status, result.reason) == (Status.FAILED, FailureReason.RETURN_VALUE)
    forge(real_store.client, "f2", {"status": "SUCCEEDED"})
    with pytest.raises(PodrelayError, match="no result"):
        dispatcher.result("f2", 20)
    with pytest.raises(PodrelayError, match="ended without a result"):
        await many.result("f2", 20)


async def test_a_place_that_is_none_begins_at_the_beginning(many: AsyncDispatcher, real_store: RedisDriver) -> None:
    for junk in (b"junk", b"\xff", b"g/1-0/1-0/1:base:-5", b""):
        real_store.client.set(names.cursor("j", "me"), junk)
        assert await many.place("j", "me") is None
    await many.keep_places({("j", "me"): Cursor("g", "1-0", "2-0", ((1, "base", 5),))})
    assert await many.place("j", "me") == Cursor("g", "1-0", "2-0", ((1, "base", 5),))


async def test_a_spec_that_is_too_large_is_refused_by_both_clients(
    dispatcher: Dispatcher, many: AsyncDispatcher
) -> None:
    large = a_spec(args=("x" * 300_000,))
    with pytest.raises(InvalidSpecError, match="at most 262144"):
        dispatcher.submit(large)
    with pytest.raises(InvalidSpecError, match="at most 262144"):
        await many.submit(large)
    assert dispatcher.list() == []


def test_a_forged_stream_is_read_to_its_end(dispatcher: Dispatcher, real_store: RedisDriver) -> None:
    job_id = dispatcher.submit(a_spec()).job_id
    pipe = real_store.client.pipeline(transaction=False)
    for n in range(5000):
        pipe.xadd(names.log(job_id), {"c": f"c{n}", "a": n % 7, "s": 2**52 + n, "h": b"", "z": b"x"})
    pipe.execute()
    run_among_oddities(real_store, job_id)
    *_, last = dispatcher.follow(job_id)
    assert isinstance(last.event, Ended)
    assert Cursor.decode(last.cursor.encode()) == last.cursor
