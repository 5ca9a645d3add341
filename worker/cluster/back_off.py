"""How long to wait before the next try."""

import random
import time

from worker.cluster.answers import ClusterUnavailableError


class BackOff:
    """How long to wait before the next try: jittered, doubling, up to ``longest_s``; the server's own wish counts."""

    def __init__(self, *, first_s: float = 0.2, longest_s: float = 10.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._failures = 0
        self.since: float | None = None  #: monotonic seconds of the first failure in a row

    def failed(self, error: BaseException | None = None) -> float:
        """Count a failure; returns the seconds to wait."""
        self.since = self.since or time.monotonic()
        wait_s = min(self._longest_s, self._first_s * 2.0 ** min(self._failures, 20))
        self._failures += 1
        wish_s = error.retry_after_s if isinstance(error, ClusterUnavailableError) else 0.0
        return max(wait_s * random.uniform(0.5, 1.0), wish_s * random.uniform(1.0, 1.2))

    def succeeded(self) -> None:
        self._failures, self.since = 0, None
