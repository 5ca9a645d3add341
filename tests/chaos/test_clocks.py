"""Times of day that are minutes apart between worker, Redis and cluster, or are set while jobs run: they change what is
displayed, and nothing else.

Waits are measured here by the steady clock, which no process was made to doubt.
"""

import asyncio
import itertools
import time
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dispatcher.status import FailureReason, Status
from tests.chaos.caller import Caller, a_caller, slow, start, until
from tests.support.clocks import WrongClock, remove_traces, why_not
from tests.support.installation import QUICK, Installation, Worker, running_installation
from tests.support.laws import Transcript

#: So long a limit is in these tests, and so late at most it may be noticed (seconds).
LIMIT_S = 2.0
NOTICED_WITHIN_S = 8.0
#: How far apart what is meant to be one moment may be told, on a busy machine.
ONE_MOMENT_S = 60.0

#: A lease that a busy machine can hold.
SETTINGS = {**QUICK, "lease_s": 4.0}

_NOWHERE = {"node_selector": {"disk": "none"}, "launch_retries": 0}
#: Outlives the base container, until its pod's grace is over.
_STUBBORN = {"name": "stubborn", "image": "simulated:latest", "args": ["--duration=600", "--ignore-term"]}


@pytest.fixture(autouse=True, scope="module")
def _clocks_can_be_wrong(tmp_path_factory: pytest.TempPathFactory) -> None:
    if why := why_not(tmp_path_factory.mktemp("clocks")):
        pytest.skip(why)


@pytest.mark.parametrize(
    ("ada_s", "bob_s", "redis_s", "cluster_s"),
    [
        pytest.param(300, -300, 0, -300, id="one worker ahead, one behind, as the cluster"),
        pytest.param(300, 300, 0, -300, id="workers ahead, cluster behind", marks=slow),
        pytest.param(-300, -300, 300, 0, id="workers behind, Redis ahead", marks=slow),
    ],
)
async def test_clocks_minutes_apart_change_no_end_no_limit_and_no_owner(
    tmp_path: Path, ada_s: int, bob_s: int, redis_s: int, cluster_s: int
) -> None:
    clocks = {"ada": WrongClock(tmp_path / "ada", ada_s), "bob": WrongClock(tmp_path / "bob", bob_s)}
    with running_installation(
        namespaces=("default", "full"),
        quotas={"full": 0},
        redis_clock=WrongClock(tmp_path / "redis", redis_s),
        cluster_clock=WrongClock(tmp_path / "cluster", cluster_s),
    ) as installation:
        async with a_caller(installation) as caller:
            workers = await asyncio.gather(*(_start(installation, name, clock) for name, clock in clocks.items()))
            long = [await caller.submit("--lines=120", "--rate=20", "--line-bytes=500") for _ in range(6)]
            await caller.until_running(*long)
            _assert_is_off(installation, ada_s, bob_s, redis_s, cluster_s)
            owners = [(await caller.record(job)).owner or "" for job in long]
            victim = next(worker for worker in workers if owners[0].startswith(f"{worker.name}-{worker.pid}-"))
            await _kill(victim)
            # From here on nobody is killed: what is submitted now has one owner, and so have the other's jobs.
            _, kept = await asyncio.gather(_start(installation, victim.name, clocks[victim.name]), _everything(caller))
            await caller.all_end()
            was_left = [owner.startswith(f"{victim.name}-{victim.pid}-") for owner in owners]
            assert [(await caller.record(job)).takeovers for job in long] == [int(left) for left in was_left]
            assert [(await caller.record(job)).takeovers for job in kept] == [0] * len(kept)
            assert all(job.result and job.result.succeeded and job.result.log_complete for job in long)
            assert [job.gaps for job in long] == [[]] * len(long)


async def test_clocks_that_are_set_back_while_jobs_run_cost_no_byte_no_limit_and_no_owner(tmp_path: Path) -> None:
    clock, cluster_clock = WrongClock(tmp_path / "ada", 0), WrongClock(tmp_path / "cluster", 0)
    with running_installation(cluster_clock=cluster_clock) as installation:
        async with a_caller(installation) as caller:
            ada = await _start(installation, "ada", clock)
            alike = ((), ("--same-timestamps=7",))
            jobs = [await caller.submit("--lines=400", "--rate=40", *how) for how in alike * 2]
            await caller.until_running(*jobs)
            pods = [(await caller.record(job)).pod or "" for job in jobs]
            limit = _limited(caller, FailureReason.RUN_TIMEOUT, "--duration=600", run_timeout_s=LIMIT_S)
            limited = asyncio.create_task(limit)
            # Set back while they are read: the lines that follow seem older than the ones before.
            clock.set(-300)
            cluster_clock.set(-300)
            await start(installation, "bob", **SETTINGS)
            await until(lambda: all(_backward_steps(installation, pod) == 1 for pod in pods))
            jobs_of_ada = [*jobs, await limited]
            assert [(await caller.record(job)).takeovers for job in jobs_of_ada] == [0] * len(jobs_of_ada)
            # And again while nobody reads them: the successor's first lines seem older than the checkpoint.
            await _kill(ada)
            cluster_clock.set(-600)
            await until(lambda: all(_backward_steps(installation, pod) == 2 for pod in pods))
            await caller.all_end()
            assert [(await caller.record(job)).takeovers for job in jobs] == [1] * len(jobs)
            assert all(job.result and job.result.succeeded and job.result.log_complete for job in jobs)
            assert [job.gaps for job in jobs] == [[]] * len(jobs)


