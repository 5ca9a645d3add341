"""The synchronous client against real servers."""

# ruff: noqa: F401, F811 (fixtures are imported by the names of the tests' parameters)

import itertools
import threading
import time

import pytest

from devcluster.local.redis_server import RedisServer, free_port
from dispatcher import names, steps
from dispatcher.client import Dispatcher
from dispatcher.errors import JobIdTakenError, JobUnknownError, PodrelayError, RedisUnavailableError, ResultTimeoutError
from dispatcher.events import Cursor, Ended, LogChunk, LogGap, Silence, SilenceKind, StatusChanged
from dispatcher.record import checkpoint_field
from dispatcher.status import FailureReason, Status
from dispatcher.steps import CancelOutcome, Fence, SubmitOutcome
from tests.support.job_driver import NOTICE, RedisDriver, a_spec
from tests.support.real_redis import in_thread, own_server, own_store, real_store, settings_for, url


@pytest.fixture
def dispatcher(url: str):  # type: ignore[no-untyped-def]
    with Dispatcher(settings_for(url)) as dispatcher:
        yield dispatcher


def text_of(heard: list) -> bytes:  # type: ignore[type-arg]
    return b"".join(x.event.data for x in heard if isinstance(x.event, LogChunk))


def run_job(store: RedisDriver, job_id: str, lines: int = 5) -> None:
    """What a worker does, quickly."""
    worker = store.worker(f"worker-of-{job_id}")
    worker.claim(job_id)
    worker.move(job_id, Status.STARTING)
    worker.move(job_id, Status.RUNNING)
    for i in range(lines):
        worker.log(job_id, b"line %d\n" % i)
    worker.end(job_id)


def test_a_job_is_followed_while_it_goes_on(dispatcher: Dispatcher, real_store: RedisDriver) -> None:
    job_id = dispatcher.submit(a_spec()).job_id
    following = dispatcher.follow(job_id)
    first = next(following)
    assert first.event == StatusChanged(status=Status.QUEUED)
    worker = in_thread(lambda: run_job(real_store, job_id))
    heard = [first, *following]
    worker.join()
    statuses = [x.event.status for x in heard if isinstance(x.event, StatusChanged)]
    assert statuses == [Status.QUEUED, Status.STARTING, Status.RUNNING]
    assert text_of(heard) == b"".join(b"line %d\n" % i for i in range(5))
    assert isinstance(heard[-1].event, Ended)
    assert [x.at for x in heard] == sorted(x.at for x in heard)
    assert dispatcher.result(job_id).times.keys() >= {"queued", "starting", "running", "succeeded"}


def test_a_reader_resumes_from_its_cursor_in_another_process(dispatcher: Dispatcher, real_store: RedisDriver) -> None:
    job_id = dispatcher.submit(a_spec()).job_id
    run_job(real_store, job_id, lines=600)
    whole = list(dispatcher.follow(job_id))
    for stop in (1, 2, 300, len(whole) - 1):
        cursor = Cursor.decode(whole[stop - 1].cursor.encode())
        assert [x.event for x in dispatcher.follow(job_id, cursor)] == [x.event for x in whole[stop:]]


def test_a_cursor_behind_the_end_yields_nothing_at_once(dispatcher: Dispatcher, real_store: RedisDriver) -> None:
    job_id = dispatcher.submit(a_spec()).job_id
    run_job(real_store, job_id)
    *_, end = dispatcher.follow(job_id)
    assert list(dispatcher.follow(job_id, end.cursor)) == []


def test_what_was_trimmed_is_an_explicit_gap(dispatcher: Dispatcher, real_store: RedisDriver) -> None:
    job_id = dispatcher.submit(a_spec()).job_id
    worker = real_store.worker()
    worker.claim(job_id)
    for i in range(10):
        worker.log(job_id, bytes([65 + i]) * 100, limit_bytes=300)
    worker.end(job_id)
    heard = list(dispatcher.follow(job_id))
    assert [(x.event.start, x.event.end) for x in heard if isinstance(x.event, LogGap)] == [(0, 700)]
    assert text_of(heard) == b"H" * 100 + b"I" * 100 + b"J" * 100


def test_the_result_is_awaited_and_then_there_at_once(dispatcher: Dispatcher, real_store: RedisDriver) -> None:
    job_id = dispatcher.submit(a_spec()).job_id
    with pytest.raises(ResultTimeoutError, match="it goes on"):
        dispatcher.result(job_id, timeout_s=0.05)
    worker = in_thread(lambda: run_job(real_store, job_id))
    assert dispatcher.result(job_id, timeout_s=10).status is Status.SUCCEEDED
    worker.join()
    assert dispatcher.result(job_id, timeout_s=0).status is Status.SUCCEEDED


def test_a_failed_job_is_a_result(dispatcher: Dispatcher, real_store: RedisDriver) -> None:
    job_id = dispatcher.submit(a_spec()).job_id
    worker = real_store.worker()
    worker.claim(job_id)
    worker.end(job_id, Status.FAILED, reason=FailureReason.OOM_KILLED, exit_code=137)
    assert dispatcher.result(job_id).reason is FailureReason.OOM_KILLED


