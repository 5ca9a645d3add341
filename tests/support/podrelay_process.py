"""The real `podrelay` process against a real Redis, and a worker played by the steps that a real one takes."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatcher import connection, steps
from dispatcher.channel import encode_chunk
from dispatcher.client import Dispatcher
from dispatcher.events import Ended, JobResult, Notice, StatusChanged
from dispatcher.record import NO_CHAIN, Checkpoint, chain_next, checkpoint_field
from dispatcher.settings import ClientSettings
from dispatcher.spec import parse_spec
from dispatcher.status import FailureReason, Status

PODRELAY = (sys.executable, "-m", "dispatcher.cli")
TIMEOUT_S = 60


def environment(redis_url: str, **more: str) -> dict[str, str]:
    """This process' environment without anybody's podrelay or cluster in it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PODRELAY_")}
    own.pop("KUBECONFIG", None)
    return {**own, "PODRELAY_REDIS_URL": redis_url, "COLUMNS": "200", "TERM": "xterm-256color", **more}


@dataclass(frozen=True)
class Podrelay:
    """Runs the command as a shell would, everything piped."""

    redis_url: str
    more: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, stdin: str = "", **more: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [*PODRELAY, *words],
            env=environment(self.redis_url, **self.more, **more),
            input=stdin.encode(),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def start(self, *words: str, **popen: Any) -> "subprocess.Popen[bytes]":
        """The same, still running."""
        return subprocess.Popen(
            [*PODRELAY, *words],
            env=environment(self.redis_url, **self.more),
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen},
        )

    def submit(self, **fields: Any) -> str:
        """Submit a job (in process, which is quicker where the submit is not what is tested); returns its id."""
        with Dispatcher(ClientSettings.from_environment({}, redis_url=self.redis_url)) as client:
            return client.submit(parse_spec({"image": "python:3.12", **fields})).job_id


class PlayedWorker:
    """Takes jobs and says what a worker would say of them, at the test's word."""

    def __init__(self, redis_url: str, incarnation: str = "played-1-abcd") -> None:
        self._redis = connection.connect(redis_url, timeout_s=5, retries=0)
        self._incarnation = incarnation
        self._ends: dict[str, tuple[int, str]] = {}

    def live(self, queue: str = "default", **info: Any) -> None:
        """Hold a lease that lasts for the test."""
        self._run(steps.heartbeat(self._incarnation, queue, lease_ms=600_000, info=info))

    def take(self, job_id: str) -> steps.Fence:
        claimed = self._run(steps.claim(job_id, self._incarnation, namespaces=["default"]))
        assert claimed.record is not None, claimed.outcome
        return steps.Fence(self._incarnation, claimed.record.epoch)

    def move(self, job_id: str, fence: steps.Fence, status: Status, **fields: str) -> None:
        event = StatusChanged(
            status=status, attempt=1, pod=fields.get("pod"), namespace="default", detail=fields.get("detail", "")
        )
        moved = self._run(steps.move(job_id, fence, target=status, event=event, fields={"attempt": "1", **fields}))
        assert moved.outcome is steps.MoveOutcome.APPLIED

    def tell(self, job_id: str, fence: steps.Fence, text: str) -> None:
        self._run(steps.move(job_id, fence, event=Notice(level="warning", text=text)))

    def log(self, job_id: str, fence: steps.Fence, data: bytes, container: str = "base") -> None:
        start, chain = self._ends.get(f"{job_id}/{container}", (0, NO_CHAIN))
        end, chain = start + len(data), chain_next(chain, data)
        entry = encode_chunk(container=container, attempt=1, start=start, data=data, chain=chain)
        checkpoint = Checkpoint(end, "2026-01-01T00:00:00Z", 1, len(data), "0" * 64, chain).encode()
        appended = self._run(
            steps.append_log(
                job_id,
                fence,
                checkpoint_field=checkpoint_field(1, container),
                start=start,
                checkpoint=checkpoint,
                limit_bytes=1 << 20,
                entry=entry,
            )
        )
        assert appended.outcome is steps.AppendOutcome.APPLIED
        self._ends[f"{job_id}/{container}"] = (end, chain)

    def end(
        self, job_id: str, fence: steps.Fence, status: Status, reason: FailureReason | None = None, **result: Any
    ) -> None:
        found = JobResult(job_id=job_id, status=status, reason=reason, attempt=1, **result)
        fields = {"result": found.model_dump_json(exclude_none=True), "reason": reason.value if reason else ""}
        moved = self._run(steps.move(job_id, fence, target=status, event=Ended(result=found), fields=fields))
        assert moved.outcome is steps.MoveOutcome.APPLIED

    def close(self) -> None:
        self._redis.close()

    def _run(self, step: steps.Step[Any]) -> Any:
        return connection.run(self._redis, step)
