"""Whatever is said to a worker, and whatever it is answered, it goes on: the next job succeeds on the same process."""

import json
import threading
import urllib.request
from collections.abc import Iterator

import pytest
import redis

from dispatcher import connection, names, steps
from dispatcher.client import Dispatcher
from dispatcher.message import encode_message
from dispatcher.spec import JobSpec, Priority
from dispatcher.status import Status
from tests.support.installation import QUICK, Installation, Worker, running_installation


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with running_installation() as running:
        running.start_worker(**QUICK)
        yield running
        running.tell_all()


@pytest.fixture
def worker(installation: Installation) -> Worker:
    return installation.workers[0]


@pytest.fixture
def client(installation: Installation) -> Iterator[Dispatcher]:
    with Dispatcher(installation.client_settings()) as dispatcher:
        yield dispatcher


def a_job() -> JobSpec:
    return JobSpec(image="busybox:1.37", command=("true",))


def succeeds_on(worker: Worker, client: Dispatcher) -> None:
    """A job that is submitted now succeeds, and the worker is the same process."""
    spec = a_job()
    client.submit(spec)
    result = client.result(spec.id, 60)
    assert result.succeeded, result
    assert worker.is_alive


CONTROL_JUNK = [
    b"[" * 1000,
    b'{"cancel":' * 100_000,
    b"\xff\xfe",
    b"null",
    b'{"cancel": {"a": []}}',
    b'{"offered": "\\ud800", "namespace": "default"}',
    json.dumps({"offered": "x" * 1_000_000, "namespace": "default"}).encode(),
    json.dumps({"wake": "x" * 1_000_000}).encode(),
]


def test_control_messages_of_every_kind_leave_the_worker_as_it_was(
    installation: Installation, worker: Worker, client: Dispatcher
) -> None:
    for junk in CONTROL_JUNK:
        assert installation.redis_command("PUBLISH", names.control("default"), junk) >= 1  # type: ignore[arg-type]
    for number in range(2000):
        offer = json.dumps({"offered": f"nobody-{number}", "namespace": "default"})
        installation.redis_command("PUBLISH", names.control("default"), offer)
    succeeds_on(worker, client)


def test_a_script_of_another_application_that_blocks_redis_for_longer_than_the_lease_is_waited_out(
    installation: Installation, worker: Worker, client: Dispatcher
) -> None:
    installation.redis_command("CONFIG", "SET", "lua-time-limit", 100)
    script = "local function at() local t = redis.call('TIME') return t[1] + t[2] / 1e6 end \
local e = at() + 6 while at() < e do end return 1"

    def block() -> None:
        with redis.Redis.from_url(installation.redis.url, protocol=2, socket_timeout=60) as other:
            other.execute_command("EVAL", script, 0)

    blocking = threading.Thread(target=block)
    blocking.start()
    blocking.join()
    succeeds_on(worker, client)


def test_a_right_that_is_taken_away_is_waited_for(
    installation: Installation, worker: Worker, client: Dispatcher
) -> None:
    installation.redis_command("ACL", "SETUSER", "admin", "on", "nopass", "~*", "&*", "+@all")
    with redis.Redis.from_url(installation.redis.url, protocol=2, username="admin", password="any") as admin:
        for rights in ("-@scripting", "-hset", "-@all"):
            told = len(worker.lines)
            admin.execute_command("ACL", "SETUSER", "default", rights)
            told = worker.wait_for_line("heartbeat failed", after=told)
            admin.execute_command("ACL", "SETUSER", "default", "+@all")
            worker.wait_for_line("heartbeat resumed", after=told)
    succeeds_on(worker, client)


@pytest.mark.parametrize("key", [names.active("default"), names.workers("default"), names.GENERATION])
def test_a_key_of_the_worker_s_that_holds_something_else_gives_way(
    installation: Installation, worker: Worker, client: Dispatcher, key: str
) -> None:
    while installation.redis_command("ZCARD", names.active("default")):  # a job's last step makes way too
        pass
    told = len(worker.lines)
    installation.redis_command("DEL", key)
    installation.redis_command("LPUSH", key, "x")
    worker.wait_for_line("gave way", after=told)
    succeeds_on(worker, client)


def hold_by_a_finalizer(installation: Installation, pod: str) -> None:
    """As a webhook may: the pod ends and does not go until somebody removes it."""
    request = urllib.request.Request(
        f"{installation.pocket.url}/api/v1/namespaces/default/pods/{pod}",
        data=json.dumps({"metadata": {"finalizers": ["example.com/hold"]}}).encode(),
        method="PATCH",
        headers={
            "Authorization": f"Bearer {installation.pocket.token}",
            "Content-Type": "application/merge-patch+json",
        },
    )
    urllib.request.urlopen(request, timeout=30).close()


def test_a_job_that_has_its_result_holds_no_capacity_although_its_pod_does_not_go() -> None:
    with running_installation() as installation, Dispatcher(installation.client_settings()) as client:
        installation.start_worker(max_jobs=1, **QUICK)
        held = JobSpec(image="busybox:1.37", command=("sleep", "600"), termination_grace_period_s=1)
        client.submit(held)
        for heard in client.follow(held.id):
            if getattr(heard.event, "status", None) is Status.RUNNING:
                break
        hold_by_a_finalizer(installation, str(client.get(held.id).pod))
        client.cancel(held.id, "the test")
        assert client.result(held.id, 60).status is Status.CANCELLED
        spec = a_job()
        client.submit(spec)
        assert client.result(spec.id, 60).succeeded
        assert client.get(held.id).pod in [pod["metadata"]["name"] for pod in installation.pocket.pods()]


def test_jobs_that_nobody_can_claim_stand_before_no_other(
    installation: Installation, worker: Worker, client: Dispatcher
) -> None:
    """Listed as active and queued, and marked as over: not one of them may be launched."""
    with redis.Redis.from_url(installation.redis.url, protocol=2) as raw:
        for n in range(25):
            over = JobSpec(id=f"over-{n}", image="x", queue="elsewhere")  # where no worker takes it meanwhile
            connection.run(raw, steps.submit(over))
            raw.hset(names.job(over.id), mapping={"queue": "default", "forgotten": "1"})
            raw.zadd(names.active("default"), {over.id: n})
        spec = a_job()
        connection.run(raw, steps.submit(spec, with_message=False))
    assert client.result(spec.id, 60).succeeded


def test_of_a_job_that_is_not_there_nothing_is_made(
    installation: Installation, worker: Worker, client: Dispatcher
) -> None:
    """Its message or an offer of it came late, or is somebody's."""
    with redis.Redis.from_url(installation.redis.url, protocol=2) as raw:
        raw.publish(names.control("default"), json.dumps({"offered": "nobody-s", "namespace": "default"}))
        raw.lpush(names.message_list("default", 0), encode_message("nobody-s", queue="default", priority=Priority.HIGH))
        succeeds_on(worker, client)
        assert not raw.exists(names.job("nobody-s"))
        assert raw.zscore(names.active("default"), "nobody-s") is None


def test_an_offer_of_a_job_that_cannot_be_read_is_told_once(
    installation: Installation, worker: Worker, client: Dispatcher
) -> None:
    told = len(worker.lines)
    offer = json.dumps({"offered": "newer-s", "namespace": "default"})
    with redis.Redis.from_url(installation.redis.url, protocol=2) as raw:
        raw.hset(names.job("newer-s"), mapping={"status": "PAUSED", "queue": "default"})
        for _ in range(5):
            raw.publish(names.control("default"), offer)
            succeeds_on(worker, client)
    assert len([line for line in list(worker.lines)[told:] if "left alone" in line]) == 1
