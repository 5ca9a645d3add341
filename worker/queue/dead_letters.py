"""Messages that no worker can understand, set aside: their bytes and the reason, for their publisher."""

import time

import structlog

from dispatcher import connection
from dispatcher.dead_letter import encode_letter, set_aside, sha256
from dispatcher.settings import ClientSettings
from worker.queue.gate import Refusal

log = structlog.get_logger("podrelay.worker")


class DeadLetters:
    """The queue's list of dead letters. Safe to use from any thread."""

    def __init__(self, settings: ClientSettings) -> None:
        self._queue = settings.queue
        self._client = connection.connect(
            settings.redis, timeout_s=settings.redis_timeout_s, retries=settings.redis_retries
        )

    def put(self, message: bytes, refusal: Refusal) -> None:
        """Keep a message that was taken from the queue.

        The log tells what identifies it and nothing that it asks for, which may hold secrets. Where Redis does not take
        the letter, that is all that is left of it.
        """
        told = {"queue": self._queue, "size": len(message), "sha256": sha256(message)}
        sender = {f"message_{name}": text for name, text in refusal.sender.items()}
        log.error("message set aside", reason=refusal.reason, **told, **sender)
        letter = encode_letter(message, reason=refusal.reason, queue=self._queue, at=time.time())
        try:
            connection.run(self._client, set_aside(letter, queue=self._queue))
        except connection.REFUSED as error:
            log.error("message lost: Redis does not take the dead letter", why=str(error), **told)
