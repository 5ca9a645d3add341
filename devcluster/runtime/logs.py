"""Container logs: files in the CRI format, and reading them as the kubelet does.

A line is written, with its timestamp, when its newline has come; each 16 KiB are a piece (``P``, the last ``F``).
The reader joins pieces and keeps the first timestamp. A last line without newline is a ``P`` piece. When files are
rotated, a follower that lags by a whole file misses it, and other readers see only the newest, both as on a node.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from devcluster.apimachinery.clock import LogClock

PIECE_BYTES = 16 * 1024
_CHUNK_BYTES = 1024 * 1024
_NOTHING = b""


@dataclass(slots=True)
class ContainerOutput:
    """What one container wrote over all its starts, counted before it became a log."""

    bytes: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    paths: list[str] = field(default_factory=list)


class LogFile:
    """The log of one container instance."""

    def __init__(self, path: Path, output: ContainerOutput, *, rotate_bytes: int = 0) -> None:
        self.path = path
        self.closed = False
        self.generation = 0
        self._output = output
        self._rotate_bytes = rotate_bytes
        self._size = 0
        self._fd: int | None = None
        self._rest: dict[str, bytes] = {}
        self._clock = LogClock()
        self._bell = asyncio.Event()

    def append(self, stream: str, data: bytes) -> None:
        """Take bytes as the container wrote them on ``stdout`` or ``stderr``."""
        lines = (self._rest.pop(stream, _NOTHING) + data).split(b"\n")
        rest = lines.pop()
        tag = stream.encode()
        out: list[bytes] = []
        for line in lines:
            self._cut(out, tag, line, b"F")
        while len(rest) > PIECE_BYTES:
            out.append(b"%s %s P %s\n" % (self._clock.stamp(), tag, rest[:PIECE_BYTES]))
            rest = rest[PIECE_BYTES:]
        if rest:
            self._rest[stream] = rest
        self._account(data)
        self._write(out)

    def append_at_once(self, stream: str, lines: list[bytes]) -> None:
        """Write whole lines that share one timestamp."""
        stamp = self._clock.stamp()
        tag = stream.encode()
        self._account(b"".join(line + b"\n" for line in lines))
        self._write([b"%s %s F %s\n" % (stamp, tag, line) for line in lines])

    def end_of_stream(self) -> None:
        """Write what has no newline: the container is gone."""
        out: list[bytes] = []
        for stream, rest in self._rest.items():
            self._cut(out, stream.encode(), rest, b"P")
        self._rest.clear()
        self._write(out)
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def close(self) -> None:
        """End the log: nothing more will come, and followers end."""
        self.end_of_stream()
        self.closed = True
        self._ring()

    async def more(self) -> None:
        """Wait for the next append or the close."""
        await self._bell.wait()

    def tail(self, limit_bytes: int) -> bytes:
        """Return the last bytes of the log without timestamps, for ``FallbackToLogsOnError``."""
        if not self.path.exists():
            return _NOTHING
        data = self.path.read_bytes()
        if len(data) > 2 * PIECE_BYTES + limit_bytes:
            data = data[-2 * PIECE_BYTES - limit_bytes :].partition(b"\n")[2]
        return LogView(timestamps=False).take(data)[-limit_bytes:]

    def _cut(self, out: list[bytes], tag: bytes, line: bytes, last: bytes) -> None:
        while len(line) > PIECE_BYTES:
            out.append(b"%s %s P %s\n" % (self._clock.stamp(), tag, line[:PIECE_BYTES]))
            line = line[PIECE_BYTES:]
        out.append(b"%s %s %s %s\n" % (self._clock.stamp(), tag, last, line))

    def _account(self, data: bytes) -> None:
        self._output.bytes += len(data)
        self._output.digest.update(data)

    def _write(self, out: list[bytes]) -> None:
        if not out:
            return
        data = b"".join(out)
        if self._rotate_bytes and self._size and self._size + len(data) > self._rotate_bytes:
            self._rotate()
        if self._fd is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._size += len(data)
        self._ring()

    def _rotate(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self.path.rename(self.path.with_name(f"{self.path.name}.{self.generation}"))
        self.generation += 1
        self._size = 0

    def _ring(self) -> None:
        self._bell.set()
        self._bell.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """What a client asked of the log endpoint."""

    follow: bool = False
    timestamps: bool = False
    since: datetime | None = None
    tail_lines: int | None = None
    limit_bytes: int | None = None


def parse_since(text: str) -> datetime:
    """Read ``sinceTime``, in whole seconds: the API server hands no more to the kubelet."""
    return datetime.fromisoformat(text).astimezone(UTC).replace(microsecond=0)


def seconds_ago(seconds: int) -> datetime:
    """Return the time so many seconds ago, for ``sinceSeconds``."""
    return datetime.now(UTC) - timedelta(seconds=seconds)


class LogView:
    """What a client reads of CRI lines; a line may go on in the next chunk."""

    def __init__(self, *, timestamps: bool, since: datetime | None = None) -> None:
        self._timestamps = timestamps
        # Nine digits compare as text, and so does a whole second followed by "." or "Z".
        self._since = since.strftime("%Y-%m-%dT%H:%M:%S.%f").encode() if since else _NOTHING
        self._at_line_start = True

    def take(self, lines: bytes) -> bytes:
        """Render whole CRI lines."""
        out: list[bytes] = []
        for line in lines.split(b"\n"):
            if not line:
                continue
            stamp, _stream, tag, text = line.split(b" ", 3)
            if self._since and stamp < self._since:
                continue
            if self._timestamps and self._at_line_start:
                out.append(stamp + b" ")
            out.append(text)
            # The kubelet looks at what it wrote last, so a piece without newline is joined by what follows.
            self._at_line_start = tag == b"F" or not text
            if tag == b"F":
                out.append(b"\n")
        return b"".join(out)


async def read_log(log: LogFile, query: LogQuery) -> AsyncIterator[bytes]:
    """Yield the log as the client asked for it, in chunks; a follow ends when the log is closed."""
    left = query.limit_bytes
    view = LogView(timestamps=query.timestamps, since=query.since)
    async for lines in _whole_lines(log, query):
        out = view.take(lines)
        if left is not None:
            out = out[:left]
            left -= len(out)
        if out:
            yield out
        if left == 0:
            return


async def _whole_lines(log: LogFile, query: LogQuery) -> AsyncIterator[bytes]:
    """Yield CRI lines from the tail's start; after the end of a rotated file go on with the newest."""
    skip = query.tail_lines
    while True:
        generation = log.generation
        fd = _open(log.path)
        try:
            if fd is not None:
                start = _tail_start(fd, skip) if skip is not None else 0
                async for lines in _file_lines(log, fd, start, follow=query.follow, generation=generation):
                    yield lines
        finally:
            if fd is not None:
                os.close(fd)
        if not query.follow or (log.closed and log.generation == generation):
            return
        skip = None if fd is not None else skip
        if log.generation == generation and fd is None:
            await log.more()


async def _file_lines(log: LogFile, fd: int, start: int, *, follow: bool, generation: int) -> AsyncIterator[bytes]:
    position = start
    while True:
        done = log.closed or log.generation != generation
        chunk = os.pread(fd, _CHUNK_BYTES, position)
        whole = chunk.rfind(b"\n") + 1
        if whole:
            position += whole
            yield chunk[:whole]
            await asyncio.sleep(0)
        elif done or not follow:
            return
        else:
            await log.more()


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _tail_start(fd: int, lines: int) -> int:
    data = os.pread(fd, os.fstat(fd).st_size, 0)
    if lines <= 0:
        return len(data)
    position = len(data)
    for _ in range(lines + 1):
        position = data.rfind(b"\n", 0, position)
        if position < 0:
            return 0
    return position + 1
