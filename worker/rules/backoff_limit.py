"""Limit how often a job may fail at one step by a defect of ours, or by data that nobody has foreseen.

An exception that is repeated for ever would keep its caller waiting for ever: the job is ended.

A job whose pod runs is given a minute: what fails may be an answer of the cluster that is odd for a while, and its end
costs the user's work. One without a pod costs nothing but a new submit.
"""

from dataclasses import dataclass
from typing import Final

MAX_WITHOUT_POD: Final = 5
MAX_WITH_POD: Final = 8
FIRST_WAIT_S: Final = 0.25
MAX_WAIT_S: Final = 30.0
#: A step that did not fail for so long has worked meanwhile.
FORGIVEN_AFTER_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Failed:
    """The step failed this many ``times``. ``wait_s``: before the next try; None: there is to be none."""

    times: int
    wait_s: float | None


class BackoffLimit:
    """Counts one job's failures by step: what is done, and where the job is. A job that gets on begins anew."""

    def __init__(self) -> None:
        self._failures: dict[tuple[str, ...], tuple[int, float]] = {}

    def failed(self, step: tuple[str, ...], now: float, *, has_pod: bool) -> Failed:
        """Note a failure. ``now``: steady seconds."""
        times, last_at = self._failures.get(step, (0, now))
        times = 1 if now - last_at > FORGIVEN_AFTER_S else times + 1
        self._failures[step] = (times, now)
        if times >= (MAX_WITH_POD if has_pod else MAX_WITHOUT_POD):
            return Failed(times, None)
        return Failed(times, min(MAX_WAIT_S, (2.0 if has_pod else 1.0) * FIRST_WAIT_S * 2.0 ** (times - 1)))
