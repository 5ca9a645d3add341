"""Keeping messages that no worker can understand: their bytes and the reason, for whoever published them."""

import base64
import json
import time
from typing import Final

import structlog

from dispatcher import connection, names
from dispatcher.settings import ClientSettings

log = structlog.get_logger("podrelay.worker")

#: The newest are kept.
KEPT: Final = 1000


class DeadLetters:
    """The queue's list. Safe to use from any thread."""

    def __init__(self, settings: ClientSettings) -> None:
        self._queue = settings.queue
        self._client = connection.connect(
            settings.redis_url.get_secret_value(), timeout_s=settings.redis_timeout_s, retries=settings.redis_retries
        )

    def put(self, message: bytes, reason: str) -> None:
        """Keep a message. It was taken from the queue already: where Redis is away now, the log has it."""
        log.error("message set aside", queue=self._queue, reason=reason, message=message[:2000])
        letter = json.dumps(
            {"bytes": base64.b64encode(message).decode(), "reason": reason, "at": time.time(), "queue": self._queue}
        )
        try:
            self._client.lpush(names.dead_letters(self._queue), letter)
            self._client.ltrim(names.dead_letters(self._queue), 0, KEPT - 1)
        except connection.UNAVAILABLE as error:
            log.error("message not kept, Redis unavailable", why=str(error))
