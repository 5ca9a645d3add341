"""Every atomic step, on fakeredis and on every real server at hand: its outcomes, and that a repeated one (a lost
reply) has the effect of one."""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial

import fakeredis
import pytest
import redis

from devcluster.local.redis_server import RedisServer
from dispatcher import connection, names, steps
from dispatcher.channel import encode_chunk
from dispatcher.events import StatusChanged, decode_event
from dispatcher.record import Checkpoint, checkpoint_field
from dispatcher.status import FailureReason, Status
from dispatcher.steps import AppendOutcome, CancelOutcome, ClaimOutcome, Fence, MoveOutcome, SubmitOutcome
from tests.support.job_driver import NOTICE, RedisDriver, Worker, a_spec
from tests.support.redis_servers import emptied, redis_binaries

ACTIVE = [Status.QUEUED, Status.STARTING, Status.RUNNING]
FINAL = [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED]


@pytest.fixture(params=["fakeredis", *redis_binaries()])
def store(request: pytest.FixtureRequest, running_redis: Callable[[str], RedisServer]) -> Iterator[RedisDriver]:
    if request.param == "fakeredis":
        with fakeredis.FakeRedis() as client:
            yield RedisDriver(client, "fakeredis")
        return
    server = emptied(running_redis(request.param))
    with connection.connect(server.url, timeout_s=5, retries=0) as client:
        yield RedisDriver(client, request.param)


def twice(store: RedisDriver, step: steps.Step[object]) -> tuple[object, object]:
    """The step's first reply, and that of its repetition, which must change nothing in the store."""
    first = store.run(step)
    before = store.snapshot()
    again = store.run(step)
    assert store.snapshot() == before
    return first, again


# submit


def test_submit_writes_record_index_event_and_message_in_one_step(store: RedisDriver) -> None:
    spec = a_spec(queue="gpu", priority="high", key="k", namespace="jobs", queue_timeout_s=77)
    submitted = store.submit(spec)
    record = store.record(spec.id)
    assert submitted.outcome is SubmitOutcome.CREATED
    assert (record.spec, record.digest, record.status) == (spec, spec.digest, Status.QUEUED)
    assert (record.owner, record.epoch, record.attempt, record.namespace) == (None, 0, 0, "jobs")
    assert record.generation == submitted.generation == store.client.get(names.GENERATION).decode()
    assert set(record.reached) == {"submitted", "queued"}
    assert record.deadline_to_queue() == pytest.approx(record.reached["queued"] + 77)
    assert store.client.zrange(names.active("gpu"), 0, -1) == [spec.id.encode()]
    assert store.client.smembers(names.queues()) == {b"gpu"}
    assert store.client.get(names.key("k")) == spec.id.encode()
    assert [decode_event(f[b"e"]) for _, f in store.events(spec.id)] == [StatusChanged(status=Status.QUEUED)]
    (message,) = store.client.lrange(names.message_list("gpu", 0), 0, -1)
    assert json.loads(message)["headers"]["task"] == names.LAUNCH_TASK
    assert store.client.ttl(names.job(spec.id)) == store.client.ttl(names.GENERATION) == -1


def test_a_repeated_submit_is_one_job_and_one_message(store: RedisDriver) -> None:
    first, again = twice(store, steps.submit(a_spec(key="k")))
    assert (first.outcome, again.outcome) == (SubmitOutcome.CREATED, SubmitOutcome.EXISTS)
    assert first.job_id == again.job_id


def test_the_queue_hears_that_a_successor_ends_its_predecessor(store: RedisDriver) -> None:
    job_id = in_state(store, "running")
    with store.client.pubsub(ignore_subscribe_messages=True) as control:
        control.subscribe(names.control("default"))
        successor = store.submit(key="k", image="other").job_id
        told = json.loads(next(control.listen())["data"])
    assert told == {"cancel": job_id, "by": f"its successor {successor}"}


def test_a_repeated_successor_is_one_successor(store: RedisDriver) -> None:
    store.submit(key="k")
    first, again = twice(store, steps.submit(a_spec(key="k", image="other")))
    assert (first.outcome, again.outcome) == (SubmitOutcome.SUCCESSOR, SubmitOutcome.EXISTS)


def test_submit_without_message_writes_none(store: RedisDriver) -> None:
    store.run(steps.submit(a_spec(), with_message=False))
    assert store.client.keys("podrelay:celery:*") == []


def test_messages_of_a_priority_are_first_in_first_out(store: RedisDriver) -> None:
    ids = [store.submit().job_id for _ in range(3)]
    taken = [json.loads(store.client.rpop(names.message_list("default", 3))) for _ in ids]
    assert [message["headers"]["argsrepr"] for message in taken] == [f"('{x}',)" for x in ids]


