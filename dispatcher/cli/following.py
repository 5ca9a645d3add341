"""Following one job to its end, whatever happens to Redis or to the person at the keyboard meanwhile."""

import time
from collections.abc import Callable

from dispatcher.cli.exits import ExitCode, exit_code
from dispatcher.cli.screens import Screen
from dispatcher.client import Dispatcher
from dispatcher.errors import RedisUnavailableError
from dispatcher.events import Cursor, Ended, Heard, LogChunk, LogGap

#: How long Redis may be away while a job is followed, and how long to wait between two tries (each of which has
#: retries of its own).
PATIENCE_S = 60.0
PAUSE_S = 1.0

Wanted = Callable[[Heard], bool]


def follow_to_end(
    client: Dispatcher, job_id: str, screen: Screen, cursor: Cursor | None = None, *, wanted: Wanted = lambda _: True
) -> int:
    """Show what happens until the job has ended; returns the command's exit code.

    A Redis that goes away is waited for, and the reader goes on from its place: nothing is shown twice. Ctrl-C only
    detaches.

    Raises:
        RedisUnavailableError: at the start, or when it stays away for :data:`PATIENCE_S`.
        JobUnknownError: there is no such job (any more).
    """
    followed = _Followed(cursor)
    try:
        return _follow(client, job_id, screen, followed, wanted)
    except KeyboardInterrupt:
        screen.tell(detached(job_id, followed.place))
        return ExitCode.INTERRUPTED


class _Followed:
    """How far a follower came."""

    def __init__(self, cursor: Cursor | None) -> None:
        self.place = cursor
        self.has_begun = False


def _follow(client: Dispatcher, job_id: str, screen: Screen, followed: _Followed, wanted: Wanted) -> int:
    patience = _Patience(screen)
    while True:
        try:
            for heard in client.follow(job_id, followed.place):
                patience.restore()
                followed.place, followed.has_begun = heard.cursor, True
                if wanted(heard):
                    screen.show(heard)
                if isinstance(heard.event, Ended):
                    return exit_code(heard.event.result)
        except RedisUnavailableError as error:
            if not followed.has_begun:
                raise
            patience.spend(error)


def detached(job_id: str, place: Cursor | None) -> str:
    """What a person who pressed Ctrl-C should know."""
    lines = [
        f"detached; job {job_id} goes on",
        f"  see it again:      podrelay logs -f {job_id}",
        f"  only what is new:  podrelay logs -f {job_id} --cursor '{place.encode()}'" if place else "",
        f"  end it:            podrelay cancel {job_id}",
    ]
    return "\n".join(filter(None, lines))


def of_container(container: str | None) -> Wanted:
    """Lets pass the log of one container, and everything that is no log."""

    def wanted(heard: Heard) -> bool:
        is_log = isinstance(heard.event, LogChunk | LogGap)
        return not is_log or container is None or getattr(heard.event, "container", None) == container

    return wanted


class _Patience:
    """How long an unreachable Redis is put up with: :data:`PATIENCE_S` from its last word on."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._until: float | None = None

    def restore(self) -> None:
        self._until = None

    def spend(self, error: RedisUnavailableError) -> None:
        """Wait a little, or give up.

        Raises:
            RedisUnavailableError: the same, when patience is over.
        """
        now = time.monotonic()
        if self._until is None:
            self._until = now + PATIENCE_S
            self._screen.tell(f"{error}; trying again for {PATIENCE_S:.0f} s")
        if now >= self._until:
            raise error
        time.sleep(PAUSE_S)
