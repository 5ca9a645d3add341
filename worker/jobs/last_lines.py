"""Read the last lines of containers that failed and whose log nobody asked for: their pod is about to go."""

import asyncio
from typing import Final

import structlog

from dispatcher.spec import JobSpec
from dispatcher.status import FailureReason
from worker.cluster.client import Cluster, ClusterRefusedError, ClusterUnavailableError
from worker.cluster.observation import Container, Observation
from worker.logs.attempt import is_wanted
from worker.logs.stream import LogLines

log = structlog.get_logger("podrelay.worker")

#: Of one container: lines, and bytes.
MOST_LINES: Final = 20
MOST_BYTES: Final = 8 * 1024
#: How many containers; the kubelet reads a log from its disk.
MOST_CONTAINERS: Final = 3
#: How much of a log is taken from the API server, where twenty lines are long ones, and for how long.
READ_BYTES: Final = 1024 * 1024
READ_S: Final = 5.0

#: The failures that a container brings about by its own end.
_OF_A_CONTAINER: Final = frozenset(
    {
        FailureReason.EXIT_CODE,
        FailureReason.OOM_KILLED,
        FailureReason.INIT_FAILED,
        FailureReason.CONTAINER_FAILED,
    }
)


def unread_failures(spec: JobSpec, reason: FailureReason | None, pod: Observation) -> list[Container]:
    """Return the containers whose failure is the job's, and whose log is not in its channel.

    None where the job wants no log at all: then it is not to pass through Redis.
    """
    if not spec.get_logs or reason not in _OF_A_CONTAINER:
        return []
    failed = [c for c in pod.containers if c.is_user_container and c.has_started and c.exit_code]
    return [c for c in failed if not is_wanted(c, spec)][:MOST_CONTAINERS]


async def read_last_lines(cluster: Cluster, pod: Observation, containers: list[Container]) -> dict[str, str]:
    """Return the last lines by container, of those that can be read in time: they explain, they do not decide."""
    read = await asyncio.gather(*(_last_lines(cluster, pod, c.name) for c in containers))
    return {c.name: text for c, text in zip(containers, read, strict=True) if text}


async def _last_lines(cluster: Cluster, pod: Observation, container: str) -> str:
    lines, last = LogLines(), b""
    try:
        async with (
            asyncio.timeout(READ_S),
            cluster.log(pod.namespace, pod.name, container, since=None, follow=False, tail_lines=MOST_LINES) as pieces,
        ):
            async for data in pieces:
                lines.feed(data)
                while piece := lines.take(1 << 20):
                    last += piece.data
                if len(last) > READ_BYTES:
                    break
    except (ClusterRefusedError, ClusterUnavailableError, TimeoutError) as error:
        log.info("last lines cannot be read", pod=pod.name, container=container, why=str(error))
    return last[-MOST_BYTES:].decode(errors="replace").strip("\n")
