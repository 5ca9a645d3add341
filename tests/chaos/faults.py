"""What goes wrong in a chaos run: a seeded schedule, and how each fault is done and undone."""

import asyncio
import random
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatcher import names
from tests.chaos.failover import fail_over
from tests.support.api_proxy import PAGES, ApiProxy, Page
from tests.support.installation import Installation, Worker
from tests.support.redis_proxy import RedisProxy

#: Short, so that a run sees many takeovers; what is promised of the defaults has tests of its own.
SETTINGS: dict[str, Any] = {"lease_s": 4.0, "heartbeat_s": 1.0, "sweep_s": 1.0}
#: How long the cluster waits for a lost node before it gives its pods up.
LOST_NODE_S = 8.0
LEASE_S = SETTINGS["lease_s"]
LOSSY = ("redis_flushed", "redis_lost", "redis_failed_over")
#: After Redis lost writes the owners have this long to make their records again before one of them may die.
REBUILT_AFTER_S = 3 * LEASE_S
#: Before it, every job must have a living owner: after a restart of Redis nobody takes over for two leases.
OWNED_AFTER_S = 5 * LEASE_S


@dataclass(frozen=True)
class Fault:
    """One fault: when it begins (seconds from the run's start), which, and its own seed."""

    at_s: float
    kind: str
    seed: int


def schedule(rng: random.Random, *, until_s: float, every_s: float) -> list[Fault]:
    """The faults of a run, the same for the same seed. At most once, in two runs of three, Redis loses what it had
    confirmed: all of it, or its last second."""
    kinds, weights = list(_WEIGHTS), list(_WEIGHTS.values())
    found, at_s = [], 1.0
    while at_s < until_s:
        found.append(Fault(at_s, rng.choices(kinds, weights)[0], rng.getrandbits(32)))
        at_s += rng.uniform(0.3, 1.7) * every_s
    if rng.random() < 2 / 3:
        lossy = Fault(rng.uniform(0.3, 0.9) * until_s, rng.choice(LOSSY), rng.getrandbits(32))
        found = [f for f in found if not _kills(f) or not -OWNED_AFTER_S < f.at_s - lossy.at_s < REBUILT_AFTER_S]
        found.append(lossy)
    return sorted(found, key=lambda fault: fault.at_s)


def _kills(fault: Fault) -> bool:
    return fault.kind.startswith("worker") or fault.kind == "redis_restarted"


@dataclass
class Workers:
    """The workers that should run. ``kills``: of which process (``name-pid-``), and when."""

    installation: Installation
    alive: dict[str, Worker] = field(default_factory=dict)
    kills: list[tuple[str, float]] = field(default_factory=list)
    slow_ends: list[str] = field(default_factory=list)

    async def start(self, name: str) -> None:
        self.alive[name] = await asyncio.to_thread(self.installation.start_worker, name, is_awaited=False, **SETTINGS)

    def took(self, worker: Worker) -> None:
        self.kills.append((f"{worker.name}-{worker.pid}-", time.time()))


