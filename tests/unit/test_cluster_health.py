"""A worker is blind once its API server was away for some seconds, and sees again at once."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from worker import cluster_health
from worker.cluster.client import ClusterUnavailableError
from worker.cluster_health import BLIND, ClusterHealth


class Seen:
    """What one worker is shown of its cluster, and what it makes of it."""

    def __init__(self, namespaces: int = 1) -> None:
        self.cluster: Any = SimpleNamespace(is_available=asyncio.Event(), needs_probe=False)
        self.cluster.is_available.set()
        self.watches: Any = [
            SimpleNamespace(is_synced=False, refusal="", first_list=asyncio.Event()) for _ in range(namespaces)
        ]
        self.watches[0].first_list.set()
        self.changes: list[str] = []
        self.health = ClusterHealth(self.cluster, self.watches, away_s=5.0, changed=self._changed)

    def _changed(self) -> None:
        self.changes.append(self.health.blind)


@pytest.mark.parametrize("answered", ["is_synced", "refusal"])
def test_it_is_blind_until_its_namespaces_were_listed_or_refused(answered: str) -> None:
    seen = Seen()
    seen.health.check(0.0)
    assert (seen.health.blind, seen.health.sees.is_set()) == (BLIND, False)
    setattr(seen.watches[0], answered, "yes")
    seen.health.check(1.0)
    assert (seen.changes, seen.health.sees.is_set()) == ([""], True)


def test_it_is_blind_after_some_seconds_and_sees_again_at_once() -> None:
    seen = Seen()
    seen.watches[0].is_synced = True
    seen.health.check(0.0)
    seen.cluster.is_available.clear()
    seen.health.check(10.0)
    seen.health.check(14.9)
    assert seen.health.blind == ""
    seen.health.check(15.0)
    assert (seen.health.blind, seen.health.sees.is_set()) == (BLIND, False)
    seen.cluster.is_available.set()
    seen.health.check(15.2)
    assert seen.changes == ["", BLIND, ""]


def test_a_short_break_is_none() -> None:
    seen = Seen()
    seen.watches[0].is_synced = True
    for now in range(100):
        seen.cluster.is_available.set()
        seen.health.check(float(now))
        seen.cluster.is_available.clear()
        seen.health.check(now + 0.5)
        assert seen.health.blind == ""


def test_a_namespace_that_cannot_be_listed_blinds_nobody_to_the_others() -> None:
    seen = Seen(namespaces=2)
    seen.watches[0].is_synced = True
    seen.health.check(0.0)
    assert seen.health.blind == BLIND  # the other was not even asked for
    seen.watches[1].first_list.set()
    seen.health.check(1.0)
    assert seen.changes == [""]


class OneAnswers:
    """A cluster that answers for one of its namespaces, or for none."""

    def __init__(self, answered: str) -> None:
        self.is_available, self.needs_probe = asyncio.Event(), False
        self.is_available.set()
        self._answered = answered

    async def list_pods(self, namespace: str, _: str) -> None:
        if namespace == "hangs":
            await asyncio.Event().wait()
        if namespace != self._answered:
            self.needs_probe = True
            raise ClusterUnavailableError("503")
        self.is_available.set()


@pytest.mark.parametrize(("answered", "is_available"), [("a", True), ("b", True), ("", False)])
async def test_a_cluster_in_doubt_is_well_where_one_of_its_namespaces_is_answered_for(
    answered: str, is_available: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_health, "PROBE_S", 0.5)
    cluster: Any = OneAnswers(answered)
    watches: Any = SimpleNamespace(namespaces=("a", "hangs", "b"))
    health = ClusterHealth(cluster, watches, away_s=5.0, changed=lambda: None)
    health.doubt()
    assert cluster.needs_probe
    await health.probe()
    assert cluster.is_available.is_set() is is_available
    assert not cluster.needs_probe  # it knows now, and need not ask again at once
