"""A worker among records that no worker can read, and the command that shows them: the next job succeeds on the same
process, and nothing of theirs is changed."""

import json
import time
from collections.abc import Iterator

import pytest
import redis

from dispatcher import names
from dispatcher.client import Dispatcher
from dispatcher.spec import JobSpec
from tests.support.forged_records import FORGERIES, HARMLESS, WORKER_ENTRIES, forge, mistype
from tests.support.installation import QUICK, Installation, running_installation
from tests.support.podrelay_process import Podrelay


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with running_installation() as running:
        running.start_worker(**QUICK)
        yield running
        running.tell_all()


@pytest.fixture
def shell(installation: Installation) -> Podrelay:
    return Podrelay(installation.redis_url)


@pytest.fixture
def client(installation: Installation) -> Iterator[Dispatcher]:
    with Dispatcher(installation.client_settings()) as dispatcher:
        yield dispatcher


def succeeds(installation: Installation, client: Dispatcher) -> None:
    spec = JobSpec(image="busybox:1.37", command=("true",))
    client.submit(spec)
    assert client.result(spec.id, 60).succeeded
    assert all(worker.is_alive for worker in installation.workers)


def test_records_that_cannot_be_read_end_no_worker_and_are_shown(
    installation: Installation, client: Dispatcher, shell: Podrelay
) -> None:
    left_alone = {f"odd-{n}": x for n, x in enumerate(FORGERIES.values()) if x.is_for_workers}
    with redis.Redis.from_url(installation.redis_url, protocol=2) as store:
        for n, entry in enumerate(WORKER_ENTRIES):
            store.hset(names.workers("default"), f"odd-{n}", entry)
        for job_id, forgery in left_alone.items():
            forge(store, job_id, forgery.fields)
            forge(store, f"{job_id}-owned", {**forgery.fields, "owner": "dead"})
        for n, fields in enumerate(HARMLESS.values()):
            forge(store, f"fine-{n}", fields)
        for n, forgery in enumerate(x for x in FORGERIES.values() if not x.is_for_workers):
            forge(store, f"ends-{n}", forgery.fields)
        mistype(store, names.job("mistyped"))
        store.zadd(names.active("default"), {"mistyped": time.time(), b"\xff{": time.time()})
        before = {job_id: store.hgetall(names.job(job_id)) for job_id in left_alone}
        succeeds(installation, client)
        # Those that can be taken are taken, and come to an end, among those that cannot.
        for n, fields in enumerate(HARMLESS.values()):
            if "status" not in fields:
                assert client.result(f"fine-{n}", 60).succeeded
        succeeds(installation, client)
        assert {job_id: store.hgetall(names.job(job_id)) for job_id in left_alone} == before
    told = [json.loads(line) for line in shell("list", "--json", "--limit", "1000").stdout.splitlines()]
    unreadable = {row["job_id"]: row["unreadable"] for row in told if row["unreadable"]}
    assert unreadable.keys() >= {*left_alone, "mistyped"}
    assert "WRONGTYPE" in unreadable["mistyped"]
    lines = shell("list", "--limit", "1000").stdout.decode().splitlines()
    (line,) = [x for x in lines if x.startswith("odd-0 ")]
    assert "PAUSED" in line
    assert "unreadable: record: status: 'PAUSED' is not known to this version" in line
    assert b"unreadable" in shell("status", "odd-0").stdout
    assert "WRONGTYPE" in json.loads(shell("status", "mistyped", "--json").stdout)["unreadable"]
    assert shell("workers").returncode == 0
    refused = shell("logs", "-f", "mistyped")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert b"the record of job mistyped cannot be read" in refused.stderr


@pytest.mark.parametrize("key", [names.active("default"), names.workers("default"), names.GENERATION, names.queues()])
def test_a_key_of_a_wrong_type_is_put_right_and_ends_no_worker(
    installation: Installation, client: Dispatcher, key: str
) -> None:
    succeeds(installation, client)
    with redis.Redis.from_url(installation.redis_url, protocol=2) as store:
        mistype(store, key)
    succeeds(installation, client)


def test_what_is_no_cursor_is_bad_input(installation: Installation, client: Dispatcher, shell: Podrelay) -> None:
    spec = JobSpec(image="busybox:1.37", command=("true",))
    client.submit(spec)
    client.result(spec.id, 60)
    for text in ("g/x/y/", "///", "g/1-0/1-0/1:base:-5", "g/1-0/1-0/1:base:" + "9" * 21):
        for follow in ([], ["-f"]):
            done = shell("logs", *follow, spec.id, "--cursor", text)
            assert (done.returncode, done.stdout) == (2, b"")
            assert done.stderr.decode().startswith("podrelay: --cursor: ")
            assert len(done.stderr.splitlines()) == 1


def test_a_key_of_a_wrong_type_is_not_told_as_a_redis_that_is_away(
    installation: Installation, client: Dispatcher, shell: Podrelay
) -> None:
    spec = JobSpec(image="busybox:1.37", command=("true",))
    client.submit(spec)
    client.result(spec.id, 60)
    with redis.Redis.from_url(installation.redis_url, protocol=2) as store:
        mistype(store, names.log(spec.id))
    for follow in ([], ["-f"]):
        done = shell("logs", *follow, spec.id)
        assert done.returncode == 1
        assert b"WRONGTYPE" in done.stderr
        assert b"cannot be used" not in done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"image":"x","pod_template":' + '{"a":' * 5000 + "1" + "}" * 5000 + "}", "nested"),
        ("image: x\npod_template: " + "[" * 5000, "nested"),
        ("image: x\nargs: [" + "x" * 300_000 + "]", "262144"),
        ("#" * (2 << 20), "larger than"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)),
            "values",
        ),
    ],
    ids=["deep JSON", "deep YAML", "large", "larger", "aliases"],
)
def test_a_spec_that_is_too_deep_or_too_large_is_bad_input(shell: Podrelay, text: str, told: str) -> None:
    done = shell("submit", "-f", "-", stdin=text)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr
    assert told in done.stderr.decode()
