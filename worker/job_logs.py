"""The logs of one attempt: which containers are followed, from when, and until when."""

import asyncio
from collections.abc import Mapping

import structlog

from dispatcher.events import LogSummary
from dispatcher.record import Checkpoint, JobRecord
from dispatcher.spec import JobSpec
from worker.cluster import Cluster
from worker.ledger import Ledger
from worker.log_follower import Buffers, JobOfLog, LogFollower, LogSource
from worker.observation import Container, Observation

log = structlog.get_logger("podrelay.worker")


class JobLogs:
    """One log follower per followed container, each a task of its own."""

    def __init__(self, job: JobOfLog, cluster: Cluster, ledger: Ledger, buffers: Buffers) -> None:
        self._job = job
        self._cluster = cluster
        self._ledger = ledger
        self._buffers = buffers
        self._attempt = 0
        self._followed: dict[str, tuple[LogFollower, asyncio.Task[None]]] = {}

    def __bool__(self) -> bool:
        return bool(self._followed)

    def see(self, pod: Observation, record: JobRecord, *, is_gone: bool) -> None:
        """Begin with the containers that have started, and tell the followed ones of their ends."""
        for container in pod.containers:
            if not _is_wanted(container, record.spec):
                continue
            if container.name not in self._followed and container.has_started:
                self._begin(pod, container.name, record)
            if container.name in self._followed and (container.state == "terminated" or is_gone):
                self._followed[container.name][0].container_ended()

    def _begin(self, pod: Observation, container: str, record: JobRecord) -> None:
        self._attempt = record.attempt
        source = LogSource(
            job_id=record.job_id,
            namespace=pod.namespace,
            pod=pod.name,
            container=container,
            attempt=record.attempt,
            limit_bytes=record.spec.log_limit_bytes,
        )
        follower = LogFollower(
            source,
            record.checkpoints.get((record.attempt, container), Checkpoint()),
            job=self._job,
            cluster=self._cluster,
            ledger=self._ledger,
            buffers=self._buffers,
        )
        self._followed[container] = (follower, asyncio.create_task(follower.run(), name=f"log {pod.name}/{container}"))

    @property
    def checkpoints(self) -> Mapping[tuple[int, str], Checkpoint]:
        """What is published, by attempt and container."""
        return {(self._attempt, name): follower.published for name, (follower, _) in self._followed.items()}

    async def drain(self, timeout_s: float, record: JobRecord) -> dict[str, LogSummary]:
        """Wait for the logs' ends, but no longer; what was published of each container. What a former owner published
        of a container that is not there any more is all that anybody will read of it.

        Raises:
            LetGoError: another incarnation owns the job.
        """
        tasks = [task for _, task in self._followed.values()]
        for follower, _ in self._followed.values():
            follower.container_ended()
        if tasks:
            done, late = await asyncio.wait(tasks, timeout=timeout_s)
            if late:
                log.warning("log not drained in time", tasks=[task.get_name() for task in late])
            for task in done:
                task.result()
        unread = {name: at for (attempt, name), at in record.checkpoints.items() if attempt == record.attempt}
        return {
            **{name: LogSummary(bytes=at.end, sha256=at.chain, is_complete=False) for name, at in unread.items()},
            **{name: follower.summary for name, (follower, _) in self._followed.items()},
        }

    async def stop(self) -> None:
        """Stop following, whatever is left."""
        tasks = [task for _, task in self._followed.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._followed.clear()


def _is_wanted(container: Container, spec: JobSpec) -> bool:
    if not spec.get_logs or not container.is_users:
        return False
    wanted = spec.container_logs if container.kind == "main" else spec.init_container_logs
    if wanted is None:
        return container.name == spec.base_container
    return wanted == "all" or container.name in wanted
