"""A worker is blind once its API server was away for some seconds, and sees again at once."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from worker import cluster_health as health_module
from worker.cluster.client import ClusterUnavailableError
from worker.cluster_health import ClusterHealth
from worker.context import BLIND


def a_context() -> Any:
    watch = SimpleNamespace(is_synced=False, refusal="", looked=asyncio.Event())
    watch.looked.set()
    cluster = SimpleNamespace(is_well=asyncio.Event(), is_doubted=False)
    cluster.is_well.set()
    settings = SimpleNamespace(api_away_s=5.0)
    return SimpleNamespace(blind=BLIND, watches=[watch], cluster=cluster, settings=settings, doubts_cluster=False)


def test_it_is_blind_until_its_namespaces_were_listed_or_refused() -> None:
    for answered in ("is_synced", "refusal"):
        ctx, changes = a_context(), list[str]()
        health = ClusterHealth(ctx, lambda ctx=ctx, changes=changes: changes.append(ctx.blind))  # type: ignore[misc]
        health.check(0.0)
        assert (ctx.blind, health.sees.is_set()) == (BLIND, False)
        setattr(ctx.watches[0], answered, "yes")
        health.check(1.0)
        assert (changes, health.sees.is_set()) == ([""], True)


def test_it_is_blind_after_some_seconds_and_sees_again_at_once() -> None:
    ctx, changes = a_context(), list[str]()
    ctx.watches[0].is_synced = True
    health = ClusterHealth(ctx, lambda: changes.append(ctx.blind))
    health.check(0.0)
    ctx.cluster.is_well.clear()
    health.check(10.0)
    health.check(14.9)
    assert ctx.blind == ""
    health.check(15.0)
    assert ctx.blind == BLIND
    ctx.cluster.is_well.set()
    health.check(15.2)
    assert changes == ["", BLIND, ""]


def test_a_short_break_is_none() -> None:
    ctx = a_context()
    ctx.watches[0].is_synced = True
    health = ClusterHealth(ctx, lambda: None)
    for now in range(100):
        ctx.cluster.is_well.set()
        health.check(float(now))
        ctx.cluster.is_well.clear()
        health.check(now + 0.5)
        assert ctx.blind == ""


def test_a_namespace_that_cannot_be_listed_blinds_nobody_to_the_others() -> None:
    ctx, changes = a_context(), list[str]()
    other = SimpleNamespace(is_synced=False, refusal="", looked=asyncio.Event())
    ctx.watches.append(other)
    health = ClusterHealth(ctx, lambda: changes.append(ctx.blind))
    ctx.watches[0].is_synced = True
    health.check(0.0)
    assert ctx.blind == BLIND  # it was not even asked for
    other.looked.set()
    health.check(1.0)
    assert (ctx.blind, changes) == ("", [""])


class OneAnswers:
    """A cluster that answers for one of its namespaces, or for none."""

    def __init__(self, answered: str) -> None:
        self.is_well, self.is_doubted = asyncio.Event(), True
        self._answered = answered

    async def list_pods(self, namespace: str, _: str) -> None:
        if namespace == "hangs":
            await asyncio.Event().wait()
        if namespace != self._answered:
            self.is_doubted = True
            raise ClusterUnavailableError("503")
        self.is_well.set()


@pytest.mark.parametrize(("answered", "is_well"), [("a", True), ("b", True), ("", False)])
async def test_it_sees_where_one_of_its_namespaces_is_answered_for(
    answered: str, is_well: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = a_context()
    monkeypatch.setattr(health_module, "PROBE_S", 0.5)
    ctx.cluster = OneAnswers(answered)
    ctx.cluster.is_well.set()
    ctx.watches = SimpleNamespace(namespaces=("a", "hangs", "b"))
    await ClusterHealth(ctx, lambda: None)._probe()
    assert ctx.cluster.is_well.is_set() is is_well
    assert not ctx.cluster.is_doubted  # it knows now, and need not ask again at once
