"""Who shares a cluster, a namespace, a Redis server or a queue with others: nobody touches what is not its own."""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis as redis_library
from celery import Celery

from devcluster.local.redis_server import RedisServer
from dispatcher import names
from dispatcher.status import FailureReason, Status
from tests.chaos.caller import Caller, a_caller, slow, start, until
from tests.chaos.their_celery_app import RESULTS
from tests.support.installation import QUICK, Installation, clean_environment, running_installation
from tests.support.laws import Transcript

#: A job that writes while its worker dies and the next one starts.
LONG = ("--lines=120", "--rate=20", "--duration=8")


class Tenant(Installation):
    """A whole installation on another installation's cluster, in a database of a Redis server."""

    def __init__(self, installation: Installation, server: RedisServer, database: int) -> None:
        heard = (installation.output, installation.said)
        super().__init__(installation.processes, *heard, server, installation.pocket, installation.kubeconfig)
        self.redis_url = f"redis://127.0.0.1:{server.port}/{database}"
        self.workers = installation.workers

    def redis_command(self, *words: str | int) -> Any:
        with redis_library.Redis.from_url(self.redis_url, protocol=2) as client:
            return client.execute_command(*words)


def second_server(installation: Installation) -> RedisServer:
    server = RedisServer()
    installation.processes.enter(server)
    if server.process is not None:
        installation.processes.hold(server.process.pid)
    return server


@pytest.mark.parametrize(
    "is_one_server",
    [pytest.param(False, id="two Redis servers", marks=slow), pytest.param(True, id="two databases of one server")],
)
async def test_two_installations_with_the_same_jobs_know_nothing_of_each_other(*, is_one_server: bool) -> None:
    """In one cluster and namespace; one loses its workers and its Redis' data, the other its workers. Pub/Sub knows no
    databases: what is said in one is heard in the other."""
    async with AsyncExitStack() as stack:
        b_installation = stack.enter_context(running_installation())
        server = b_installation.redis if is_one_server else second_server(b_installation)
        a_installation = Tenant(b_installation, server, 1 if is_one_server else 0)
        a = await stack.enter_async_context(a_caller(a_installation, "a"))
        b = await stack.enter_async_context(a_caller(b_installation, "b"))
        (ada,), (bob,) = await asyncio.gather(
            start(a_installation, "ada", **QUICK, installation="a"),
            start(b_installation, "bob", **QUICK, installation="b"),
        )
        its, others = [await same_jobs(caller) for caller in (a, b)]
        await asyncio.gather(a.until_running(*its), b.until_running(*others))
        await a.client.cancel("same-0", by="somebody of a")
        await until(lambda: bool(its[0].results))

        await asyncio.gather(asyncio.to_thread(ada.kill), asyncio.to_thread(bob.kill))
        theirs = identities(b.pods())
        assert len(theirs) == len(others)
        a_installation.redis_command("FLUSHDB" if is_one_server else "FLUSHALL")
        await start(a_installation, "ada-again", **QUICK, installation="a")
        await until(lambda: all(was_told(job, "made again from the job's pod") for job in its[1:]))
        assert identities(b.pods()) == theirs
        await start(b_installation, "bob-again", **QUICK, installation="b")
        await asyncio.gather(a.all_end(), b.all_end())

        assert [job.result.status for job in its if job.result] == [Status.CANCELLED, *[Status.SUCCEEDED] * 4]
        assert {job.result.status for job in others if job.result} == {Status.SUCCEEDED}
        assert all(was_told(job, "took over from bob") for job in others)
        assert not any(was_told(job, "made again") for job in others)
        labels = [pod["labels"] for pod in b_installation.pocket.ever_created()]
        assert sorted(pod[names.LABEL_INSTALLATION] for pod in labels) == ["a"] * 5 + ["b"] * 5
        owners = [(await caller.record(job)).owner for caller, jobs in ((a, its[1:]), (b, others)) for job in jobs]
        assert [(owner or "")[:9] for owner in owners] == ["ada-again"] * 4 + ["bob-again"] * 5


async def same_jobs(caller: Caller) -> list[Transcript]:
    """With and without a key."""
    keys = [None, None, None, "key-3", "key-4"]
    return [await caller.submit(*LONG, id=f"same-{number}", key=key) for number, key in enumerate(keys)]


