"""Celery's consumer and kombu's transport, made to survive whatever is in Redis.

Anything can be pushed to a Redis list, and written to the hash in which kombu keeps what is not acknowledged. Each item
passes the gate (:mod:`worker.queue.gate`) before kombu or Celery sees it, and what they see is a message of our own
making; all else goes to the dead letters, and the worker goes on. Of the consumer's steps only those are kept that a
launcher needs: no gossip, no mingling, no remote control.
"""

import json
import time
from dataclasses import replace
from typing import Any, ClassVar, Final

import structlog
from celery.worker.consumer import Connection, Consumer, Tasks
from celery.worker.consumer.consumer import Evloop
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.transport.virtual import Empty
from redis.exceptions import ResponseError

from dispatcher import connection
from dispatcher.message import launch_message
from dispatcher.spec import JobSpec
from worker.queue.dead_letters import DeadLetters
from worker.queue.gate import DELIVERIES_HEADER, Launch, Refusal, admit, readmit

log = structlog.get_logger("podrelay.worker")

#: Between two tries to consume from a Redis that answers, and refuses (full, read-only, a key of another type).
REFUSED_PAUSE_S: Final = 2.0

_dead_letters: list[DeadLetters] = []


def use_dead_letters(dead_letters: DeadLetters) -> None:
    """Set where refused messages go. kombu makes its transports itself, so there is one place per process."""
    _dead_letters[:] = [dead_letters]


def _set_aside(message: bytes, refusal: Refusal) -> None:
    for letters in _dead_letters:
        letters.put(message, refusal)


class Launches(Tasks):  # type: ignore[misc]
    """Celery's step that consumes, without the mingling it waits a second for."""

    requires = (Connection,)


class PodrelayConsumer(Consumer):  # type: ignore[misc]
    """Consumes the queue of launches."""

    #: Made by the step that sends Celery's monitoring events, which is left out.
    event_dispatcher = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._warned_until: dict[str, float] = {}
        self._consuming: dict[str, bool] = {}
        super().__init__(*arguments, **options)

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        default_steps: ClassVar[list[Any]] = [Connection, Launches, Evloop]

    def set_consuming(self, queue: str, *, may_consume: bool) -> None:
        """Pause or resume the queue soon; from any thread.

        The last wish counts: the hub keeps no order of what it is asked to call, and forgets it where something else
        that it calls fails.
        """
        self._consuming[queue] = may_consume
        self.call_soon(self._apply_consuming)

    def _apply_consuming(self) -> None:
        for queue, may_consume in list(self._consuming.items()):
            (self.add_task_queue if may_consume else self.cancel_task_queue)(queue)

    def on_ready(self) -> None:
        """Apply what was set while it did not consume, for the first time or again."""
        super().on_ready()
        self._apply_consuming()

    def on_connection_error_before_connected(self, exc: BaseException) -> None:
        """Warn, and wait before the next try: Redis answers, and refuses, and nobody else paces it."""
        self._warn(exc)
        time.sleep(REFUSED_PAUSE_S)

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        super().on_connection_error_after_connected(exc)
        self._warn(exc)
        if isinstance(exc, ResponseError):  # the same
            time.sleep(REFUSED_PAUSE_S)

    def _warn(self, exc: BaseException) -> None:
        """Log why the queue is not read, once a minute for each reason."""
        why = str(exc) or type(exc).__name__
        if time.monotonic() >= self._warned_until.get(why, 0):
            self._warned_until = {why: time.monotonic() + 60}
            log.warning("queue not read, trying again", why=why)


class Message(virtual.Message):  # type: ignore[misc]
    """A launch as kombu and Celery know it.

    Nothing in it is from outside but the one argument, and that is a text: job id or spec. (kombu's JSON makes objects
    of some mappings.)
    """

    def __init__(self, launch: Launch, channel: Any = None, **options: Any) -> None:
        kept = _wire_form(launch)
        argument = launch.job.encode() if isinstance(launch.job, JobSpec) else launch.job
        properties = {**kept["properties"], "body_encoding": None}
        body = json.dumps([[argument, launch.deliveries], {}, {}])
        super().__init__({**kept, "properties": properties, "body": body}, channel=channel, **options)
        #: What is kept until it is acknowledged, and comes back to some worker if it never is.
        self._raw = kept