class Faults:
    """Carries faults out, each in its own time; several may be in force at once."""

    def __init__(
        self, installation: Installation, workers: Workers, redis: RedisProxy, api: ApiProxy, token_file: Path
    ) -> None:
        self.done: Counter[str] = Counter()
        self.has_lost = asyncio.Event()  #: Redis has lost writes that it had confirmed
        self.hit: set[str] = set()  #: jobs whose pods a lost node took
        self._installation = installation
        self._workers = workers
        self._redis = redis
        self._api = api
        self._token_file = token_file
        self._redis_server = asyncio.Lock()
        self._api_server = asyncio.Lock()  # while it restarts it hears of no other fault
        self._nodes = {f"pocket-{number}": asyncio.Lock() for number in range(3)}

    async def run(self, faults: list[Fault]) -> None:
        """All of them; returns when the last is undone."""
        async with asyncio.TaskGroup() as tasks:
            for fault in faults:
                tasks.create_task(self._at(fault))

    async def _at(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at_s)
        act: Callable[[random.Random], Awaitable[None]] = getattr(self, f"_{fault.kind}")
        self.done[fault.kind] += 1
        await act(random.Random(fault.seed))

    # Workers

    def _take(self, rng: random.Random) -> Worker | None:
        """A worker that nothing else is done to meanwhile."""
        if not self._workers.alive:
            return None
        return self._workers.alive.pop(rng.choice(sorted(self._workers.alive)))

    async def _worker_killed(self, rng: random.Random) -> None:
        if worker := self._take(rng):
            self._workers.took(worker)
            await asyncio.to_thread(worker.kill)
            await asyncio.sleep(rng.uniform(0, 4))
            await self._workers.start(worker.name)

    async def _worker_terminated(self, rng: random.Random) -> None:
        if worker := self._take(rng):
            worker.terminate()
            try:
                await asyncio.to_thread(worker.wait_for_end, 10)
            except subprocess.TimeoutExpired:
                self._workers.slow_ends.append(worker.name)
                await asyncio.to_thread(worker.kill)
            await self._workers.start(worker.name)

    async def _worker_frozen(self, rng: random.Random) -> None:
        if worker := self._take(rng):
            worker.freeze()
            await asyncio.sleep(rng.uniform(0.5, 2.5) * LEASE_S)
            worker.thaw()
            self._workers.alive[worker.name] = worker

    # Redis

    async def _redis_restarted(self, rng: random.Random) -> None:
        async with self._redis_server:
            await asyncio.to_thread(self._installation.stop_redis, forcibly=rng.random() < 0.5)
            await asyncio.sleep(rng.uniform(0.1, 5))
            await asyncio.to_thread(self._installation.start_redis)

    async def _redis_lost(self, rng: random.Random) -> None:
        async with self._redis_server:
            await asyncio.to_thread(self._installation.stop_redis, forcibly=True)
            self._installation.redis.forget_data()
            await asyncio.sleep(rng.uniform(0.1, 3))
            await asyncio.to_thread(self._installation.start_redis)
            self.has_lost.set()

    async def _redis_flushed(self, _: random.Random) -> None:
        async with self._redis_server:
            await asyncio.to_thread(self._installation.redis_command, "FLUSHALL")
            self.has_lost.set()

    async def _redis_failed_over(self, _: random.Random) -> None:
        async with self._redis_server:
            await fail_over(self._installation, self._redis, lambda: asyncio.sleep(1.0))  # the lost second
            self.has_lost.set()

    async def _redis_cut(self, _: random.Random) -> None:
        self._redis.cut()

    async def _redis_half_open(self, _: random.Random) -> None:
        self._redis.swallow()

    async def _redis_slow(self, rng: random.Random) -> None:
        self._redis.delay_s = rng.uniform(0.01, 0.2)
        await asyncio.sleep(rng.uniform(1, 5))
        self._redis.delay_s = 0.0

    # The API server

    async def _api_refusing(self, rng: random.Random) -> None:
        self._api.refusal = (rng.choice([429, 500, 503, 504]), rng.uniform(0.2, 1))
        await asyncio.sleep(rng.uniform(1, 6))
        self._api.refusal = None

    async def _control(self, what: str) -> None:
        async with self._api_server:
            await asyncio.to_thread(self._installation.pocket.control, what)

    async def _api_restarted(self, rng: random.Random) -> None:
        """Killed: connections are reset, and refused until it is back."""
        async with self._api_server:
            away_s = rng.uniform(0.1, 5)
            await asyncio.to_thread(self._installation.pocket.control, f"apiserver/restart?seconds={away_s:.1f}")
            await asyncio.sleep(away_s)
            await asyncio.to_thread(self._installation.pocket.wait_until_back)

    async def _api_proxied(self, rng: random.Random) -> None:
        """What stands before it answers in its place, also with success, and cuts the streams."""
        page = PAGES[rng.choice(sorted(PAGES.keys() - {"huge200", "huge404"}))]  # those take the test's own time
        self._api.page = page
        self._api.cut()
        await asyncio.sleep(rng.uniform(0.5, 5))
        self._api.page = None

    async def _api_logs_replaced(self, rng: random.Random) -> None:
        """Text in place of logs, as a kubelet gives it, or a proxy."""
        sentence = Page(200, "text/plain", b"unable to retrieve container logs for containerd://0a1b2c3d")
        self._api.log_page = rng.choice([sentence, PAGES["html200"], PAGES["html404"], PAGES["path404"]])
        self._api.cut()
        await asyncio.sleep(rng.uniform(0.5, 5))
        self._api.log_page = None

    async def _credentials_renewed(self, rng: random.Random) -> None:
        """The token expires, and the next one is there a moment before or after."""
        token = f"token-{rng.getrandbits(64):x}"
        late_s = rng.uniform(-2, 3)
        if late_s < 0:
            self._token_file.write_text(f"{token}\n")
        await asyncio.sleep(max(0.0, -late_s))
        self._api.accepts = lambda shown: shown == token
        await asyncio.sleep(max(0.0, late_s))
        self._token_file.write_text(f"{token}\n")

    async def _kubelet_restarted(self, rng: random.Random) -> None:
        node = rng.choice(["", *(f"&node={name}" for name in self._nodes)])
        await self._control(f"kubelet/restart?seconds={rng.uniform(0, 4):.1f}{node}")

    async def _api_slow(self, rng: random.Random) -> None:
        self._api.delay_s = rng.uniform(0.1, 3)
        await asyncio.sleep(rng.uniform(1, 6))
        self._api.delay_s = 0.0

    async def _api_down(self, rng: random.Random) -> None:
        await self._control(f"outage?seconds={rng.uniform(1, 6):.1f}")

    async def _api_streams_cut(self, _: random.Random) -> None:
        self._api.cut()

    async def _api_logs_truncated(self, rng: random.Random) -> None:
        self._api.log_cut_bytes = rng.choice([100, 10_000, 200_000])
        await asyncio.sleep(rng.uniform(1, 6))
        self._api.log_cut_bytes = None

    async def _api_watch_silent(self, rng: random.Random) -> None:
        self._api.silence_watches(silent=True)
        await asyncio.sleep(rng.uniform(1, 8))
        self._api.silence_watches(silent=False)

    async def _api_history_gone(self, _: random.Random) -> None:
        await self._control("watches/end")
        await self._control("history/trim")

    async def _api_replies_lost(self, rng: random.Random) -> None:
        verb = rng.choice(["create", "create", "delete", "get"])
        await self._control(f"lose-replies?verb={verb}&resource=pods&times=3")

    async def _node_away(self, rng: random.Random) -> None:
        await self._without_node(f"pocket-{rng.randrange(3)}", rng.uniform(0.5, 0.5 * LOST_NODE_S))

    async def _node_lost(self, rng: random.Random) -> None:
        """Long enough that its pods are given up by the cluster."""
        await self._without_node(f"pocket-{rng.randrange(3)}", LOST_NODE_S + rng.uniform(1, 4))

    async def _without_node(self, node: str, for_s: float) -> None:
        async with self._nodes[node]:  # lost twice at a time, it would be given up by the first although it is back
            await self._control(f"nodes/{node}/lose")
            await asyncio.sleep(for_s)
            if for_s > LOST_NODE_S:
                async with self._api_server:
                    self.hit |= {pod["labels"].get(names.LABEL_JOB, "") for pod in await self._ever_on(node)}
            await self._control(f"nodes/{node}/restore")

    async def _ever_on(self, node: str) -> list[dict[str, Any]]:
        """Pods on the node that are still there, or were until now."""
        return [pod for pod in await asyncio.to_thread(self._installation.pocket.ever_created) if pod["node"] == node]


_WEIGHTS = {
    "worker_killed": 5,
    "worker_terminated": 3,
    "worker_frozen": 3,
    "redis_restarted": 2,
    "redis_cut": 2,
    "redis_half_open": 1,
    "redis_slow": 1,
    "api_refusing": 2,
    "api_slow": 2,
    "api_down": 1,
    "api_restarted": 2,
    "api_proxied": 2,
    "api_logs_replaced": 2,
    "kubelet_restarted": 3,
    "credentials_renewed": 2,
    "api_streams_cut": 2,
    "api_logs_truncated": 2,
    "api_watch_silent": 1,
    "api_history_gone": 1,
    "api_replies_lost": 2,
    "node_away": 1,
    "node_lost": 0.5,
}
