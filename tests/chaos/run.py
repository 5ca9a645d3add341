"""One chaos run: a whole installation, jobs, faults, and what came of it, checked from outside."""

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from devcluster.apiserver.kubeconfig import write_kubeconfig
from dispatcher import names
from dispatcher.aio import AsyncDispatcher
from dispatcher.errors import JobUnknownError, RedisUnavailableError
from dispatcher.status import FailureReason, Status
from tests.chaos.faults import LOSSY, LOST_NODE_S, REBUILT_AFTER_S, Fault, Faults, Workers, schedule
from tests.chaos.kinds import Intervention, PlannedJob, make_jobs
from tests.support.api_proxy import ApiProxy
from tests.support.installation import Installation, running_installation
from tests.support.laws import Transcript, broken_laws
from tests.support.redis_proxy import RedisProxy

WORKERS = ("ada", "bob", "cyd")
SUBMITTED_EVERY_S = 0.12
FAULT_EVERY_S = 1.0
ENDED_WITHIN_S = 120.0
TIDY_WITHIN_S = 60.0
#: How a job may end whose node was lost.
LOST = {FailureReason.EVICTED, FailureReason.NODE_LOST, FailureReason.POD_DELETED, FailureReason.RETURN_VALUE}


@dataclass
class Job:
    """One job of the run, and what its caller was told."""

    planned: PlannedJob
    transcript: Transcript
    has_intervened: bool = False
    is_hit: bool = False  #: a lost node took its pod


@dataclass
class Report:
    """What one run showed."""

    seed: int
    jobs: int
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    takeovers_s: list[float] = field(default_factory=list)
    gaps: Counter[str] = field(default_factory=Counter)
    log_bytes: int = 0
    took_s: float = 0.0

    def __str__(self) -> str:
        faults = " ".join(f"{kind}={count}" for kind, count in sorted(self.faults.items()))
        gaps = ", ".join(f"{count} × {why}" for why, count in sorted(self.gaps.items())) or "no"
        takeovers = "none"
        if self.takeovers_s:
            takeovers = f"{len(self.takeovers_s)}, median {statistics.median(self.takeovers_s):.1f} s"
            takeovers += f", worst {max(self.takeovers_s):.1f} s"
        return (
            f"seed {self.seed}: {self.jobs} jobs, {sum(self.faults.values())} faults ({faults}), "
            f"{self.log_bytes / 1e6:.0f} MB of log, gaps: {gaps}; takeovers after kills: {takeovers}, "
            f"{len(self.violations)} violations, {self.took_s:.0f} s"
        )


def planned_jobs(seed: int, count: int) -> list[PlannedJob]:
    """The jobs of a seed; another kind of jobs leaves its faults as they are."""
    return make_jobs(random.Random(f"jobs of seed {seed}"), count)


def planned_faults(rng: random.Random, jobs: int) -> list[Fault]:
    """The faults of a seed's run, which are the first that its numbers are drawn for."""
    return schedule(rng, until_s=jobs * SUBMITTED_EVERY_S + 12, every_s=FAULT_EVERY_S)


def run_seed(seed: int, jobs: int, *, keep_output: Path | None = None) -> Report:
    """Run one seed. The output of every process is written to ``keep_output`` where a law is broken."""
    began = time.monotonic()
    rng = random.Random(seed)
    planned = planned_jobs(seed, jobs)
    latency = f"lost_node_grace_s={LOST_NODE_S}"
    with running_installation(
        nodes=3, history=200, append_only=True, latency=latency, kept_lines=200_000
    ) as installation:
        report = asyncio.run(_Run(installation, seed, planned, rng).run())
        report.took_s = time.monotonic() - began
        if report.violations and keep_output is not None:
            keep_output.mkdir(parents=True, exist_ok=True)
            for name, lines in installation.output.items():
                (keep_output / f"seed-{seed}-{name}.log").write_text("\n".join(lines))
    return report