def test_an_unknown_job_is_unknown_to_every_verb(dispatcher: Dispatcher) -> None:
    for verb in (
        lambda: list(dispatcher.follow("nothing")),
        lambda: dispatcher.result("nothing", 1),
        lambda: dispatcher.cancel("nothing", "me"),
        lambda: dispatcher.acknowledge("nothing"),
        lambda: dispatcher.get("nothing"),
    ):
        with pytest.raises(JobUnknownError, match="'nothing'"):
            verb()


def test_a_keys_job_is_found_also_when_it_has_ended(dispatcher: Dispatcher, real_store: RedisDriver) -> None:
    job_id = dispatcher.submit(a_spec(key="report")).job_id
    assert (dispatcher.find("report"), dispatcher.find("another")) == (job_id, None)
    run_job(real_store, job_id)
    assert dispatcher.find("report") == job_id
    assert dispatcher.find("report", "another-queue") is None


def test_cancel_and_acknowledge(dispatcher: Dispatcher, real_store: RedisDriver) -> None:
    waiting = dispatcher.submit(a_spec(key="k")).job_id
    with pytest.raises(PodrelayError, match="has not ended"):
        dispatcher.acknowledge(waiting)
    assert dispatcher.cancel(waiting, "alice") is CancelOutcome.CANCELLED
    assert dispatcher.cancel(waiting, "alice") is CancelOutcome.FINAL
    assert dispatcher.result(waiting).cancelled_by == "alice"
    done = dispatcher.submit(a_spec(key="k"))
    assert done.outcome is SubmitOutcome.SUCCESSOR
    run_job(real_store, done.job_id)
    assert dispatcher.submit(a_spec(key="k")).job_id == done.job_id
    dispatcher.acknowledge(done.job_id)
    assert dispatcher.submit(a_spec(key="k")).outcome is SubmitOutcome.SUCCESSOR


def test_an_id_is_one_job_s(dispatcher: Dispatcher) -> None:
    spec = a_spec()
    assert dispatcher.submit(spec).job_id == dispatcher.submit(spec).job_id
    with pytest.raises(JobIdTakenError, match="with another image"):
        dispatcher.submit(a_spec(id=spec.id, image="other"))


def test_jobs_and_workers_are_listed(dispatcher: Dispatcher, real_store: RedisDriver) -> None:
    jobs = [dispatcher.submit(a_spec(queue=queue)).job_id for queue in ("a", "a", "b")]
    dispatcher.cancel(jobs[0], "me")
    assert [x.job_id for x in dispatcher.list("a")] == [jobs[1], jobs[0]]
    assert {x.job_id for x in dispatcher.list()} == set(jobs)
    assert len(dispatcher.list("a", limit=1)) == 2
    alive, dead = real_store.worker("alive", queue="c", jobs=3), real_store.worker("dead", queue="c")
    dead.die()
    found = dispatcher.workers()
    assert [(x.incarnation, x.queue, x.is_alive) for x in found] == [("alive", "c", True), ("dead", "c", False)]
    assert found[0].info == {"jobs": 3}
    assert found[0].last_seen_at == pytest.approx(alive.beat().at, abs=60)


def test_no_worker_is_told_within_ten_seconds(own_server: RedisServer) -> None:
    began = time.monotonic()
    with Dispatcher(settings_for(own_server.url)) as dispatcher:
        job_id = dispatcher.submit(a_spec()).job_id
        heard = list(itertools.islice(dispatcher.follow(job_id), 2))
    assert time.monotonic() - began < 10
    assert isinstance(heard[1].event, Silence)
    assert heard[1].event.kind is SilenceKind.NO_WORKER


def test_a_job_that_waited_too_long_is_ended_by_whoever_waits_for_it(
    dispatcher: Dispatcher, real_store: RedisDriver
) -> None:
    job_id = dispatcher.submit(a_spec()).job_id
    real_store.client.hset(names.job(job_id), "at:queued", "1.0")
    *_, end = dispatcher.follow(job_id)
    assert isinstance(end.event, Ended)
    assert end.event.result.reason is FailureReason.QUEUE_TIMEOUT


def test_an_unreachable_redis_is_one_clear_line_in_bounded_time() -> None:
    began = time.monotonic()
    at = f"redis://user:hunter2@127.0.0.1:{free_port()}/0"
    with Dispatcher(settings_for(at, timeout_s=0.5, retries=2)) as dispatcher:
        for verb in (dispatcher.ping, lambda: list(dispatcher.follow("j")), lambda: dispatcher.submit(a_spec())):
            with pytest.raises(RedisUnavailableError, match=r"redis://user:\*\*\*@127.0.0.1:\d+/0 cannot be used"):
                verb()
    assert time.monotonic() - began < 10


