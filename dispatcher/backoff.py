"""How long to wait before the next try."""

import random

#: Doubled more often, no pause of ours is below its longest.
_DOUBLINGS = 30


class JitteredBackoff:
    """Makes the pause longer after each failure in a row: doubling from ``first_s`` up to ``longest_s`` (seconds).

    Each pause is between half of that and all of it, so that many who failed together do not come back together.

    Attributes:
        failures: how many there were in a row.
    """

    def __init__(self, *, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self.failures = 0

    def failed(self) -> float:
        """Count a failure. Returns the seconds to wait."""
        whole_s = min(self._longest_s, self._first_s * 2.0 ** min(self.failures, _DOUBLINGS))
        self.failures += 1
        return whole_s * random.uniform(0.5, 1.0)

    def succeeded(self) -> None:
        """Begin anew: the next failure is the first."""
        self.failures = 0
