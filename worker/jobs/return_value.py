"""Read the job's return value from the sidecar's log.

The sidecar (see :mod:`worker.rules.manifest`) prints one header line, ``podrelay-return-value <bytes> <sha256>``, and
then the file as it is; or a header that says why there is none. Each way to fail has its own outcome and its own
sentence, for they have different cures.
"""

import asyncio
import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from dispatcher import names
from dispatcher.bounded_json import loads_bounded
from dispatcher.events import ReturnValueOutcome
from worker.cluster.client import Backoff, Cluster, ClusterRefusedError, ClusterUnavailableError
from worker.cluster.pod_json import observe
from worker.logs.stream import LogLines

#: The header, also behind whatever else the shell had to say first.
_HEADER: Final = re.compile(rb"^podrelay-return-value (.*)\n", re.MULTILINE)

#: How much of the sidecar's log is worth reading: the header and the largest value.
MAX_LOG_BYTES: Final = names.MAX_RETURN_VALUE_BYTES + 256
#: How long the sidecar may take to print, after all other containers have ended.
RETURN_VALUE_S: Final = 60.0
#: How often its log is read after its end, until the value is whole: a read may be cut and not show it.
READS_AFTER_END: Final = 2

_FILE: Final = names.RETURN_VALUE_FILE


def parse_return_value(log: bytes) -> tuple[ReturnValueOutcome, Any, str]:
    """Read the sidecar's log (without timestamps).

    Returns the outcome, the value (None unless present), and a sentence for a person (empty where present).
    """
    header = _HEADER.search(log)
    if header is None:
        return _truncated("the sidecar was ended before it could print it")
    match header[1].split():
        case [b"missing"]:
            return ReturnValueOutcome.MISSING, None, f"the job wrote no return value ({_FILE} is missing or empty)"
        case [b"unreadable"]:
            return _truncated(f"the sidecar may not read {_FILE}")
        case [b"too-large", size]:
            return _too_large(size.decode(errors="replace"))
        case [size, digest] if size.isdigit():
            return _content(log[header.end() :], int(size), digest.decode(errors="replace"))
    return _truncated("the sidecar's output is damaged")


def _content(content: bytes, size: int, digest: str) -> tuple[ReturnValueOutcome, Any, str]:
    if size > names.MAX_RETURN_VALUE_BYTES:
        return _too_large(str(size))
    if len(content) < size:
        return _truncated(f"only {len(content)} of {size} bytes arrived")
    content = content[:size]
    if hashlib.sha256(content).hexdigest() != digest:
        return _truncated("its checksum is wrong: bytes were lost, or the file changed while it was read")
    try:
        # Also what is JSON and nobody could read again: readers of the result stop at 200 levels.
        value = loads_bounded(content, max_bytes=names.MAX_RETURN_VALUE_BYTES)
    except ValueError as error:
        return ReturnValueOutcome.NOT_JSON, None, f"the return value is not JSON that can be read: {error}"
    return ReturnValueOutcome.PRESENT, value, ""


def _truncated(why: str) -> tuple[ReturnValueOutcome, None, str]:
    return ReturnValueOutcome.TRUNCATED, None, f"the return value did not arrive whole: {why}"


def _too_large(size: str) -> tuple[ReturnValueOutcome, None, str]:
    limit = names.MAX_RETURN_VALUE_BYTES
    return ReturnValueOutcome.TOO_LARGE, None, f"the return value is too large: {size} bytes, at most {limit}"


@dataclass(frozen=True, slots=True)
class ReturnValue:
    """What became of the return value. ``message`` says what is wrong; empty where nothing is."""

    outcome: ReturnValueOutcome = ReturnValueOutcome.NOT_ASKED
    value: Any = None
    message: str = ""


#: The pod was removed, and the worker that read its sidecar died before it could write the result.
LOST_RETURN_VALUE: Final = ReturnValue(*parse_return_value(b""))


async def read_return_value(cluster: Cluster, namespace: str, pod: str, *, grace_s: float = 0.0) -> ReturnValue:
    """Read what the sidecar prints when it is told to end.

    ``grace_s``: how long the pod's other containers may take to end before that.

    Only the pod's status tells that it has ended: a kubelet that restarts also ends streams and refuses requests.
    """
    found, reads_after_end, has_ended, back_off = LOST_RETURN_VALUE, 0, False, Backoff()
    with suppress(TimeoutError):
        async with asyncio.timeout(RETURN_VALUE_S + grace_s):
            while reads_after_end < READS_AFTER_END:
                error: Exception | None = None
                try:
                    found = ReturnValue(*parse_return_value(await _sidecar_log(cluster, namespace, pod)))
                    if found.outcome is not ReturnValueOutcome.TRUNCATED:
                        return found
                    reads_after_end += has_ended
                except (ClusterRefusedError, ClusterUnavailableError) as refusal:
                    error = refusal
                match await _sidecar(cluster, namespace, pod):
                    case "gone":
                        return found
                    case "ended" if not has_ended:
                        has_ended = True
                    case _:
                        await asyncio.sleep(back_off.failed(error))
    return found


async def _sidecar_log(cluster: Cluster, namespace: str, pod: str) -> bytes:
    lines, parts = LogLines(), list[bytes]()
    async with cluster.log(namespace, pod, names.RETURN_VALUE_CONTAINER, since=None, follow=True) as pieces:
        async for data in pieces:
            lines.feed(data)
    if lines.foreign_end or lines.is_cut:
        raise ClusterUnavailableError("text in place of the sidecar's log")
    while piece := lines.take(1 << 20):
        parts.append(piece.data)
    return b"".join(parts)


async def _sidecar(cluster: Cluster, namespace: str, pod: str) -> Literal["running", "ended", "gone"]:
    try:
        found = await cluster.read_pod(namespace, pod)
    except (ClusterRefusedError, ClusterUnavailableError):
        return "running"  # as far as anybody knows
    if found is None:
        return "gone"
    sidecar = observe(found).container(names.RETURN_VALUE_CONTAINER)
    return "ended" if sidecar is None or sidecar.state == "terminated" else "running"