class _Run:
    def __init__(self, installation: Installation, seed: int, planned: list[PlannedJob], rng: random.Random) -> None:
        self._installation = installation
        self._rng = rng
        self._jobs = [Job(one, Transcript(one.spec.id)) for one in planned]
        self._report = Report(seed, len(planned))
        self._workers = Workers(installation)
        self._is_lossy = False  #: Redis is to lose what it had confirmed
        self._client: AsyncDispatcher

    async def run(self) -> Report:
        installation = self._installation
        async with RedisProxy(installation.redis.port) as redis, self._api_proxy() as api:
            installation.redis_url, installation.kubeconfig = redis.url, self._behind(api)
            async with AsyncDispatcher(installation.client_settings(redis_timeout_s=2)) as self._client:
                await asyncio.gather(*(self._workers.start(name) for name in WORKERS))
                for worker in self._workers.alive.values():
                    await asyncio.to_thread(worker.wait_until_ready)
                await self._live(Faults(installation, self._workers, redis, api, self._token_file))
                await self._settle()
            created = await asyncio.to_thread(installation.pocket.ever_created)
        self._judge(created)
        return self._report

    def _api_proxy(self) -> ApiProxy:
        """Whatever token it is shown, it shows the API server's own."""
        return ApiProxy(self._installation.pocket.url, self._rng, token=self._installation.pocket.token)

    @property
    def _token_file(self) -> Path:
        return self._installation.processes.directory / "token"

    def _behind(self, api: ApiProxy) -> Path:
        path = self._installation.processes.directory / "kubeconfig-through-the-proxy"
        self._token_file.write_text("first\n")
        write_kubeconfig(path, api.url, "")
        config = yaml.safe_load(path.read_text())
        config["users"][0]["user"] = {"tokenFile": str(self._token_file)}
        path.write_text(yaml.safe_dump(config))
        return path

    async def _live(self, faults: Faults) -> None:
        """Submit, follow, break things; until every job has ended or had its time."""
        plan = planned_faults(self._rng, len(self._jobs))
        self._is_lossy = any(fault.kind in LOSSY for fault in plan)
        for job in self._jobs:
            job.transcript.may_hear_again = self._is_lossy
        callers = [asyncio.create_task(self._call(job, i)) for i, job in enumerate(self._jobs)]
        again = asyncio.create_task(self._submit_again(faults))
        try:
            await faults.run(plan)
            await asyncio.wait(callers, timeout=ENDED_WITHIN_S)
        finally:
            for task in (*callers, again):
                task.cancel()
            ends = await asyncio.gather(*callers, again, return_exceptions=True)
        self._report.faults = faults.done
        for job in self._jobs:
            job.is_hit = job.planned.spec.id in faults.hit
        for job, end in zip(self._jobs, ends, strict=False):
            if isinstance(end, Exception):
                self._report.violations.append(f"{job.planned.spec.id}: its caller was told {end!r}")

    # Callers

    async def _call(self, job: Job, number: int) -> None:
        """One caller: submit, follow from cursor to cursor, to the end."""
        await asyncio.sleep(number * SUBMITTED_EVERY_S)  # the schedule, as all sleeps here that say nothing else
        await self._submit(job)
        intervention = (
            asyncio.create_task(self._cancel(job)) if job.planned.intervention is Intervention.CANCEL else None
        )
        try:
            cursor = None
            while not job.transcript.results:
                try:
                    async for heard in job.transcript.listen(self._client.follow(job.planned.spec.id, cursor)):
                        cursor = heard.cursor
                        if (
                            intervention is None
                            and job.transcript.statuses
                            and job.transcript.statuses[-1] == (1, Status.RUNNING)
                        ):
                            intervention = asyncio.create_task(self._do(job))
                except RedisUnavailableError:
                    await asyncio.sleep(0.2)  # a caller's pause
                except JobUnknownError:
                    if not self._is_lossy:
                        raise
                    await self._submit(job)
            if intervention is not None:
                await intervention
        finally:
            if intervention is not None:
                intervention.cancel()

    async def _submit(self, job: Job) -> None:
        while True:
            try:
                await self._client.submit(job.planned.spec)
                return
            except RedisUnavailableError:
                await asyncio.sleep(0.2)  # a caller's pause

    async def _cancel(self, job: Job) -> None:
        """Ask, and ask again: a Redis that was emptied may have forgotten it."""
        await asyncio.sleep(job.planned.intervene_after_s)
        while not job.transcript.results:
            try:
                await self._client.cancel(job.planned.spec.id, by="chaos")
                job.has_intervened = True
            except (RedisUnavailableError, JobUnknownError):
                pass
            await asyncio.sleep(3.0)

    async def _do(self, job: Job) -> None:
        """Evict the pod by hand, or delete it: then also the next one, which a job gets that was lost with Redis."""
        if job.planned.intervention is Intervention.NONE:
            return
        await asyncio.sleep(job.planned.intervene_after_s)
        while not job.transcript.results:
            try:
                job.has_intervened |= await asyncio.to_thread(self._take_away, job.planned)
                if job.planned.intervention is Intervention.EVICT:
                    return
                await asyncio.sleep(3.0)
            except (OSError, ValueError):  # an outage of the API server, an answer that was lost, or a proxy's page
                job.has_intervened = True  # perhaps
                await asyncio.sleep(0.2)  # a caller's pause

    def _take_away(self, planned: PlannedJob) -> bool:
        pocket, is_there = self._installation.pocket, False
        for pod in pocket.pods():
            if pod["metadata"]["labels"].get(names.LABEL_JOB) == planned.spec.id:
                is_there, name = True, pod["metadata"]["name"]
                if planned.intervention is Intervention.EVICT:
                    pocket.control(f"namespaces/default/pods/{name}/evict")
                else:
                    pocket.delete_pod(name)
        return is_there

    async def _submit_again(self, faults: Faults) -> None:
        """What was queued and never launched is lost with Redis unless it is submitted again."""
        await faults.has_lost.wait()
        await asyncio.sleep(REBUILT_AFTER_S)
        for job in self._jobs:
            if not job.transcript.results and job.transcript.statuses:
                await self._submit(job)

    # Afterwards

    async def _settle(self) -> None:
        """Wait until nothing is left to do."""
        deadline = time.monotonic() + TIDY_WITHIN_S
        while left := await asyncio.to_thread(self._left):
            if time.monotonic() > deadline:
                self._report.violations += left
                return
            await asyncio.sleep(0.2)  # asks again: nobody tells

    def _left(self) -> list[str]:
        pods = [f"pod {pod['metadata']['name']} is left" for pod in self._installation.pocket.pods()]
        active: Any = self._installation.redis_command("ZRANGE", names.active("default"), 0, -1)
        return [*pods, *(f"{job_id.decode()} is still active" for job_id in active)]

    def _judge(self, created: Sequence[Mapping[str, Any]]) -> None:
        report = self._report
        for job in self._jobs:
            planned, transcript = job.planned, job.transcript
            is_hit = planned.intervention in (Intervention.EVICT, Intervention.DELETE) and job.has_intervened
            problems = broken_laws(planned.spec, transcript, created, may_lose_pods=is_hit or job.is_hit)
            problems += _unexpected(job, was_node_away=bool(report.faults["node_away"]))
            report.violations += [f"{planned.spec.id}: {problem}" for problem in problems]
            report.gaps.update(gap.why for gap in transcript.gaps)
            report.log_bytes += sum(stream.end for stream in transcript.streams.values())
            report.takeovers_s += _takeovers(transcript, self._workers.kills)
        report.violations += [f"{name} did not end within 10 s of SIGTERM" for name in self._workers.slow_ends]


