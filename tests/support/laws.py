"""The laws of docs/guarantees.md, checked from outside: what one reader was told of a job from its submission to its
end is held against what the cluster itself knows of pods and of the bytes that containers wrote.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dispatcher import names
from dispatcher.events import Ended, Heard, JobResult, LogChunk, LogGap, LogSummary, Notice, StatusChanged
from dispatcher.spec import JobSpec
from dispatcher.status import LEGAL_MOVES, FailureReason, Status
from worker.logs.outbox import LATE, NO_MEMORY

#: Why a pod was deleted while it ran, by podrelay or others: it may be gone before it is certain that its log was read.
TAKEN = {
    FailureReason.RUN_TIMEOUT,
    FailureReason.POD_DELETED,
    FailureReason.EVICTED,
    FailureReason.PREEMPTED,
    FailureReason.NODE_LOST,
}


@dataclass
class Stream:
    """What was heard of one container's log of one attempt."""

    end: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    gaps: list[LogGap] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """A gap of unknown length: offsets after it mean nothing."""
        return any(gap.end is None for gap in self.gaps)


@dataclass
class Transcript:
    """What one reader was told of one job. ``problems``: what contradicts itself. ``may_hear_again``: Redis has lost
    what it had confirmed, so a status may be told again; a final one never."""

    job_id: str
    statuses: list[tuple[int, Status]] = field(default_factory=list)
    notices: list[tuple[datetime, str]] = field(default_factory=list)
    streams: dict[tuple[int, str], Stream] = field(default_factory=dict)
    results: list[JobResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    may_hear_again: bool = False

    @property
    def result(self) -> JobResult | None:
        return self.results[-1] if self.results else None

    @property
    def gaps(self) -> list[LogGap]:
        return [gap for stream in self.streams.values() for gap in stream.gaps]

    async def listen(self, following: AsyncIterator[Heard]) -> AsyncIterator[Heard]:
        """Take everything in, and hand it on."""
        async for heard in following:
            self.take(heard)
            yield heard

    def take(self, heard: Heard) -> None:
        if self.results:
            self.problems.append(f"something was told after the end: {heard.event}")
        match heard.event:
            case StatusChanged(status=status, attempt=attempt):
                self._move(attempt, status)
            case Notice(text=text):
                self.notices.append((heard.at, text))
            case Ended(result=result):
                self.results.append(result)
            case LogChunk():
                self._chunk(heard.event)
            case LogGap():
                self._gap(heard.event)

    def _move(self, attempt: int, status: Status) -> None:
        if self.statuses and not self.may_hear_again:
            before_attempt, before = self.statuses[-1]
            if status is not before and status not in LEGAL_MOVES[before]:
                self.problems.append(f"moved from {before} to {status}")
            if attempt < before_attempt:
                self.problems.append(f"attempt {attempt} was told after {before_attempt}")
        self.statuses.append((attempt, status))

    def _chunk(self, chunk: LogChunk) -> None:
        stream = self.streams.setdefault((chunk.attempt, chunk.container), Stream())
        if chunk.start != stream.end:
            what = "twice" if chunk.start < stream.end else "missing without a gap"
            self.problems.append(f"log bytes {what}: at {stream.end} came {chunk.start} to {chunk.end}")
        stream.digest.update(chunk.data)
        stream.end = chunk.end

    def _gap(self, gap: LogGap) -> None:
        stream = self.streams.setdefault((gap.attempt, gap.container), Stream())
        if gap.start == gap.end:
            self.problems.append(f"the log's digest is not what it should be: {gap.why}")
        stream.gaps.append(gap)
        stream.end = max(stream.end, gap.end or gap.start)


def pods_by_attempt(job_id: str, ever_created: Iterable[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """All pods that were ever created for the job."""
    found: dict[int, list[Mapping[str, Any]]] = {}
    for pod in ever_created:
        if pod["labels"].get(names.LABEL_JOB) == job_id:
            found.setdefault(int(pod["labels"][names.LABEL_ATTEMPT]), []).append(pod)
    return found


def broken_laws(
    spec: JobSpec, transcript: Transcript, ever_created: Iterable[Mapping[str, Any]], *, may_lose_pods: bool = False
) -> list[str]:
    """What does not hold for an ended job; empty where all does.

    Args:
        may_lose_pods: somebody took pods away (evicted, deleted, lost a node) and with them, perhaps, the end of their
            logs: what was read must then still be a true beginning, and the result must say that it is incomplete.
    """
    pods = pods_by_attempt(transcript.job_id, ever_created)
    problems = list(transcript.problems)
    if len(transcript.results) != 1:
        problems.append(f"ended {len(transcript.results)} times")
    for attempt, twins in pods.items():
        if len(twins) > 1:
            problems.append(f"{len(twins)} pods were created for attempt {attempt}")
        starts = [c["starts"] for pod in twins for name, c in pod["containers"].items() if name == spec.base_container]
        if sum(starts) > 1:
            problems.append(f"the base container of attempt {attempt} was started {sum(starts)} times")
    for result in transcript.results:
        if result.status is Status.FAILED and result.reason is None:
            problems.append("failed without a reason")
        if result.attempt > max(pods, default=0):
            problems.append(f"the result names attempt {result.attempt}, which never had a pod")
        for attempt, twins in pods.items():
            for container in _followed(spec, twins[-1]):
                problems += _broken_log(spec, transcript, attempt, twins[-1], container, may_lose_pods=may_lose_pods)
    return problems


def _followed(spec: JobSpec, pod: Mapping[str, Any]) -> list[str]:
    """The plain containers whose logs are asked for, as far as they were started."""
    if not spec.get_logs:
        return []
    plain = (spec.base_container, *(str(container["name"]) for container in spec.containers))
    wanted = plain if spec.container_logs == "all" else spec.container_logs or (spec.base_container,)
    return [name for name in plain if name in wanted and name in pod["containers"]]


def _broken_log(
    spec: JobSpec,
    transcript: Transcript,
    attempt: int,
    pod: Mapping[str, Any],
    container: str,
    *,
    may_lose_pods: bool,
) -> Iterator[str]:
    written = pod["containers"][container]
    if transcript.result is None:
        return
    what = f"log of attempt {attempt}" + (f", container {container}" if container != spec.base_container else "")
    stream = transcript.streams.get((attempt, container), Stream())
    is_last = attempt == transcript.result.attempt
    summary = transcript.result.logs.get(container)
    is_taken = transcript.result.status is Status.CANCELLED or transcript.result.reason in TAKEN
    is_spared = may_lose_pods or transcript.may_hear_again or is_taken
    if is_last and summary is not None:
        yield from _false_claims(what, stream, summary, written, may_lack=is_spared)
    if stream.is_open:
        return
    if stream.end == written["bytes"]:
        if not stream.gaps and stream.digest.hexdigest() != written["sha256"]:
            yield f"{what}: {stream.end} bytes, but not those that the container wrote"
        return
    if stream.end > written["bytes"]:
        yield f"{what}: {stream.end} bytes read, only {written['bytes']} written"
    elif not may_lose_pods and transcript.result.status is not Status.CANCELLED:
        yield f"{what}: {stream.end} bytes read of {written['bytes']}, and no gap is told"
    elif is_last and transcript.result.log_complete:
        yield f"{what}: {stream.end} bytes read of {written['bytes']}, and the result says that it is complete"
    elif not stream.gaps and stream.digest.hexdigest() != expected_digest(spec, container, stream.end):
        yield f"{what}: the {stream.end} bytes read are not the first that the container wrote"


def _false_claims(
    what: str, stream: Stream, summary: LogSummary, written: Mapping[str, Any], *, may_lack: bool
) -> Iterator[str]:
    """The result says more or less than the reader got; or a log is called complete and is not what the container
    wrote, or lacks what was there for another reason than that Redis could not take it."""
    if summary.bytes != stream.end:
        yield f"{what}: the result says {summary.bytes} bytes, the reader got to {stream.end}"
    if summary.is_complete:
        if summary.bytes != written["bytes"]:
            yield f"{what}: called complete with {summary.bytes} bytes of {written['bytes']}"
        elif not stream.gaps and stream.digest.hexdigest() != written["sha256"]:
            yield f"{what}: called complete, and its bytes are not those that the container wrote"
    elif not may_lack and not any(gap.why in (LATE, NO_MEMORY) for gap in stream.gaps):
        yield f"{what}: incomplete, although the cluster had all of it: {[gap.why for gap in stream.gaps]}"
    elif not stream.gaps:
        yield f"{what}: incomplete, and no gap says why"


def expected_digest(spec: JobSpec, container: str, size_bytes: int) -> str:
    """SHA-256 of the first bytes that this simulated container writes (see ``devcluster.runtime.simulated``)."""
    others = {str(other["name"]): other.get("args") for other in spec.containers}
    arguments = spec.args if container == spec.base_container else others[container]
    options = dict(argument.removeprefix("--").split("=", 1) for argument in arguments or ())
    line_bytes = int(options.get("line-bytes", "80"))
    digest, left, number = hashlib.sha256(), size_bytes, 0
    while left > 0:
        line = (b"%s %d " % (container.encode(), number)).ljust(line_bytes - 1, b"x") + b"\n"
        digest.update(line[:left])
        left -= len(line)
        number += 1
    return digest.hexdigest()
