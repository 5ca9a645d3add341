"""A failover of Redis that loses its last writes."""

import asyncio
from collections.abc import Awaitable, Callable

import redis

from devcluster.local.redis_server import RedisServer
from tests.chaos.caller import until
from tests.support.installation import Installation
from tests.support.redis_proxy import RedisProxy


async def fail_over(installation: Installation, proxy: RedisProxy, meanwhile: Callable[[], Awaitable[object]]) -> None:
    """A replica takes Redis' place behind the same proxy. What was written ``meanwhile`` was confirmed, and is lost."""
    async with RedisProxy(installation.redis.port) as link:
        replica = await asyncio.to_thread(installation.start_replica, link.port)
        await until(lambda: _is_in_sync(replica))
        link.swallow()
        await meanwhile()
        await asyncio.to_thread(installation.fail_over_to, replica)
    proxy.target = replica.port
    proxy.cut()


def _is_in_sync(replica: RedisServer) -> bool:
    with redis.Redis.from_url(replica.url) as client:
        return bool(client.info("replication").get("master_link_status") == "up")