def _unexpected(job: Job, *, was_node_away: bool) -> list[str]:
    planned, result = job.planned, job.transcript.result
    if result is None or (job.is_hit and result.reason in LOST):
        return []
    if (
        was_node_away
        and planned.intervention in (Intervention.EVICT, Intervention.DELETE)
        and result.reason is FailureReason.NODE_LOST
    ):
        return []  # taken away while its node did not answer
    if (
        planned.intervention is Intervention.EVICT
        and result.reason is FailureReason.POD_DELETED
        and not result.log_complete
    ):
        return []  # no worker saw how it went: none was alive, or the API server's history was gone
    found = []
    if (result.status, result.reason) != (planned.status, planned.reason):
        found.append(f"{result.status} {result.reason} instead of {planned.status} {planned.reason}: {result.message}")
    if result.attempt > (planned.attempts if job.has_intervened else 1) + job.is_hit:
        found.append(f"took {result.attempt} attempts")
    if planned.kind == "value" and not isinstance(result.return_value, dict):
        found.append(f"return value {result.return_value_outcome}")
    return found


def _takeovers(transcript: Transcript, kills: list[tuple[str, float]]) -> list[float]:
    """How long after its worker's death the job was taken over."""
    found = []
    for at, text in transcript.notices:
        for victim, killed_at in kills:
            if f"from {victim}" in text and at.timestamp() > killed_at:  # before: it was frozen for too long
                found.append(at.timestamp() - killed_at)
    return found
