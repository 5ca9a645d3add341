"""`podrelay logs`: a job's log, so far or to its end."""

from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli import session
from dispatcher.cli.exits import ExitCode
from dispatcher.cli.output import RAW_HELP

if TYPE_CHECKING:
    from dispatcher.cursor import Cursor


def logs(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Job id.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on to the end; exit as the job does.")] = False,
    container: Annotated[str | None, typer.Option("--container", "-c", help="Only this container's log.")] = None,
    cursor: Annotated[str | None, typer.Option(help="Only what comes after this place (see --json).")] = None,
    raw: Annotated[bool, typer.Option("--raw", help=RAW_HELP)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON objects, one a line, with cursors.")] = False,
) -> None:
    """Print a job's log.

    Its bytes go to stdout as the containers wrote them, everything else to stderr. On a terminal control characters
    are shown instead of obeyed, colours and carriage returns apart.
    """
    with session.dispatcher() as client:
        from dispatcher.cli import screens
        from dispatcher.cli.follow import follow_to_end, of_container
        from dispatcher.events import LogChunk, LogGap

        start, wanted = _decoded(cursor), of_container(container)
        if follow:
            with screens.screen(as_json=as_json, raw=raw) as screen:
                code = follow_to_end(client, job, screen, start, wanted=wanted)
            raise typer.Exit(code)
        with screens.plain_screen(as_json=as_json, raw=raw) as plain:
            for update in client.read_so_far(job, start):
                if wanted(update) and (as_json or isinstance(update.event, LogChunk | LogGap)):
                    plain.show(update)


def _decoded(cursor: str | None) -> "Cursor | None":
    from dispatcher.cursor import Cursor

    try:
        return Cursor.decode(cursor) if cursor else None
    except ValueError as error:
        session.fail(f"--cursor: {error} (copy one from --json, or from what Ctrl-C told)", ExitCode.BAD_INPUT)
