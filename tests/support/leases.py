"""Leases for tests of what needs one."""

import math
import time

from dispatcher.steps import Beat
from worker.lease import Lease


def held_lease() -> Lease:
    """A lease that never ends, at a Redis that nothing has happened to."""
    lease, now = Lease(math.inf), time.monotonic()
    beat = Beat(at=time.time(), generation="g", lease_was_alive=False, redis_life="g r", runs_since=None)
    lease.renewed(beat, sent_at=now, heard_at=now)
    return lease
