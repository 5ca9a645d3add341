"""append: chunks and gaps of a log, in order, each once."""

import pytest

from dispatcher import names
from dispatcher.record import Checkpoint
from dispatcher.status import Status
from dispatcher.steps import AppendOutcome
from tests.contract.steps.states import twice
from tests.support.job_driver import RedisDriver


def test_a_chunk_is_appended_once_however_often_it_is_sent(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    step, after = worker.log_step(job_id, b"\xff\x00line\r\n")
    first, again = twice(store, step)
    assert first.outcome is again.outcome is AppendOutcome.APPLIED
    assert store.record(job_id).checkpoints == {(1, "base"): after}
    assert len(store.log(job_id)) == 1
    assert store.record(job_id).log_end == store.log(job_id)[0][0].decode()


def test_a_chunk_that_does_not_begin_at_the_checkpoint_is_a_mismatch(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    worker.log(job_id, b"one")
    known = worker.checkpoints[job_id, "base"]
    for wrong in (Checkpoint(), Checkpoint(2), Checkpoint(4)):
        worker.checkpoints[job_id, "base"] = wrong
        appended = worker.log(job_id, b"two")
        assert (appended.outcome, appended.checkpoint) == (AppendOutcome.MISMATCH, known.encode())
    assert len(store.log(job_id)) == 1


def test_containers_have_checkpoints_of_their_own(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    for container in ("base", "side", "base"):
        assert worker.log(job_id, b"x", container=container).outcome is AppendOutcome.APPLIED
    assert {c: p.end for (_, c), p in store.record(job_id).checkpoints.items()} == {"base": 2, "side": 1}


@pytest.mark.parametrize("case", ["fenced", "missing", "final"])
def test_a_refused_chunk_changes_nothing(store: RedisDriver, case: str) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    step, _ = worker.log_step(job_id, b"late")
    if case == "fenced":
        worker.die()
        store.worker("w2").claim(job_id, former_owner="w1")
    elif case == "missing":
        store.client.delete(names.job(job_id))
    else:
        worker.end(job_id)
    before = store.snapshot()
    assert store.run(step).outcome is AppendOutcome(case)
    assert store.snapshot() == before


def test_a_chunk_whose_reply_was_lost_is_applied_also_after_the_end(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    step, _ = worker.log_step(job_id, b"last")
    store.run(step)
    worker.end(job_id)
    assert store.run(step).outcome is AppendOutcome.APPLIED


@pytest.mark.parametrize("lost_bytes", [None, 100])
@pytest.mark.parametrize("written_before", [b"", b"before"])
def test_a_gap_is_told_once_also_when_nobody_knows_its_length(
    store: RedisDriver, lost_bytes: int | None, written_before: bytes
) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    if written_before:
        worker.log(job_id, written_before)
    step, after = worker.gap_step(job_id, lost_bytes=lost_bytes)
    first, again = twice(store, step)
    assert first.outcome is again.outcome is AppendOutcome.APPLIED
    assert [b"g" in fields for _, fields in store.log(job_id)] == [False] * bool(written_before) + [True]
    worker.checkpoints[job_id, "base"] = after
    assert worker.log(job_id, b"after").outcome is AppendOutcome.APPLIED
    next_step, _ = worker.gap_step(job_id, lost_bytes=lost_bytes)
    assert [x.outcome for x in twice(store, next_step)] == [AppendOutcome.APPLIED] * 2
    assert sum(b"g" in fields for _, fields in store.log(job_id)) == 2


def test_beyond_the_limit_the_newest_of_the_log_is_kept(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    chunks = [bytes([48 + i]) * 100 for i in range(8)]
    for chunk in chunks:
        worker.log(job_id, chunk, limit_bytes=350)
    kept = [fields[b"r"] for _, fields in store.log(job_id)]
    assert kept == chunks[-3:]
    assert int(store.client.hget(names.job(job_id), "log_kept")) == 300
    worker.log(job_id, b"x" * 500, limit_bytes=350)
    assert [fields[b"r"] for _, fields in store.log(job_id)] == [b"x" * 500]


def test_each_append_rings_the_jobs_bell(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    with store.client.pubsub(ignore_subscribe_messages=True) as bells:
        bells.subscribe(names.bell(job_id))
        heard = bells.listen()
        for ring in (lambda: worker.log(job_id, b"x"), lambda: worker.move(job_id, Status.RUNNING)):
            ring()
            assert next(heard)["channel"] == names.bell(job_id).encode()
