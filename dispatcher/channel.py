"""How the entries of a job's two streams in Redis, events and log, look on the wire.

Anybody may have written what is in a stream, so every field is checked here.
"""

import re
import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from dispatcher.cursor import CONTAINER_NAME, Cursor
from dispatcher.errors import PodrelayError
from dispatcher.events import (
    MAX_EVENT_BYTES,
    Ended,
    Notice,
    StatusChanged,
    decode_event,
)
from dispatcher.record import MAX_SECONDS, as_datetime, read_count, read_seconds, shown
from dispatcher.script import Argument
from dispatcher.status import Status

#: One entry of a stream as redis-py gives it: id, fields.
Entry = tuple[bytes, dict[bytes, bytes]]

#: Below this size compression costs more than it saves.
COMPRESS_FROM_BYTES = 512

#: The most that one entry may hold, unpacked: far above what is written (16,000 bytes).
MAX_CHUNK_BYTES = 1024 * 1024

_ID = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")
_MAX_END = 2**53 - 1
_MAX_ATTEMPT = 10**9 - 1

#: Where a reader starts that wants the events only: after any log entry.
WITHOUT_LOG = Cursor(log_id="18446744073709551615-0")


def encode_chunk(*, container: str, attempt: int, start: int, data: bytes, chain: str) -> Sequence[Argument]:
    """Encode a chunk as a stream entry, compressed where it pays. ``chain``: the chained SHA-256 after this chunk."""
    coding, payload = "r", data
    if len(data) >= COMPRESS_FROM_BYTES:
        packed = zlib.compress(data, level=1)
        if len(packed) < 0.8 * len(data):
            coding, payload = "z", packed
    return ("c", container, "a", attempt, "s", start, "h", bytes.fromhex(chain), coding, payload)


def encode_gap(*, container: str, attempt: int, start: int, end: int | None, why: str) -> Sequence[Argument]:
    """Encode the mark of bytes that were lost before they could be published. ``end`` None: nobody knows how many."""
    return ("c", container, "a", attempt, "s", start, "e", "" if end is None else end, "g", why)


def complete_ended(event: Ended, fields: dict[bytes, bytes]) -> Ended:
    """Add to the final event what the script wrote beside it: the log's end, and the time of every move."""
    times, log_end = decode_times(shown_text(fields.get(b"t", b""))), fields.get(b"l", b"0-0")
    result = event.result.model_copy(update={"times": {**event.result.times, **times}})
    return event.model_copy(update={"result": result, "log_end": log_end.decode() if _ID.fullmatch(log_end) else "0-0"})


def decode_times(text: str) -> dict[str, datetime]:
    """Read ``queued=1.5 starting=2.5`` (seconds) as aware datetimes, without what is no time."""
    times = {}
    for part in text.split():
        name, _, at = part.partition("=")
        try:
            times[name] = as_datetime(read_seconds(at))
        except ValueError:
            continue
    return times


def status_at_end(fields: dict[bytes, bytes]) -> Status:
    """Derive how the job ended from the times of its moves, where the event itself cannot be read."""
    times = decode_times(shown_text(fields.get(b"t", b"")))
    return next((status for status in (Status.SUCCEEDED, Status.CANCELLED) if status.lower() in times), Status.FAILED)


def read_event(fields: dict[bytes, bytes]) -> StatusChanged | Notice | Ended:
    """Read the entry's event."""
    text = fields.get(b"e", b"")
    if len(text) > MAX_EVENT_BYTES:
        raise ValueError(f"{len(text)} bytes long: at most {MAX_EVENT_BYTES} are read")
    return decode_event(text)


def read_place(fields: dict[bytes, bytes]) -> tuple[tuple[int, str], int]:
    """Read which attempt's container the entry is of, and from which byte of its log."""
    container, attempt = _field(fields, b"c"), read_count(_field(fields, b"a"))
    if not re.fullmatch(CONTAINER_NAME, container, re.ASCII) or attempt > _MAX_ATTEMPT:
        raise ValueError(f"{shown(container)}, attempt {attempt}: no container's log")
    return (attempt, container), read_count(_field(fields, b"s"))


def read_gap_end(fields: dict[bytes, bytes], start: int) -> int | None:
    """Read up to which byte the gap goes; None where nobody knows."""
    end = read_count(text) if (text := _field(fields, b"e")) else None
    if end is not None and end < start:
        raise ValueError(f"a gap from {start} to {end}")
    return end


def read_chunk(fields: dict[bytes, bytes], start: int) -> tuple[bytes, str]:
    """Read the entry's bytes, and the chained digest after them."""
    data = _unpacked(fields[b"z"]) if b"z" in fields else fields.get(b"r")
    if data is None or len(data) > MAX_CHUNK_BYTES or start + len(data) > _MAX_END:
        raise ValueError("it has no data" if data is None else f"more than {MAX_CHUNK_BYTES} bytes, or none that count")
    if len(fields.get(b"h", b"")) != 32:
        raise ValueError("it has no digest")
    return data, fields[b"h"].hex()


def _unpacked(packed: bytes) -> bytes:
    """Unpack no more than a chunk may have: a few bytes can hold gigabytes."""
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(packed, MAX_CHUNK_BYTES + 1)
    except zlib.error as error:
        raise ValueError(f"its data cannot be unpacked: {error}") from None
    if len(data) <= MAX_CHUNK_BYTES and not unpacking.eof:
        raise ValueError("its data cannot be unpacked: they are cut off")
    return data


def _field(fields: dict[bytes, bytes], name: bytes) -> str:
    if name not in fields:
        raise ValueError(f"it has no field {name.decode()!r}")
    return shown_text(fields[name])


def shown_text(raw: bytes) -> str:
    """Decode text for a person, also where it is no UTF-8; what is longer than any of ours is cut."""
    return raw[:4096].decode("utf-8", "backslashreplace")


def first_line(error: ValueError) -> str:
    """Say in short what is wrong: pydantic's own text has the whole input after it."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")[:200]
    return str(error).partition("\n")[0][:200]


def id_order(entry_id: bytes | str) -> tuple[int, int]:
    """Return what ids of a stream's entries are compared by."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence or 0)


def time_of(entry_id: bytes) -> datetime:
    """Read an id's time. Somebody may have chosen the id: at most the last second that is taken for a time."""
    return as_datetime(min(id_order(entry_id)[0] / 1000, MAX_SECONDS))


def unreadable(job_id: str, error: Exception) -> PodrelayError:
    """Make the error about a stream that cannot be read, a key of another type, say."""
    return PodrelayError(f"the channel of job {job_id} cannot be read: {type(error).__name__}: {error}")


def decode_xread(reply: Any) -> dict[bytes, list[Entry]]:
    """Read redis-py's XREAD reply (RESP2) by stream name."""
    return {stream: entries for stream, entries in reply or []}
