"""The times the API writes: whole seconds in objects, nanoseconds in logs."""

from datetime import UTC, datetime
from time import time_ns

_NS = 1_000_000_000


def now_text() -> str:
    """Write the time now as Kubernetes does in objects (RFC 3339, whole seconds)."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def second_text(at_s: float) -> str:
    """Write a Unix time as Kubernetes does in objects."""
    return datetime.fromtimestamp(int(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_text() -> str:
    """Write the time now with microseconds, as in ``eventTime``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class LogClock:
    """Timestamps of log lines: RFC 3339 with nine digits, never cut (recording ``log-follow-details``)."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = b""

    def stamp(self) -> bytes:
        second, rest = divmod(time_ns(), _NS)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.").encode()
        return b"%s%09dZ" % (self._prefix, rest)
