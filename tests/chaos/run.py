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
from tests.chaos.faults import LOSSY, LOST_NODE_S, REBUILT_AFTER_S, Crew, Faults, schedule
from tests.chaos.kinds import Asked, Deed, make_jobs
from tests.support.api_proxy import ApiDoor
from tests.support.installation import Site, running_site
from tests.support.laws import Told, broken_laws
from tests.support.redis_proxy import RedisDoor

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

    asked: Asked
    told: Told
    is_deed_done: bool = False
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


def run_seed(seed: int, jobs: int, *, keep_output: Path | None = None) -> Report:
    """Run one seed. The output of every process is written to ``keep_output`` where a law is broken."""
    began = time.monotonic()
    rng = random.Random(seed)
    asked = make_jobs(rng, jobs)
    latency = f"lost_node_grace_s={LOST_NODE_S}"
    with running_site(nodes=3, history=200, append_only=True, latency=latency, kept_lines=200_000) as site:
        report = asyncio.run(_Run(site, seed, asked, rng).run())
        report.took_s = time.monotonic() - began
        if report.violations and keep_output is not None:
            keep_output.mkdir(parents=True, exist_ok=True)
            for name, lines in site.output.items():
                (keep_output / f"seed-{seed}-{name}.log").write_text("\n".join(lines))
    return report


class _Run:
    def __init__(self, site: Site, seed: int, asked: list[Asked], rng: random.Random) -> None:
        self._site = site
        self._rng = rng
        self._jobs = [Job(one, Told(one.spec.id)) for one in asked]
        self._report = Report(seed, len(asked))
        self._crew = Crew(site)
        self._is_lossy = False  #: Redis is to lose what it had confirmed
        self._client: AsyncDispatcher

    async def run(self) -> Report:
        site = self._site
        async with RedisDoor(site.redis.port) as redis, self._door() as api:
            site.redis_url, site.kubeconfig = redis.url, self._behind(api)
            async with AsyncDispatcher(site.client_settings(redis_timeout_s=2)) as self._client:
                await asyncio.gather(*(self._crew.start(name) for name in WORKERS))
                for worker in self._crew.alive.values():
                    await asyncio.to_thread(worker.wait_until_ready)
                await self._live(Faults(site, self._crew, redis, api, self._token_file))
                await self._settle()
            created = await asyncio.to_thread(site.pocket.ever_created)
        self._judge(created)
        return self._report

    def _door(self) -> ApiDoor:
        """Whatever token it is shown, it shows the API server's own."""
        return ApiDoor(self._site.pocket.url, self._rng, token=self._site.pocket.token)

    @property
    def _token_file(self) -> Path:
        return self._site.processes.directory / "token"

    def _behind(self, api: ApiDoor) -> Path:
        path = self._site.processes.directory / "kubeconfig-through-the-door"
        self._token_file.write_text("first\n")
        write_kubeconfig(path, api.url, "")
        config = yaml.safe_load(path.read_text())
        config["users"][0]["user"] = {"tokenFile": str(self._token_file)}
        path.write_text(yaml.safe_dump(config))
        return path

    async def _live(self, faults: Faults) -> None:
        """Submit, follow, break things; until every job has ended or had its time."""
        until_s = len(self._jobs) * SUBMITTED_EVERY_S + 12
        plan = schedule(self._rng, until_s=until_s, every_s=FAULT_EVERY_S)
        self._is_lossy = any(fault.kind in LOSSY for fault in plan)
        for job in self._jobs:
            job.told.may_hear_again = self._is_lossy
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
            job.is_hit = job.asked.spec.id in faults.hit
        for job, end in zip(self._jobs, ends, strict=False):
            if isinstance(end, Exception):
                self._report.violations.append(f"{job.asked.spec.id}: its caller was told {end!r}")

    # Callers

    async def _call(self, job: Job, number: int) -> None:
        """One caller: submit, follow from cursor to cursor, to the end."""
        await asyncio.sleep(number * SUBMITTED_EVERY_S)
        await self._submit(job)
        deed = asyncio.create_task(self._cancel(job)) if job.asked.deed is Deed.CANCEL else None
        try:
            cursor = None
            while not job.told.results:
                try:
                    async for heard in job.told.listen(self._client.follow(job.asked.spec.id, cursor)):
                        cursor = heard.cursor
                        if deed is None and job.told.statuses and job.told.statuses[-1] == (1, Status.RUNNING):
                            deed = asyncio.create_task(self._do(job))
                except RedisUnavailableError:
                    await asyncio.sleep(0.2)
                except JobUnknownError:
                    if not self._is_lossy:
                        raise
                    await self._submit(job)
            if deed is not None:
                await deed
        finally:
            if deed is not None:
                deed.cancel()

    async def _submit(self, job: Job) -> None:
        while True:
            try:
                await self._client.submit(job.asked.spec)
                return
            except RedisUnavailableError:
                await asyncio.sleep(0.2)

    async def _cancel(self, job: Job) -> None:
        """Ask, and ask again: a Redis that was emptied may have forgotten it."""
        await asyncio.sleep(job.asked.deed_after_s)
        while not job.told.results:
            try:
                await self._client.cancel(job.asked.spec.id, by="chaos")
                job.is_deed_done = True
            except (RedisUnavailableError, JobUnknownError):
                pass
            await asyncio.sleep(3.0)

    async def _do(self, job: Job) -> None:
        """Evict the pod by hand, or delete it: then also the next one, which a job gets that was lost with Redis."""
        if job.asked.deed is Deed.NONE:
            return
        await asyncio.sleep(job.asked.deed_after_s)
        while not job.told.results:
            try:
                job.is_deed_done |= await asyncio.to_thread(self._take_away, job.asked)
                if job.asked.deed is Deed.EVICT:
                    return
                await asyncio.sleep(3.0)
            except (OSError, ValueError):  # an outage of the API server, an answer that was lost, or a proxy's page
                job.is_deed_done = True  # perhaps
                await asyncio.sleep(0.2)

    def _take_away(self, asked: Asked) -> bool:
        pocket, is_there = self._site.pocket, False
        for pod in pocket.pods():
            if pod["metadata"]["labels"].get(names.LABEL_JOB) == asked.spec.id:
                is_there, name = True, pod["metadata"]["name"]
                if asked.deed is Deed.EVICT:
                    pocket.control(f"namespaces/default/pods/{name}/evict")
                else:
                    pocket.delete_pod(name)
        return is_there

    async def _submit_again(self, faults: Faults) -> None:
        """What was queued and never launched is lost with Redis unless it is submitted again."""
        await faults.has_lost.wait()
        await asyncio.sleep(REBUILT_AFTER_S)
        for job in self._jobs:
            if not job.told.results and job.told.statuses:
                await self._submit(job)

    # Afterwards

    async def _settle(self) -> None:
        """Wait until nothing is left to do."""
        deadline = time.monotonic() + TIDY_WITHIN_S
        while left := await asyncio.to_thread(self._left):
            if time.monotonic() > deadline:
                self._report.violations += left
                return
            await asyncio.sleep(0.2)

    def _left(self) -> list[str]:
        pods = [f"pod {pod['metadata']['name']} is left" for pod in self._site.pocket.pods()]
        active: Any = self._site.redis_command("ZRANGE", names.active("default"), 0, -1)
        return [*pods, *(f"{job_id.decode()} is still active" for job_id in active)]

    def _judge(self, created: Sequence[Mapping[str, Any]]) -> None:
        report = self._report
        for job in self._jobs:
            asked, told = job.asked, job.told
            is_hit = asked.deed in (Deed.EVICT, Deed.DELETE) and job.is_deed_done
            problems = broken_laws(asked.spec, told, created, may_lose_pods=is_hit or job.is_hit)
            problems += _unexpected(job, was_node_away=bool(report.faults["node_away"]))
            report.violations += [f"{asked.spec.id}: {problem}" for problem in problems]
            report.gaps.update(gap.why for gap in told.gaps)
            report.log_bytes += sum(stream.end for stream in told.streams.values())
            report.takeovers_s += _takeovers(told, self._crew.kills)
        report.violations += [f"{name} did not end within 10 s of SIGTERM" for name in self._crew.slow_ends]


