"""`podrelay list`: the jobs of a queue, newest first."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli import session, tables

if TYPE_CHECKING:
    from dispatcher.record import JobRecord


def list_jobs(
    queue: Annotated[str | None, typer.Option("--queue", "-q", help="Only this queue's jobs.")] = None,
    status: Annotated[str | None, typer.Option("--status", "-s", help="Only jobs that are there, as RUNNING.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many active and ended ones.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="JSON objects, one a line.")] = False,
) -> None:
    """List jobs: the active ones first, then those that ended."""
    with session.dispatcher() as client:
        from dispatcher.cli import output, words

        wanted = _status(status)
        found = {record.job_id: record for record in client.list(queue, limit=limit)}
        records = [r for r in found.values() if wanted is None or r.status == wanted]
        if as_json:
            for record in records:
                output.write_object(words.record_object(record))
            return
        columns = ("JOB", "NAME", "QUEUE", "STATUS", "AGE", "DETAIL")
        tables.show(columns, [row_of(record, time.time()) for record in records])


def _status(text: str | None) -> str | None:
    from dispatcher.cli.exits import ExitCode
    from dispatcher.spec_problems import nearest
    from dispatcher.status import Status

    if text is None:
        return None
    if text.upper() not in set(Status):
        hint = nearest(text.upper(), [status.value for status in Status])
        session.fail(f"--status: {text!r} is no status{hint}", ExitCode.BAD_INPUT)
    return text.upper()


def row_of(record: "JobRecord", now: float) -> tuple[str, ...]:
    """Write a job in the columns of the list."""
    detail = record.reason_text or record.detail
    if record.why_unreadable:
        detail = f"unreadable: {record.why_unreadable}"
    age = _age(now - record.reached.get("queued", now))
    return (record.job_id, record.spec.name, record.spec.queue, record.status.value, age, detail)


def _age(span_s: float) -> str:
    for unit, length_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if span_s >= 2 * length_s:
            return f"{span_s // length_s:.0f}{unit}"
    return f"{max(0.0, span_s):.0f}s"
