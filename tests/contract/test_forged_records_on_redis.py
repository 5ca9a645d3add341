"""Reading out of Redis is total: whatever stands in a record, an index or a worker's entry, on fakeredis and on every
real server at hand, is shown as what it is, is left alone by workers, and costs nobody else anything."""

import json
import math
import time

import fakeredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatcher import connection, names, steps
from dispatcher.cli import jobs, words
from dispatcher.cli import status as status_command
from dispatcher.client import worker_view
from dispatcher.errors import InvalidSpecError
from dispatcher.record import CHECKPOINT, Checkpoint, JobRecord, checkpoint_field
from dispatcher.script import script_text
from dispatcher.status import FailureReason, Status
from dispatcher.steps import AppendOutcome, CancelOutcome, ClaimOutcome, MoveOutcome, SubmitOutcome
from tests.support.forged_records import (
    FORGERIES,
    HARMLESS,
    MISTYPED,
    WORKER_ENTRIES,
    Forgery,
    a_record,
    forge,
    mistype,
)
from tests.support.job_driver import NOTICE, RedisDriver, a_spec


def rows_of(store: RedisDriver) -> dict[str, steps.SurveyRow]:
    return {row.job_id: row for row in store.run(steps.survey("default", 0, 499))}


def listed(store: RedisDriver, index: str = names.active("default")) -> list[JobRecord]:
    """As the clients list."""
    job_ids, odd = store.run(steps.newest(index, 100))
    return [*odd, *store.run(steps.read_records(job_ids))]


def is_shown(record: JobRecord) -> str:
    """What every command says of it, which must all be possible to write."""
    row = jobs.row_of(record, time.time())
    told = [*row, *(value for pair in status_command.rows_of(record) for value in pair)]
    json.dumps(words.record_object(record)).encode()
    return " ".join(told).encode().decode()


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_record_that_cannot_be_read_is_shown_left_alone_and_costs_its_mates_nothing(
    store: RedisDriver, forgery: Forgery
) -> None:
    before, after = store.submit().job_id, "f1"
    forge(store.client, "f1", forgery.fields)
    after = store.submit().job_id
    worker = store.worker()
    record = store.run(steps.read_record("f1"))
    assert record is not None
    assert forgery.field in record.why_unreadable
    assert "unreadable" in is_shown(record)
    assert record in listed(store)
    rows = rows_of(store)
    assert {before, "f1", after} == rows.keys()
    assert not rows[before].unreadable
    assert not rows["f1"].is_overdue
    store.run(steps.presence("f1"))
    held = store.snapshot()
    claimed = worker.claim("f1")
    if not forgery.is_for_workers:
        assert claimed.outcome is ClaimOutcome.CLAIMED
        return
    assert (claimed.outcome, claimed.record) == (ClaimOutcome.UNREADABLE, None)
    assert claimed.unreadable in record.why_unreadable
    assert store.run(steps.expire("f1", "default")) in ("early", "missing")
    assert store.snapshot() == held, "who does not understand a job changes nothing of it"
    assert worker.claim(before).outcome is worker.claim(after).outcome is ClaimOutcome.CLAIMED