def in_state(store: RedisDriver, state: str, key: str = "k") -> str:
    """The id of a job of this key in a state of the table."""
    worker = store.worker()
    job_id = store.submit(key=key).job_id
    worker.claim(job_id)
    ends = {"succeeded": Status.SUCCEEDED, "failed": Status.FAILED, "cancelled": Status.CANCELLED}
    status, *more = state.split()
    if status in ends:
        worker.end(job_id, ends[status])
    elif status != "queued":
        worker.move(job_id, Status(status.upper()))
    if "acknowledged" in more:
        store.run(steps.acknowledge(job_id))
    if "cancel-requested" in more:
        assert store.run(steps.cancel(job_id, "somebody")) is CancelOutcome.REQUESTED
    if "forgotten" in more:
        assert worker.forget(job_id) == "applied"
    return job_id


@pytest.mark.parametrize("state", ["queued", "starting", "running", "succeeded", "succeeded forgotten"])
def test_submit_attaches_to_the_keys_job(store: RedisDriver, state: str) -> None:
    job_id = in_state(store, state)
    first, again = twice(store, steps.submit(a_spec(key="k", try_number=2, trace={"a": "b"})))
    assert first.outcome is again.outcome is SubmitOutcome.ATTACHED
    assert first.job_id == again.job_id == job_id


@pytest.mark.parametrize(
    ("state", "waits"),
    [
        ("failed", True),
        ("failed forgotten", False),
        ("cancelled", True),
        ("cancelled forgotten", False),
        ("queued cancel-requested", True),
        ("running cancel-requested", True),
        ("succeeded acknowledged", True),
        ("succeeded acknowledged forgotten", False),
    ],
)
def test_submit_makes_a_successor(store: RedisDriver, state: str, waits: bool) -> None:
    job_id = in_state(store, state)
    spec = a_spec(key="k")
    submitted = store.submit(spec)
    assert (submitted.outcome, submitted.job_id) == (SubmitOutcome.SUCCESSOR, spec.id)
    assert store.record(spec.id).predecessor == (job_id if waits else None)
    assert store.client.get(names.key("k")) == spec.id.encode()
    assert store.client.ttl(names.key("k")) == -1


@pytest.mark.parametrize("state", ["queued", "running", "succeeded", "succeeded forgotten"])
def test_another_digest_makes_a_successor_and_ends_the_active_one(store: RedisDriver, state: str) -> None:
    job_id = in_state(store, state)
    spec = a_spec(key="k", image="other")
    assert store.submit(spec).outcome is SubmitOutcome.SUCCESSOR
    was_active = state in ("queued", "running")
    assert store.record(job_id).cancel_requested_by == (f"its successor {spec.id}" if was_active else None)
    assert store.record(spec.id).predecessor == (None if "forgotten" in state else job_id)


def test_the_key_of_an_expired_job_makes_a_new_job(store: RedisDriver) -> None:
    job_id = in_state(store, "succeeded forgotten")
    store.client.delete(names.job(job_id))
    assert store.submit(key="k").outcome is SubmitOutcome.CREATED


def test_a_job_cancelled_while_it_waited_does_not_let_its_own_successor_start(store: RedisDriver) -> None:
    running = in_state(store, "running")
    waiting = store.submit(key="k", image="other").job_id
    assert store.run(steps.cancel(waiting, "somebody")) is CancelOutcome.CANCELLED
    third = store.submit(key="k", image="third").job_id
    assert store.record(third).predecessor == running


def test_a_successor_inherits_what_its_predecessor_waited_for(store: RedisDriver) -> None:
    running = in_state(store, "running")
    waiting = store.submit(key="k", image="other").job_id
    third = store.submit(key="k", image="third").job_id
    assert store.record(third).predecessor == waiting
    assert store.run(steps.cancel(waiting, "its worker")) is CancelOutcome.CANCELLED
    assert store.record(third).predecessor == running
    worker = Worker(store, "w1", {running: store.record(running).epoch})
    worker.end(running, Status.CANCELLED)
    with store.client.pubsub(ignore_subscribe_messages=True) as control:
        control.subscribe(names.control("default"))
        worker.forget(running)
        assert json.loads(next(control.listen())["data"]) == {"wake": third}


# claim, release


def test_claim_takes_an_ownerless_job_and_repeating_it_is_mine(store: RedisDriver) -> None:
    worker, job_id = store.worker(), store.submit().job_id
    first, again = twice(store, steps.claim(job_id, "w1", namespaces=["default"]))
    assert (first.outcome, again.outcome) == (ClaimOutcome.CLAIMED, ClaimOutcome.MINE)
    assert (first.record.owner, first.record.epoch, first.record.takeovers) == ("w1", 1, 0)
    assert again.record == first.record == store.record(job_id)
    assert worker.claim(job_id).outcome is ClaimOutcome.MINE


