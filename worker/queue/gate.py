"""The gate from the queue to Celery: a launch passes, and nothing else that somebody pushed to a Redis list.

Pure: bytes in, a :class:`Launch` or a :class:`Refusal` out, never an exception. Nothing of a foreign message goes any
further than this: Celery is handed a message that we make ourselves of the one argument that was read. What asks for
something that podrelay does not do (``eta``, ``expires``, links, further arguments) is refused with its reason rather
than run as if it had not been asked; what only describes the message (ids, origin, retries, ``reply_to`` …) is ignored,
whatever it is.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dispatcher import names
from dispatcher.bounded_json import loads_bounded
from dispatcher.errors import InvalidSpecError
from dispatcher.message import MESSAGE_BUCKETS, MESSAGE_LIMIT_BYTES
from dispatcher.spec import JOB_ID_PATTERN, QUEUE_NAME_PATTERN, JobSpec, parse_spec

#: How often a message may come back from workers that ended before they had launched its job: it may be what ends them.
DELIVERIES: Final = 5
#: The header in which a message that comes back is counted.
DELIVERIES_HEADER: Final = "podrelay_deliveries"

#: A message, and what kombu writes around it while it is not acknowledged: the list of its exchange and routing key.
_UNACKED_LIMIT_BYTES: Final = MESSAGE_LIMIT_BYTES + 1024
_LINKS: Final = ("callbacks", "errbacks", "chain", "chord")
_EXCERPT_CHARACTERS: Final = 100


@dataclass(frozen=True, slots=True)
class Launch:
    """A request to launch the job of this id, or of this spec.

    ``bucket``: the priority of the list that it waited in; ``deliveries``: how often it has been taken without being
    launched.
    """

    job: str | JobSpec
    queue: str
    bucket: int = 0
    deliveries: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message is no launch. ``sender``: what the message says of itself, for whoever looks for its publisher."""

    reason: str
    sender: Mapping[str, str] = field(default_factory=dict)


class _RefusedError(Exception):
    """Ends the reading of a message; holds the reason."""


def admit(item: bytes, *, queue: str, bucket: int = 0) -> Launch | Refusal:
    """Read one item of a queue's list."""
    envelope: object = None
    try:
        envelope = _json(item, "the message", MESSAGE_LIMIT_BYTES)
        return _launch(envelope, queue, bucket)
    except _RefusedError as refused:
        return Refusal(str(refused), _sender(envelope))


def readmit(kept: bytes) -> Launch | Refusal:
    """Read what a worker kept of a message (kombu's ``unacked``) and never acknowledged.

    ``kept``: the message as it was, its exchange, and its routing key, which is the queue.
    """
    envelope: object = None
    try:
        match _json(kept, "what was kept of the message", _UNACKED_LIMIT_BYTES):
            case [envelope, _, str(queue)] if re.fullmatch(QUEUE_NAME_PATTERN, queue):
                return _launch(envelope, queue, _bucket(envelope))
        raise _RefusedError("what was kept of the message must be [message, exchange, queue]")
    except _RefusedError as refused:
        return Refusal(str(refused), _sender(envelope))


def _launch(envelope: object, queue: str, bucket: int) -> Launch:
    message = _object(envelope, "the message")
    headers = _object(message.get("headers"), "headers")
    _check_headers(headers)
    argument = _argument(_json(_body(message), "the body", MESSAGE_LIMIT_BYTES))
    return Launch(_job(argument, queue), queue, bucket, _deliveries(headers))


def _check_headers(headers: Mapping[str, Any]) -> None:
    task = headers.get("task")
    if task is None:
        raise _RefusedError("not a Celery task message (protocol 2): its headers name no task")
    if task != names.LAUNCH_TASK:
        raise _RefusedError(f"unknown task {_excerpt(task)}: the task is {names.LAUNCH_TASK}")
    for name in ("eta", "expires"):
        if headers.get(name) is not None:
            raise _RefusedError(
                f"{name} is not served: a launch is now; how long a job may wait is its queue_timeout_s"
            )
    if headers.get("compression") is not None:
        raise _RefusedError("a compressed body is not read")


