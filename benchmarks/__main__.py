"""``make bench``: latency, throughput and memory, measured on this machine against the pocket cluster.

What is measured is podrelay's own share: the pocket cluster answers in a millisecond and starts simulated containers at
once. Prints one line per figure, with the goal beside it, and fails at none.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from devcluster.local.processes import Child, Processes
from devcluster.local.stack import LocalStack, start_local_stack
from dispatcher.aio import AsyncDispatcher
from dispatcher.events import Ended, JobUpdate, LogChunk, Notice, StatusChanged
from dispatcher.settings import ClientSettings
from dispatcher.spec import JobSpec
from dispatcher.status import Status


@dataclass(frozen=True, slots=True)
class Bench:
    """A running stack and a way to look at it from outside."""

    stack: LocalStack
    settings: ClientSettings
    processes: Processes

    @property
    def worker_pid(self) -> int:
        return self.stack.children[0].process.pid

    def worker_rss_mb(self) -> float:
        """Resident memory of the worker process, in MB."""
        for line in Path(f"/proc/{self.worker_pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1000
        raise RuntimeError("no VmRSS")

    def start_worker(self, name: str) -> Child:
        """Start another worker beside the first."""
        env = {
            **os.environ,
            "PODRELAY_REDIS_URL": self.stack.redis_url,
            "KUBECONFIG": self.stack.kubeconfig,
            "PODRELAY_WORKER_NAME": name,
        }
        return self.processes.start(name, ["worker"], env, ready="worker ready")

    def requests(self) -> dict[str, int]:
        """Count the API requests that the pocket cluster has had, by verb and resource."""
        kubeconfig = yaml.safe_load(Path(self.stack.kubeconfig).read_text())
        token = kubeconfig["users"][0]["user"]["token"]
        request = urllib.request.Request(
            f"{self.stack.cluster_url}/pocket/requests", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request) as answer:
            found: dict[str, int] = json.load(answer)["requests"]
        return found


@contextmanager
def bench() -> Iterator[Bench]:
    """Run a stack of its own, whose worker takes as many jobs as any part needs."""
    with Processes(lambda name, line: None) as processes:
        stack = start_local_stack(
            processes,
            redis_url=None,
            kubeconfig=None,
            worker_env={"PODRELAY_MAX_JOBS": "5000"},
        )
        yield Bench(stack, ClientSettings.from_environment({}, redis_url=stack.redis_url), processes)


def simulated(*options: str, **fields: Any) -> JobSpec:
    """Make the spec of a job whose container only seems to run."""
    return JobSpec(image="simulated:1", args=options, **fields)


async def launch_latency(to: Bench, jobs: int) -> None:
    """Measure from submit to the pod's record, one job at a time."""
    latencies = []
    async with AsyncDispatcher(to.settings) as client:
        for _ in range(jobs):
            spec = simulated()
            await client.submit(spec)
            await client.result(spec.id, 60)
            times = (await client.get(spec.id)).reached
            latencies.append(1000 * (times["starting"] - times["submitted"]))
    cuts = statistics.quantiles(latencies, n=100)
    tell(
        "submit -> pod created and recorded", f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms", "p50 < 30, p99 < 150 ms"
    )


async def throughput(to: Bench, jobs: int) -> None:
    """Measure how many trivial jobs end in a second, and what each asks of the API server."""
    before, began = to.requests(), time.monotonic()
    async with AsyncDispatcher(to.settings) as client:
        specs = [simulated("--lines=1") for _ in range(jobs)]
        for spec in specs:
            await client.submit(spec)
        await asyncio.gather(*(client.result(spec.id, 300) for spec in specs))
    seconds = time.monotonic() - began
    tell("trivial jobs with a log line", f"{jobs / seconds:.0f} jobs/s ({jobs} in {seconds:.1f} s)", ">= 50 jobs/s")
    after = to.requests()
    count = sum(after.values()) - sum(before.values())
    tell("API requests per job", f"{count / jobs:.2f}", "<= 5")


async def end_latency(to: Bench, jobs: int) -> None:
    """Measure from the container's end to the result at the caller.

    The container prints its own clock: the pod's status has whole seconds only.
    """
    lags = []
    async with AsyncDispatcher(to.settings) as client:
        for _ in range(jobs):
            script = "import time; print(repr(time.time()), flush=True)"
            spec = JobSpec(image="python:3", command=("python", "-c"), args=(script,))
            await client.submit(spec)
            text = b""
            async for update in client.follow(spec.id):
                if isinstance(update.event, LogChunk):
                    text += update.event.data
                if isinstance(update.event, Ended):
                    lags.append(1000 * (time.time() - float(text)))
    median = statistics.median(lags)
    tell(
        "last print of the code -> result at the caller", f"median {median:.0f} ms, max {max(lags):.0f} ms", "KPO 3.1 s"
    )


