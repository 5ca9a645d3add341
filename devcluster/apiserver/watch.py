"""Lists and watches over HTTP."""

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from devcluster.apimachinery.errors import Cause, Json, StatusError, bad_request, expired, invalid
from devcluster.apimachinery.paths import Target
from devcluster.apimachinery.selectors import Match, selector
from devcluster.apimachinery.store import Store, Watcher, watch_line
from devcluster.apiserver.bodies import is_true
from devcluster.kubelet.latency import Latency

_END_OF_INITIAL = {"k8s.io/initial-events-end": "true"}
_LONGEST_WATCH_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions:
    """The query of a list or watch."""

    match: Match
    watch: bool
    #: None: whatever is there now (absent or 0).
    version: int | None
    bookmarks: bool
    initial_events: bool | None
    timeout_s: float
    limit: int
    continued: str


def list_options(query: Mapping[str, str]) -> ListOptions:
    """Read the query of a list or watch.

    Raises:
        StatusError: 400 or 422, it cannot be read.
    """
    given = query.get("resourceVersion", "")
    if given and not given.isdigit():
        raise bad_request(f'Invalid value: "{given}": strconv.ParseUint: parsing "{given}": invalid syntax')
    initial = query.get("sendInitialEvents")
    if initial is not None and query.get("resourceVersionMatch") != "NotOlderThan":
        raise _wrong_match(query.get("resourceVersionMatch"))
    return ListOptions(
        match=selector(query.get("labelSelector", ""), query.get("fieldSelector", "")),
        watch=is_true(query.get("watch", "")),
        version=int(given) if given and given != "0" else None,
        bookmarks=is_true(query.get("allowWatchBookmarks", "")),
        initial_events=None if initial is None else is_true(initial),
        timeout_s=float(query.get("timeoutSeconds") or _LONGEST_WATCH_S),
        limit=int(query.get("limit") or 0),
        continued=query.get("continue", ""),
    )


def _wrong_match(given: str | None) -> StatusError:
    words = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
    if given:
        words = f'Unsupported value: "{given}": supported values: "NotOlderThan"'
    return invalid("ListOptions.meta.k8s.io", "", [Cause("resourceVersionMatch", "FieldValueForbidden", words)])


def list_body(store: Store, target: Target, options: ListOptions) -> bytes:
    """Write a list, or one page of it.

    Raises:
        StatusError: 410, the next page was asked for too late.
    """
    after, version = _continued(store, target, options.continued)
    items: list[bytes] = []
    more = ""
    last = ("", "")
    for key, stored in store.each(target.resource, target.namespace):
        if (after and key <= after) or not options.match(stored.object):
            continue
        if options.limit and len(items) == options.limit:
            more = _token(version, last)
            break
        items.append(stored.bytes)
        last = key
    metadata: Json = {"resourceVersion": str(version)}
    if more:
        metadata["continue"] = more
    head = {"kind": f"{target.kind}List", "apiVersion": "v1", "metadata": metadata}
    return json.dumps(head, separators=(",", ":")).encode()[:-1] + b',"items":[' + b",".join(items) + b"]}\n"


def _token(version: int, last: tuple[str, str]) -> str:
    content = {"v": "meta.k8s.io/v1", "rv": version, "start": list(last)}
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def _continued(store: Store, target: Target, token: str) -> tuple[tuple[str, str] | None, int]:
    if not token:
        return None, store.version
    try:
        content = json.loads(base64.urlsafe_b64decode(token))
        namespace, name = content["start"]
        version = int(content["rv"])
    except (ValueError, KeyError, TypeError) as error:
        raise bad_request(f"continue key is not valid: {error}") from error
    if not store.reaches(target.resource, version):
        raise expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list "
            "without the continue parameter, or use the continue token in this response to retrieve the remainder of "
            "the results. Continuing with the provided token results in an inconsistent list - objects that were "
            "created, modified, or deleted between the time the first chunk was returned and now may show up in the "
            "list."
        )
    return (namespace, name), version


def bookmark_line(target: Target, version: int, *, end_of_initial: bool = False) -> bytes:
    """Write a bookmark: an object with nothing but a version (recording ``watch-expired-410``)."""
    metadata: Json = {"resourceVersion": str(version)}
    if end_of_initial:
        metadata["annotations"] = _END_OF_INITIAL
    bookmark: Json = {"kind": target.kind, "apiVersion": "v1", "metadata": metadata}
    if target.resource == "pods":
        bookmark |= {"spec": {"containers": None}, "status": {}}
    return watch_line("BOOKMARK", json.dumps(bookmark, separators=(",", ":")).encode())


async def answer_watch(
    request: web.Request, store: Store, target: Target, options: ListOptions, latency: Latency
) -> web.StreamResponse:
    """Stream changes until the client leaves, the time is up or the server ends all watches."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    try:
        watcher = _open(store, target, options)
    except StatusError as error:
        # A watch has begun with 200 by then: what is wrong stands in the stream.
        await response.prepare(request)
        await response.write(watch_line("ERROR", error.body.rstrip()))
        return response
    try:
        await response.prepare(request)
        await _stream(response, store, target, options, watcher, latency.bookmark_every_s)
    finally:
        store.close(watcher)
    return response


def _open(store: Store, target: Target, options: ListOptions) -> Watcher:
    initial = options.version is None if options.initial_events is None else options.initial_events
    since = None if initial else options.version
    watcher = store.watch(target.resource, target.namespace, options.match, since=since)
    if initial:
        for _key, stored in store.each(target.resource, target.namespace):
            if options.match(stored.object):
                watcher.put(watch_line("ADDED", stored.bytes))
        if options.initial_events and options.bookmarks:
            watcher.put(bookmark_line(target, store.version, end_of_initial=True))
    return watcher


async def _stream(
    response: web.StreamResponse,
    store: Store,
    target: Target,
    options: ListOptions,
    watcher: Watcher,
    bookmark_every_s: float,
) -> None:
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + options.timeout_s
    while not watcher.ended:
        lines = watcher.take()
        if lines:
            await response.write(lines)
            continue
        left_s = ends_at - loop.time()
        if left_s <= 0:
            return
        try:
            async with asyncio.timeout(min(left_s, bookmark_every_s)):
                await watcher.wait()
        except TimeoutError:
            if options.bookmarks:
                watcher.put(bookmark_line(target, store.version))
