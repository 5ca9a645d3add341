"""The pure core of every reader: laws for any cut of the streams, and the cases that the laws do not name."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.channel import WITHOUT_LOG, Entry, decode_xread, encode_chunk, encode_gap
from dispatcher.channel_reader import ChannelReader
from dispatcher.events import (
    Cursor,
    Ended,
    Heard,
    JobResult,
    LogChunk,
    LogGap,
    LogSummary,
    Notice,
    StatusChanged,
    encode_event,
)
from dispatcher.record import NO_CHAIN, chain_next
from dispatcher.status import Status


def as_entry(entry_id: str, arguments: Sequence[object]) -> Entry:
    def raw(value: object) -> bytes:
        return value if isinstance(value, bytes) else str(value).encode()

    return entry_id.encode(), dict(zip(map(raw, arguments[::2]), map(raw, arguments[1::2]), strict=True))


def as_id(entry: Entry) -> tuple[int, ...]:
    return tuple(int(part) for part in entry[0].split(b"-"))


@dataclass
class Streams:
    """Both streams of a job as Redis would hold them."""

    events: list[Entry]
    log: list[Entry]
    written: dict[tuple[int, str], bytes]

    def after(self, reader: ChannelReader, n_events: int, n_log: int) -> tuple[list[Entry], list[Entry]]:
        def since(stream: list[Entry], place: str, n: int) -> list[Entry]:
            return [e for e in stream if as_id(e) > as_id((place.encode(), {}))][:n]

        return since(self.events, reader.event_id, n_events), since(self.log, reader.log_id, n_log)


def written(
    steps: list[tuple[int, str, bytes]], *, last: Status = Status.SUCCEEDED, is_complete: bool = True
) -> Streams:
    """The streams after these steps: a container's chunk, or (container '') a notice; then the end."""
    streams = Streams([], [], {})
    ends: dict[tuple[int, str], int] = {}
    chains: dict[tuple[int, str], str] = {}
    for number, (attempt, container, data) in enumerate(steps, 1):
        if not container:
            status = StatusChanged(status=Status.RUNNING, attempt=attempt)
            event = status if attempt > 1 else Notice(text=data.hex())
            streams.events.append(as_entry(f"{number}-0", ("e", encode_event(event))))
            continue
        key = attempt, container
        chains[key] = chain_next(chains.get(key, NO_CHAIN), data)
        chunk = encode_chunk(container=container, attempt=attempt, start=ends.get(key, 0), data=data, chain=chains[key])
        streams.log.append(as_entry(f"{number}-0", chunk))
        ends[key] = ends.get(key, 0) + len(data)
        streams.written[key] = streams.written.get(key, b"") + data
    attempt = max((n for n, _ in ends), default=1)
    logs = {
        container: LogSummary(bytes=end, sha256=chains[n, container], is_complete=is_complete)
        for (n, container), end in ends.items()
        if n == attempt
    }
    end = Ended(result=JobResult(job_id="j", status=last, attempt=attempt, logs=logs))
    log_end = streams.log[-1][0] if streams.log else b"0-0"
    fields = ("e", encode_event(end), "l", log_end, "t", "queued=1.5 succeeded=2.5")
    streams.events.append(as_entry(f"{len(steps) + 1}-0", fields))
    return streams


def read_all(streams: Streams, reader: ChannelReader, portions: Sequence[tuple[int, int]] = ((99, 99),)) -> list[Heard]:
    """Read to the end in these portions (events, log entries), over and over."""
    heard: list[Heard] = []
    for turn in range(10_000):
        events, log = streams.after(reader, *portions[turn % len(portions)])
        heard += reader.take(events, log)
        if reader.is_done:
            return heard
    raise AssertionError("the reader never came to the end")