async def followed(to: Bench, jobs: int) -> None:
    """Measure memory and loss with many running jobs that log, on one worker and one client."""
    before_mb = to.worker_rss_mb()
    async with AsyncDispatcher(to.settings) as client:
        # They run for 200 s, so that the last has begun long before the first ends.
        specs = [simulated("--lines=40", "--rate=0.2", "--line-bytes=80") for _ in range(jobs)]
        running = asyncio.Event()
        counts = {"running": 0, "bytes": 0, "ended": 0}

        async def follow(spec: JobSpec) -> None:
            is_running = False
            async for update in client.follow(spec.id):
                if isinstance(update.event, LogChunk):
                    counts["bytes"] += len(update.event.data)
                    if not is_running:
                        is_running = True
                        counts["running"] += 1
                        if counts["running"] == jobs:
                            running.set()
                counts["ended"] += isinstance(update.event, Ended)

        began = time.monotonic()
        for spec in specs:
            await client.submit(spec)
        tasks = [asyncio.create_task(follow(spec)) for spec in specs]
        await asyncio.wait_for(running.wait(), 300)
        tell(f"{jobs} jobs followed with logs", f"all running after {time.monotonic() - began:.1f} s", "")
        rss_mb = to.worker_rss_mb()
        per_job_kb = 1000 * (rss_mb - before_mb) / jobs
        tell("worker memory then", f"{rss_mb:.0f} MB ({per_job_kb:.0f} kB a job)", "< 400 MB, < 100 kB a job")
        await asyncio.gather(*tasks)
        lost = jobs * 40 * 80 - counts["bytes"]
        tell(
            "their logs at the reader", f"{counts['bytes']} bytes, {lost} missing, {counts['ended']} ended", "0 missing"
        )


async def takeover(to: Bench, jobs: int) -> None:
    """Measure how long running jobs have no owner: worker after worker is ended, and the last one killed."""
    reached: dict[str, float] = {}
    everywhere = asyncio.Event()

    def reach(update: JobUpdate) -> None:
        reached[update.job_id] = update.at.timestamp()
        if len(reached) == jobs:
            everywhere.set()

    async def follow(client: AsyncDispatcher, job_id: str) -> None:
        async for update in client.follow(job_id):
            match update.event:
                case StatusChanged(status=Status.RUNNING):
                    reach(update)
                case Notice(text=text) if "took over" in text:
                    reach(update)

    async with AsyncDispatcher(to.settings) as client:
        specs = [simulated("--lines=6000", "--rate=10", "--line-bytes=80") for _ in range(jobs)]
        for spec in specs:
            await client.submit(spec)
        tasks = [asyncio.create_task(follow(client, spec.id)) for spec in specs]
        await asyncio.wait_for(everywhere.wait(), 60)
        owner = to.stack.children[0]
        for signal_, what, goal in (
            (signal.SIGTERM, "SIGTERM", "< 1 s, gone < 10 s"),
            (signal.SIGTERM, "SIGTERM again", "< 1 s, gone < 10 s"),
            (signal.SIGKILL, "SIGKILL", "< 15 s"),
        ):
            heir = to.start_worker(f"after {what}".replace(" ", "-"))
            await asyncio.to_thread(heir.wait_until_ready, 60)
            reached.clear()
            everywhere.clear()
            at = time.time()
            owner.process.send_signal(signal_)
            await asyncio.to_thread(owner.process.wait)
            gone_s = time.time() - at
            await asyncio.wait_for(everywhere.wait(), 60)
            gaps = [since - at for since in reached.values()]
            figure = f"median {statistics.median(gaps):.2f} s, worst {max(gaps):.2f} s; process gone {gone_s:.1f} s"
            tell(f"{jobs} running jobs taken over after {what}", figure, goal)
            owner = heir
        for spec in specs:
            await client.cancel(spec.id, by="the benchmark")
        await asyncio.gather(*tasks)


def tell(what: str, figure: str, goal: str) -> None:
    """Print one figure."""
    print(f"{what:<50} {figure:<45} {goal and f'goal: {goal}'}", flush=True)


async def run(jobs: int, which: list[str]) -> None:
    """Measure these parts, one after the other, on one stack."""
    with bench() as to:
        tell("worker memory at start", f"{to.worker_rss_mb():.0f} MB", "")
        if "launch" in which:
            await launch_latency(to, 100)
        if "throughput" in which:
            await throughput(to, 500)
        if "end" in which:
            await end_latency(to, 20)
        if "followed" in which:
            await followed(to, jobs)
        if "takeover" in which:
            await takeover(to, 200)


def main() -> None:
    """Read the command line, and measure."""
    parts = ["launch", "throughput", "end", "followed", "takeover"]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000, help="how many jobs to follow at once")
    parser.add_argument("which", nargs="*", default=parts, help=f"of: {', '.join(parts)}")
    arguments = parser.parse_args()
    os.environ.pop("KUBECONFIG", None)
    asyncio.run(run(arguments.jobs, arguments.which))


if __name__ == "__main__":
    main()
