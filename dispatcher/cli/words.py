"""Writes what happened to a job as text for a person and as JSON for a program. Pure."""

import base64
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from dispatcher.events import Ended, JobResult, JobUpdate, LogChunk, LogGap, Notice, Silence, StatusChanged
from dispatcher.record import JobRecord, as_datetime
from dispatcher.steps import SubmitOutcome, Submitted


def line(update: JobUpdate) -> str | None:
    """Write an update as one line for a person; None for log bytes, which are none."""
    match update.event:
        case StatusChanged() as event:
            return f"{update.at.astimezone():%H:%M:%S} {move(event)}"
        case Notice(level=level, text=text):
            return f"{update.at.astimezone():%H:%M:%S} {text}" if level == "info" else f"{level}: {text}"
        case LogGap() as gap:
            return gap_line(gap)
        case Silence(text=text):
            return text
        case Ended(result=result):
            return end(result)
        case LogChunk():
            return None


def move(event: StatusChanged) -> str:
    """Write a move: ``STARTING (pulling image) pod default/job-1 on node-a``."""
    parts: list[str] = [event.status.value]
    if event.detail:
        parts.append(f"({event.detail})")
    if event.pod:
        parts.append(f"pod {event.namespace or ''}/{event.pod}" + (f" on {event.node}" if event.node else ""))
    return " ".join(parts)


def gap_line(gap: LogGap) -> str:
    """Say which bytes are missing, and why."""
    count = "an unknown number of" if gap.end is None else str(gap.end - gap.start)
    return f"gap in the log of {gap.container}: {count} bytes after byte {gap.start}: {gap.why}"


def end(result: JobResult) -> str:
    """Write the last line: how the job ended, why, after how long, and what the code returned."""
    parts = [result.status.value]
    if result.reason:
        parts.append(str(result.reason))
    if result.exit_code is not None:
        parts.append(f"exit code {result.exit_code}")
    text = ", ".join(parts)
    took = durations(result.times)
    if took:
        text += f" after {took}"
    if result.message and not result.succeeded:
        text += f": {result.message}"
    if result.return_value_outcome == "present":
        text += f"; it returned {_short(result.return_value)}"
    if not result.log_complete:
        text += "; its log is not complete"
    return "".join(_last_lines(result)) + text


def _last_lines(result: JobResult) -> Iterator[str]:
    """Write what containers said last that failed, and whose log was not asked for."""
    for container, said in (result.last_lines or {}).items():
        yield f"last lines of container {container}:\n"
        yield from (f"  {line}\n" for line in said.splitlines())


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}… (`podrelay status` shows all of it)"


def durations(times: dict[str, datetime]) -> str:
    """Write ``3.2 s (queued 0.1 s, starting 1.0 s, running 2.1 s)`` from the times at which statuses were reached."""
    moves = sorted((at, name) for name, at in times.items() if name in _STATUSES)
    if len(moves) < 2:
        return ""
    each = [f"{name} {_span(after - at)}" for (at, name), (after, _) in itertools.pairwise(moves)]
    return f"{_span(moves[-1][0] - moves[0][0])} ({', '.join(each)})"


_STATUSES = frozenset({"queued", "starting", "running", "succeeded", "failed", "cancelled"})


def _span(span: timedelta) -> str:
    return f"{span.total_seconds():.1f} s" if span.total_seconds() < 60 else str(timedelta(seconds=span.seconds))


def submitted(found: Submitted, queue: str) -> str:
    """Say what the submit did."""
    match found.outcome:
        case SubmitOutcome.CREATED:
            return f"job {found.job_id} submitted to queue {queue}"
        case SubmitOutcome.EXISTS:
            return f"job {found.job_id} was submitted before"
        case SubmitOutcome.ATTACHED:
            return f"attached to job {found.job_id}, which has the same key"
        case SubmitOutcome.SUCCESSOR:
            return f"job {found.job_id} submitted to queue {queue}, after the former job of its key"


def as_object(update: JobUpdate) -> dict[str, Any]:
    """Make the JSON object of an update: its kind, job, time and cursor, and what the kind has.

    Log bytes are ``text``. Where they are no UTF-8, it has replacement characters, and ``base64`` holds the bytes.
    """
    common = {"job_id": update.job_id, "at": update.at.isoformat(), "cursor": update.cursor.encode()}
    match update.event:
        case LogChunk(container=container, attempt=attempt, start=start, data=data):
            body: dict[str, Any] = {"kind": "log", "container": container, "attempt": attempt, "start": start}
            body |= _text_of(data)
        case LogGap() as gap:
            body = {"kind": "gap", **asdict(gap)}
        case Silence(kind=kind, queue=queue, last_seen_at=seen, text=text):
            body = {"kind": "silence", "silence": kind.value, "queue": queue, "text": text}
            body["last_seen_at"] = seen.isoformat() if seen else None
        case StatusChanged() | Notice() | Ended() as event:
            body = event.model_dump(mode="json", exclude_none=True)
    return {**body, **common}


def _text_of(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"text": data.decode(errors="replace"), "base64": base64.b64encode(data).decode()}


def record_object(record: JobRecord) -> dict[str, Any]:
    """Make the JSON object of a job's record."""
    return {
        "job_id": record.job_id,
        "name": record.spec.name,
        "queue": record.spec.queue,
        "key": record.spec.key,
        "image": record.spec.image,
        "status": record.status.value,
        "detail": record.detail,
        "unreadable": record.why_unreadable or None,
        "reason": record.reason_text or None,
        "message": record.result.message if record.result else None,
        "exit_code": record.result.exit_code if record.result else None,
        "owner": record.owner,
        "epoch": record.epoch,
        "min_worker_version": record.min_worker_version or None,
        "attempt": record.attempt,
        "takeovers": record.takeovers,
        "namespace": record.namespace,
        "pod": record.pod,
        "pod_uid": record.pod_uid,
        "node": record.node,
        "cancel_requested_by": record.cancel_requested_by,
        "acknowledged": record.acknowledged,
        "predecessor": record.predecessor,
        "times": {name: as_datetime(at).isoformat() for name, at in sorted(record.reached.items(), key=_second)},
        "log_bytes": {f"{attempt}/{name}": c.end for (attempt, name), c in sorted(record.checkpoints.items())},
        "result": _dump(record.result),
    }


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def _dump(model: BaseModel | None) -> Any:
    return None if model is None else model.model_dump(mode="json")