async def _start(installation: Installation, name: str, clock: WrongClock) -> Worker:
    (worker,) = await start(installation, name, clock=clock, namespaces="default,full", **SETTINGS)
    return worker


async def _kill(worker: Worker) -> None:
    await asyncio.to_thread(worker.kill)
    remove_traces(worker.pid)


async def _everything(caller: Caller) -> list[Transcript]:
    """One job of each kind, side by side, each to the end that it should have; returns those that had an owner."""
    _, kept = await asyncio.gather(_limits(caller), _ends_and_deeds(caller))
    return kept


async def _limits(caller: Caller) -> None:
    await asyncio.gather(
        _limited(caller, FailureReason.RUN_TIMEOUT, "--duration=600", run_timeout_s=LIMIT_S),
        _limited(caller, FailureReason.UNSCHEDULABLE, schedule_timeout_s=LIMIT_S, **_NOWHERE),
        _limited(caller, FailureReason.QUOTA_TIMEOUT, namespace="full", queue_timeout_s=LIMIT_S),
        _limited(caller, FailureReason.QUEUE_TIMEOUT, namespace="elsewhere", queue_timeout_s=LIMIT_S),
        _limited(caller, FailureReason.QUEUE_TIMEOUT, queue="nobodys", queue_timeout_s=LIMIT_S),
    )


async def _ends_and_deeds(caller: Caller) -> list[Transcript]:
    return await asyncio.gather(
        *(_ends(caller, "--lines=3", startup_timeout_s=30) for _ in range(4)),
        _ends(caller, "--lines=10000", "--line-bytes=100"),
        _ends(caller, "--lines=5000", "--line-bytes=200", "--rate=2000"),
        _ends(caller, "--lines=20", "--exit-code=7", reason=FailureReason.EXIT_CODE),
        _ends(caller, "--duration=1", '--return-value={"n": 4}', return_value=True, returned={"n": 4}),
        _ends(caller, "--lines=3", containers=[_STUBBORN], termination_grace_period_s=1),
        _taken_away(caller, FailureReason.POD_DELETED),
        _taken_away(caller, FailureReason.EVICTED, "evict"),
        _taken_away(caller, None, "cancel"),
    )


async def _ends(
    caller: Caller, *args: str, reason: FailureReason | None = None, returned: Any = None, **fields: Any
) -> Transcript:
    job = await caller.submit(*args, **fields)
    await until(lambda: bool(job.results))
    assert job.result is not None
    assert (job.result.succeeded, job.result.reason) == (reason is None, reason)
    assert job.result.log_complete
    assert job.result.return_value == returned
    return job


async def _taken_away(caller: Caller, reason: FailureReason | None, deed: str = "") -> Transcript:
    """A job whose pod is deleted by hand, evicted, or that is cancelled, after all its log was heard."""
    job = await caller.submit("--lines=5", "--duration=600")
    await until(lambda: sum(stream.end for stream in job.streams.values()) == 5 * 80)
    pod = (await caller.record(job)).pod or ""
    if deed == "cancel":
        await caller.client.cancel(job.job_id, by="the test")
    elif deed:
        await asyncio.to_thread(caller.installation.pocket.control, f"namespaces/default/pods/{pod}/{deed}")
    else:
        await asyncio.to_thread(caller.installation.pocket.delete_pod, pod)
    await until(lambda: bool(job.results))
    assert job.result is not None
    assert (job.result.status, job.result.reason) == (Status.FAILED if reason else Status.CANCELLED, reason)
    return job


async def _limited(caller: Caller, reason: FailureReason, *args: str, **fields: Any) -> Transcript:
    """A job that hits its limit, neither before nor long after."""
    began = time.monotonic()
    job = await caller.submit(*args, **fields)
    await until(lambda: bool(job.results))
    assert job.result is not None
    assert job.result.reason is reason
    assert LIMIT_S <= time.monotonic() - began < LIMIT_S + NOTICED_WITHIN_S, reason
    return job


def _assert_is_off(installation: Installation, ada_s: int, bob_s: int, redis_s: int, cluster_s: int) -> None:
    """The clocks are as wrong as the test means them to be."""
    told: Mapping[str, float] = {
        "ada": _written_at(installation, "ada"),
        "bob": _written_at(installation, "bob"),
        "redis": float(installation.redis_command("TIME")[0]),
        "cluster": datetime.fromisoformat(installation.pocket.pods()[0]["metadata"]["creationTimestamp"]).timestamp(),
    }
    off = {name: at - time.time() for name, at in told.items()}
    meant = {"ada": ada_s, "bob": bob_s, "redis": redis_s, "cluster": cluster_s}
    assert off == pytest.approx(meant, abs=ONE_MOMENT_S)


def _written_at(installation: Installation, worker: str) -> float:
    """When (seconds since the epoch, as the worker means) it wrote its last line that bears a time."""
    times = [line.split()[0] for line in list(installation.output[worker]) if line.startswith("20")]
    return datetime.fromisoformat(times[-1]).timestamp()


def _backward_steps(installation: Installation, pod: str) -> int:
    """How often a line of the pod's log bears a time before that of the line before it."""
    url = f"{installation.pocket.url}/api/v1/namespaces/default/pods/{pod}/log?timestamps=true"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {installation.pocket.token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        times = [line.split(b" ")[0] for line in answer.read().splitlines()]
    return sum(after < before for before, after in itertools.pairwise(times))
