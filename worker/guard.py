"""Keep loops going: a failure is logged and counted, and the loop begins again.

What a worker does for ever (heartbeat, control, sweeps, watches) reads what anybody may have written and gets answers
that nobody has foreseen. Such a thing ends one turn, or costs one item of many; never the loop, nor its neighbours.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import structlog

from dispatcher import connection
from worker.cluster.client import Backoff, ClusterUnavailableError

log = structlog.get_logger("podrelay.worker")

#: The same failure of the same loop is logged at most once in this time.
QUIET_S: Final = 60.0

#: Redis or the API server is away: not one item's failure. It ends the turn, and the loop begins again.
AWAY: Final = (*connection.UNAVAILABLE, ClusterUnavailableError)


class Guard:
    """Keeps the loops of one worker going. ``count`` is called with the loop's name at each failure."""

    def __init__(self, count: Callable[[str], None] = lambda _: None) -> None:
        self._count = count
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    async def keep(
        self, name: str, run: Callable[[], Awaitable[None]], *, longest_s: float = 30.0, **what: Any
    ) -> NoReturn:
        """Run it again whenever it ends, after a growing pause of at most ``longest_s``, until this is cancelled."""
        back_off, loop = Backoff(longest_s=longest_s), asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await run()
                pause_s = back_off.failed()
            except Exception as error:  # noqa: BLE001 a loop goes on whatever it met
                if loop.time() - began > longest_s:
                    back_off.succeeded()
                self.failed(name, error, **what)
                pause_s = back_off.failed(error)
            await asyncio.sleep(pause_s)

    @contextmanager
    def one_of_many(self, name: str, **what: Any) -> Iterator[None]:
        """Log and count what one item's work raises, so that it costs the others nothing.

        Raises:
            AWAY: it concerns all items.
        """
        try:
            yield
        except AWAY:
            raise
        except Exception as error:  # noqa: BLE001 whatever it is, it is one item's
            self.failed(name, error, **what)

    def failed(self, name: str, error: Exception, **what: Any) -> None:
        """Count a failure, and log it: with its traceback the first time, then now and then in a line."""
        self._count(name)
        now, key = asyncio.get_running_loop().time(), (name, _place(error))
        told_at, untold = self._told.get(key, (-QUIET_S, 0))
        if now - told_at < QUIET_S:
            self._told[key] = (told_at, untold + 1)
            return
        is_first = key not in self._told
        self._told[key] = (now, 0)
        why = f"{type(error).__name__}: {error}"[:500]
        log.error(
            "failed, and goes on", loop=name, why=why, untold=untold, exc_info=error if is_first else None, **what
        )


def _place(error: Exception) -> str:
    """Return the error's type and where it was raised; not its text, which may hold data and differ each time."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__} {where}"
