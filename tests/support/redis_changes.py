"""Waiting for what a Redis server holds: the server itself tells of each change of a key."""

import time
from collections.abc import Callable
from typing import Any

import redis


def wait_for_key(
    client: "redis.Redis", key: str, is_so: Callable[[], Any] | None = None, *, within_s: float = 60.0
) -> None:
    """Wait until it is so (default: the key exists); looked at now, and at every change of this key in database 0."""
    client.config_set("notify-keyspace-events", "KA")
    deadline = time.monotonic() + within_s
    with client.pubsub() as changes:
        changes.subscribe(f"__keyspace@0__:{key}")
        changes.get_message(timeout=within_s)  # the subscription's confirmation: nothing is missed from here on
        while not (is_so() if is_so is not None else client.exists(key)):
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"{key} did not become what is awaited within {within_s:g} s"
            changes.get_message(timeout=left_s)
            while changes.get_message():  # what has come meanwhile is one look
                pass
