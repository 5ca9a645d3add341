"""Whether the worker reaches its API server; a worker that does not is *blind*.

It can launch nothing, and would hold what others could run. So it takes no more jobs, lets go of those that have no
pod, and tells why; those that have one it keeps, and goes on with them when the API server answers again. Where every
worker is blind, the queue waits in Redis.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from worker.cluster.client import Cluster, ClusterRefusedError, ClusterUnavailableError
from worker.cluster.watch import PodWatches

log = structlog.get_logger("podrelay.worker")

#: Why a blind worker serves no namespace. Always the same words: jobs that wait tell them once.
BLIND: Final = "its API server cannot be reached, or does not take the worker's credentials"
#: How often it is checked. Costs no request.
CHECK_S: Final = 0.2
#: How long a probe may take, and how often a blind worker sends one: a dead connection does not end a wait by itself.
PROBE_S: Final = 5.0


class ClusterHealth:
    """Finds out by checks and probes whether the worker is blind, which it is until the first check.

    Attributes:
        blind: why this worker cannot reach its API server; '' while it can.
        sees: set while it can.
    """

    def __init__(self, cluster: Cluster, watches: PodWatches, *, away_s: float, changed: Callable[[], None]) -> None:
        """``away_s``: how long the API server may not answer; ``changed`` is called whenever ``blind`` changes."""
        self.blind = BLIND
        self.sees = asyncio.Event()
        self._cluster = cluster
        self._watches = watches
        self._away_s = away_s
        self._changed = changed
        self._lost_at: float | None = None
        self._probed_at = 0.0

    def doubt(self) -> None:
        """Have the API server probed: it did not answer a request."""
        self._cluster.needs_probe = True

    async def run(self) -> None:
        """Check for ever."""
        while True:
            now = asyncio.get_running_loop().time()
            self.check(now)
            if self._cluster.needs_probe or (self.blind and now - self._probed_at > PROBE_S):
                await self.probe()
                self._probed_at = asyncio.get_running_loop().time()
            await asyncio.sleep(CHECK_S)

    def check(self, now: float) -> None:
        """Tell by what requests and watches met whether the worker is blind. ``now``: the loop's clock, in seconds."""
        if self._cluster.is_available.is_set() and self._has_looked():
            self._lost_at = None
            if self.blind:
                self._note("")
        else:
            self._lost_at = now if self._lost_at is None else self._lost_at
            if not self.blind and now - self._lost_at >= self._away_s:
                self._note(BLIND)

    def _has_looked(self) -> bool:
        """Whether all namespaces were asked for, and one was answered for: jobs in the others wait for theirs."""
        watches = list(self._watches)
        return all(w.first_list.is_set() for w in watches) and any(w.is_synced or w.refusal for w in watches)

    def _note(self, why: str) -> None:
        self.blind = why
        if why:
            log.warning("API server away: no jobs are taken, those without a pod are let go of")
            self.sees.clear()
        else:
            log.info("API server answers: jobs are taken")
            self.sees.set()
        self._changed()

    async def probe(self) -> None:
        """Send the smallest list request, in all namespaces at once: the first answer will do.

        One namespace may be out of order, or its requests throttled.
        """
        cluster, is_answered = self._cluster, False
        asking = [asyncio.create_task(self._is_answered(namespace)) for namespace in self._watches.namespaces]
        try:
            for asked in asyncio.as_completed(asking, timeout=PROBE_S):
                if is_answered := await asked:
                    break
        except TimeoutError:
            pass  # no answer is one too
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        if is_answered:
            cluster.is_available.set()
        else:
            cluster.is_available.clear()
        cluster.needs_probe = False

    async def _is_answered(self, namespace: str) -> bool:
        try:
            await self._cluster.list_pods(namespace, "podrelay.dev/installation=,!podrelay")
        except ClusterUnavailableError:
            return False
        except ClusterRefusedError:
            pass  # that is an answer
        return True
