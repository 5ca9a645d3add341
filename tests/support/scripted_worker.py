"""A worker without a cluster: it plays a script for each job, with the dispatcher's own atomic steps.

What the operator and the trigger hear is thus exactly what a real worker could say, down to fences and checkpoints.
"""

import threading
from collections.abc import Callable
from typing import Any, Self

import redis

from dispatcher import connection, names, steps
from dispatcher.channel import encode_chunk, encode_gap
from dispatcher.events import Ended, JobResult, Notice, StatusChanged
from dispatcher.record import Checkpoint, JobRecord, chain_next, checkpoint_field, decode_record
from dispatcher.status import FailureReason, Status

INCARNATION = "scripted-worker"
NAMESPACE = "team-a"
SERVED = [NAMESPACE, "etl"]


class PlayedJob:
    """One job in the hands of the worker."""

    def __init__(self, client: "redis.Redis", url: str, record: JobRecord) -> None:
        self.client = client
        self.url = url
        self.job_id = record.job_id
        self.spec = record.spec
        self.queue = record.spec.queue
        self.attempt = 1
        self.pod = names.pod_name(name=record.spec.name, installation="podrelay", job_id=self.job_id, attempt=1)
        self._fence = steps.Fence(INCARNATION, record.epoch)
        self._checkpoints: dict[str, Checkpoint] = {}
        self._spoken: list[str] = []

    def starting(self, detail: str = "pulling the image") -> Self:
        return self._to(Status.STARTING, detail)

    def running(self) -> Self:
        return self._to(Status.RUNNING, "")

    def _to(self, status: Status, detail: str) -> Self:
        event = StatusChanged(
            status=status, detail=detail, attempt=self.attempt, pod=self.pod, namespace=NAMESPACE, node="node-1"
        )
        fields = {"pod": self.pod, "namespace": NAMESPACE, "attempt": str(self.attempt), "detail": detail}
        self._move(steps.move(self.job_id, self._fence, target=status, event=event, fields=fields))
        return self

    def notice(self, text: str, level: Any = "info") -> Self:
        self._move(steps.move(self.job_id, self._fence, event=Notice(text=text, level=level)))
        return self

    def log(self, data: bytes, container: str = "base") -> Self:
        before = self._checkpoints.get(container, Checkpoint())
        chain = chain_next(before.chain, data)
        entry = encode_chunk(container=container, attempt=self.attempt, start=before.end, data=data, chain=chain)
        return self._append(container, Checkpoint(before.end + len(data), chain=chain), entry)

    def gap(self, lost_bytes: int, why: str, container: str = "base") -> Self:
        before = self._checkpoints.get(container, Checkpoint())
        end = before.end + lost_bytes
        entry = encode_gap(container=container, attempt=self.attempt, start=before.end, end=end, why=why)
        return self._append(container, Checkpoint(end, chain=before.chain), entry)

    def _append(self, container: str, after: Checkpoint, entry: Any) -> Self:
        step = steps.append_log(
            self.job_id,
            self._fence,
            checkpoint_field=checkpoint_field(self.attempt, container),
            start=self._checkpoints.get(container, Checkpoint()).end,
            checkpoint=after.encode(),
            limit_bytes=1 << 24,
            entry=entry,
        )
        appended = connection.run(self.client, step)
        assert appended.outcome is steps.AppendOutcome.APPLIED, appended
        self._checkpoints[container] = after
        return self

    def succeed(self, **result: Any) -> None:
        self.end(Status.SUCCEEDED, exit_code=0, **result)

    def fail(self, reason: FailureReason = FailureReason.EXIT_CODE, **result: Any) -> None:
        self.end(Status.FAILED, reason=reason, **{"exit_code": 1, **result})

    def end(self, status: Status, *, reason: FailureReason | None = None, **told: Any) -> None:
        """The result, then out of the active jobs: the pod is gone."""
        result = JobResult(
            job_id=self.job_id,
            status=status,
            reason=reason,
            attempt=self.attempt,
            **{"pod": self.pod, "namespace": NAMESPACE, "node": "node-1", **told},
        )
        fields = {"result": result.model_dump_json(exclude_none=True), "reason": reason.value if reason else ""}
        self._move(steps.move(self.job_id, self._fence, target=status, event=Ended(result=result), fields=fields))
        assert connection.run(self.client, steps.forget(self.job_id, self._fence, self.queue)) == "applied"

    def await_cancel(self) -> str:
        """Wait until somebody asks for the job's end; returns who."""
        with self.client.pubsub() as control:
            control.subscribe(names.control(self.queue))
            while True:
                record = self.record()
                if record.cancel_requested_by is not None:
                    return record.cancel_requested_by
                control.get_message(timeout=5)

    def cancelled(self) -> None:
        """As a worker does: wait for the request, delete the pod, tell the end."""
        by = self.await_cancel()
        self.end(Status.CANCELLED, cancelled_by=by, message=f"cancelled by {by}")

    def record(self) -> JobRecord:
        """As it is now; also after the worker has gone."""
        with redis.Redis.from_url(self.url) as client:
            return decode_record(self.job_id, client.hgetall(names.job(self.job_id)))  # type: ignore[arg-type]

    def _move(self, step: Any) -> None:
        moved = connection.run(self.client, step)
        assert moved.outcome is steps.MoveOutcome.APPLIED, moved