def _wire_form(launch: Launch) -> dict[str, Any]:
    """Return the message as any worker can take it, also one of an earlier version."""
    job = json.loads(launch.job.encode()) if isinstance(launch.job, JobSpec) else launch.job
    message = launch_message(job, queue=launch.queue, bucket=launch.bucket)
    message["headers"][DELIVERIES_HEADER] = launch.deliveries
    return message


class QoS(kombu_redis.QoS):  # type: ignore[misc]
    """Keeps messages until they are acknowledged.

    Redis may refuse to keep one (full; a key of another type): it is at hand, and launched all the same.
    """

    def append(self, message: Any, delivery_tag: Any) -> None:
        try:
            super().append(message, delivery_tag)
        except connection.REFUSED as error:
            log.warning("message not kept while it is launched: Redis refuses", why=str(error))
            virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: Any) -> None:
        try:
            super().ack(delivery_tag)
        except connection.REFUSED as error:
            # It comes again, and then its job is launched already.
            log.warning("message not acknowledged: Redis refuses", why=str(error))
            virtual.QoS.ack(self, delivery_tag)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Put a kept message back if it passes the gate: it was taken once more without being launched."""
        refused: list[tuple[bytes, Refusal]] = []

        def restore(pipe: Any) -> None:
            kept = pipe.hget(self.unacked_key, tag)
            pipe.multi()
            self._remove_from_indices(tag, pipe)
            refused.clear()
            match readmit(kept) if kept is not None else None:
                case Launch() as launch:
                    self.channel.put_back(pipe, replace(launch, deliveries=launch.deliveries + 1), leftmost=leftmost)
                case Refusal() as refusal:
                    refused.append((kept, refusal))

        with self.channel.conn_or_acquire(client) as client:
            client.transaction(restore, self.unacked_key)
        for message, refusal in refused:
            _set_aside(message, refusal)


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    """Takes an item from the lists, through the gate."""

    QoS = QoS
    Message = Message

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """Return what kombu makes its connections of: not what it reads of a URL, but what all others are made of."""
        channel = self
        # Without a limit a half-open connection would hang the worker for ever, deaf to SIGTERM.
        options = connection.broker_options(self.connection.client.transport_options["endpoint"], timeout_s=5)
        made_of: Any = options["connection_class"]

        class Polled(made_of):  # type: ignore[misc]
            """A connection that the poller forgets when it is lost."""

            def disconnect(self, *arguments: Any, **named: Any) -> None:
                super().disconnect(*arguments, **named)
                if channel._registered:
                    channel._on_connection_disconnect(self)

        options |= {"health_check_interval": 5, "max_connections": self.max_connections}
        return {**options, "connection_class": Polled} if asynchronous else options

    def _brpop_read(self, **options: Any) -> bool:
        try:
            popped = self._popped(options)
            if not popped:
                raise Empty
            key, item = popped
            queue, _, bucket = key.decode().partition(self.sep)
            self._queue_cycle.rotate(queue)
            match admit(item, queue=queue, bucket=int(bucket or 0)):
                case Refusal() as refusal:
                    _set_aside(item, refusal)
                case Launch() as launch:
                    self.connection._deliver(launch, queue)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def put_back(self, client: Any, launch: Launch, *, leftmost: bool = False) -> None:
        """Push a launch onto its list, as the next to be taken (``leftmost``: the last)."""
        push = client.lpush if leftmost else client.rpush
        push(self._q_for_pri(launch.queue, launch.bucket), json.dumps(_wire_form(launch)))

    def _popped(self, options: dict[str, Any]) -> Any:
        try:
            return self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.connection_errors:
            self.client.connection.disconnect()  # so that the next try connects again
            raise


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """Treats every refusal of Redis as a lost connection: Celery connects again instead of ending the process."""

    Channel = Channel
    can_parse_url = True
    connection_errors = (*kombu_redis.Transport.connection_errors, *connection.REFUSED)

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """Return where it leads, for the log."""
        shown: str = self.client.transport_options["endpoint"].shown
        return shown

    def _reject_inbound_message(self, raw_message: Launch) -> None:
        """Put back a message that was on its way when the queue was paused."""
        channel = self.channels[0]
        try:
            with channel.conn_or_acquire() as client:
                channel.put_back(client, raw_message)
        except connection.REFUSED as error:
            if isinstance(raw_message.job, JobSpec):  # nobody else knows of it
                _set_aside(raw_message.job.encode().encode(), Refusal(f"cannot be put back into the queue: {error}"))
            raise