def test_claim_is_refused_while_the_owner_lives_and_allowed_when_its_lease_is_over(store: RedisDriver) -> None:
    first, second = store.worker("w1"), store.worker("w2")
    job_id = store.owned(first)
    assert second.claim(job_id).outcome is ClaimOutcome.OWNED
    assert second.claim(job_id, former_owner="w1").outcome is ClaimOutcome.OWNED
    first.die()
    assert second.claim(job_id).outcome is ClaimOutcome.OWNED
    assert second.claim(job_id, former_owner="another").outcome is ClaimOutcome.OWNED
    claimed = second.claim(job_id, former_owner="w1")
    assert claimed.outcome is ClaimOutcome.CLAIMED
    assert (claimed.record.owner, claimed.record.epoch, claimed.record.takeovers) == ("w2", 2, 1)
    assert "took over from w1" in decode_event(store.events(job_id)[-1][1][b"e"]).text


def test_claim_needs_a_lease_of_ones_own(store: RedisDriver) -> None:
    job_id = store.submit().job_id
    assert Worker(store, "w1").claim(job_id).outcome is ClaimOutcome.NO_LEASE
    assert store.record(job_id).epoch == 0


def test_claim_of_an_unknown_and_of_a_forgotten_job(store: RedisDriver) -> None:
    worker = store.worker()
    assert worker.claim("nothing").outcome is ClaimOutcome.MISSING
    assert worker.claim(in_state(store, "failed forgotten")).outcome is ClaimOutcome.FINAL


def test_a_final_job_that_is_not_forgotten_can_be_taken_over_silently(store: RedisDriver) -> None:
    first, second = store.worker("w1"), store.worker("w2")
    job_id = store.owned(first)
    first.end(job_id)
    events = store.events(job_id)
    first.die()
    assert second.claim(job_id, former_owner="w1").outcome is ClaimOutcome.CLAIMED
    assert store.events(job_id) == events


def test_claim_of_a_namespace_that_nobody_serves_says_so_once(store: RedisDriver) -> None:
    worker = store.worker(namespaces=["a", "b"])
    job_id = store.submit(namespace="c").job_id
    step = steps.claim(job_id, "w1", namespaces=["a", "b"])
    assert [reply.outcome for reply in twice(store, step)] == [ClaimOutcome.NOT_SERVED] * 2
    assert len(store.events(job_id)) == 2
    assert store.record(job_id).detail == "no worker serves namespace c"
    store.worker("w2", namespaces=["c"])
    elsewhere = store.submit(namespace="c").job_id
    assert worker.claim(elsewhere, namespaces=["a", "b"]).outcome is ClaimOutcome.NOT_SERVED
    assert len(store.events(elsewhere)) == 1
    assert worker.claim(store.submit(namespace="b").job_id, namespaces=["a", "b"]).outcome is ClaimOutcome.CLAIMED
    found = worker.claim(job_id, namespaces=["c"])
    assert found.record is not None
    assert found.record.detail == ""


def test_a_job_in_a_namespace_that_its_worker_may_not_see_says_so_whatever_it_waited_for(store: RedisDriver) -> None:
    first, second = store.worker("w1"), store.worker("w2", namespaces=["a"], refused={"b": "pods is forbidden"})
    job_id = store.submit(namespace="b").job_id
    first.claim(job_id, namespaces=["b"])
    first.move(job_id, fields={"detail": "waiting for quota", "wait": "quota", "attempt": "1"})
    first.die()
    for _ in range(2):
        assert second.claim(job_id, former_owner="w1", namespaces=["a"]).outcome is ClaimOutcome.NOT_SERVED
    assert store.record(job_id).detail == "no worker serves namespace b: pods is forbidden"
    told = [event for event in store.events(job_id) if "pods is forbidden" in str(event)]
    assert told == store.events(job_id)[-1:]
    assert '"attempt":1' in str(told)


def test_a_job_that_names_no_namespace_is_taken_only_where_the_workers_own_is_served(store: RedisDriver) -> None:
    worker = store.worker(namespaces=["a"])
    job_id = store.submit().job_id
    step = steps.claim(job_id, worker.incarnation, namespaces=["a"], default_namespace="b")
    assert store.run(step).outcome is ClaimOutcome.NOT_SERVED
    step = steps.claim(job_id, worker.incarnation, namespaces=["a"], default_namespace="a")
    assert store.run(step).outcome is ClaimOutcome.CLAIMED


def test_a_running_job_of_a_lost_worker_is_not_told_queued_by_a_worker_that_cannot_serve_it(store: RedisDriver) -> None:
    first, second = store.worker("w1", namespaces=["c"]), store.worker("w2", namespaces=["a"])
    job_id = store.submit(namespace="c").job_id
    first.claim(job_id, namespaces=["c"])
    first.move(job_id, Status.RUNNING)
    events = store.events(job_id)
    first.die()
    assert second.claim(job_id, former_owner="w1", namespaces=["a"]).outcome is ClaimOutcome.NOT_SERVED
    assert store.events(job_id) == events