def bytes_of(heard: list[Heard]) -> dict[tuple[int, str], bytes]:
    found: dict[tuple[int, str], bytes] = {}
    for one in heard:
        if isinstance(one.event, LogChunk):
            key = one.event.attempt, one.event.container
            assert one.event.start == len(found.get(key, b""))
            found[key] = found.get(key, b"") + one.event.data
    return found


data = st.binary(min_size=1, max_size=6) | st.sampled_from([b"x" * 700, bytes(range(256)) * 3])
steps = st.lists(st.tuples(st.integers(1, 2), st.sampled_from(["base", "side", ""]), data), max_size=12)
portions = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4).filter(
    lambda found: any(e for e, _ in found) and any(n for _, n in found)
)


@given(steps, portions)
def test_any_portioning_gives_the_bytes_that_were_written_and_the_end_last(
    done: list[tuple[int, str, bytes]], cuts: list[tuple[int, int]]
) -> None:
    streams = written(done)
    heard = read_all(streams, ChannelReader("j"), cuts)
    assert bytes_of(heard) == streams.written
    assert not [one for one in heard if isinstance(one.event, LogGap)]
    assert [isinstance(one.event, Ended) for one in heard] == [False] * (len(heard) - 1) + [True]
    assert [one.event for one in heard if isinstance(one.event, Notice | StatusChanged)] == [
        one.event for one in read_all(streams, ChannelReader("j")) if isinstance(one.event, Notice | StatusChanged)
    ]


@given(steps, portions, portions, st.integers(0, 30))
def test_resuming_from_any_cursor_gives_exactly_the_rest(
    done: list[tuple[int, str, bytes]], cuts: list[tuple[int, int]], later_cuts: list[tuple[int, int]], stop: int
) -> None:
    streams = written(done)
    heard = read_all(streams, ChannelReader("j"), cuts)
    first = heard[: stop % len(heard)]
    cursor = Cursor.decode(first[-1].cursor.encode()) if first else Cursor()
    rest = read_all(streams, ChannelReader("j", cursor), later_cuts)
    assert bytes_of([*first, *rest]) == streams.written
    events = [[one.event for one in part if not isinstance(one.event, LogChunk)] for part in (heard, [*first, *rest])]
    assert events[0] == events[1]


@given(steps, portions)
def test_a_cursor_never_moves_back(done: list[tuple[int, str, bytes]], cuts: list[tuple[int, int]]) -> None:
    cursors = [one.cursor for one in read_all(written(done), ChannelReader("j"), cuts)]
    for before, after in itertools.pairwise(cursors):
        assert as_id((before.log_id.encode(), {})) <= as_id((after.log_id.encode(), {}))
        assert as_id((before.event_id.encode(), {})) <= as_id((after.event_id.encode(), {}))


@given(steps, steps, portions, st.integers(0, 30))
def test_an_emptied_redis_is_read_anew_without_a_byte_twice(
    done: list[tuple[int, str, bytes]],
    more: list[tuple[int, str, bytes]],
    cuts: list[tuple[int, int]],
    stop: int,
) -> None:
    """The worker writes the whole log again, in other chunks, into an emptied Redis."""
    former = written(done)
    heard = read_all(former, ChannelReader("j"), cuts)
    first = heard[: stop % len(heard)]
    cursor = replace(first[-1].cursor if first else Cursor(), generation="former")
    again = [(a, c, part) for (a, c), all_of in former.written.items() for part in _cut(all_of)] + more
    streams = written(again)
    reader = ChannelReader("j", Cursor.decode(cursor.encode()))
    reader.note_generation("newer")
    assert (reader.event_id, reader.log_id) == ("0-0", "0-0")
    rest = read_all(streams, reader, cuts)
    assert bytes_of([*first, *rest]) == streams.written
    assert not [one for one in rest if isinstance(one.event, LogGap)]


def _cut(all_of: bytes) -> list[bytes]:
    size = 3 if len(all_of) < 100 else 97
    return [all_of[i : i + size] for i in range(0, len(all_of), size)]


