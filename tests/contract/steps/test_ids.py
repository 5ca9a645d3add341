"""An id that is submitted again: the same job, or an error that says whose the id is."""

from typing import Any

import pytest

from dispatcher import names, steps
from dispatcher.errors import JobIdTakenError
from dispatcher.spec import decode_spec
from dispatcher.steps import SubmitOutcome
from tests.contract.steps.states import in_state
from tests.support.job_driver import RedisDriver, a_spec
from tests.support.old_scripts import run_old


@pytest.mark.parametrize(
    ("again", "differs"),
    [
        ({"args": ("2",)}, "args"),
        ({"image": "other", "name": "n"}, "image, name"),
        ({"queue": "gpu"}, "queue"),
        ({"key": "k"}, "key"),
        ({"retry_on": {"evicted"}, "run_timeout_s": 5}, "retry_on, run_timeout_s"),
    ],
)
def test_an_id_that_is_submitted_with_another_spec_is_refused_and_changes_nothing(
    store: RedisDriver, again: dict[str, Any], differs: str
) -> None:
    store.submit(a_spec(id="x", args=("1",)))
    before = store.snapshot()
    with pytest.raises(JobIdTakenError) as raised:
        store.submit(a_spec(**{"id": "x", "args": ("1",), **again}))
    assert (raised.value.job_id, raised.value.queue, raised.value.status) == ("x", "default", "QUEUED")
    assert ", ".join(raised.value.differs) == differs
    assert f"it was submitted before with another {differs}, and is QUEUED on queue 'default'" in str(raised.value)
    assert store.snapshot() == before


@pytest.mark.parametrize("state", ["queued", "running", "failed", "succeeded acknowledged forgotten"])
def test_an_id_is_taken_as_long_as_its_record_is_there(store: RedisDriver, state: str) -> None:
    job_id = in_state(store, state)
    with pytest.raises(JobIdTakenError, match=f"is {state.split()[0].upper()} on queue 'default'"):
        store.submit(a_spec(id=job_id, image="other"))


def test_who_asks_and_when_makes_no_other_job(store: RedisDriver) -> None:
    store.submit(a_spec(id="x"))
    again = a_spec(id="x", trace={"traceparent": "00-1"}, try_number=2, submitted_by="b", volatile_labels={"a": "b"})
    assert store.submit(again).outcome is SubmitOutcome.EXISTS


@pytest.mark.parametrize("fields", [{}, {"retry_on": {"evicted", "oom_killed", "node_lost"}, "run_timeout_s": 60}])
def test_a_digest_that_another_version_reckons_otherwise_makes_no_other_job(
    store: RedisDriver, fields: dict[str, Any]
) -> None:
    spec = a_spec(id="x", **fields)
    run_old(store.client, steps.submit(spec))
    store.client.hset(names.job("x"), "digest", "reckoned otherwise")
    assert store.submit(decode_spec(spec.encode())).outcome is SubmitOutcome.EXISTS


@pytest.mark.parametrize("junk", ["", "{", "[" * 9000, '{"id": "x"}', '{"id": "x", "image": 3}'])
def test_an_id_whose_spec_cannot_be_read_is_taken(store: RedisDriver, junk: str) -> None:
    store.submit(a_spec(id="x"))
    store.client.hset(names.job("x"), mapping={"digest": "d", "spec": junk})
    with pytest.raises(JobIdTakenError, match="what it asked for cannot be read, and is QUEUED"):
        store.submit(a_spec(id="x"))


def test_an_id_whose_record_is_none_is_taken(store: RedisDriver) -> None:
    store.client.rpush(names.job("x"), "junk")
    with pytest.raises(JobIdTakenError, match="is unreadable"):
        store.submit(a_spec(id="x"))


def test_a_squatter_on_another_queue_does_not_get_a_later_submit_dropped(store: RedisDriver) -> None:
    run_old(store.client, steps.submit(a_spec(id="nightly-2026-11-25", queue="squat", image="evil")))
    with pytest.raises(JobIdTakenError, match="is QUEUED on queue 'squat'"):
        store.submit(a_spec(id="nightly-2026-11-25", image="honest"))
    assert store.client.zcard(names.active("default")) == 0