def test_released_jobs_are_anybodys_and_the_queue_hears_of_it(store: RedisDriver) -> None:
    first, second = store.worker("w1"), store.worker("w2")
    mine, other = store.owned(first), store.owned(second)
    with store.client.pubsub(ignore_subscribe_messages=True) as control:
        control.subscribe(names.control("default"))
        assert twice(store, steps.release("w1", "default", [mine, other, "unknown"])) == (1, 0)
        assert json.loads(next(control.listen())["data"]) == {"released": "w1"}
    assert store.record(other).owner == "w2"
    assert not store.client.exists(names.job("unknown"))
    assert second.claim(mine).outcome is ClaimOutcome.CLAIMED
    assert first.move(mine, Status.STARTING).outcome is MoveOutcome.FENCED


# move


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


# append


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


# cancel, expire


@pytest.mark.parametrize("state", ["queued", "starting", "running"])
def test_cancel_of_an_owned_job_is_a_request_that_is_told_to_its_queue(store: RedisDriver, state: str) -> None:
    job_id = in_state(store, state)
    with store.client.pubsub(ignore_subscribe_messages=True) as control:
        control.subscribe(names.control("default"))
        first, again = twice(store, steps.cancel(job_id, "alice"))
        store.run(steps.cancel(job_id, "bob"))
        told = control.listen()
        assert [json.loads(next(told)["data"]) for _ in range(3)] == [{"cancel": job_id, "by": "alice"}] * 3
    assert first is again is CancelOutcome.REQUESTED
    assert store.record(job_id).cancel_requested_by == "alice"


def test_cancel_of_a_waiting_ownerless_job_ends_it_at_once(store: RedisDriver) -> None:
    job_id = store.submit(key="k").job_id
    first, again = twice(store, steps.cancel(job_id, "alice"))
    assert (first, again) == (CancelOutcome.CANCELLED, CancelOutcome.FINAL)
    record = store.record(job_id)
    assert (record.status, record.result.status, record.result.cancelled_by) == (Status.CANCELLED,) * 2 + ("alice",)
    assert store.client.zcard(names.active("default")) == 0
    assert store.client.zrange(names.recent("default"), 0, -1) == [job_id.encode()]
    assert store.client.ttl(names.job(job_id)) > 0
    assert store.worker().claim(job_id).outcome is ClaimOutcome.FINAL


