"""The cluster's warnings beside a failure: those that explain it last, where they are shown; none of them breaks it."""

from typing import Any

from dispatcher.events import JobResult
from dispatcher.status import Status
from tests.support.junk import JUNK, places, replaced
from worker.cluster.client import ClusterUnavailableError
from worker.jobs.result import MOST_WARNINGS, last_warnings, read_events


def event(reason: str, at: str, **fields: Any) -> dict[str, Any]:
    return {"reason": reason, "message": "m", "count": 1, "lastTimestamp": f"2026-11-22T09:{at}Z", **fields}


class ScriptedCluster:
    def __init__(self, events: list[Any]) -> None:
        self.events = events

    async def pod_events(self, namespace: str, uid: str) -> list[Any]:
        if not self.events:
            raise ClusterUnavailableError("away")
        return self.events


async def reasons(*events: Any) -> list[str]:
    found = await read_events(ScriptedCluster(list(events)), "ns", "u")  # type: ignore[arg-type]  # scripted
    warnings = last_warnings(found or ())
    JobResult(job_id="j", status=Status.FAILED, warnings=warnings, events=found).model_dump_json()
    return [warning.reason for warning in warnings]


async def test_the_last_warnings_are_those_that_explain() -> None:
    background = [event("MissingClusterDNS", f"07:{n:02}") for n in range(MOST_WARNINGS)]
    failed = [event("FailedMount", "05:00"), event("Failed", "06:00")]
    assert await reasons(*failed, *background) == ["FailedMount", "Failed"]


async def test_warnings_are_told_in_their_order_wherever_their_time_stands() -> None:
    newer = {"reason": "B", "message": "m", "eventTime": "2026-11-22T09:06:00.5Z", "series": {"count": 3}}
    assert await reasons(newer, event("A", "05:00"), {"reason": "C"}) == ["C", "A", "B"]


async def test_all_events_are_told_in_their_order_and_the_warnings_among_them() -> None:
    told = [
        event("Started", "06:00", type="Normal"),
        event("Failed", "05:00", type="Warning"),
        event("Scheduled", "04:00", type="Normal"),
    ]
    found = await read_events(ScriptedCluster(told), "ns", "u")  # type: ignore[arg-type]  # scripted
    assert found is not None
    assert [(one.reason, one.is_warning) for one in found] == [
        ("Scheduled", False),
        ("Failed", True),
        ("Started", False),
    ]
    assert await reasons(*told) == ["Failed"]


async def test_junk_in_a_warning_costs_no_other() -> None:
    one = event("Failed", "05:00", series={"count": 2}, eventTime=None)
    for path in places(one):
        for junk in JUNK:
            assert "Other" in await reasons(replaced(one, path, junk), event("Other", "06:00"))


async def test_a_cluster_that_does_not_tell_has_no_warnings() -> None:
    assert await reasons() == []
