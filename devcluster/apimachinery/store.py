"""The object store, as etcd: objects by name, one resourceVersion for all, a short history for watches.

Objects are never changed in place: a change is a new dict that shares what stayed. Each version is encoded at most
once, and every list and watch shares those bytes. The history is short, so that a watcher that was away too long
gets a 410.
"""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from uuid import uuid4

from devcluster.apimachinery.clock import now_text
from devcluster.apimachinery.errors import Json, StatusError, already_exists, conflict, expired, not_found

#: Namespace ("" for what has none) and name.
Key = tuple[str, str]
Match = Callable[[Json], bool]

#: Versions begin here and not at 1, so that ``resourceVersion=1`` is too old, as on a cluster that has lived.
FIRST_VERSION = 1_000


class Stored:
    """One version of one object, and its bytes once somebody asked for them."""

    __slots__ = ("_bytes", "object", "version")

    def __init__(self, obj: Json, version: int) -> None:
        self.object = obj
        self.version = version
        self._bytes: bytes | None = None

    @property
    def bytes(self) -> bytes:
        if self._bytes is None:
            self._bytes = json.dumps(self.object, separators=(",", ":"), ensure_ascii=False).encode()
        return self._bytes


class Change:
    """One entry of the history: what happened to an object, and what it was before."""

    __slots__ = ("_lines", "before", "key", "stored", "type", "version")

    def __init__(self, kind: str, key: Key, stored: Stored, before: Json | None) -> None:
        self.type = kind
        self.key = key
        self.stored = stored
        self.version = stored.version
        self.before = before
        self._lines: dict[str, bytes] = {}

    def line_for(self, match: Match) -> bytes | None:
        """Return the line for watchers with this selector: entering it is ADDED, leaving it DELETED."""
        was = self.before is not None and match(self.before)
        now = self.type != "DELETED" and match(self.stored.object)
        if now:
            return self._line("MODIFIED" if was else "ADDED")
        if was:
            return self._line("DELETED")
        return None

    def _line(self, kind: str) -> bytes:
        line = self._lines.get(kind)
        if line is None:
            line = self._lines[kind] = watch_line(kind, self._shown(kind))
        return line

    def _shown(self, kind: str) -> bytes:
        if kind == "DELETED" and self.type != "DELETED" and self.before is not None:
            left = {**self.before, "metadata": {**self.before["metadata"], "resourceVersion": str(self.version)}}
            return Stored(left, self.version).bytes
        return self.stored.bytes


def watch_line(kind: str, body: bytes) -> bytes:
    """Write one event of a watch."""
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), body)


class Watcher:
    """One open watch: the lines it has not yet been sent."""

    def __init__(self, resource: str, namespace: str, match: Match) -> None:
        self.resource = resource
        self.namespace = namespace
        self.match = match
        self.ended = False
        self._lines: list[bytes] = []
        self._bell = asyncio.Event()

    def offer(self, change: Change) -> None:
        if self.namespace and change.key[0] != self.namespace:
            return
        line = change.line_for(self.match)
        if line is not None:
            self.put(line)

    def put(self, line: bytes) -> None:
        self._lines.append(line)
        self._bell.set()

    def end(self) -> None:
        self.ended = True
        self._bell.set()

    def take(self) -> bytes:
        lines, self._lines = self._lines, []
        self._bell.clear()
        return b"".join(lines)

    async def wait(self) -> None:
        await self._bell.wait()