def test_cancel_of_a_released_job_with_a_pod_is_left_to_a_worker(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    worker.move(job_id, event=None, fields={"pod": "p"})
    store.run(steps.release("w1", "default", [job_id]))
    assert store.run(steps.cancel(job_id, "alice")) is CancelOutcome.REQUESTED


@pytest.mark.parametrize("state", ["succeeded", "failed forgotten", "cancelled"])
def test_cancel_of_a_job_that_has_ended_changes_nothing(store: RedisDriver, state: str) -> None:
    job_id = in_state(store, state)
    before = store.snapshot()
    assert store.run(steps.cancel(job_id, "alice")) is CancelOutcome.FINAL
    assert store.snapshot() == before
    assert store.run(steps.cancel("nothing", "alice")) is CancelOutcome.MISSING


def overdue(store: RedisDriver, job_id: str) -> None:
    """As if the job had been queued long ago."""
    store.client.hset(names.job(job_id), "at:queued", "1.0")


@pytest.mark.parametrize(
    ("wait", "reason"), [("", FailureReason.QUEUE_TIMEOUT), ("quota", FailureReason.QUOTA_TIMEOUT)]
)
def test_expire_ends_what_waited_too_long_with_the_reason_of_its_waiting(
    store: RedisDriver, wait: str, reason: FailureReason
) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    worker.move(job_id, fields={"wait": wait}, event=None)
    store.run(steps.release("w1", "default", [job_id]))
    assert store.run(steps.expire(job_id, "default")) == "early"
    overdue(store, job_id)
    assert twice(store, steps.expire(job_id, "default")) == ("expired", "early")
    record = store.record(job_id)
    assert (record.status, record.reason, record.result.reason) == (Status.FAILED, reason, reason)
    assert store.client.zcard(names.active("default")) == 0


@pytest.mark.parametrize("wait", ["", "quota"])
@pytest.mark.parametrize("detail", ["", 'no worker serves namespace "nö/where" yet: 50 %1 \\ @last@\n', "x" * 5000])
def test_expire_repeats_what_the_job_last_waited_for(store: RedisDriver, wait: str, detail: str) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    worker.move(job_id, fields={"wait": wait, "detail": detail}, event=None)
    overdue(store, job_id)
    store.run(steps.expire(job_id, "default"))
    told = store.record(job_id).result.message
    assert f"within the queue timeout (it last said: {detail}): " in told if detail else "timeout: " in told
    assert decode_event(store.events(job_id)[-1][1][b"e"]).result.message == told


def test_expire_leaves_an_owned_job_to_be_forgotten_by_its_owner(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    overdue(store, job_id)
    assert store.run(steps.expire(job_id, "default")) == "expired"
    assert store.client.zcard(names.active("default")) == 1
    assert worker.move(job_id, Status.STARTING).outcome is MoveOutcome.ILLEGAL
    assert worker.forget(job_id) == "applied"


@pytest.mark.parametrize("case", ["pod", "running", "failed"])
def test_expire_touches_nothing_that_is_not_waiting(store: RedisDriver, case: str) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    if case == "pod":
        worker.move(job_id, fields={"pod": "p"}, event=None)
    else:
        worker.move(job_id, Status(case.upper()))
    overdue(store, job_id)
    before = store.snapshot()
    assert store.run(steps.expire(job_id, "default")) == "early"
    assert store.snapshot() == before
    assert store.run(steps.expire("nothing", "default")) == "missing"


# forget, acknowledge: retention


def kept_s(store: RedisDriver, job_id: str) -> set[int]:
    found = {store.client.ttl(key) for key in (names.job(job_id), names.events(job_id), names.log(job_id))}
    assert len(found) == 1
    return found


def test_the_clock_of_retention_starts_when_the_job_is_forgotten(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker, key="k", retention_s=1000, acknowledged_retention_s=100)
    worker.log(job_id, b"x")
    assert worker.forget(job_id) == "illegal"
    worker.end(job_id)
    assert kept_s(store, job_id) == {-1}
    first, again = twice(store, steps.forget(job_id, worker.fence(job_id), "default"))
    assert first == again == "applied"
    assert kept_s(store, job_id) <= {999, 1000}
    assert store.client.ttl(names.key("k")) in (999, 1000)
    assert store.client.zcard(names.active("default")) == 0
    store.run(steps.acknowledge(job_id))
    assert kept_s(store, job_id) <= {99, 100}
    assert store.client.ttl(names.key("k")) in (99, 100)


def test_an_acknowledgement_before_forgetting_shortens_retention_too(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker, retention_s=1000, acknowledged_retention_s=100.5)
    worker.log(job_id, b"x")
    assert store.run(steps.acknowledge(job_id)) == "illegal"
    worker.end(job_id)
    first, again = twice(store, steps.acknowledge(job_id))
    assert first == again == "acknowledged"
    assert store.record(job_id).acknowledged
    worker.forget(job_id)
    assert kept_s(store, job_id) <= {100, 101}
    assert store.run(steps.acknowledge("nothing")) == "missing"


def test_a_short_retention_is_not_lengthened_by_an_acknowledgement(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker, retention_s=50, acknowledged_retention_s=100)
    worker.end(job_id)
    worker.forget(job_id)
    store.run(steps.acknowledge(job_id))
    assert store.client.ttl(names.job(job_id)) <= 50


def test_a_forgotten_job_leaves_the_key_of_its_successor_alone(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker, key="k")
    store.submit(key="k", image="other")
    worker.end(job_id, Status.CANCELLED)
    worker.forget(job_id)
    assert store.client.ttl(names.key("k")) == -1


def test_forget_is_fenced_and_clears_the_index_of_a_lost_record(store: RedisDriver) -> None:
    first, second = store.worker("w1"), store.worker("w2")
    job_id = store.owned(first)
    first.end(job_id)
    first.die()
    second.claim(job_id, former_owner="w1")
    assert first.forget(job_id) == "fenced"
    store.client.delete(names.job(job_id))
    assert second.forget(job_id) == "missing"
    assert store.client.zcard(names.active("default")) == 0


def test_what_is_over_leaves_the_list_of_recent_jobs(store: RedisDriver) -> None:
    worker = store.worker()
    store.client.zadd(names.recent("default"), {"long-gone": 1.0})
    job_id = store.owned(worker)
    worker.end(job_id)
    worker.forget(job_id)
    assert store.client.zrange(names.recent("default"), 0, -1) == [job_id.encode()]


# heartbeat, survey, presence


def test_the_heartbeat_renews_the_lease_and_says_whether_it_was_over(store: RedisDriver) -> None:
    worker = Worker(store, "w1")
    first = worker.beat(lease_ms=10_000, namespaces=[], version="1", share=0.25, none=None)
    assert not first.lease_was_alive
    assert 0 < store.client.pttl(names.worker("w1")) <= 10_000
    assert worker.beat().lease_was_alive
    assert worker.beat().generation == first.generation == store.client.get(names.GENERATION).decode()
    worker.die()
    assert not worker.beat().lease_was_alive


def test_what_a_worker_says_of_itself_arrives_unchanged(store: RedisDriver) -> None:
    said = {"namespaces": [], "jobs": 3, "text": 'ü"}', "none": None, "inner": {"a": [1]}}
    at = Worker(store, "w1").beat(**said).at
    found = json.loads(store.client.hget(names.workers("default"), "w1"))
    assert found == {**said, "last_seen": pytest.approx(at)}
    Worker(store, "w2").beat()
    assert set(json.loads(store.client.hget(names.workers("default"), "w2"))) == {"last_seen"}


QUEUE_KEYS = {
    names.workers("default"): "hash",
    names.active("default"): "zset",
    names.recent("default"): "zset",
    names.dead_letters("default"): "list",
    names.dead_letters_size("default"): "string",
    names.queues(): "set",
    names.GENERATION: "string",
    "podrelay:run": "hash",
    **{names.message_list("default", bucket): "list" for bucket in (0, 3, 6, 9)},
    f"{names.CELERY_PREFIX}unacked": "hash",
    f"{names.CELERY_PREFIX}unacked_index": "zset",
    f"{names.CELERY_PREFIX}unacked_mutex": "string",
    f"{names.CELERY_PREFIX}_kombu.binding.default": "set",
    f"{names.CELERY_PREFIX}_kombu.binding_permanent.default": "set",
}


@pytest.mark.parametrize("key", QUEUE_KEYS)
def test_a_key_of_the_queue_of_another_type_gives_way_to_the_heartbeat(store: RedisDriver, key: str) -> None:
    store.client.xadd(key, {"a": "b"})
    assert Worker(store, "w1").beat().gave_way == (key,)
    assert store.client.type(key).decode() in ("none", QUEUE_KEYS[key])
    assert Worker(store, "w1").beat().gave_way == ()


def test_another_run_of_redis_is_never_yet_to_come(store: RedisDriver) -> None:
    worker = Worker(store, "w1")
    worker.beat()
    store.client.hset("podrelay:run", "since", "90000000000")
    beat = worker.beat()
    assert beat.runs_since is not None
    assert beat.runs_since <= beat.at
    assert worker.beat().runs_since == beat.runs_since


def test_a_queue_that_only_workers_know_is_listed(store: RedisDriver) -> None:
    Worker(store, "w1").beat(queue="quiet")
    assert store.client.smembers(names.queues()) == {b"quiet"}


def test_dead_workers_are_kept_but_not_without_end(store: RedisDriver) -> None:
    for i in range(40):
        Worker(store, f"dead{i}").beat()
    for i in range(40):
        Worker(store, f"dead{i}").die()
    last = Worker(store, "last")
    last.beat()
    last.beat()
    kept = set(store.client.hgetall(names.workers("default")))
    assert kept == {b"last", *(f"dead{i}".encode() for i in range(8, 40))}


@pytest.mark.parametrize("field", ["epoch", "takeovers"])
def test_a_claim_after_which_nobody_could_read_the_record_is_refused(store: RedisDriver, field: str) -> None:
    job_id = store.submit().job_id
    store.client.hset(names.job(job_id), field, "999999999")
    claimed = store.worker().claim(job_id)
    assert (claimed.outcome, claimed.unreadable) == (ClaimOutcome.UNREADABLE, field)


def test_a_job_that_is_not_there_is_not_claimed(store: RedisDriver) -> None:
    claimed = store.worker().claim("nobody's", namespaces=["default"])
    assert (claimed.outcome, claimed.record, claimed.unreadable) == (ClaimOutcome.MISSING, None, "")


def test_made_up_workers_give_way(store: RedisDriver) -> None:
    worker = Worker(store, "w1")
    worker.beat()
    store.client.hset(names.workers("default"), mapping={f"made-up-{i}": "{}" for i in range(1001)})
    worker.beat()
    kept = store.client.hkeys(names.workers("default"))
    assert b"w1" in kept
    assert len(kept) == 33


def test_the_survey_tells_every_active_job_by_windows(store: RedisDriver) -> None:
    first, second = store.worker("w1"), store.worker("w2")
    waiting, alive, lost = store.submit(namespace="n").job_id, store.owned(first), store.owned(second)
    second.die()
    first.move(alive, Status.QUEUED, fields={"pod_uid": "u", "attempt": "2"})
    gone = store.submit().job_id
    store.client.delete(names.job(gone))
    rows = {row.job_id: row for row in store.run(steps.survey("default", 0, -1))}
    assert list(rows) == [waiting, alive, lost, gone]
    assert (rows[waiting].owner, rows[waiting].owner_is_alive, rows[waiting].namespace) == ("", False, "n")
    assert rows[waiting].is_ownerless
    assert (rows[alive].owner, rows[alive].owner_is_alive, rows[alive].pod_uid) == ("w1", True, "u")
    assert (rows[alive].attempt, rows[alive].submitted_at) == (2, store.record(alive).reached["submitted"])
    assert (rows[lost].owner, rows[lost].owner_is_alive, rows[lost].epoch) == ("w2", False, 1)
    assert rows[lost].owner_seen_at > 0
    assert rows[gone].status is None
    assert not any(row.is_overdue for row in rows.values())
    for job_id in (waiting, alive):
        overdue(store, job_id)
    assert [row.is_overdue for row in store.run(steps.survey("default", 0, 1))] == [True, False]
    assert [row.job_id for row in store.run(steps.survey("default", 1, 2))] == [alive, lost]


def test_presence_tells_who_could_say_something(store: RedisDriver) -> None:
    unknown = store.run(steps.presence("nothing"))
    assert (unknown.status, unknown.workers_alive, unknown.last_seen_at) == (None, 0, None)
    job_id = store.submit().job_id
    lonely = store.run(steps.presence(job_id))
    assert (lonely.status, lonely.workers_alive, lonely.last_seen_at) == (Status.QUEUED, 0, None)
    first, _ = store.worker("w1"), store.worker("w2")
    first.claim(job_id)
    found = store.run(steps.presence(job_id))
    assert (found.owner, found.owner_is_alive, found.workers_alive, found.is_overdue) == ("w1", True, 2, False)
    first.die()
    found = store.run(steps.presence(job_id))
    assert (found.owner, found.owner_is_alive, found.workers_alive) == ("w1", False, 1)
    assert found.owner_last_seen_at == pytest.approx(found.at, abs=60)
    overdue(store, job_id)
    assert store.run(steps.presence(job_id)).is_overdue


def test_an_unreadable_worker_blinds_nobody(store: RedisDriver) -> None:
    store.client.hset(names.workers("default"), mapping={"bad": "nonsense", "odd": "5", "empty": "{}"})
    worker = store.worker("w1", namespaces=["a"])
    for name in ("bad", "odd", "empty"):
        store.client.set(names.worker(name), "1")
    job_id = store.submit(namespace="b").job_id
    assert worker.claim(job_id, namespaces=["a"]).outcome is ClaimOutcome.NOT_SERVED
    assert store.run(steps.presence(job_id)).workers_alive == 0
    assert store.run(steps.presence(store.submit().job_id)).workers_alive == 4
    store.client.hset(names.job(job_id), "owner", "bad")
    row, _ = store.run(steps.survey("default", 0, -1))
    assert (row.owner, row.owner_is_alive, row.owner_seen_at) == ("bad", True, 0)


# restore


def test_a_lost_record_is_made_again_once_and_never_over_another(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker, key="k", retention_s=123)
    worker.move(job_id, Status.RUNNING, fields={"pod": "p", "attempt": "1"})
    worker.log(job_id, b"some log")
    record = store.record(job_id)
    store.client.flushall()
    assert worker.move(job_id, Status.RUNNING).outcome is MoveOutcome.MISSING
    fields = {
        "attempt": "1",
        "pod": "p",
        checkpoint_field(1, "base"): record.checkpoints[1, "base"].encode(),
        "at:submitted": str(record.reached["submitted"]),
    }
    first, again = twice(store, steps.restore(record, Fence("w1", record.epoch), event=NOTICE, fields=fields))
    assert (first.outcome, again.outcome) == ("restored", "restored")
    for other in (Fence("w2", record.epoch), Fence("w2", 0), Fence("", 1)):
        assert store.run(steps.restore(record, other, event=NOTICE, fields=fields)).outcome == "exists"
    restored = store.record(job_id)
    assert (restored.status, restored.owner, restored.epoch, restored.pod) == (Status.RUNNING, "w1", record.epoch, "p")
    assert restored.checkpoints == record.checkpoints
    assert restored.spec == record.spec
    assert restored.reached["submitted"] == pytest.approx(record.reached["submitted"])
    assert restored.generation == store.client.get(names.GENERATION).decode() != record.generation
    assert worker.log(job_id, b" goes on").outcome is AppendOutcome.APPLIED
    assert store.submit(key="k", retention_s=123).job_id == job_id
    worker.end(job_id)
    assert worker.forget(job_id) == "applied"
    assert 0 < store.client.ttl(names.job(job_id)) <= 123


def test_a_restored_record_does_not_take_a_key_that_was_given_anew(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker, key="k")
    record = store.record(job_id)
    store.client.flushall()
    newer = store.submit(key="k").job_id
    store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields={}))
    assert store.client.get(names.key("k")) == newer.encode()


