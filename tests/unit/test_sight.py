"""A worker is blind once its API server was away for some seconds, and sees again at once."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from worker import cluster_health as sight_module
from worker.cluster.client import ClusterUnavailableError
from worker.cluster_health import Sight
from worker.context import BLIND


def a_place() -> Any:
    watch = SimpleNamespace(is_synced=False, refusal="", looked=asyncio.Event())
    watch.looked.set()
    cluster = SimpleNamespace(is_well=asyncio.Event(), is_doubted=False)
    cluster.is_well.set()
    settings = SimpleNamespace(api_away_s=5.0)
    return SimpleNamespace(blind=BLIND, watches=[watch], cluster=cluster, settings=settings, doubts_cluster=False)


def test_it_is_blind_until_its_namespaces_were_listed_or_refused() -> None:
    for answered in ("is_synced", "refusal"):
        place, changes = a_place(), list[str]()
        sight = Sight(place, lambda place=place, changes=changes: changes.append(place.blind))  # type: ignore[misc]
        sight.look(0.0)
        assert (place.blind, sight.sees.is_set()) == (BLIND, False)
        setattr(place.watches[0], answered, "yes")
        sight.look(1.0)
        assert (changes, sight.sees.is_set()) == ([""], True)


def test_it_is_blind_after_some_seconds_and_sees_again_at_once() -> None:
    place, changes = a_place(), list[str]()
    place.watches[0].is_synced = True
    sight = Sight(place, lambda: changes.append(place.blind))
    sight.look(0.0)
    place.cluster.is_well.clear()
    sight.look(10.0)
    sight.look(14.9)
    assert place.blind == ""
    sight.look(15.0)
    assert place.blind == BLIND
    place.cluster.is_well.set()
    sight.look(15.2)
    assert changes == ["", BLIND, ""]


def test_a_short_break_is_none() -> None:
    place = a_place()
    place.watches[0].is_synced = True
    sight = Sight(place, lambda: None)
    for now in range(100):
        place.cluster.is_well.set()
        sight.look(float(now))
        place.cluster.is_well.clear()
        sight.look(now + 0.5)
        assert place.blind == ""


def test_a_namespace_that_cannot_be_listed_blinds_nobody_to_the_others() -> None:
    place, changes = a_place(), list[str]()
    other = SimpleNamespace(is_synced=False, refusal="", looked=asyncio.Event())
    place.watches.append(other)
    sight = Sight(place, lambda: changes.append(place.blind))
    place.watches[0].is_synced = True
    sight.look(0.0)
    assert place.blind == BLIND  # it was not even asked for
    other.looked.set()
    sight.look(1.0)
    assert (place.blind, changes) == ("", [""])


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
    place = a_place()
    monkeypatch.setattr(sight_module, "PROBE_S", 0.5)
    place.cluster = OneAnswers(answered)
    place.cluster.is_well.set()
    place.watches = SimpleNamespace(namespaces=("a", "hangs", "b"))
    await Sight(place, lambda: None)._probe()
    assert place.cluster.is_well.is_set() is is_well
    assert not place.cluster.is_doubted  # it knows now, and need not ask again at once