class Store:
    """All objects, by resource (``pods``, ``events``, …) and key."""

    def __init__(self, history: int) -> None:
        self.version = FIRST_VERSION
        self._history_limit = history
        self._objects: dict[str, dict[Key, Stored]] = defaultdict(dict)
        self._history: dict[str, deque[Change]] = defaultdict(deque)
        self._floor: dict[str, int] = defaultdict(lambda: FIRST_VERSION)
        self._watchers: dict[str, set[Watcher]] = defaultdict(set)

    def read(self, resource: str, key: Key) -> Stored:
        stored = self._objects[resource].get(key)
        if stored is None:
            raise not_found(resource, key[1])
        return stored

    def find(self, resource: str, key: Key) -> Stored | None:
        return self._objects[resource].get(key)

    def each(self, resource: str, namespace: str = "") -> Iterator[tuple[Key, Stored]]:
        """Yield the objects of a resource in the order of their keys."""
        objects = self._objects[resource]
        for key in sorted(objects):
            if not namespace or key[0] == namespace:
                yield key, objects[key]

    def count(self, resource: str) -> int:
        return len(self._objects[resource])

    def create(self, resource: str, obj: Json) -> Stored:
        """Add an object that has its namespace and name; give it uid, creation time and version."""
        metadata = obj["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        if key in self._objects[resource]:
            raise already_exists(resource, key[1])
        given = {**metadata, "uid": str(uuid4()), "creationTimestamp": now_text()}
        stored = self._next({**obj, "metadata": given})
        self._objects[resource][key] = stored
        self._publish(resource, Change("ADDED", key, stored, None))
        return stored

    def update(self, resource: str, key: Key, obj: Json) -> Stored:
        """Replace an object that exists."""
        before = self.read(resource, key).object
        stored = self._next(obj)
        self._objects[resource][key] = stored
        self._publish(resource, Change("MODIFIED", key, stored, before))
        return stored

    def remove(self, resource: str, key: Key) -> Stored:
        """Remove an object; the last version that watchers see has a new resourceVersion."""
        before = self._objects[resource].pop(key).object
        stored = self._next(before)
        self._publish(resource, Change("DELETED", key, stored, before))
        return stored

    def forget(self, resource: str, key: Key) -> None:
        """Drop an object without telling watchers, as old events are."""
        self._objects[resource].pop(key, None)

    def check_version(self, resource: str, key: Key, given: str | None) -> None:
        """Hold a writer to the version that it read (optimistic locking).

        Raises:
            StatusError: 409, there is another now.
        """
        stored = self.read(resource, key)
        if given and given != str(stored.version):
            raise conflict(
                resource,
                key[1],
                "the object has been modified; please apply your changes to the latest version and try again",
            )

    def trim(self) -> None:
        """Forget the history, so that every watch from the past gets a 410."""
        for resource in [*self._objects, *self._history]:
            self._history[resource].clear()
            self._floor[resource] = self.version

    def watch(self, resource: str, namespace: str, match: Match, *, since: int | None) -> Watcher:
        """Open a watch after the version ``since``, or, when None, after what is there now.

        Raises:
            StatusError: 410, the history does not reach back that far (recording ``watch-expired-410``).
        """
        watcher = Watcher(resource, namespace, match)
        if since is not None:
            floor = self._floor[resource]
            if since < floor:
                raise too_old(since, floor)
            for change in self._history[resource]:
                if change.version > since:
                    watcher.offer(change)
        self._watchers[resource].add(watcher)
        return watcher

    def close(self, watcher: Watcher) -> None:
        self._watchers[watcher.resource].discard(watcher)

    def end_watches(self) -> None:
        """End every open watch, as a restarting API server does."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.end()

    def reaches(self, resource: str, version: int) -> bool:
        return version >= self._floor[resource]

    def _next(self, obj: Json) -> Stored:
        self.version += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self.version)}
        return Stored({**obj, "metadata": metadata}, self.version)

    def _publish(self, resource: str, change: Change) -> None:
        history = self._history[resource]
        history.append(change)
        while len(history) > self._history_limit:
            self._floor[resource] = history.popleft().version
        for watcher in self._watchers[resource]:
            watcher.offer(change)


def too_old(since: int, floor: int) -> StatusError:
    """Make the 410 of a watch from too far back."""
    return expired(f"too old resource version: {since} ({floor})")
