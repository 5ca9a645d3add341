"""The window of one log: what is to be sent, and what is kept for the case that Redis loses it again."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.record import Checkpoint, chain_next
from dispatcher.steps import LogRoom
from worker.logs import outbox as outbox_module
from worker.logs.outbox import IDLE_S, KEPT_BYTES, KEPT_S, LATE, NO_MEMORY, Entry, LogBudget, LogSource, Outbox
from worker.logs.stream import Chunk, Gap

SOURCE = LogSource("j", "ns", "p", "base", 1, 1 << 24)


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budget(clock: Clock) -> LogBudget:
    return LogBudget(1 << 30, clock=clock)


def chunks(*sizes: int, after: int = 0) -> list[Chunk]:
    found = []
    for size in sizes:
        found.append(Chunk(after, b"x" * size, Checkpoint(end=after + size)))
        after += size
    return found


def an_outbox(budget: LogBudget, *sizes: int, confirmed: int = 0, start: int = 0) -> Outbox:
    outbox = Outbox(SOURCE, Checkpoint(end=start), budget)
    for chunk in chunks(*sizes, after=start):
        outbox.append(chunk)
    send(outbox, confirmed)
    return outbox


def send(outbox: Outbox, count: int) -> list[Entry]:
    batch = outbox.batch(count)
    outbox.confirm(len(batch))
    return batch


def test_what_was_confirmed_after_a_place_is_sent_again_in_order(budget: LogBudget) -> None:
    outbox = an_outbox(budget, 3, 4, 5, 6, confirmed=3)
    assert (outbox.start, outbox.published) == (Checkpoint(), Checkpoint(end=12))
    assert outbox.seek(Checkpoint(end=3))
    assert outbox.published == Checkpoint(end=3)
    assert outbox.batch(9) == chunks(3, 4, 5, 6)[1:]


def test_what_redis_has_already_is_passed_over_and_kept(budget: LogBudget) -> None:
    outbox = an_outbox(budget, 3, 4, 5, confirmed=1)
    assert outbox.seek(Checkpoint(end=7))
    assert (outbox.published, outbox.kept) == (Checkpoint(end=7), chunks(3, 4))
    assert outbox.batch(9) == chunks(3, 4, 5)[2:]
    assert (budget.kept_bytes, budget.waiting_bytes) == (7, 5)


def test_a_place_that_is_not_known_changes_nothing(budget: LogBudget) -> None:
    outbox = an_outbox(budget, 3, 4, confirmed=1, start=10)
    assert not outbox.seek(Checkpoint(end=4))
    assert not outbox.seek(Checkpoint(end=13, timestamp="another line"))
    assert (outbox.start, outbox.published, outbox.kept) == (
        Checkpoint(end=10),
        Checkpoint(end=13),
        chunks(3, after=10),
    )


def test_where_redis_is_known_to_be_nothing_is_sent_again(budget: LogBudget) -> None:
    outbox = an_outbox(budget, 3, 4, confirmed=1)
    assert outbox.seek(Checkpoint(end=3))
    assert outbox.batch(9) == chunks(3, 4)[1:]


def test_a_gap_of_unknown_length_is_told_again_for_it_moves_no_checkpoint(budget: LogBudget) -> None:
    outbox = an_outbox(budget, 3)
    gap = Gap(3, Checkpoint(end=3), "rotated away", is_open=True)
    outbox.append(gap)
    assert outbox.is_in(Checkpoint())  # nothing is kept yet
    send(outbox, 2)
    assert not outbox.is_in(Checkpoint(end=3))
    assert outbox.record_fields == dict.fromkeys(
        ("checkpoint:1:base", "gap:checkpoint:1:base"), gap.checkpoint.encode()
    )
    assert outbox.seek(Checkpoint(end=3))
    assert outbox.batch(9) == [gap]


def test_what_was_kept_is_bounded_in_bytes(budget: LogBudget) -> None:
    half = KEPT_BYTES // 2 + 1
    outbox = an_outbox(budget, half, half, confirmed=2)
    assert outbox.start == Checkpoint(end=half)


def test_all_logs_are_bounded_together(budget: LogBudget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "ALL_KEPT_BYTES", 10)
    monkeypatch.setattr(outbox_module, "LEAST_KEPT_BYTES", 2)
    one, other = an_outbox(budget, 8, confirmed=1), an_outbox(budget, 2, 2, 2, confirmed=2)
    assert (one.start, other.start) == (Checkpoint(), Checkpoint(end=2))
    send(other, 1)
    assert other.start == Checkpoint(end=4)  # each keeps the least
    one.forget()
    assert budget.kept_bytes == 2


def test_the_ends_of_finished_logs_leave_half_of_their_room_to_running_ones(
    budget: LogBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "ALL_KEPT_BYTES", 20)
    ended = [an_outbox(budget, 4, confirmed=1) for _ in range(3)]
    for outbox in ended:
        budget.keep_ended([outbox])
    assert [bool(outbox.kept) for outbox in ended] == [False, True, True]
    assert budget.kept_bytes == 8


def test_a_confirmation_proves_what_was_long_before(budget: LogBudget, clock: Clock) -> None:
    outbox = an_outbox(budget, 3, 4, 5, confirmed=1)
    clock.now_s += KEPT_S
    send(outbox, 1)
    assert outbox.start == Checkpoint()
    clock.now_s += KEPT_S / 2
    send(outbox, 1)
    assert outbox.start == Checkpoint(end=3)


def test_a_log_that_is_silent_for_long_is_forgotten(budget: LogBudget, clock: Clock) -> None:
    silent, other = an_outbox(budget, 3, confirmed=1), an_outbox(budget, 4, 5, confirmed=1)
    clock.now_s += IDLE_S / 2
    send(other, 1)
    clock.now_s += IDLE_S / 2
    budget.forget_idle()
    assert (silent.start, silent.kept) == (Checkpoint(end=3), [])
    assert (other.kept, budget.kept_bytes) == (chunks(4, 5)[1:], 5)
    clock.now_s += IDLE_S / 2
    budget.forget_idle()
    assert budget.kept_bytes == 0


def test_what_waits_too_long_becomes_one_gap_but_not_what_is_under_way(budget: LogBudget) -> None:
    outbox = an_outbox(budget, 3, 4, 5, 6)
    under_way = outbox.batch(1)
    outbox.drop_oldest("late", keep_bytes=9)
    outbox.confirm(1)
    assert under_way == outbox.kept == chunks(3)
    assert outbox.batch(9) == [Gap(3, Checkpoint(end=12), "late"), *chunks(6, after=12)]
    assert outbox.has_dropped
    assert budget.waiting_bytes == 6


@pytest.mark.parametrize(("sizes", "is_too_much"), [((6, 4), False), ((6, 5), True)])
def test_of_what_waits_of_one_log_the_older_half_is_given_up_where_it_is_too_much(
    budget: LogBudget, sizes: tuple[int, ...], is_too_much: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "WAITING_BYTES", 10)
    outbox = an_outbox(budget, *sizes)
    outbox.bound()
    whole = chunks(*sizes)
    assert outbox.batch(9) == ([Gap(0, whole[0].checkpoint, LATE), whole[1]] if is_too_much else whole)


def test_of_what_waits_of_all_logs_the_older_half_of_one_is_given_up_and_says_why() -> None:
    budget = LogBudget(11)
    one, other = an_outbox(budget, 6), an_outbox(budget, 2, 4)
    budget.note_room(LogRoom(room_bytes=-1, limit_bytes=100))
    other.bound()
    assert budget.waiting_bytes == 6
    one.bound()
    assert [entry.why for entry in other.batch(9) if isinstance(entry, Gap)] == [NO_MEMORY]
    assert not one.has_dropped


def test_too_much_is_given_up_by_halves_of_what_is_not_under_way(clock: Clock) -> None:
    outbox = an_outbox(LogBudget(300, clock=clock), *[10] * 40)
    under_way = outbox.batch(32)
    outbox.bound()
    outbox.confirm(32)
    gap, *newest = outbox.batch(40)
    assert (len(under_way), isinstance(gap, Gap), gap.size_bytes) == (32, True, 0)
    assert [(entry.start, entry.checkpoint.end) for entry in newest] == [(n, n + 10) for n in (360, 370, 380, 390)]


def test_log_is_suspended_until_there_is_room_for_a_good_deal_of_it(budget: LogBudget) -> None:
    told = []
    for room_bytes in (0, -1, 1, 19, 21, 19):
        budget.note_room(LogRoom(room_bytes, limit_bytes=1000))
        told.append(budget.is_suspended)
    assert told == [False, True, True, True, False, False]


def test_a_log_that_is_read_again_begins_with_an_empty_window(budget: LogBudget) -> None:
    outbox = an_outbox(budget, 3, 4, confirmed=1)
    outbox.restart(Checkpoint(end=1))
    assert (outbox.start, outbox.published, outbox.kept) == (Checkpoint(end=1), Checkpoint(end=1), [])
    assert not outbox.is_waiting
    assert (budget.kept_bytes, budget.waiting_bytes) == (0, 0)


LOG = bytes(range(256)) * 4


@dataclass
class Redis:
    """Has entries and the checkpoint after them, as ``append_log.lua`` keeps them; can go back to what it was."""

    entries: list[Entry] = field(default_factory=list)

    @property
    def checkpoint(self) -> Checkpoint:
        return self.entries[-1].checkpoint if self.entries else Checkpoint()

    def append(self, entry: Entry) -> bool:
        """False: it does not follow."""
        was_last = self.checkpoint == entry.checkpoint and (isinstance(entry, Chunk) or self.entries[-1:] == [entry])
        if not was_last and self.checkpoint.end == entry.start:
            self.entries.append(entry)
            return True
        return was_last


class Sender:
    """Reads a log into an outbox and sends it, as the worker does; Redis loses what it likes."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.budget = LogBudget(1 << 20, clock=self.clock)
        self.outbox = Outbox(SOURCE, Checkpoint(), self.budget)
        self.redis = Redis()
        self.read_to = Checkpoint()

    def read(self, size: int) -> None:
        if data := LOG[self.read_to.end : self.read_to.end + size]:
            start = self.read_to.end
            self.read_to = Checkpoint(end=start + len(data), chain=chain_next(self.read_to.chain, data))
            self.outbox.append(Chunk(start, data, self.read_to))

    def tell_gap(self) -> None:
        self.outbox.append(Gap(self.read_to.end, self.read_to, "rotated away", is_open=True))

    def send(self, count: int, *, reply_lost_after: int, given_up_meanwhile: int | None) -> None:
        """Send a batch; where its reply is lost, so many were taken, and all are sent once more."""
        batch = self.outbox.batch(count)
        if given_up_meanwhile is not None:
            self.outbox.drop_oldest("late", keep_bytes=given_up_meanwhile)
        for entry in batch[:reply_lost_after]:
            self.redis.append(entry)
        answers = [(self.redis.append(entry), self.redis.checkpoint) for entry in batch]
        known = [entry.checkpoint for entry in batch]
        taken = [is_taken or there in known[i:] for i, (is_taken, there) in enumerate(answers)]
        done = taken.index(False) if False in taken else len(batch)
        self.outbox.confirm(done)
        if done < len(batch):
            self.seek(answers[done][1])

    def seek(self, to: Checkpoint) -> None:
        if not self.outbox.seek(to):
            self.outbox.restart(to)
            self.read_to = to

    def finish(self) -> None:
        """Send all that there is; each round gets on, but for the first, which may find Redis elsewhere."""
        for _ in range(100):
            self.read(200)
            self.send(32, reply_lost_after=0, given_up_meanwhile=None)
            if self.read_to.end == len(LOG) and not self.outbox.is_waiting:
                return
        raise AssertionError("it does not get on")

    def check(self) -> None:
        """What a reader of Redis sees lies end to end; chunks are the log's bytes."""
        end = 0
        for entry in self.redis.entries:
            assert entry.start == end
            end = entry.checkpoint.end
            if isinstance(entry, Chunk):
                assert entry.data == LOG[entry.start : end]
        assert self.budget.waiting_bytes == self.outbox.waiting_bytes
        assert self.budget.kept_bytes == sum(entry.size_bytes for entry in self.outbox.kept)