def test_a_lost_record_gives_way_to_the_newer_job_of_its_key_if_that_asks_the_same(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker, key="k")
    record = store.record(job_id)
    store.client.flushall()
    store.submit(key="k")
    assert store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields={})).outcome == "superseded"
    assert not store.client.exists(names.job(job_id))


def test_a_lost_record_is_made_again_beside_a_newer_job_of_its_key_that_asks_for_another_thing(
    store: RedisDriver,
) -> None:
    worker = store.worker()
    job_id = store.owned(worker, key="k")
    record = store.record(job_id)
    store.client.flushall()
    store.submit(key="k", name="another")
    assert store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields={})).outcome == "restored"


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


def test_a_record_that_a_failover_rolled_back_refuses_its_owner_until_it_is_put_back(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    fence = Fence("w1", 1)
    first = store.run(steps.move(job_id, fence, fields={"wait": "quota"}, after=""))
    worker.log(job_id, b"some ")
    was = store.client.dump(names.job(job_id))
    lost = steps.move(job_id, fence, target=Status.STARTING, fields={"pod": "p", "attempt": "1"}, after=first.step)
    lost_one, again = twice(store, lost)
    assert (lost_one.outcome, again.outcome) == (MoveOutcome.APPLIED, MoveOutcome.APPLIED)
    worker.log(job_id, b"log")
    record = store.record(job_id)
    store.client.restore(names.job(job_id), 0, was, replace=True)

    running = steps.move(job_id, fence, target=Status.RUNNING, after=lost_one.step)
    assert store.run(running).outcome is MoveOutcome.ROLLED_BACK
    assert store.record(job_id).status is Status.QUEUED
    fields = {"pod": "p", "attempt": "1", checkpoint_field(1, "base"): record.checkpoints[1, "base"].encode()}
    restored, _ = twice(store, steps.restore(record, fence, event=NOTICE, fields=fields))
    put_back = store.record(job_id)
    assert (put_back.status, put_back.pod, put_back.wait) == (Status.STARTING, "p", None)
    assert put_back.checkpoints[1, "base"].end == len(b"some ")
    assert (
        store.run(steps.move(job_id, fence, target=Status.RUNNING, after=restored.step)).outcome is MoveOutcome.APPLIED
    )


def test_an_owner_whose_claim_a_failover_has_lost_puts_it_back_over_what_was_before(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.submit().job_id
    was = store.client.dump(names.job(job_id))
    worker.claim(job_id)
    record = store.record(job_id)
    store.client.restore(names.job(job_id), 0, was, replace=True)
    assert worker.move(job_id, Status.RUNNING).outcome is MoveOutcome.ROLLED_BACK
    assert worker.log(job_id, b"log").outcome is AppendOutcome.MISSING
    assert store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields={})).outcome == "restored"
    assert (store.record(job_id).owner, store.record(job_id).epoch) == ("w1", 1)
    assert worker.move(job_id, Status.RUNNING).outcome is MoveOutcome.APPLIED


