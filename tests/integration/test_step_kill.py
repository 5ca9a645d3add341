"""The worker process dies after each single step of a job's life; another worker takes over, and the laws hold.

All victims run side by side, each in a namespace of its own that no other serves, so each meets its own job only. When
the last is dead one worker that serves all the namespaces comes and takes over everything.
"""

import asyncio
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
import redis

from dispatcher import names
from dispatcher.aio import AsyncDispatcher
from dispatcher.events import ReturnValueOutcome
from dispatcher.record import JobRecord
from dispatcher.spec import JobSpec, parse_spec
from dispatcher.status import FailureReason, Status
from tests.support.installation import QUICK, Installation, running_installation
from tests.support.laws import Transcript, broken_laws
from tests.support.redis_changes import wait_for_key
from worker.failpoints import Failpoint

LINES = ("--lines=400", "--line-bytes=100")
DIES_WITHIN_S = 15.0
ENDS_WITHIN_S = 40.0
AT_ONCE = 5

Act = Callable[[Installation, AsyncDispatcher, JobRecord], Awaitable[None]]


async def _cancel(_: Installation, client: AsyncDispatcher, job: JobRecord) -> None:
    await client.cancel(job.job_id, by="the test")


async def _evict(installation: Installation, _: AsyncDispatcher, job: JobRecord) -> None:
    if job.attempt == 1:
        await asyncio.to_thread(installation.pocket.control, f"namespaces/{job.namespace}/pods/{job.pod}/evict")


@dataclass(frozen=True)
class Kind:
    """A job that passes through a step. ``act`` is done once when the job is told to run."""

    status: Status
    reason: FailureReason | None = None
    args: tuple[str, ...] = ("--duration=0.5",)
    fields: dict[str, object] = field(default_factory=dict)
    act: Act | None = None
    attempts: int = 1

    def spec(self, namespace: str) -> JobSpec:
        asked = {"image": "simulated:latest", "args": [*LINES, *self.args], "namespace": namespace, **self.fields}
        return parse_spec(asked, "test")


SUCCEEDING = Kind(Status.SUCCEEDED)
FAILING = Kind(Status.FAILED, FailureReason.EXIT_CODE, ("--exit-code=3",))
CHATTY = Kind(Status.SUCCEEDED, args=("--rate=200", "--same-timestamps=7"))
CANCELLED = Kind(Status.CANCELLED, args=("--duration=600",), act=_cancel)
TOO_LONG = Kind(Status.FAILED, FailureReason.RUN_TIMEOUT, ("--duration=600",), {"run_timeout_s": 1})
RETURNING = Kind(Status.SUCCEEDED, args=("--duration=0.5", '--return-value={"a": 1}'), fields={"return_value": True})
RETURNING_BESIDE = Kind(
    Status.SUCCEEDED,
    args=RETURNING.args,
    fields={
        "return_value": True,
        "containers": [{"name": "beside", "image": "simulated:latest", "args": ["--duration=600"]}],
    },
)
#: A return value behind a container that goes on is printed only while the pod is being deleted, and goes with it.
VALUE_LOST = replace(RETURNING_BESIDE, status=Status.FAILED, reason=FailureReason.RETURN_VALUE)
EVICTED = Kind(Status.SUCCEEDED, args=("--duration=3",), fields={"retry_on": ["evicted"]}, act=_evict, attempts=2)
#: Their pods are deleted while they run, so that the next worker may find them gone before it has proved a log's end.
TAKEN_AWAY = (EVICTED, TOO_LONG, VALUE_LOST)

#: Which jobs pass through a step. A member of Failpoint that is not here fails the suite.
KINDS: dict[Failpoint, tuple[Kind, ...]] = {
    Failpoint.CLAIMED: (SUCCEEDING,),
    Failpoint.POD_CREATED: (SUCCEEDING,),
    Failpoint.POD_RECORDED: (SUCCEEDING,),
    Failpoint.RUNNING_RECORDED: (SUCCEEDING,),
    Failpoint.LOG_APPENDED: (CHATTY,),
    Failpoint.LOG_DRAINED: (FAILING,),
    Failpoint.RETURN_VALUE_READ: (RETURNING, VALUE_LOST),
    Failpoint.RESULT_APPENDED: (SUCCEEDING, CANCELLED),
    Failpoint.INTENT_RECORDED: (CANCELLED, TOO_LONG, RETURNING_BESIDE),
    Failpoint.POD_DELETED: (SUCCEEDING, CANCELLED, EVICTED),
    Failpoint.RETRY_RECORDED: (EVICTED,),
    Failpoint.REQUEUED: (EVICTED,),
    Failpoint.CANCEL_SEEN: (CANCELLED,),
    Failpoint.FORGOTTEN: (SUCCEEDING,),
}
NAMES = {id(value): name.lower() for name, value in list(globals().items()) if isinstance(value, Kind)}
CASES = [(step, kind) for step in Failpoint for kind in KINDS.get(step, ())]
IDS = [f"{step}-{NAMES[id(kind)]}".replace("_", "-") for step, kind in CASES]


