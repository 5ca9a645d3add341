"""Why nothing is heard of a job."""

import pytest

from dispatcher.errors import JobUnknownError, RedisUnavailableError
from dispatcher.events import SilenceKind
from dispatcher.reader import UNKNOWN_GRACE_S, SilenceWatch, explain, missing_since
from dispatcher.status import Status
from dispatcher.steps import Presence


def found(**fields: object) -> Presence:
    usual: dict[str, object] = {
        "at": 1000.0,
        "generation": "g",
        "status": Status.QUEUED,
        "owner": "",
        "owner_is_alive": False,
        "queue": "gpu",
        "is_overdue": False,
        "workers_alive": 1,
        "last_seen_at": None,
        "owner_last_seen_at": None,
        "namespace": "",
        "last_event_id": "1-0",
        "last_log_id": "0-0",
    }
    return Presence(**{**usual, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("look", "kind"),
    [
        (found(), None),
        (found(status=None, queue=""), SilenceKind.JOB_UNKNOWN),
        (found(workers_alive=0), SilenceKind.NO_WORKER),
        (found(workers_alive=0, status=Status.RUNNING, owner="w1"), SilenceKind.NO_WORKER),
        (found(workers_alive=1, status=Status.RUNNING, owner="w1"), SilenceKind.OWNER_LOST),
        (found(workers_alive=1, status=Status.RUNNING, owner="w1", owner_is_alive=True), None),
        (found(workers_alive=0, is_overdue=True), None),
        *((found(workers_alive=0, status=status), None) for status in Status if status.is_final),
    ],
)
def test_what_a_person_is_told(look: Presence, kind: SilenceKind | None) -> None:
    told = explain(look)
    assert (told.kind if told else None) is kind


def test_it_is_told_when_a_worker_was_last_seen() -> None:
    told = explain(found(workers_alive=0, last_seen_at=940.0))
    assert told is not None
    assert told.last_seen_at is not None
    assert told.last_seen_at.timestamp() == 940
    assert "'gpu'" in told.text
    assert "60 s ago, at 1970-01-01 00:15:40 UTC" in told.text
    assert "none was ever seen" in explain(found(workers_alive=0)).text  # type: ignore[union-attr]
    assert "for namespace 'team-a'" in explain(found(workers_alive=0, namespace="team-a")).text  # type: ignore[union-attr]


def test_a_namespace_that_nobody_is_to_serve_is_told_with_when_the_job_fails() -> None:
    told = explain(found(workers_alive=0, namespace="prodd", unserved_until=1026.0))
    assert told is not None
    assert "no worker of queue 'gpu' serves namespace 'prodd'; the job fails in 26 s" in told.text


def test_each_kind_is_told_once_until_it_is_over() -> None:
    watch = SilenceWatch()
    alone, lost, fine = found(workers_alive=0), found(owner="w1"), found()
    told = [watch.look(x) for x in (alone, alone, lost, lost, alone, fine, alone)]
    assert [x.kind.value if x else None for x in told] == [
        *("no_worker", None, "owner_lost", None, "no_worker", None, "no_worker")
    ]


def test_an_unknown_job_is_given_up_after_the_grace_and_not_before() -> None:
    missing, there = found(status=None), found()
    since = missing_since("j", missing, None, 100.0)
    assert since == 100
    assert missing_since("j", missing, since, 100 + UNKNOWN_GRACE_S) == 100
    assert missing_since("j", there, since, 1000) is None
    with pytest.raises(JobUnknownError):
        missing_since("j", missing, since, 100.1 + UNKNOWN_GRACE_S)


def test_a_redis_that_is_away_is_told_once_and_again_after_it_was_there() -> None:
    watch, error = SilenceWatch(), RedisUnavailableError("Redis at redis://h cannot be used: refused")
    assert watch.redis_away(error, 0.5) is None
    first = watch.redis_away(error, 5)
    assert first is not None
    assert first.kind is SilenceKind.REDIS_AWAY
    assert "redis://h" in first.text
    assert watch.redis_away(error) is None
    watch.look(found(owner_is_alive=True))
    assert watch.redis_away(error) is not None


def test_workers_that_are_all_too_old_are_told_with_their_versions() -> None:
    told = explain(found(workers_alive=0, too_old="needs a worker of version ≥ 0.9.0; those alive: 0.8.2"))
    assert told is not None
    assert told.kind is SilenceKind.NO_WORKER
    assert told.text == (
        "the job needs a worker of version ≥ 0.9.0; those alive: 0.8.2 (queue 'gpu'); waiting until such a one is there"
    )