def test_nothing_is_claimed_in_another_life_of_redis_than_the_worker_knows(store: RedisDriver) -> None:
    known = store.worker().beat().redis_life
    kept, lost = store.submit().job_id, store.submit().job_id
    claim = partial(steps.claim, incarnation="w1", namespaces=["default"], redis_life=known)
    assert store.run(claim(kept)).outcome is ClaimOutcome.CLAIMED
    store.client.set(names.GENERATION, "another")
    assert store.run(claim(kept)).outcome is ClaimOutcome.MINE
    assert store.run(claim(lost)).outcome is ClaimOutcome.REDIS_CHANGED
    assert store.record(lost).owner is None


def test_a_record_that_has_ended_is_not_put_back(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    record = store.record(job_id)
    worker.end(job_id)
    assert store.run(steps.restore(record, Fence("w1", 1), event=NOTICE, fields={})).outcome == "exists"
    assert store.record(job_id).status.is_final


# The server's own refusals


def real_only(store: RedisDriver, why: str) -> None:
    if store.make == "fakeredis":
        pytest.skip(why)


def test_a_replica_refuses_as_unavailable(store: RedisDriver) -> None:
    real_only(store, "fakeredis has no replication")
    store.client.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(connection.UNAVAILABLE):
            store.submit()
    finally:
        store.client.config_set("min-replicas-to-write", 0)


def test_scripts_are_loaded_again_after_the_server_forgot_them(store: RedisDriver) -> None:
    store.submit()
    store.client.script_flush()
    assert store.submit().outcome is SubmitOutcome.CREATED


def test_the_leases_clock_is_the_servers(store: RedisDriver) -> None:
    at = Worker(store, "w1").beat().at
    assert at == pytest.approx(time.time(), abs=60)


def test_chunks_of_any_bytes_survive_the_store(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    data = bytes(range(256)) * 62
    worker.log(job_id, data)
    ((_, fields),) = store.log(job_id)
    entry = encode_chunk(
        container="base", attempt=1, start=0, data=data, chain=worker.checkpoints[job_id, "base"].chain
    )
    assert list(fields) == [str(x).encode() for x in entry[::2]]


def test_redis_py_is_told_not_to_guess(store: RedisDriver) -> None:
    real_only(store, "fakeredis has no connections")
    assert isinstance(store.client, redis.Redis)
    assert store.client.get_connection_kwargs()["protocol"] == 2