def identities(pods: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What would change if somebody adopted, marked or deleted them."""
    known = ("uid", "labels", "annotations", "deletionTimestamp")
    return {pod["metadata"]["name"]: [pod["metadata"].get(field) for field in known] for pod in pods}


def was_told(job: Transcript, what: str) -> bool:
    return any(what in text for _, text in job.notices)


def detail(installation: Installation, job: Transcript) -> str:
    return (installation.redis_command("HGET", names.job(job.job_id), "detail") or b"").decode()


async def test_jobs_of_a_namespace_that_nobody_serves_say_so_and_wait_for_its_worker() -> None:
    with running_installation(namespaces=("team-a", "team-b"), quotas={"team-a": 3}) as installation:
        async with a_caller(installation) as caller:
            (ada,), _ = await asyncio.gather(
                start(installation, "ada", **QUICK, namespaces="team-a"),
                start(installation, "bob", **QUICK, namespaces="team-b"),
            )
            running = [await caller.submit(*LONG, namespace="team-a") for _ in range(3)]
            await caller.until_running(*running)
            waiting = [await caller.submit("--lines=3", namespace="team-a")]
            await until(lambda: "quota" in detail(installation, waiting[0]))
            await asyncio.to_thread(ada.kill)

            waiting.append(await caller.submit("--lines=3", namespace="team-a"))
            hasty = await caller.submit("--lines=3", namespace="team-a", queue_timeout_s=3)
            await until(
                lambda: all(detail(installation, job) == "no worker serves namespace team-a" for job in waiting)
            )
            other = await caller.submit("--lines=3", namespace="team-b")
            await until(lambda: bool(other.results and hasty.results))
            assert hasty.result is not None
            assert hasty.result.reason is FailureReason.QUEUE_TIMEOUT
            owners = [(await caller.record(job)).owner for job in (*running, *waiting)]
            assert not any(owner and owner.startswith("bob") for owner in owners)

            await start(installation, "ada-again", **QUICK, namespaces="team-a")
            await caller.all_end()
            assert {job.result.status for job in (*running, *waiting, other) if job.result} == {Status.SUCCEEDED}


async def test_a_message_that_came_to_the_wrong_worker_costs_no_sweep() -> None:
    with running_installation(namespaces=("team-a", "team-b")) as installation:
        async with a_caller(installation) as caller:
            await asyncio.gather(
                start(installation, "ada", namespaces="team-a", sweep_s=60),
                start(installation, "bob", namespaces="team-b", sweep_s=60),
            )
            jobs = [await caller.submit("--lines=3", namespace=f"team-{'ab'[n % 2]}") for n in range(20)]
            await until(lambda: all(job.results for job in jobs), within_s=10)


async def test_a_namespace_that_a_worker_may_not_see_holds_up_no_other_and_heals() -> None:
    with running_installation(namespaces=("team-a", "team-b")) as installation:
        async with a_caller(installation) as caller:
            for verb in ("list", "watch", "get"):
                installation.pocket.control(f"deny?verb={verb}&resource=pods&namespace=team-b")
            (ada,) = await start(installation, "ada", **QUICK, namespaces="team-a,team-b", max_jobs=2)
            waiting = [await caller.submit("--lines=3", namespace="team-b") for _ in range(25)]
            others = [await caller.submit("--lines=3", namespace="team-a") for _ in range(5)]
            await until(lambda: all(job.results for job in others), within_s=10)
            said = 'no worker serves namespace team-b: pods is forbidden: User "pocket" cannot list resource "pods"'
            await until(lambda: all(detail(installation, job).startswith(said) for job in waiting))
            await caller.client.cancel(waiting[0].job_id, by="the test")
            await until(lambda: bool(waiting[0].results))
            (line,) = [line for line in ada.lines if "namespace not served" in line]
            assert "deploy/rbac.yaml" in line
            assert installation.pocket.requests()["list pods"] < 15

            for verb in ("list", "watch", "get"):
                installation.pocket.control(f"allow?verb={verb}&resource=pods&namespace=team-b")
            running = [await caller.submit("--lines=60", "--rate=20", namespace=f"team-{which}") for which in "ab"]
            await caller.until_running(*running)
            # Now its rights go while it follows.
            for verb in ("list", "watch", "get"):
                installation.pocket.control(f"deny?verb={verb}&resource=pods&namespace=team-b")
            installation.pocket.control("watches/end")
            await asyncio.to_thread(ada.wait_for_line, "namespace not served", times=2)
            late = [await caller.submit("--lines=3", namespace=f"team-{which}") for which in "ab"]
            await until(lambda: bool(late[0].results and running[0].results))
            await until(lambda: detail(installation, late[1]).startswith(said))
            for verb in ("list", "watch", "get"):
                installation.pocket.control(f"allow?verb={verb}&resource=pods&namespace=team-b")
            await caller.all_end()
            ended = [job.result.status for job in (*waiting, *others, *running, *late) if job.result]
            assert ended == [Status.CANCELLED, *[Status.SUCCEEDED] * (len(ended) - 1)]


async def test_another_celery_application_and_a_foreign_pod_are_not_touched() -> None:
    """In the same Redis database, with the same queue name: its messages wait, and are then its own worker's."""
    with running_installation() as installation:
        neighbour = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "neighbour"}}
        labels = {names.LABEL_INSTALLATION: "another", names.LABEL_QUEUE: "default", names.LABEL_JOB: "theirs"}
        neighbour["metadata"]["labels"] = {**labels, names.LABEL_ATTEMPT: "1"}  # type: ignore[index]
        container = {"name": "base", "image": "simulated:latest", "args": ["--duration=600"]}
        neighbour["spec"] = {"restartPolicy": "Never", "containers": [container]}
        installation.pocket.call("POST", "/api/v1/namespaces/default/pods", neighbour)
        theirs = Celery("theirs", broker=installation.redis_url, set_as_current=False)
        for number in range(5):
            theirs.send_task("theirs.task", [number], queue="default")
        with redis_library.Redis.from_url(installation.redis_url) as client:
            client.hset("unacked", "tag", "theirs")
            before = {key: client.dump(key) for key in ("default", "unacked")}
            async with a_caller(installation) as caller:
                await start(installation, "ada", **QUICK)
                jobs = [await caller.submit("--lines=3") for _ in range(5)]
                await until(lambda: all(job.results for job in jobs))
                await until(lambda: not client.zcard(names.active("default")))
                assert {key: client.dump(key) for key in before} == before
                env = clean_environment(THEIR_REDIS_URL=installation.redis_url)
                worker = ["celery", "-A", "tests.chaos.their_celery_app", "worker", "--pool=solo", "--loglevel=info"]
                installation.processes.start("theirs", worker, env)
                jobs += [await caller.submit("--lines=3") for _ in range(5)]
                await until(lambda: client.llen(RESULTS) == 5 and all(job.results for job in jobs))
                assert sorted(map(int, client.lrange(RESULTS, 0, -1))) == list(range(5))
                assert client.hget("unacked", "tag") == b"theirs"
                assert client.llen(names.dead_letters("default")) == 0
        (left,) = installation.pocket.pods()
        assert left["metadata"]["name"] == "neighbour"
        assert "deletionTimestamp" not in left["metadata"]
