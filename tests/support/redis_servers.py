"""The real Redis servers that the tests run against."""

import os
from pathlib import Path

import redis

from devcluster.local.redis_server import RedisServer, server_binaries


def redis_binaries() -> dict[str, str]:
    """Every server to test against: those at hand, and those of PODRELAY_TEST_REDIS_SERVERS (paths)."""
    added = [path for path in os.environ.get("PODRELAY_TEST_REDIS_SERVERS", "").split(",") if path]
    return {**server_binaries(), **{Path(path).name: path for path in added}}


def emptied(server: RedisServer) -> RedisServer:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    return server
