"""The wait before the next try, which the API server may set itself."""

import random
import time

from dispatcher.backoff import JitteredBackoff
from worker.cluster.responses import ClusterUnavailableError


class Backoff:
    """Makes the pause longer after each failure in a row, and never shorter than the API server's ``Retry-After``.

    Attributes:
        since: monotonic seconds of the first failure in a row; None where there is none.
    """

    def __init__(self, *, first_s: float = 0.2, longest_s: float = 10.0) -> None:
        self._backoff = JitteredBackoff(first_s=first_s, longest_s=longest_s)
        self.since: float | None = None

    def failed(self, error: BaseException | None = None) -> float:
        """Count a failure and return the seconds to wait."""
        self.since = self.since or time.monotonic()
        asked_s = error.retry_after_s if isinstance(error, ClusterUnavailableError) else 0.0
        return max(self._backoff.failed(), asked_s * random.uniform(1.0, 1.2))

    def succeeded(self) -> None:
        """Begin anew: the next failure is the first."""
        self._backoff.succeeded()
        self.since = None
