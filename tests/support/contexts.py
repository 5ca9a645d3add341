"""A worker's context for tests of one part of it: a real store, a lease that is held, and what the test plays."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from dispatcher import connection
from tests.support.leases import held_lease
from worker.cluster_health import ClusterHealth
from worker.context import Context
from worker.guard import Guard
from worker.lease import Lease
from worker.logs.outbox import LogBudget
from worker.own_policy import OwnPolicy
from worker.settings import WorkerSettings
from worker.store import Store


@asynccontextmanager
async def a_context(
    url: str,
    *,
    cluster: Any = None,
    watches: Any = None,
    lease: Lease | None = None,
    guard: Guard | None = None,
    **settings: Any,
) -> AsyncIterator[Context]:
    """Make the context of worker ``w1``, which sees its cluster; ``settings`` as of the worker's settings."""
    given = WorkerSettings.from_environment({}, redis_url=url, **settings)
    health = ClusterHealth(cluster, watches, away_s=given.api_away_s, changed=lambda: None)
    health.blind = ""
    client = connection.connect_async(url, timeout_s=given.redis_timeout_s, retries=0)
    yield Context(
        settings=given,
        incarnation="w1",
        cluster=cluster,
        store=Store(client),
        lease=lease or held_lease(),
        watches=watches,
        health=health,
        log_budget=LogBudget(1 << 20),
        policy=OwnPolicy(
            given,
            cluster,
            getattr(cluster, "service_account", None),
            namespaces=frozenset(getattr(watches, "namespaces", ())),
        ),
        guard=guard or Guard(),
    )
    await client.aclose()