@pytest.mark.parametrize("fields", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_says_nothing_about_the_jobs_state_is_no_reason_to_leave_it_alone(
    store: RedisDriver, fields: dict[str, str | bytes]
) -> None:
    forge(store.client, "f1", fields)
    worker = store.worker()
    assert not rows_of(store)["f1"].unreadable
    claimed = worker.claim("f1")
    assert claimed.outcome is ClaimOutcome.CLAIMED
    assert claimed.record is not None
    assert claimed.record.unreadable_state is None
    is_shown(claimed.record)
    if not claimed.record.status.is_final:
        worker.end("f1")
    assert worker.forget("f1") == "applied"
    assert 0 < store.client.ttl(names.job("f1")) <= 366 * 86400
    assert listed(store, names.recent("default"))[0].job_id == "f1"


def test_an_older_worker_neither_takes_nor_ends_nor_falsifies_a_newer_ones_job(store: RedisDriver) -> None:
    """A rolling upgrade: the newer worker has died, and only older ones are there."""
    forge(store.client, "f1", {"status": "PAUSED", "owner": "newer", "epoch": "4", "intent": "foo", "reason": "bar"})
    worker, held = store.worker(), store.snapshot()
    row = rows_of(store)["f1"]
    assert (row.status, row.unreadable, row.owner_is_alive) == ("PAUSED", "status", False)
    assert worker.claim("f1", former_owner="newer").outcome is ClaimOutcome.UNREADABLE
    assert store.snapshot() == held
    record = store.run(steps.read_record("f1"))
    assert record is not None
    assert (record.status.value, record.reason_text) == ("PAUSED", "bar")
    shown = is_shown(record)
    assert "PAUSED" in shown
    assert "intent: 'foo' is not known to this version" in shown
    assert words.record_object(record)["unreadable"] == record.why_unreadable
    # A newer worker understands it, and takes it.
    store.client.hset(names.job("f1"), mapping={"status": "RUNNING", "intent": "failed"})
    assert worker.claim("f1", former_owner="newer").outcome is ClaimOutcome.CLAIMED


def test_half_a_record_blinds_nobody(store: RedisDriver) -> None:
    store.client.hset(names.job("bad"), "foo", "bar")
    store.client.zadd(names.active("default"), {"bad": 1, b"\xff{}": 2, "a/b": 3})
    good = store.submit().job_id
    found = {record.job_id: record for record in listed(store)}
    assert not found[good].why_unreadable
    assert "status: there is none" in found["bad"].why_unreadable
    assert len(found) == 4
    assert all("unreadable" in is_shown(record) for job_id, record in found.items() if job_id != good)
    assert {row.job_id for row in rows_of(store).values() if not row.unreadable} == {good}
    assert store.worker().claim("bad").outcome is ClaimOutcome.UNREADABLE
    assert store.run(steps.cancel("bad", "me")) is CancelOutcome.UNREADABLE
    assert store.run(steps.acknowledge("bad")) == "unreadable"


def test_a_record_of_a_wrong_type_is_shown_and_given_back_to_its_owner(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    record = store.record(job_id)
    mistype(store.client, names.job(job_id))
    odd = store.run(steps.read_record(job_id))
    assert odd is not None
    assert "WRONGTYPE" in is_shown(odd)
    assert rows_of(store)[job_id].unreadable == "status"
    assert store.run(steps.presence(job_id)).status == "unreadable"
    assert store.worker("w2").claim(job_id).outcome is ClaimOutcome.UNREADABLE
    assert store.run(steps.cancel(job_id, "me")) is CancelOutcome.UNREADABLE
    assert worker.move(job_id, Status.RUNNING).outcome is MoveOutcome.MISSING
    assert worker.log(job_id, b"x").outcome is AppendOutcome.MISSING
    restored = store.run(steps.restore(record, worker.fence(job_id), event=NOTICE, fields={"attempt": "0"}))
    assert restored.outcome is steps.RestoreOutcome.RESTORED
    assert worker.move(job_id, Status.RUNNING).outcome is MoveOutcome.APPLIED


@pytest.mark.parametrize("what", [name for name in MISTYPED if name != "record"])
def test_a_job_comes_to_its_end_whatever_keys_beside_its_record_are_of_a_wrong_type(
    store: RedisDriver, what: str
) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    mistype(store.client, MISTYPED[what](job_id))
    worker.beat()
    store.run(steps.presence(job_id))
    assert worker.move(job_id, Status.RUNNING).outcome is MoveOutcome.APPLIED
    assert worker.log(job_id, b"line\n").outcome is AppendOutcome.APPLIED
    mistype(store.client, MISTYPED[what](job_id))
    assert worker.end(job_id).outcome is MoveOutcome.APPLIED
    mistype(store.client, MISTYPED[what](job_id))
    assert worker.forget(job_id) == "applied"
    mistype(store.client, MISTYPED[what](job_id))
    other = store.submit().job_id
    assert worker.claim(other).outcome is ClaimOutcome.CLAIMED
    worker.beat()
    rows_of(store)


def test_a_successor_of_a_wrong_type_keeps_no_job_from_its_end(store: RedisDriver) -> None:
    worker = store.worker()
    worker.claim(store.submit(key="k", args=("1",)).job_id)
    second = store.submit(key="k", args=("2",)).job_id
    third = store.submit(key="k", args=("3",)).job_id
    store.client.set(names.job(third), "x")
    assert store.run(steps.cancel(second, "me")) is CancelOutcome.CANCELLED
    record = store.run(steps.read_record(second))
    assert record is not None
    assert record.is_forgotten


@pytest.mark.parametrize("what", ["active", "recent"])
def test_an_index_of_a_wrong_type_is_listed_as_that(store: RedisDriver, what: str) -> None:
    key = MISTYPED[what]("")
    mistype(store.client, key)
    (record,) = listed(store, key)
    assert record.job_id == key
    assert "WRONGTYPE" in is_shown(record)


def test_a_stream_that_takes_no_further_entry_keeps_no_job_from_its_end(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    last = f"{2**64 - 1}-{2**64 - 1}"
    for key in (names.events(job_id), names.log(job_id)):
        store.client.delete(key)
        store.client.xadd(key, {"e": "junk"}, id=last)
    if store.make == "fakeredis":
        pytest.skip("fakeredis counts on beyond the last id")
    assert worker.move(job_id, Status.RUNNING).outcome is MoveOutcome.APPLIED
    assert worker.log(job_id, b"line\n").outcome is AppendOutcome.APPLIED
    assert worker.end(job_id).outcome is MoveOutcome.APPLIED
    assert len(store.log(job_id)) == 1


@pytest.mark.parametrize("entry", WORKER_ENTRIES, ids=repr)
def test_an_odd_entry_of_a_worker_blinds_nobody(store: RedisDriver, entry: bytes) -> None:
    store.client.hset(names.workers("default"), "odd", entry)
    store.client.hset(names.workers("default"), b"\xff", entry)
    store.client.set(names.worker("odd"), "1")
    worker = store.worker(namespaces=["default"])
    job_id = store.submit(namespace="elsewhere").job_id
    found = store.run(steps.presence(job_id))
    assert found.last_seen_at is None or found.last_seen_at < 1e11
    assert found.owner_last_seen_at is None
    assert worker.claim(job_id).outcome is ClaimOutcome.NOT_SERVED
    assert "no worker serves namespace elsewhere" in store.record(job_id).detail
    store.client.hset(names.job(job_id), "owner", "odd")
    assert rows_of(store)[job_id].owner_seen_at < 1e11
    for incarnation in ("odd", "w1"):
        text = store.client.hget(names.workers("default"), incarnation)
        view = worker_view("default", incarnation.encode(), text, is_alive=True)
        assert 0 <= view.last_seen_at < 1e11
    worker.die()
    worker.beat()


def test_the_same_fields_are_strange_to_the_scripts_and_to_the_readers(store: RedisDriver) -> None:
    """A claim that a script grants must not turn out unreadable in Python, and the other way round."""
    fields = ("status", "queue", "intent", "intent_reason", "epoch", "attempt", "takeovers", "not_before", "at:queued")
    number = st.from_regex(r"\A-?[0-9]{0,20}\.?[0-9]{0,9}(e[0-9]{1,3})?\Z")
    texts = st.one_of(
        st.binary(max_size=20),
        st.sampled_from(
            [*Status, *FailureReason, "finished", "failed", "", "0", "nan", "inf", "0x10", " 1", "1 ", "1\n", "٣"]
        ),
        number,
        st.builds(
            "{} {} {} {} {} {}".format,
            number,
            st.sampled_from(["-", "2026-01-02T03:04:05Z", "2026", "x"]),
            *(number, number, st.sampled_from(["-", "ab", ""])),
            st.sampled_from(["0" * 64, "F" * 64, "g" * 64, "0" * 63]),
        ),
    )
    names_ = st.sampled_from([*fields, *(f"{CHECKPOINT}{x}" for x in ("1:base", "01:base", "x:base", "1:", "1"))])

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.dictionaries(names_, texts.map(lambda x: x if isinstance(x, bytes) else x.encode()), max_size=3))
    def holds(fields: dict[str, bytes]) -> None:
        store.client.delete(names.job("f1"))
        store.client.hset(names.job("f1"), mapping=a_record("f1", **fields))  # type: ignore[arg-type]
        record = store.run(steps.read_record("f1"))
        assert record is not None
        claimed = store.worker().claim("f1", namespaces=["default"])
        assert (claimed.outcome is ClaimOutcome.UNREADABLE) == (record.unreadable_state is not None)

    holds()


def test_a_record_with_more_checkpoints_than_a_script_can_unpack_is_claimed_and_restored(store: RedisDriver) -> None:
    job_id, other = store.submit().job_id, store.worker("w0")
    many = {checkpoint_field(1 + n // 40, f"c-{n % 40}"): Checkpoint(n).encode() for n in range(9000)}
    store.client.hset(names.job(job_id), mapping=many)  # type: ignore[arg-type]
    claimed = other.claim(job_id)
    assert claimed.outcome is ClaimOutcome.CLAIMED
    assert other.claim(job_id).outcome is ClaimOutcome.MINE
    record = claimed.record
    assert record is not None
    assert len(record.checkpoints) == 9000
    store.client.delete(names.job(job_id))
    fields = {checkpoint_field(a, c): x.encode() for (a, c), x in record.checkpoints.items()}
    assert store.run(steps.restore(record, other.fence(job_id), event=NOTICE, fields=fields)).outcome == "restored"
    assert store.record(job_id).checkpoints == record.checkpoints


def test_a_forged_count_of_kept_log_cannot_make_a_script_run_on(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    for _ in range(3):
        for _ in range(700):
            store.client.xadd(names.log(job_id), {"r": b"x"})
        for kept in ("1e30", "nan", "-1e30", "9" * 30):
            store.client.hset(names.job(job_id), "log_kept", kept)
            entries = store.client.xlen(names.log(job_id))
            assert worker.log(job_id, b"a line\n").outcome is AppendOutcome.APPLIED
            assert store.client.xlen(names.log(job_id)) > entries - 501
            assert 0 <= float(store.client.hget(names.job(job_id), "log_kept")) < math.inf


def test_a_forged_room_for_log_does_not_stop_the_log(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    for junk in ("x", "1e300", "12.5", "-1", "nan", "007"):
        store.client.set(names.log_room(0), junk)
        assert worker.log(job_id, b"a line\n").outcome is AppendOutcome.APPLIED
    store.client.delete(names.log_room(0))
    store.client.rpush(names.log_room(0), "x")
    assert worker.log(job_id, b"a line\n").outcome is AppendOutcome.APPLIED


def test_a_forged_chain_of_predecessors_has_an_end(store: RedisDriver) -> None:
    first = store.submit(key="k").job_id
    for job_id, other in (("f1", "f2"), ("f2", "f1")):
        forge(store.client, job_id, {"status": "FAILED", "forgotten": "1", "predecessor": other})
    store.client.hset(names.job(first), mapping={"status": "FAILED", "forgotten": "1", "predecessor": "f1"})
    assert store.submit(key="k").outcome is SubmitOutcome.SUCCESSOR
    mistype(store.client, names.job("f1"))
    store.client.set(names.key("k2"), "f1")
    assert store.submit(key="k2").outcome is SubmitOutcome.CREATED


def test_a_junk_checkpoint_of_a_followed_job_is_begun_anew(store: RedisDriver) -> None:
    worker = store.worker()
    job_id = store.owned(worker)
    assert worker.log(job_id, b"line\n").outcome is AppendOutcome.APPLIED
    store.client.hset(names.job(job_id), checkpoint_field(1, "base"), "junk")
    refused = worker.log(job_id, b"more\n")
    assert (refused.outcome, refused.checkpoint) == (AppendOutcome.MISMATCH, "")
    worker.checkpoints.clear()
    assert worker.log(job_id, b"line\n").outcome is AppendOutcome.APPLIED


def test_a_spec_that_is_too_large_is_refused_with_its_size_and_nothing_is_written(store: RedisDriver) -> None:
    large = a_spec(args=("x" * 300_000,))
    with pytest.raises(InvalidSpecError, match=r"300\d\d\d bytes of JSON, at most 262144 are taken"):
        store.submit(large)
    assert store.client.keys("*") == []
    assert store.submit(a_spec(args=("x" * 250_000,))).outcome is SubmitOutcome.CREATED


def test_a_field_that_is_longer_than_any_is_not_sent_whole(store: RedisDriver) -> None:
    forge(store.client, "f1", {"spec": b"x" * (12 << 20), "detail": b"y" * (12 << 20)})
    reply = store.client.eval(script_text("read_record"), 1, names.job("f1"))
    assert sum(map(len, reply[0])) < (9 << 20)
    record = store.run(steps.read_record("f1"))
    assert record is not None
    assert "longer than 4194304 bytes" in (record.unreadable or "")


async def test_a_step_refused_for_its_own_keys_leaves_the_others_their_outcome() -> None:
    async with fakeredis.FakeAsyncRedis() as client:
        await client.set("odd", "x")
        read = [steps.Step("newest", (key,), (1,), bool) for key in ("a", "odd")]
        await connection.run_many(client, read)
        push = steps.Step("acknowledge", (names.job("none"),), ("none",), str)
        assert len(await connection.run_many(client, [push, push])) == 2