def test_a_silent_redis_is_given_up_in_bounded_time() -> None:
    """Something accepts connections there and never answers."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        at = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        with Dispatcher(settings_for(at, timeout_s=0.2, retries=1)) as dispatcher, pytest.raises(RedisUnavailableError):
            dispatcher.ping()
        assert time.monotonic() - began < 5


def test_a_follower_waits_for_a_redis_that_restarts_and_misses_nothing(
    own_server: RedisServer, own_store: RedisDriver
) -> None:
    with Dispatcher(settings_for(own_server.url, retries=0)) as dispatcher:
        job_id = dispatcher.submit(a_spec()).job_id
        worker = own_store.worker()
        worker.claim(job_id)
        following = dispatcher.follow(job_id)
        heard = [next(following)]
        worker.log(job_id, b"before ")
        heard.append(next(following))

        def restart() -> None:
            own_server.stop()
            own_server.start()
            worker.beat()
            worker.log(job_id, b"after")
            worker.end(job_id)

        restarting = in_thread(restart)
        heard += following
        restarting.join()
    assert text_of(heard) == b"before after"
    assert [type(x.event) for x in heard] == [StatusChanged, LogChunk, LogChunk, Ended]


def test_a_follower_of_an_emptied_redis_waits_for_the_record_to_come_back(
    own_server: RedisServer, own_store: RedisDriver
) -> None:
    with Dispatcher(settings_for(own_server.url)) as dispatcher:
        job_id = dispatcher.submit(a_spec()).job_id
        worker = own_store.worker()
        worker.claim(job_id)
        following = dispatcher.follow(job_id)
        next(following)
        worker.log(job_id, b"before ")
        heard = [next(following)]
        record = own_store.record(job_id)
        own_server.stop()
        own_server.forget_data()
        own_server.start()
        silence = next(following)
        assert isinstance(silence.event, Silence)
        assert silence.event.kind is SilenceKind.JOB_UNKNOWN
        checkpoint = {checkpoint_field(1, "base"): record.checkpoints[1, "base"].encode()}
        assert (
            own_store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields=checkpoint)).outcome == "restored"
        )
        worker.log(job_id, b"after")
        worker.end(job_id)
        heard += following
    assert text_of(heard) == b"before after"
    assert [type(x.event).__name__ for x in heard] == ["LogChunk", "Notice", "LogChunk", "Ended"]


def test_one_client_serves_many_threads(dispatcher: Dispatcher, real_store: RedisDriver) -> None:
    jobs = [dispatcher.submit(a_spec()).job_id for _ in range(8)]
    results: dict[str, Status] = {}

    def wait(job_id: str) -> None:
        results[job_id] = dispatcher.result(job_id, timeout_s=20).status

    threads = [threading.Thread(target=wait, args=(job_id,)) for job_id in jobs]
    for thread in threads:
        thread.start()
    for job_id in jobs:
        run_job(real_store, job_id)
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(jobs, Status.SUCCEEDED)


def test_an_unreadable_record_hides_no_other(dispatcher: Dispatcher, real_store: RedisDriver) -> None:
    good, bad = dispatcher.submit(a_spec()).job_id, dispatcher.submit(a_spec()).job_id
    real_store.client.hset(names.job(bad), "spec", "from the future")
    found = {record.job_id: record.unreadable for record in dispatcher.list()}
    assert found[good] is None
    assert "not JSON" in (found[bad] or "")


def test_queues_and_workers_that_somebody_made_up_cost_no_round_trip_each(
    dispatcher: Dispatcher, real_store: RedisDriver
) -> None:
    dispatcher.submit(a_spec(id="j"))
    client = real_store.client
    client.sadd(names.queues(), b"\xff\xfe", *(f"made-up-{i}" for i in range(20_000)))
    client.hset(names.workers("default"), mapping={f"made-up-{i}": '{"last_seen": 1}' for i in range(20_000)})
    client.config_resetstat()
    assert [record.job_id for record in dispatcher.list()] == ["j"]
    assert len(dispatcher.workers()) == 20_000
    calls = client.info("commandstats")
    sent = [calls[f"cmdstat_{name}"]["calls"] for name in ("evalsha", "hgetall", "smembers")]  # type: ignore[index]
    assert sum(sent) < 200


def test_a_text_that_no_utf_8_can_carry_is_refused_in_words(dispatcher: Dispatcher) -> None:
    job_id = dispatcher.submit(a_spec()).job_id
    calls = [
        lambda: dispatcher.cancel(job_id, by="me\udcff"),
        lambda: dispatcher.get("odd\udcff"),
        lambda: list(dispatcher.follow("odd\udcff")),
        lambda: dispatcher.list("odd\udcff"),
    ]
    for call in calls:
        with pytest.raises(PodrelayError, match=r"udcff.*: half a surrogate pair \(U\+DCFF\)"):
            call()
    assert dispatcher.get(job_id).cancel_requested_by is None, "nothing was sent"
