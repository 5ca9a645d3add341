"""A worker is blind once its API server was away for some seconds, and sees again at once."""

import asyncio
from types import SimpleNamespace
from typing import Any

from worker.sight import Sight
from worker.workplace import BLIND


def a_place() -> Any:
    watch = SimpleNamespace(is_synced=False, refusal="")
    cluster = SimpleNamespace(is_well=asyncio.Event())
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
