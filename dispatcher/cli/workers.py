"""`podrelay workers`: who serves which queue, and who did."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli import session, tables
from dispatcher.cli.exits import ExitCode

if TYPE_CHECKING:
    from dispatcher.client import WorkerView


def workers(
    queue: Annotated[str | None, typer.Option("--queue", "-q", help="Only this queue's workers.")] = None,
    name: Annotated[str | None, typer.Option(help="Only workers of this name.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Print nothing but why not; exit 1 unless one can run jobs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON objects, one a line.")] = False,
) -> None:
    """List workers, dead ones included."""
    with session.dispatcher() as client:
        from dispatcher.cli import output

        views = [v for v in client.workers(queue) if name is None or _is_named(v, name)]
        if check:
            if any(v.is_alive and not v.info.get("blind") for v in views):
                return
            session.fail(_why_none(views), ExitCode.NO)
        if as_json:
            for view in views:
                output.write_object(_object(view))
            return
        columns = ("WORKER", "QUEUE", "ALIVE", "LAST SEEN", "JOBS", "VERSION", "NAMESPACES", "TROUBLE")
        tables.show(columns, [_row(view, time.time()) for view in views])


def _is_named(view: "WorkerView", name: str) -> bool:
    """Whether it is this worker: an incarnation is the worker's name, its process id and a random part."""
    return view.info.get("name") == name or view.incarnation == name or view.incarnation.rsplit("-", 2)[0] == name


def _trouble(info: dict[str, Any]) -> str:
    slow = info.get("slow")
    count = slow.get("count") if isinstance(slow, dict) else None
    found = [str(info["blind"])] if info.get("blind") else []
    if isinstance(slow, dict) and count:
        found.append(f"{count} pods do not go, the oldest for {slow.get('oldest_s', '?')} s")
    return "; ".join(found)


def _why_none(views: "Sequence[WorkerView]") -> str:
    blind = [f"worker {v.incarnation} takes no jobs: {v.info.get('blind')}" for v in views if v.is_alive]
    return "; ".join(blind) or "no such worker is alive"


def _object(view: "WorkerView") -> dict[str, Any]:
    from dispatcher.record import as_datetime

    return {
        "worker": view.incarnation,
        "version": view.info.get("version"),
        "queue": view.queue,
        "is_alive": view.is_alive,
        "last_seen_at": as_datetime(view.last_seen_at).isoformat(),
        "info": view.info,
    }


def _row(view: "WorkerView", now: float) -> tuple[str, ...]:
    said = view.info.get("namespaces")
    namespaces = said if isinstance(said, list) else []
    return (
        view.incarnation,
        view.queue,
        "yes" if view.is_alive else "no",
        f"{max(0.0, now - view.last_seen_at):.0f} s ago",
        f"{view.info.get('followed', '?')}/{view.info.get('max_jobs', '?')}",
        str(view.info.get("version", "?"))[:32],
        " ".join(map(str, namespaces)),
        _trouble(view.info) if view.is_alive else "",
    )
