"""Celery's consumer and kombu's transport, made to survive what is no message of ours.

Anything can be pushed to a Redis list. kombu would let such an item break the connection, Celery would drop it: here it
goes to the dead letters, and the worker goes on. Of the consumer's steps only those are kept that a launcher needs:
no gossip, no mingling, no remote control.
"""

import json
import time
from typing import Any, ClassVar, Final

from celery.worker.consumer import Connection, Consumer, Tasks
from celery.worker.consumer.consumer import Evloop
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import Empty

from dispatcher.connection import UNAVAILABLE
from worker.dead_letters import DeadLetters

#: Between two tries to consume from a Redis that is full or read-only.
REFUSED_PAUSE_S: Final = 2.0

_dead_letters: list[DeadLetters] = []


def keep_dead_letters(dead_letters: DeadLetters) -> None:
    """Say where they go. kombu makes its transports itself, so there is one place per process."""
    _dead_letters[:] = [dead_letters]


def _put(message: bytes, reason: str) -> None:
    for letters in _dead_letters:
        letters.put(message, reason)


class Launches(Tasks):  # type: ignore[misc]
    """Celery's step that consumes, without the mingling it waits a second for."""

    requires = (Connection,)


class PodrelayConsumer(Consumer):  # type: ignore[misc]
    """Consumes the queue of launches."""

    #: Made by the step that sends Celery's monitoring events, which is left out.
    event_dispatcher = None

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        default_steps: ClassVar[list[Any]] = [Connection, Launches, Evloop]

    def on_connection_error_before_connected(self, exc: BaseException) -> None:
        """Redis answers, and refuses: nobody else paces the next try."""
        super().on_connection_error_before_connected(exc)
        time.sleep(REFUSED_PAUSE_S)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        self._set_aside(message, "not a Celery task message: its headers name no task")

    def on_unknown_task(self, body: Any, message: Any, exc: BaseException) -> None:
        self._set_aside(message, f"unknown task {message.headers.get('task')!r}: the task is podrelay.launch")

    def on_invalid_task(self, body: Any, message: Any, exc: BaseException) -> None:
        self._set_aside(message, f"invalid task message: {exc}")

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        self._set_aside(message, f"the body cannot be decoded: {exc}")

    def _set_aside(self, message: Any, reason: str) -> None:
        body = message.body
        _put(body if isinstance(body, bytes) else str(body).encode(), reason)
        message.ack_log_error(None, self.connection_errors)


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    """Sets items aside that are not JSON. They were popped already, so nothing comes of raising."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except json.JSONDecodeError as error:
            _put(error.doc.encode("utf-8", "surrogateescape"), f"not JSON: {error}")
        except UnicodeDecodeError as error:
            _put(error.object, f"not JSON: {error}")
        raise Empty


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """Sets items aside that are JSON and no message, and takes a Redis that is full or read-only for one that is away:
    Celery connects again. It would end the process otherwise."""

    Channel = Channel
    connection_errors = (*kombu_redis.Transport.connection_errors, *UNAVAILABLE)

    def _deliver(self, message: Any, queue: str) -> None:
        problem = _not_a_message(message)
        if problem is None:
            super()._deliver(message, queue)
        else:
            _put(json.dumps(message).encode(), f"not a message: {problem}")


def _not_a_message(message: Any) -> str | None:
    if not isinstance(message, dict):
        return "must be a JSON object"
    properties = message.get("properties")
    if "body" not in message or not isinstance(properties, dict):
        return "needs body and properties"
    if not isinstance(properties.get("delivery_info"), dict) or "delivery_tag" not in properties:
        return "properties needs delivery_tag and delivery_info"
    return None