Script = Callable[[PlayedJob], Any]


class ScriptedWorker:
    """Plays one script per job, in the order in which they are launched. Use as a context manager.

    Leaving it raises what a script raised. ``played`` holds the jobs.
    """

    def __init__(
        self, url: str, *scripts: Script, queue: str = "default", arrives_after: Callable[[], Any] | None = None
    ) -> None:
        self.url = url
        self.client = redis.Redis.from_url(url)
        self.queue = queue
        self.played: list[PlayedJob] = []
        self._scripts = list(scripts)
        self._errors: list[BaseException] = []
        self._arrives_after = arrives_after
        self.has_taken = threading.Event()  #: its first job
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._play_all, daemon=True)

    def beat(self) -> Self:
        connection.run(
            self.client, steps.heartbeat(INCARNATION, self.queue, lease_ms=600_000, info={"namespaces": SERVED})
        )
        return self

    def die(self) -> None:
        """The lease runs out."""
        self.client.delete(names.worker(INCARNATION))

    def join(self) -> None:
        """Wait until every script is played."""
        self._thread.join(30)

    def await_end_of(self, number: int) -> None:
        """Wait until the job with this number has ended and is forgotten."""
        with self.client.pubsub() as bells:
            bells.psubscribe("podrelay:*")
            while len(self.played) <= number or not self.played[number].record().is_forgotten:
                bells.get_message(timeout=1)

    def take(self) -> PlayedJob:
        """Wait for the next launch message and claim its job."""
        while True:
            assert not self._is_over.is_set(), "no job came"
            if self.client.brpop([names.message_list(self.queue, 3)], timeout=1):
                break
        job_id = self._unowned()
        claimed = connection.run(self.client, steps.claim(job_id, INCARNATION, namespaces=SERVED))
        assert claimed.record is not None, claimed
        job = PlayedJob(self.client, self.url, claimed.record)
        self.played.append(job)
        self.has_taken.set()
        return job

    def _unowned(self) -> str:
        for raw in self.client.zrange(names.active(self.queue), 0, -1):  # type: ignore[union-attr]
            if not self.client.hget(names.job(raw.decode()), "owner"):
                return str(raw.decode())
        raise AssertionError("a message without a job")

    def _play_all(self) -> None:
        try:
            if self._arrives_after is not None:
                self._arrives_after()
                self.beat()
            for script in self._scripts:
                script(self.take())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self._errors.append(error)

    def __enter__(self) -> Self:
        if self._arrives_after is None:
            self.beat()
        if self._scripts:
            self._thread.start()
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if self._scripts:
            if kind is not None:
                self._is_over.set()
            self._thread.join(30)
        self.client.close()
        if self._errors and kind is None:
            raise self._errors[0]
