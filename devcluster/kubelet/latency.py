"""How long kubelet and controllers take: quick for tests, or as measured on a real cluster.

The order of updates is as recorded whatever these are. The default is quick, so that tests are; ``REALISTIC`` has the
pauses that were measured (``terminated`` 1.2 s before the phase, the end of a followed log 0.3 s after ``terminated``).
"""

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Pauses in seconds; none of them changes the order of what happens."""

    schedule_s: float = 0.0
    sandbox_s: float = 0.0
    start_s: float = 0.0
    terminated_to_phase_s: float = 0.05
    log_eof_s: float = 0.02
    removal_s: float = 0.05
    restart_back_off_s: float = 0.5
    restart_back_off_limit_s: float = 5.0
    image_back_off_s: float = 0.5
    image_back_off_limit_s: float = 5.0
    config_retry_s: float = 0.5
    namespace_linger_s: float = 2.0
    lost_node_grace_s: float = 1.0
    kubelet_start_s: float = 0.3
    bookmark_every_s: float = 10.0


QUICK = Latency()
REALISTIC = Latency(
    sandbox_s=0.5,
    start_s=0.1,
    terminated_to_phase_s=1.2,
    log_eof_s=0.3,
    removal_s=0.5,
    restart_back_off_s=10.0,
    restart_back_off_limit_s=300.0,
    image_back_off_s=10.0,
    image_back_off_limit_s=300.0,
    config_retry_s=10.0,
    namespace_linger_s=5.0,
    lost_node_grace_s=300.0,
    kubelet_start_s=1.0,
    bookmark_every_s=60.0,
)


def parse_latency(text: str) -> Latency:
    """Read ``quick``, ``realistic`` or ``name=seconds,…`` (names as in ``Latency``, with or without ``_s``).

    Raises:
        ValueError: it is none of these.
    """
    if text in ("quick", ""):
        return QUICK
    if text == "realistic":
        return REALISTIC
    given: dict[str, float] = {}
    for part in text.split(","):
        name, _, seconds = part.partition("=")
        key = name.strip() if name.strip().endswith("_s") else f"{name.strip()}_s"
        if key not in Latency.__dataclass_fields__:
            raise ValueError(f"{name.strip()!r} is no latency; known: {', '.join(Latency.__dataclass_fields__)}")
        given[key] = float(seconds)
    return Latency(**given)


async def pause(seconds: float) -> None:
    """Wait; for 0 seconds go straight on, in the same turn of the event loop."""
    if seconds > 0:
        await asyncio.sleep(seconds)
