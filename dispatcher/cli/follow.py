"""Following one job to its end on a screen. Ctrl-C only detaches."""

from collections.abc import Callable

from dispatcher.cli.exits import ExitCode, exit_code
from dispatcher.cli.screens import Screen
from dispatcher.client import Dispatcher
from dispatcher.cursor import Cursor
from dispatcher.events import Ended, JobUpdate, LogChunk, LogGap

Wanted = Callable[[JobUpdate], bool]


def follow_to_end(
    client: Dispatcher, job_id: str, screen: Screen, cursor: Cursor | None = None, *, wanted: Wanted = lambda _: True
) -> int:
    """Show what happens until the job has ended. Returns the command's exit code.

    Raises:
        RedisUnavailableError: at the start only; later the client waits until Redis is back.
        JobUnknownError: there is no such job (any more).
    """
    reached = cursor
    try:
        for update in client.follow(job_id, cursor):
            reached = update.cursor
            if wanted(update):
                screen.show(update)
            if isinstance(update.event, Ended):
                return exit_code(update.event.result)
    except KeyboardInterrupt:
        screen.say(detached(job_id, reached))
        return ExitCode.INTERRUPTED
    # The cursor stood behind the end: there was nothing to show.
    return exit_code(client.result(job_id))


def detached(job_id: str, reached: Cursor | None) -> str:
    """Say what a person who pressed Ctrl-C should know."""
    lines = [
        f"detached; job {job_id} goes on",
        f"  see it again:      podrelay logs -f {job_id}",
        f"  only what is new:  podrelay logs -f {job_id} --cursor '{reached.encode()}'" if reached else "",
        f"  end it:            podrelay cancel {job_id}",
    ]
    return "\n".join(filter(None, lines))


def of_container(container: str | None) -> Wanted:
    """Make a filter that passes the log of one container, and everything that is no log."""

    def wanted(update: JobUpdate) -> bool:
        match update.event:
            case LogChunk(container=name) | LogGap(container=name):
                return container is None or name == container
            case _:
                return True

    return wanted