def failed_over(streams: Streams, kept: int) -> Streams:
    """The same streams after a failover that lost what came after id ``kept``, to a Redis whose clock is behind: what
    is written again gets ids that a reader may have passed already."""

    def again(entry_id: bytes) -> bytes:
        number = int(entry_id.partition(b"-")[0])
        return entry_id if number <= kept else b"%d-%d" % (kept, number)

    def entries(stream: list[Entry]) -> list[Entry]:
        return [
            (again(i), {name: again(value) if name == b"l" else value for name, value in fields.items()})
            for i, fields in stream
        ]

    return Streams(entries(streams.events), entries(streams.log), streams.written)


@settings(max_examples=400)
@given(steps.filter(lambda done: len(done) > 2), portions, st.integers(0, 6), st.integers(0, 9), st.integers(0, 9))
def test_a_failover_to_a_redis_whose_clock_is_behind_loses_no_byte_and_gives_none_twice(
    done: list[tuple[int, str, bytes]], cuts: list[tuple[int, int]], n_events: int, n_log: int, kept: int
) -> None:
    streams, reader = written(sorted(done, key=lambda step: step[0])), ChannelReader("j")
    # The end is still to come: a reader that has it reads no more.
    before = Streams(streams.events[:-1], streams.log, streams.written)
    heard = reader.take(*before.after(reader, n_events, n_log))
    after = failed_over(streams, kept)
    for portion in cuts * 1000:
        events, log = after.after(reader, *portion)
        heard += reader.take(events, log)
        if portion[1] and not log:
            heard += reader.log_is_drained()
        if reader.is_done:
            break
        if not events and not log:
            last_event, last_log = [(s[-1][0] if s else b"0-0").decode() for s in (after.events, after.log)]
            reader.note_ends(last_event, last_log, at=kept / 1000)
    assert bytes_of(heard) == streams.written
    assert not [one for one in heard if isinstance(one.event, LogGap)]
    assert isinstance(heard[-1].event, Ended)


@pytest.mark.parametrize("n_read", [0, 1, 2, 3])
def test_a_log_whose_end_was_appended_again_after_the_end_was_read_is_read_in_any_portions(n_read: int) -> None:
    streams = written([(1, "base", b"a"), (2, "base", b"b"), (3, "base", b"c"), (4, "base", b"d"), (5, "", b"")])
    reader = ChannelReader("j")
    heard = reader.take(streams.events, streams.log[:n_read])
    after = [*streams.log[:1], *((b"1%d-0" % i, fields) for i, (_, fields) in enumerate(streams.log[1:]))]
    again = Streams(streams.events, after, streams.written)
    for _ in range(20):
        events, log = again.after(reader, 1, 1)
        heard += reader.take(events, log)
        if not log:
            heard += reader.log_is_drained()
        if reader.is_done:
            break
    assert reader.is_done
    assert bytes_of(heard) == streams.written
    assert not [one for one in heard if isinstance(one.event, LogGap)]


def test_a_failover_to_a_redis_with_the_same_clock_tells_nothing_again() -> None:
    reader = ChannelReader("j")
    streams = written([(1, "base", b"a"), (1, "base", b"b"), (2, "", b"")])
    reader.take(*streams.after(reader, 1, 2))
    assert not reader.note_ends("1-0", "1-0", at=0.004)
    assert (reader.event_id, reader.log_id) == ("3-0", "2-0")


def test_a_live_reader_does_not_mistake_other_chunks_for_a_broken_chain() -> None:
    former, newer = written([(1, "base", b"0123"), (1, "base", b"45")]), written([(1, "base", b"012345")])
    newer.log.append(written([(1, "base", b"012345"), (1, "base", b"67")]).log[1])
    reader = ChannelReader("j")
    heard = reader.take([], former.log)
    reader.note_generation("one")
    reader.note_generation("two")
    heard += reader.take([], newer.log)
    assert bytes_of(heard) == {(1, "base"): b"01234567"}
    assert not [one for one in heard if isinstance(one.event, LogGap)]


