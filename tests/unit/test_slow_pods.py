"""Pods that are told to go and do not are listed after a while, and only while they are there."""

from types import SimpleNamespace
from typing import Any

from worker.rules.slow_pods import NAMED, SLOW_AFTER_S, SlowPods, report


def pods(*names: str) -> list[Any]:
    return [SimpleNamespace(uid=f"uid of {name}", namespace="ns", name=name) for name in names]


def test_a_pod_is_slow_after_a_minute_and_not_any_more_when_it_is_gone() -> None:
    slow = SlowPods()
    assert slow.among(pods("a"), 0.0) == []
    assert slow.among(pods("a", "b"), 30.0) == []
    assert [pod.name for pod in slow.among(pods("b", "a"), SLOW_AFTER_S)] == ["ns/a"]
    assert [(pod.name, pod.for_s) for pod in slow.among(pods("b", "a"), 100.0)] == [("ns/a", 100.0), ("ns/b", 70.0)]
    assert [pod.name for pod in slow.among(pods("b"), 101.0)] == ["ns/b"]
    assert slow.among(pods("a"), 102.0) == [], "another life of the same name begins anew"


def test_what_is_told_of_many_is_bounded() -> None:
    slow, many = SlowPods(), pods(*(f"p{n}" for n in range(2000)))
    slow.among(many, 0.0)
    said = report(slow.among(many, 200.0))
    assert (said["count"], said["oldest_s"], len(said["pods"])) == (2000, 200, NAMED)
    assert report([]) == {"count": 0}