@dataclass
class Outcome:
    """What is left of a case."""

    spec: JobSpec
    transcript: Transcript
    code: int | None = None
    record: JobRecord | None = None
    problems: list[str] = field(default_factory=list)
    pods_left: int = 0


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Outcome]]:
    """Every case, carried out once, side by side."""
    with running_installation(namespaces=("default", *IDS)) as installation:
        yield asyncio.run(_carry_out(installation))


async def _carry_out(installation: Installation) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    few = asyncio.Semaphore(AT_ONCE)
    async with AsyncDispatcher(installation.client_settings()) as client:
        cases = zip(IDS, CASES, strict=True)
        followed = [asyncio.create_task(_die(installation, client, few, found, name, *case)) for name, case in cases]
        readers = await asyncio.gather(*followed)
        successor = {**QUICK, "namespaces": ",".join(IDS)}
        await asyncio.to_thread(installation.start_worker, "successor", **successor)
        ends = [asyncio.create_task(_end(installation, client, outcome, reader)) for outcome, reader in readers]
        _, late = await asyncio.wait(ends, timeout=ENDS_WITHIN_S)  # what has not ended is told by its own test
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    created = installation.pocket.ever_created()
    for name, (_, kind) in zip(IDS, CASES, strict=True):
        outcome = found[name]
        outcome.problems = broken_laws(outcome.spec, outcome.transcript, created, may_lose_pods=kind in TAKEN_AWAY)
        outcome.pods_left = len(installation.pocket.pods(name))
    if any(outcome.record is None or outcome.problems for outcome in found.values()):
        installation.tell_all()
    return found


async def _die(
    installation: Installation,
    client: AsyncDispatcher,
    few: asyncio.Semaphore,
    found: dict[str, Outcome],
    name: str,
    step: Failpoint,
    kind: Kind,
) -> tuple[Outcome, "asyncio.Task[None]"]:
    """Have a worker die of the case's job; returns the task that follows the job to its end."""
    spec = kind.spec(name)
    outcome = found[name] = Outcome(spec, Transcript(spec.id))
    async with few:
        settings = {**QUICK, "namespaces": name, "test_die_after": step.value}
        victim = await asyncio.to_thread(installation.start_worker, name, **settings)
        await client.submit(spec)
        reading = asyncio.create_task(_read(installation, client, kind, outcome))
        try:
            outcome.code = await asyncio.to_thread(victim.wait_for_end, DIES_WITHIN_S)
        except subprocess.TimeoutExpired:
            victim.kill()  # it did not pass through the step: the test says so
    return outcome, reading


async def _read(installation: Installation, client: AsyncDispatcher, kind: Kind, outcome: Outcome) -> None:
    act = kind.act
    async for _ in outcome.transcript.listen(client.follow(outcome.spec.id)):
        if act is not None and outcome.transcript.statuses and outcome.transcript.statuses[-1][1] is Status.RUNNING:
            await act(installation, client, await client.get(outcome.spec.id))
            act = None


async def _end(
    installation: Installation, client: AsyncDispatcher, outcome: Outcome, reading: "asyncio.Task[None]"
) -> None:
    await reading
    await asyncio.to_thread(_wait_until_forgotten, installation, names.job(outcome.spec.id))
    outcome.record = await client.get(outcome.spec.id)


def _wait_until_forgotten(installation: Installation, key: str) -> None:
    with redis.Redis.from_url(installation.redis.url) as client:
        wait_for_key(client, key, lambda: client.hexists(key, "forgotten"), within_s=ENDS_WITHIN_S)


def test_every_step_has_a_job_that_passes_through_it() -> None:
    assert set(KINDS) == set(Failpoint)


@pytest.mark.parametrize(("name", "step", "kind"), [(n, *case) for n, case in zip(IDS, CASES, strict=True)], ids=IDS)
def test_a_job_survives_the_death_of_its_worker_after_each_step(
    outcomes: dict[str, Outcome], name: str, step: Failpoint, kind: Kind
) -> None:
    outcome = outcomes[name]
    assert outcome.code == -signal.SIGKILL, f"the worker did not pass through {step}"
    assert outcome.problems == []
    assert outcome.pods_left == 0
    result = outcome.transcript.result
    assert result is not None
    assert (result.status, result.reason) == (kind.status, kind.reason), result.message
    assert result.attempt == kind.attempts
    if kind is VALUE_LOST:
        assert result.return_value_outcome is ReturnValueOutcome.TRUNCATED
    elif kind.fields.get("return_value"):
        assert result.return_value_outcome is ReturnValueOutcome.PRESENT
        assert result.return_value == {"a": 1}
    assert outcome.record is not None
    assert outcome.record.status is result.status