def test_the_same_generation_changes_nothing() -> None:
    reader = ChannelReader("j", Cursor("one", "5-0", "6-0", ((1, "base", 7),)))
    reader.note_generation("one")
    assert reader.cursor == Cursor("one", "5-0", "6-0", ((1, "base", 7),))


def test_a_reader_of_events_only_stays_one_when_redis_was_emptied() -> None:
    reader = ChannelReader("j", WITHOUT_LOG)
    reader.note_generation("one")
    reader.note_generation("two")
    assert reader.log_id == WITHOUT_LOG.log_id
    streams = written([(1, "base", b"unread")])
    assert [type(one.event) for one in reader.take(streams.events, [])] == [Ended]


def test_the_final_event_is_held_back_until_the_log_is_drained() -> None:
    streams = written([(1, "base", b"a"), (1, "base", b"b")])
    reader = ChannelReader("j")
    assert reader.take(streams.events, []) == []
    assert not reader.is_done
    assert reader.cursor.event_id == "0-0"
    assert [type(one.event) for one in reader.take([], streams.log[:1])] == [LogChunk]
    assert [type(one.event) for one in reader.take([], streams.log[1:])] == [LogChunk, Ended]
    assert (reader.is_done, reader.status) == (True, Status.SUCCEEDED)


def test_a_log_that_is_not_there_any_more_is_told_as_a_gap_before_the_end() -> None:
    streams = written([(1, "base", b"abc"), (1, "base", b"def")])
    reader = ChannelReader("j")
    reader.take(streams.events, streams.log[:1])
    gap, end = reader.log_is_drained()
    assert isinstance(gap.event, LogGap)
    assert (gap.event.start, gap.event.end) == (3, 6)
    assert isinstance(end.event, Ended)
    assert reader.log_is_drained() == []


def test_a_log_that_is_not_complete_has_a_gap_also_where_redis_was_emptied_before_it_was_read() -> None:
    streams = written([(1, "base", b"abc")], is_complete=False)
    reader = ChannelReader("j")
    reader.note_generation("one")
    assert [type(one.event) for one in reader.take([], streams.log)] == [LogChunk]
    late = [(event[0], {**event[1], b"l": b"9-0"}) for event in streams.events]  # the gap's entry is at 9-0
    assert reader.take(late, []) == []
    reader.note_generation("two")
    gap, end = reader.log_is_drained()
    assert isinstance(gap.event, LogGap)
    assert (gap.event.start, gap.event.end) == (3, None)
    assert isinstance(end.event, Ended)


def test_a_log_that_is_not_complete_needs_no_second_gap() -> None:
    streams = written([(1, "base", b"abc")], is_complete=False)
    told = as_entry("9-0", encode_gap(container="base", attempt=1, start=3, end=None, why="the pod was gone"))
    heard = ChannelReader("j").take(streams.events, [*streams.log, told])
    assert [one.event.why for one in heard if isinstance(one.event, LogGap)] == ["the pod was gone"]
    resumed = ChannelReader("j", heard[1].cursor)  # by a reader that was told of it, perhaps
    assert not [one for one in resumed.take(streams.events, []) if isinstance(one.event, LogGap)]


def test_the_end_tells_when_every_status_was_reached() -> None:
    (end,) = ChannelReader("j").take(written([]).events, [])
    assert isinstance(end.event, Ended)
    assert {name: at.timestamp() for name, at in end.event.result.times.items()} == {"queued": 1.5, "succeeded": 2.5}


@pytest.mark.parametrize("last", [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED])
def test_nothing_leaves_a_final_status(last: Status) -> None:
    streams = written([], last=last)
    reader = ChannelReader("j")
    reader.take(streams.events, [])
    late = as_entry("9-0", ("e", encode_event(StatusChanged(status=Status.RUNNING))))
    other_end = (b"10-0", written([]).events[0][1])
    assert reader.take([late, other_end], []) == []
    assert reader.status is last


