"""move: one change of a job by its owner, once."""

import pytest

from dispatcher import names, steps
from dispatcher.record import checkpoint_field
from dispatcher.status import Status
from dispatcher.steps import CancelOutcome, Fence, MoveOutcome
from tests.contract.steps.states import FINAL, twice
from tests.support.job_driver import RedisDriver


def test_a_move_is_written_and_told_once_however_often_it_is_sent(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    step = worker.move_step(job_id, Status.STARTING, fields={"pod": "p", "detail": ""})
    first, again = twice(store, step)
    assert first.outcome is again.outcome is MoveOutcome.APPLIED
    assert first.status is again.status is Status.STARTING
    record = store.record(job_id)
    assert (record.status, record.pod, record.detail) == (Status.STARTING, "p", "")
    assert record.reached["starting"] == pytest.approx(first.at)
    assert len(store.events(job_id)) == 2


def test_a_move_by_anybody_but_the_owner_of_this_epoch_is_fenced(store: RedisDriver) -> None:
    first, second = store.worker("w1"), store.worker("w2")
    job_id = store.owned(first)
    first.die()
    second.claim(job_id, former_owner="w1")
    before = store.snapshot()
    assert first.move(job_id, Status.RUNNING).outcome is MoveOutcome.FENCED
    assert store.run(steps.move(job_id, Fence("w2", 1), target=Status.RUNNING)).outcome is MoveOutcome.FENCED
    assert store.snapshot() == before


def test_a_move_of_a_lost_record_is_missing_and_makes_none(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    store.client.delete(names.job(job_id))
    assert worker.move(job_id, Status.RUNNING).outcome is MoveOutcome.MISSING
    assert not store.client.exists(names.job(job_id))


@pytest.mark.parametrize("final", FINAL)
@pytest.mark.parametrize("target", list(Status))
def test_no_move_leaves_a_final_status(store: RedisDriver, final: Status, target: Status) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    worker.end(job_id, final)
    before = store.snapshot()
    moved = worker.move(job_id, target)
    assert (moved.outcome, moved.status) == (MoveOutcome.ILLEGAL, final)
    assert store.snapshot() == before


def test_a_move_may_name_the_statuses_it_starts_from(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    assert worker.move(job_id, Status.RUNNING, only_from=[Status.STARTING]).outcome is MoveOutcome.ILLEGAL
    assert worker.move(job_id, Status.RUNNING, only_from=[Status.QUEUED]).outcome is MoveOutcome.APPLIED
    assert worker.move(job_id, Status.STARTING).outcome is MoveOutcome.ILLEGAL


def test_an_empty_value_deletes_a_field_and_the_next_attempt_forgets_the_times_of_the_last(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    worker.move(job_id, Status.STARTING, fields={"pod": "p", "attempt": "1"})
    worker.move(job_id, Status.RUNNING)
    worker.move(job_id, Status.QUEUED, fields={"pod": "", "wait": "back_off"})
    record = store.record(job_id)
    assert (record.pod, record.wait) == (None, "back_off")
    assert set(record.reached) == {"submitted", "claimed", "queued"}


def test_the_final_event_names_the_logs_end_and_the_time_of_every_move(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    worker.move(job_id, Status.RUNNING)
    worker.log(job_id, b"hello")
    worker.end(job_id)
    _, fields = store.events(job_id)[-1]
    assert fields[b"l"] == store.log(job_id)[-1][0]
    assert {x.split("=")[0] for x in fields[b"t"].decode().split()} == {"submitted", "queued", "running", "succeeded"}
    assert set(store.record(job_id).result.times) >= {"submitted", "queued", "running", "succeeded"}


def test_every_reply_to_the_owner_says_who_asked_to_cancel(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    assert store.run(steps.cancel(job_id, "alice")) is CancelOutcome.REQUESTED
    assert worker.move(job_id, Status.STARTING).cancel_by == "alice"
    assert worker.log(job_id, b"x").cancel_by == "alice"
    (row,) = store.run(steps.survey("default", 0, -1))
    assert row.cancel_by == "alice"


def test_a_move_is_refused_where_redis_lacks_log_that_its_owner_knows_to_be_there(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    worker.log(job_id, b"some ")
    known = {checkpoint_field(1, "base"): store.record(job_id).checkpoints[1, "base"].encode()}
    there = steps.move(job_id, Fence("w1", 1), fields={"wait": "quota"}, known=known)
    assert [reply.outcome for reply in twice(store, there)] == [MoveOutcome.APPLIED] * 2
    store.client.hdel(names.job(job_id), *known)
    lost = steps.move(job_id, Fence("w1", 1), target=Status.STARTING, fields={"pod": "p"}, known=known)
    assert store.run(lost).outcome is MoveOutcome.ROLLED_BACK
    assert (store.record(job_id).status, store.record(job_id).wait) == (Status.QUEUED, "quota")
