"""The logs of one attempt: which containers are followed, from when, and until when."""

import asyncio
from collections.abc import Mapping
from typing import Final, Literal

import structlog

from dispatcher.events import LogSummary
from dispatcher.record import Checkpoint, JobRecord
from dispatcher.spec import JobSpec
from worker.cluster.client import Cluster
from worker.cluster.observation import Container, Observation
from worker.logs.container_log import ContainerLog
from worker.logs.outbox import LogBudget, LogSource, Outbox
from worker.logs.publisher import JobOfLog, LetGoError, append_again
from worker.store import Store

log = structlog.get_logger("podrelay.worker")

#: How often logs of an attempt that fail by a defect of ours are begun again.
MOST_FAILURES: Final = 3

#: The outboxes of logs that are published to their ends, by attempt and container: their containers may be gone.
Tails = dict[tuple[int, str], Outbox]


class JobLogs:
    """One :class:`ContainerLog` per followed container, each a task of its own."""

    def __init__(self, job: JobOfLog, cluster: Cluster, store: Store, budget: LogBudget) -> None:
        self._job = job
        self._cluster = cluster
        self._store = store
        self._budget = budget
        self._attempt = 0
        self._failures = 0
        self._followed: dict[str, tuple[ContainerLog, asyncio.Task[None]]] = {}
        self._last: Observation | None = None  # of the attempt's pod
        self.tails: Tails = {}
        self.is_lacking = False  #: Redis has lost more of this attempt's logs than is kept: they are to be read again

    def __bool__(self) -> bool:
        return bool(self._followed)

    def see(self, pod: Observation, record: JobRecord, *, is_gone: bool) -> None:
        """Begin with the containers that have started, and tell the followed ones what becomes of theirs."""
        self._last, self._attempt = pod, record.attempt
        for container in pod.containers:
            if not is_wanted(container, record.spec):
                continue
            if container.has_started and not self._is_followed(container.name, container.restarts):
                self._begin(container.name, record, restarts=container.restarts)
            if container.name in self._followed:
                container_log = self._followed[container.name][0]
                container_log.reader.started_again(container.restarts)
                if container.state == "terminated":
                    container_log.reader.container_ended()
        self.pod_gone(is_gone=is_gone)

    def pod_gone(self, *, is_gone: bool = True) -> None:
        """Take note that the pod is proved to be gone, or is there after all."""
        for container_log, _ in self._followed.values():
            container_log.reader.pod_gone(is_gone=is_gone)

    def _is_followed(self, container: str, restarts: int) -> bool:
        """Whether its log is followed, or was to its end.

        One that failed by a defect of ours begins again, and so does one whose container was started again.
        """
        if container not in self._followed:
            return False
        container_log, task = self._followed[container]
        if not task.done() or task.cancelled():
            return True
        error = task.exception()
        if error is None:
            return container_log.reader.restarts >= restarts
        if isinstance(error, LetGoError):
            return True
        self._failures += 1
        log.error("log reader failed", container=container, failures=self._failures, exc_info=error)
        return self._failures > MOST_FAILURES  # then the drain raises it, and the job is followed anew, at its pace

    def _outbox(self, container: str, record: JobRecord) -> Outbox:
        if container in self._followed:
            return self._followed[container][0].outbox
        source = LogSource(
            job_id=record.job_id,
            namespace=record.namespace or "",
            pod=record.pod or "",
            container=container,
            attempt=record.attempt,
            limit_bytes=record.spec.log_limit_bytes,
        )
        return Outbox(source, record.checkpoints.get((record.attempt, container), Checkpoint()), self._budget)

    def _begin(self, container: str, record: JobRecord, *, restarts: int = 0) -> None:
        self._attempt = record.attempt
        outbox = self._outbox(container, record)
        container_log = ContainerLog(outbox, job=self._job, cluster=self._cluster, store=self._store, restarts=restarts)
        task = asyncio.create_task(container_log.run(), name=f"log {outbox.source.pod}/{container}")
        # Whatever ends it early (another owner, a defect) is a reason to look at the job again.
        task.add_done_callback(lambda _: self._job.recheck() if not task.cancelled() and task.exception() else None)
        self._followed[container] = (container_log, task)

    def _unread(self, record: JobRecord) -> set[str]:
        """Find containers that may have written what nobody read, and whose pod is gone.

        Those of which a former owner published something, and the base container where nobody saw that it had not
        started.
        """
        names = {name for attempt, name in record.checkpoints if attempt == record.attempt}
        base, is_wanted = record.spec.base_container, record.spec.get_logs and record.spec.container_logs != ()
        seen = self._last.container(base) if self._last is not None else None
        if is_wanted and _is_among(base, record.spec.container_logs, base) and (seen is None or seen.has_started):
            names.add(base)
        return names - self._followed.keys()

    @property
    def checkpoints(self) -> Mapping[tuple[int, str], Checkpoint]:
        """What is published, by attempt and container."""
        return {
            (self._attempt, name): container_log.outbox.published for name, (container_log, _) in self._followed.items()
        }

    @property
    def kept_from(self) -> Mapping[tuple[int, str], Checkpoint]:
        """From where on everything can be appended again."""
        kept = {place: tail.start for place, tail in self.tails.items() if tail.kept}
        followed = {
            (self._attempt, name): container_log.outbox.start for name, (container_log, _) in self._followed.items()
        }
        return {**kept, **followed}

    @property
    def known(self) -> Mapping[str, str]:
        """What the record says where Redis has the ends of the logs that nobody follows any more."""
        ended = [container_log.outbox for container_log, task in self._followed.values() if task.done()]
        return {name: value for tail in (*self.tails.values(), *ended) for name, value in tail.record_fields.items()}

    async def append_lost(self, record: JobRecord, published: Mapping[tuple[int, str], Checkpoint]) -> None:
        """Append again, or read again, what the record lacks of what was ``published`` before it was read."""
        for place, tail in list(self.tails.items()):
            is_there = await self._append_tail(tail, record.checkpoints.get(place, Checkpoint()))
            self.is_lacking |= not is_there and place[0] == self._attempt
        for name, (container_log, task) in list(self._followed.items()):
            place, tail = (self._attempt, name), container_log.outbox
            there = record.checkpoints.get(place, Checkpoint())
            is_behind = there.end < published.get(place, Checkpoint()).end
            if not task.done():
                if is_behind:
                    container_log.fall_back(there)
            elif (is_behind and not tail.kept) or not await self._append_tail(tail, there):
                self._followed.pop(name, None)
                self.is_lacking = True

    async def _append_tail(self, tail: Outbox, there: Checkpoint) -> bool:
        """Append the end of a log again where the record does not say that it is there; False: it cannot be."""
        return tail.is_in(there) or await append_again(tail, self._job.fence, self._store)

    def read_again(self) -> None:
        """Follow this attempt's logs anew, from where the record says."""
        self.is_lacking = False
        self.tails = {place: tail for place, tail in self.tails.items() if place[0] != self._attempt}

    async def drain(self, timeout_s: float, record: JobRecord, *, is_gone: bool = False) -> dict[str, LogSummary]:
        """Read the logs to their ends, but no longer than this; then publish what was read, however long Redis is away.

        Returns what was published of each container. What nobody can read any more, because the pod ``is_gone``, is
        told as missing.

        Raises:
            LetGoError: another incarnation owns the job.
        """
        if is_gone and record.pod is not None:
            for name in self._unread(record):
                self._begin(name, record)
            self.pod_gone()
        for container_log, _ in self._followed.values():
            container_log.reader.job_ended()
        try:
            async with asyncio.timeout(timeout_s):
                for container_log, task in list(self._followed.values()):
                    await _either(container_log.reader.all_read, task)
        except TimeoutError:
            late = [
                name
                for name, (container_log, _) in self._followed.items()
                if not container_log.reader.all_read.is_set()
            ]
            log.warning("log not read to its end in time", containers=late)
            for container_log, _ in self._followed.values():
                container_log.reader.stop_reading()
        for container_log, task in list(self._followed.values()):
            await _published(container_log, task, timeout_s)
        unread = {name: at for (attempt, name), at in record.checkpoints.items() if attempt == record.attempt}
        return {
            **{name: LogSummary(bytes=at.end, sha256=at.chain, is_complete=False) for name, at in unread.items()},
            **{name: container_log.summary for name, (container_log, _) in self._followed.items()},
        }

    def end_attempt(self) -> None:
        """Forget the logs of an attempt that is drained, but not what Redis may still lose."""
        tails = {(self._attempt, name): container_log.outbox for name, (container_log, _) in self._followed.items()}
        self.tails.update({place: tail for place, tail in tails.items() if tail.kept})
        self._followed.clear()
        self._last = None

    async def stop(self) -> None:
        """Stop following, whatever is left."""
        tasks = [task for _, task in self._followed.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for container_log, _ in self._followed.values():
            container_log.outbox.forget()
        self._followed.clear()


def discard(tails: Tails) -> None:
    """Give their memory back."""
    for tail in tails.values():
        tail.forget()


async def _published(container_log: ContainerLog, task: asyncio.Task[None], timeout_s: float) -> None:
    """Wait until what was read is published, however long Redis is away.

    Where Redis has lost some of it, for its being read again too, but no longer than this.
    """
    while not task.done():
        await asyncio.wait({task}, timeout=timeout_s)
        if not task.done() and not container_log.reader.all_read.is_set():
            container_log.reader.stop_reading()
    await task


async def _either(event: asyncio.Event, task: asyncio.Task[None]) -> None:
    """Wait for the event, or the task's end."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


def is_wanted(container: Container, spec: JobSpec) -> bool:
    """Whether the container's log is asked for."""
    if not spec.get_logs or not container.is_user_container:
        return False
    wanted = spec.container_logs if container.kind == "main" else spec.init_container_logs
    return _is_among(container.name, wanted, spec.base_container)


def _is_among(container: str, wanted: tuple[str, ...] | Literal["all"] | None, base: str) -> bool:
    return container == base if wanted is None else wanted == "all" or container in wanted
