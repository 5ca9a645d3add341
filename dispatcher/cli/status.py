"""`podrelay status`: everything that is known of one job."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli import session

if TYPE_CHECKING:
    from dispatcher.record import JobRecord


def status(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Job id.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show where a job is, who has it, and how it ended."""
    with session.dispatcher() as client:
        from dispatcher.cli import output, words

        record = client.get(job)
        if as_json:
            output.write_object(words.record_object(record))
            return
        rows = [row for row in rows_of(record) if row[1]]
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            output.write_line(f"{name:<{width}}  {output.set_off(value, width + 2)}")


def rows_of(record: "JobRecord") -> Iterator[tuple[str, str]]:
    """List names and values, in the order in which a person asks; an empty value is not shown."""
    yield "job", record.job_id
    yield "name", record.spec.name
    yield "queue", record.spec.queue
    yield "key", record.spec.key or ""
    yield "image", record.spec.image or ""
    yield "status", record.status.value
    yield "unreadable", record.why_unreadable
    yield "detail", record.detail
    yield from _end_rows(record)
    yield "cancel requested by", record.cancel_requested_by or ""
    yield "owner", f"{record.owner} (epoch {record.epoch})" if record.owner else f"none (epoch {record.epoch})"
    yield "needs worker", f"{record.min_worker_version} or newer" if record.min_worker_version else ""
    yield "attempt", f"{record.attempt} of {record.spec.launch_retries + 1}"
    yield "takeovers", str(record.takeovers)
    yield "pod", f"{record.namespace or ''}/{record.pod}" if record.pod else ""
    yield "node", record.node or ""
    yield from _time_rows(record)


def _end_rows(record: "JobRecord") -> Iterator[tuple[str, str]]:
    blame = record.reason.traits.blame if record.reason else "a newer version's word"
    yield "reason", f"{record.reason_text} ({blame})" if record.reason_text else ""
    result = record.result
    if result is None:
        return
    import json

    yield "message", result.message
    yield "exit code", "" if result.exit_code is None else str(result.exit_code)
    yield "return value", "" if result.return_value is None else json.dumps(result.return_value, ensure_ascii=False)
    yield "log complete", "yes" if result.log_complete else "no"
    yield "log elsewhere", result.log_url or ""
    for warning in result.warnings:
        yield "warning", f"{warning.reason}: {warning.message}" + (f" ({warning.count}×)" if warning.count > 1 else "")


def _time_rows(record: "JobRecord") -> Iterator[tuple[str, str]]:
    """List each move's time, and how long after the one before it."""
    from dispatcher.record import as_datetime

    before: float | None = None
    for name, at in sorted(record.reached.items(), key=lambda pair: pair[1]):
        after = "" if before is None else f"  (+{at - before:.3f} s)"
        yield f"{name} at", f"{as_datetime(at):%Y-%m-%d %H:%M:%S.%f}"[:23] + f" UTC{after}"
        before = at