def _body(message: Mapping[str, Any]) -> bytes:
    properties = _object(message.get("properties", {}), "properties")
    if (kind := message.get("content-type")) != "application/json":
        raise _RefusedError(f"content-type must be application/json, not {_excerpt(kind)}")
    if (encoding := message.get("content-encoding")) not in ("utf-8", "UTF-8"):
        raise _RefusedError(f"content-encoding must be utf-8, not {_excerpt(encoding)}")
    body = message.get("body")
    if not isinstance(body, str):
        raise _RefusedError(f"body must be a text, not {_excerpt(body)}")
    match properties.get("body_encoding"):
        case "base64":
            try:
                return base64.b64decode(body, validate=True)
            except ValueError as error:
                raise _RefusedError(f"the body is no base64: {error}") from None
        case None | "utf-8":
            return body.encode()
        case other:
            raise _RefusedError(f"body_encoding must be base64, not {_excerpt(other)}")


def _argument(body: object) -> object:
    match body:
        case [[argument], dict(options), (dict() | None) as embed]:
            if options:
                raise _RefusedError(f"the task takes no keyword argument {_excerpt(next(iter(options)))}")
            for name in _LINKS:
                if embed and embed.get(name):
                    raise _RefusedError(f"{name} are not served: await the job's end, then do what comes next")
            return argument
        case [list(arguments), dict(), dict() | None]:
            raise _RefusedError(f"the task's one argument must be a job id or a spec, found {len(arguments)} arguments")
    raise _RefusedError("the body must be [[job id or spec], {}, {}]")


def _job(argument: object, queue: str) -> str | JobSpec:
    match argument:
        case str() if re.fullmatch(JOB_ID_PATTERN, argument):
            return argument
        case str():
            raise _RefusedError(f"{_excerpt(argument)} is no job id")
        case dict():
            try:
                # The queue that a message came by is the job's queue, whatever the spec says.
                return parse_spec({**argument, "queue": queue}, "message", is_for_others=True)
            except InvalidSpecError as error:
                raise _RefusedError(str(error)) from None
    raise _RefusedError("the task's one argument must be a job id or a spec (a JSON object)")


def _json(data: bytes, what: str, max_bytes: int) -> object:
    if len(data) > max_bytes:
        raise _RefusedError(f"{what} is too long: {len(data)} bytes, at most {max_bytes} are taken")
    try:
        value: object = loads_bounded(data, max_bytes=max_bytes)
    except ValueError as error:
        raise _RefusedError(f"{what} is not JSON: {error}") from None
    return value


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _RefusedError(f"{what} must be a JSON object")
    return value


def _bucket(envelope: object) -> int:
    match envelope:
        case {"properties": {"priority": int(bucket)}} if bucket in MESSAGE_BUCKETS:
            return bucket
    return MESSAGE_BUCKETS[0]


def _deliveries(headers: Mapping[str, Any]) -> int:
    match headers.get(DELIVERIES_HEADER):
        case bool():
            return 0
        case int(count) if count > 0:
            if count >= DELIVERIES:
                text = "and each time the worker ended before it had launched the job"
                raise _RefusedError(f"taken {DELIVERIES} times, {text}: perhaps because of it")
            return count
    return 0


def _sender(envelope: object) -> dict[str, str]:
    """Return what leads an operator to the publisher, and nothing of what was asked: that may hold secrets."""
    headers = envelope.get("headers") if isinstance(envelope, dict) else None
    told = {name: headers.get(name) for name in ("task", "id", "origin")} if isinstance(headers, dict) else {}
    return {name: _excerpt(value) for name, value in told.items() if isinstance(value, str)}


def _excerpt(value: object) -> str:
    """Quote a foreign value in our text: short, one line, and only its kind where it is not plain."""
    match value:
        case str():
            return ascii(value if len(value) <= _EXCERPT_CHARACTERS else f"{value[:_EXCERPT_CHARACTERS]}…")
        case None | bool():
            return str(value)
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "a number"
