"""Drives jobs through the atomic steps as a caller and a worker would, on any redis-py client."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import redis

from dispatcher import connection, names, steps
from dispatcher.channel import Entry, encode_chunk, encode_gap
from dispatcher.events import Ended, JobResult, Notice, StatusChanged
from dispatcher.record import Checkpoint, JobRecord, chain_next, checkpoint_field, decode_record
from dispatcher.spec import JobSpec
from dispatcher.status import FailureReason, Status
from dispatcher.steps import Appended, Claimed, Fence, Moved, Step, Submitted
from dispatcher.version import VERSION

T = TypeVar("T")
_numbers = itertools.count(1)


def a_spec(**fields: Any) -> JobSpec:
    return JobSpec(**{"id": f"job-{next(_numbers)}", "image": "busybox:1.37", **fields})


@dataclass
class Worker:
    """One incarnation, its jobs' epochs and checkpoints."""

    store: "RedisDriver"
    incarnation: str
    epochs: dict[str, int] = field(default_factory=dict)
    checkpoints: dict[tuple[str, str], Checkpoint] = field(default_factory=dict)

    def beat(self, *, queue: str = "default", lease_ms: int = 60_000, **info: Any) -> steps.Beat:
        return self.store.run(steps.heartbeat(self.incarnation, queue, lease_ms=lease_ms, info=info))

    def die(self) -> None:
        """The lease runs out."""
        self.store.client.delete(names.worker(self.incarnation))

    def claim(
        self,
        job_id: str,
        *,
        former_owner: str = "",
        namespaces: Sequence[str] = ("default",),
        version: str = VERSION,
    ) -> Claimed:
        claimed = self.store.run(
            steps.claim(job_id, self.incarnation, namespaces=namespaces, former_owner=former_owner, version=version)
        )
        if claimed.record is not None:
            self.epochs[job_id] = claimed.record.epoch
        return claimed

    def fence(self, job_id: str) -> Fence:
        return Fence(self.incarnation, self.epochs[job_id])

    def move_step(self, job_id: str, target: Status | None = None, **options: Any) -> Step[Moved]:
        if target is not None and "event" not in options:
            options["event"] = StatusChanged(status=target)
        return steps.move(job_id, self.fence(job_id), target=target, **options)

    def move(self, job_id: str, target: Status | None = None, **options: Any) -> Moved:
        return self.store.run(self.move_step(job_id, target, **options))

    def end_step(
        self, job_id: str, status: Status = Status.SUCCEEDED, reason: FailureReason | None = None, **result: Any
    ) -> Step[Moved]:
        end = JobResult(job_id=job_id, status=status, reason=reason, **result)
        told = {"result": end.model_dump_json(exclude_none=True), "reason": reason.value if reason else ""}
        return self.move_step(job_id, status, event=Ended(result=end), fields=told)

    def end(self, job_id: str, status: Status = Status.SUCCEEDED, **result: Any) -> Moved:
        return self.store.run(self.end_step(job_id, status, **result))

    def forget(self, job_id: str, queue: str = "default") -> str:
        return self.store.run(steps.forget(job_id, self.fence(job_id), queue))

    def log_step(
        self,
        job_id: str,
        data: bytes,
        *,
        container: str = "base",
        attempt: int = 1,
        limit_bytes: int = 1 << 24,
        memory_limit_bytes: int = 0,
    ) -> tuple[Step[Appended], Checkpoint]:
        before = self.checkpoints.get((job_id, container), Checkpoint())
        chain = chain_next(before.chain, data)
        after = Checkpoint(before.end + len(data), "2026-01-01T00:00:00Z", 1, len(data), "", chain)
        step = steps.append_log(
            job_id,
            self.fence(job_id),
            checkpoint_field=checkpoint_field(attempt, container),
            start=before.end,
            checkpoint=after.encode(),
            limit_bytes=limit_bytes,
            entry=encode_chunk(container=container, attempt=attempt, start=before.end, data=data, chain=chain),
            memory_limit_bytes=memory_limit_bytes,
        )
        return step, after

    def log(self, job_id: str, data: bytes, *, container: str = "base", **options: Any) -> Appended:
        step, after = self.log_step(job_id, data, container=container, **options)
        appended = self.store.run(step)
        if appended.outcome is steps.AppendOutcome.APPLIED:
            self.checkpoints[job_id, container] = after
        return appended

    def gap_step(
        self, job_id: str, *, lost_bytes: int | None, container: str = "base"
    ) -> tuple[Step[Appended], Checkpoint]:
        before = self.checkpoints.get((job_id, container), Checkpoint())
        after = Checkpoint(
            before.end + (lost_bytes or 0),
            *(before.timestamp, before.nth, before.line_bytes, before.line_sha256, before.chain),
        )
        end = None if lost_bytes is None else after.end
        step = steps.append_log(
            job_id,
            self.fence(job_id),
            checkpoint_field=checkpoint_field(1, container),
            start=before.end,
            checkpoint=after.encode(),
            limit_bytes=1 << 24,
            entry=encode_gap(container=container, attempt=1, start=before.end, end=end, why="rotated away"),
        )
        return step, after


@dataclass
class RedisDriver:
    """A Redis of some make."""

    client: "redis.Redis"
    make: str

    def run(self, step: Step[T]) -> T:
        return connection.run(self.client, step)

    def submit(self, spec: JobSpec | None = None, **fields: Any) -> Submitted:
        return self.run(steps.submit(spec or a_spec(**fields)))

    def worker(self, incarnation: str = "w1", **info: Any) -> Worker:
        worker = Worker(self, incarnation)
        worker.beat(**info)
        return worker

    def owned(self, worker: Worker, **fields: Any) -> str:
        """A job that this worker has claimed."""
        job_id = self.submit(**fields).job_id
        assert worker.claim(job_id).outcome is steps.ClaimOutcome.CLAIMED
        return job_id

    def record(self, job_id: str) -> JobRecord:
        return decode_record(job_id, self.client.hgetall(names.job(job_id)))

    def snapshot(self) -> dict[bytes, Any]:
        """Everything that is in the store, without the time that keys have left, and what is gone within a second."""
        read = {
            b"hash": self.client.hgetall,
            b"string": self.client.get,
            b"zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
            b"set": lambda key: sorted(self.client.smembers(key)),
            b"list": lambda key: self.client.lrange(key, 0, -1),
            b"stream": self.client.xrange,
        }
        kept = sorted({*self.client.keys("*")} - {names.log_room(0).encode()})
        return {key: read[self.client.type(key)](key) for key in kept}

    def events(self, job_id: str) -> list[Entry]:
        return self.client.xrange(names.events(job_id))

    def log(self, job_id: str) -> list[Entry]:
        return self.client.xrange(names.log(job_id))


NOTICE = Notice(text="restored")