def test_trimmed_chunks_are_a_gap_with_its_offsets() -> None:
    streams = written([(1, "base", b"abc"), (1, "base", b"def"), (1, "base", b"ghi")])
    heard = ChannelReader("j").take([], [streams.log[0], streams.log[2]])
    assert [(type(x.event), x.event.start) for x in heard] == [(LogChunk, 0), (LogGap, 3), (LogChunk, 6)]  # type: ignore[union-attr]
    assert heard[1].event.end == 6  # type: ignore[union-attr]


def test_a_chunk_that_was_tampered_with_is_told() -> None:
    streams = written([(1, "base", b"abc"), (1, "base", b"def")])
    streams.log[1][1][b"r"] = b"DEF"
    heard = ChannelReader("j").take(streams.events, streams.log)
    gaps = [x.event for x in heard if isinstance(x.event, LogGap)]
    assert "chained digest" in gaps[0].why
    assert (gaps[0].start, gaps[0].end) == (3, 3)


def test_a_log_that_is_not_what_the_result_says_is_told() -> None:
    streams = written([(1, "base", b"abc")])
    other = written([(1, "base", b"xyz")])
    gap, _ = ChannelReader("j").take(other.events, streams.log)[1:]
    assert isinstance(gap.event, LogGap)
    assert "digest" in gap.event.why


@pytest.mark.parametrize(("end", "expected"), [(9, 9), (None, None)])
def test_a_gap_on_the_wire_is_told_and_the_log_goes_on_behind_it(end: int | None, expected: int | None) -> None:
    gap = as_entry("1-0", encode_gap(container="base", attempt=1, start=0, end=end, why="rotated away"))
    after = as_entry("2-0", encode_chunk(container="base", attempt=1, start=end or 0, data=b"x", chain="ab" * 32))
    told, chunk = ChannelReader("j").take([], [gap, after])
    assert told.event == LogGap("base", 1, 0, expected, "rotated away")
    assert chunk.event == LogChunk("base", 1, end or 0, b"x")


def test_a_gap_that_the_reader_has_the_bytes_of_is_not_told() -> None:
    gap = as_entry("1-0", encode_gap(container="base", attempt=1, start=0, end=9, why="w"))
    assert ChannelReader("j", Cursor(ends=((1, "base", 9),))).take([], [gap]) == []


def test_an_event_of_a_newer_kind_is_passed_over() -> None:
    newer = as_entry("1-0", ("e", '{"kind": "smell"}'))
    reader = ChannelReader("j")
    assert reader.take([newer, as_entry("2-0", ("x", "y"))], []) == []
    assert reader.cursor.event_id == "2-0"


@given(st.binary(max_size=2000))
def test_a_chunk_carries_any_bytes(content: bytes) -> None:
    chunk = encode_chunk(container="base", attempt=1, start=0, data=content, chain=chain_next(NO_CHAIN, content))
    heard = ChannelReader("j").take([], [as_entry("1-0", chunk)])
    assert b"".join(x.event.data for x in heard if isinstance(x.event, LogChunk)) == content


def test_what_compresses_is_compressed_and_what_does_not_is_not() -> None:
    def size(content: bytes) -> int:
        chunk = encode_chunk(container="base", attempt=1, start=0, data=content, chain=NO_CHAIN)
        assert isinstance(chunk[-1], bytes)
        return len(chunk[-1])

    assert size(b"line\n" * 3000) < 1500
    assert size(b"short") == 5
    assert size(bytes(range(256)) * 4) <= 1024


def test_both_streams_of_a_read_are_told_apart() -> None:
    assert decode_xread([[b"s", [(b"1-0", {b"a": b"b"})]]]) == {b"s": [(b"1-0", {b"a": b"b"})]}
    assert decode_xread(None) == decode_xread([]) == {}