def _unexpected(job: Job, *, was_node_away: bool) -> list[str]:
    asked, result = job.asked, job.told.result
    if result is None or (job.is_hit and result.reason in LOST):
        return []
    if was_node_away and asked.deed in (Deed.EVICT, Deed.DELETE) and result.reason is FailureReason.NODE_LOST:
        return []  # taken away while its node did not answer
    if asked.deed is Deed.EVICT and result.reason is FailureReason.POD_DELETED and not result.log_complete:
        return []  # no worker saw how it went: none was alive, or the API server's history was gone
    found = []
    if (result.status, result.reason) != (asked.status, asked.reason):
        found.append(f"{result.status} {result.reason} instead of {asked.status} {asked.reason}: {result.message}")
    if result.attempt > (asked.attempts if job.is_deed_done else 1) + job.is_hit:
        found.append(f"took {result.attempt} attempts")
    if asked.kind == "value" and not isinstance(result.return_value, dict):
        found.append(f"return value {result.return_value_outcome}")
    return found


def _takeovers(told: Told, kills: list[tuple[str, float]]) -> list[float]:
    """How long after its worker's death the job was taken over."""
    found = []
    for at, text in told.notices:
        for victim, killed_at in kills:
            if f"from {victim}" in text and at.timestamp() > killed_at:  # before: it was frozen for too long
                found.append(at.timestamp() - killed_at)
    return found
