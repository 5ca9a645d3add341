"""Two thousand triggers in one process: connections, memory and wake-up latency (printed: ``pytest -s``)."""

import asyncio
import gc
import resource
import statistics
from pathlib import Path
from typing import Any

import redis.asyncio

from airflow_bridge.trigger import PodRelayTrigger
from dispatcher import connection, names, steps
from dispatcher.spec import JobSpec
from tests.support.scripted_worker import PlayedJob, ScriptedWorker

TRIGGERS = 2_000
MOST_MEMORY_BYTES = 20_000
#: Of the whole way: worker's step, bell, read, event decoded and fired. Generous, for a busy machine.
SLOWEST_MEDIAN_WAKE_UP_S = 0.1


async def fired(trigger: PodRelayTrigger, at: dict[str, float]) -> dict[str, Any]:
    async for event in trigger.run():
        at[trigger.job_id] = asyncio.get_running_loop().time()
        return event.payload  # type: ignore[no-any-return]
    raise AssertionError("the trigger ended without an event")


async def connections_of_podrelay(client: Any) -> int:
    return sum(1 for each in await client.client_list() if each["name"] == "podrelay")


def resident_bytes() -> int:
    """What this process really takes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def all_are_subscribed(client: Any, last: str) -> None:
    """Wait until the last trigger hears its job's bell; they subscribe one after the other."""
    while not (await client.pubsub_numsub(names.bell(last)))[0][1]:
        await asyncio.sleep(0)  # asks again: nobody tells


async def test_two_thousand_triggers_share_two_connections_and_wake_up_at_once(connection: str) -> None:
    client = redis.asyncio.Redis.from_url(connection)
    job_ids = [f"job-{number}" for number in range(TRIGGERS)]
    with ScriptedWorker(connection) as worker:
        jobs = [PlayedJob(worker.client, worker.url, submitted_and_claimed(worker, job_id)) for job_id in job_ids]
        for job in jobs:
            job.running()
        triggers = [PodRelayTrigger(job_id=x, podrelay_conn_id="podrelay_default", reader="me") for x in job_ids]
        at: dict[str, float] = {}
        before = resident_bytes()
        waiting = [asyncio.create_task(fired(trigger, at)) for trigger in triggers]
        await all_are_subscribed(client, job_ids[-1])
        memory = (resident_bytes() - before) / TRIGGERS
        assert await connections_of_podrelay(client) == 2
        latencies = [await wake_up_s(job, at, task) for job, task in zip(jobs[:200], waiting, strict=False)]
        await asyncio.to_thread(lambda: [job.succeed() for job in jobs[200:]])
        events = await asyncio.gather(*waiting)
    assert {event["status"] for event in events} == {"success"}
    assert await connections_of_podrelay(client) == 2
    median, p99 = statistics.median(latencies), statistics.quantiles(latencies, n=100)[98]
    woken = f"woken in {median * 1e3:.1f} ms (p99 {p99 * 1e3:.1f} ms)"
    print(f"\n{TRIGGERS} triggers: {memory / 1000:.1f} kB each, {woken}")  # noqa: T201 - the figures are the point
    assert memory < MOST_MEMORY_BYTES
    assert median < SLOWEST_MEDIAN_WAKE_UP_S
    await client.aclose()


def submitted_and_claimed(worker: ScriptedWorker, job_id: str) -> Any:
    connection.run(worker.client, steps.submit(JobSpec(id=job_id, image="busybox"), with_message=False))
    claimed = connection.run(worker.client, steps.claim(job_id, "scripted-worker", namespaces=["team-a"]))
    assert claimed.record is not None
    return claimed.record


async def wake_up_s(job: PlayedJob, at: dict[str, float], task: "asyncio.Task[Any]") -> float:
    """From before the worker's last step to the trigger's event, with all others waiting."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    await asyncio.to_thread(job.succeed)
    await task
    return at[job.job_id] - before