steps = st.one_of(
    st.tuples(st.just("read"), st.integers(1, 60)),
    st.tuples(st.just("tell_gap")),
    st.tuples(st.just("send"), st.integers(1, 5), st.integers(0, 5), st.none() | st.integers(0, 40)),
    st.tuples(st.just("fail_over"), st.integers(0, 6), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([0.1, KEPT_S, IDLE_S])),
)


@settings(max_examples=500, deadline=None)
@given(played=st.lists(steps, max_size=40))
def test_whatever_happens_redis_ends_up_with_the_whole_log_or_gaps_that_say_so(
    played: list[tuple[object, ...]],
) -> None:
    sender = Sender()
    for step in played:
        match step:
            case ("read", int(size)):
                sender.read(size)
            case ("tell_gap",):
                sender.tell_gap()
            case ("send", int(count), int(lost_after), meanwhile):
                assert meanwhile is None or isinstance(meanwhile, int)
                sender.send(count, reply_lost_after=lost_after, given_up_meanwhile=meanwhile)
            case ("fail_over", int(lost), is_noticed):
                sender.redis.entries = sender.redis.entries[: len(sender.redis.entries) - lost]
                if is_noticed:  # by who looks at the record; else by the next append
                    sender.seek(sender.redis.checkpoint)
            case ("wait", float(seconds)):
                sender.clock.now_s += seconds
        sender.check()
    sender.finish()
    sender.seek(sender.redis.checkpoint)  # a last loss is noticed at the job's end
    sender.finish()
    sender.check()
    assert sender.redis.checkpoint.end == len(LOG)
    gaps = [entry for entry in sender.redis.entries if isinstance(entry, Gap)]
    assert all(gap.is_open or sender.outbox.has_dropped for gap in gaps)
