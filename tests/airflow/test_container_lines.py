"""A container's lines: the same for any cut and any change of the reader; progress bars and giants are bounded."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_bridge.container_lines import CONTINUED, GOES_ON, MAX_LINE_BYTES, ContainerLine, LineAssembler
from dispatcher.events import Cursor, LogChunk

AT = datetime(2026, 1, 1, tzinfo=UTC)
LOG = st.lists(st.sampled_from([b"one\n", b"\n", "zwölf".encode(), b"\xff", b"\r\n", b"tail"]), max_size=12).map(
    b"".join
)
BARS = st.lists(st.sampled_from([b"\r", b"10%", b"20%", b" ", b"\n"]), max_size=20).map(b"".join)


def chunks(data: bytes, cuts: list[int], container: str = "base") -> list[LogChunk]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [LogChunk(container, 1, a, data[a:b]) for a, b in pairwise(places)]


def whole(data: bytes) -> list[ContainerLine]:
    lines = (x.removesuffix(b"\r") for x in data.split(b"\n"))
    return [ContainerLine("base", x.decode(errors="backslashreplace")) for x in lines if x]


@given(data=LOG, cuts=st.lists(st.integers(0, 100)))
def test_lines_do_not_depend_on_where_the_chunks_are_cut(data: bytes, cuts: list[int]) -> None:
    assembler, told = LineAssembler(), []
    for number, chunk in enumerate(chunks(data, cuts)):
        told += assembler.feed(chunk, f"{number}-0", AT)
    assert told + assembler.flush() == whole(data)


@given(
    data=LOG,
    other=LOG,
    cuts=st.lists(st.integers(0, 100)),
    other_cuts=st.lists(st.integers(0, 100)),
    order=st.randoms(use_true_random=False),
    stop=st.integers(0, 30),
)
@example(data=b"one\r\n", other=b"", cuts=[4], other_cuts=[], order=Random(0), stop=1)  # cut within the line's end
def test_a_successor_tells_exactly_what_was_not_told(
    data: bytes, other: bytes, cuts: list[int], other_cuts: list[int], order: object, stop: int
) -> None:
    """The channel as a list: entry n has the id ``n-0``; the reader behind a place drops bytes below its ends."""
    streams = [chunks(data, cuts), chunks(other, other_cuts, "side")]
    channel: list[LogChunk] = []
    while any(streams):
        channel.append(order.choice([stream for stream in streams if stream]).pop(0))  # type: ignore[attr-defined]
    told, place = read(channel[: stop % (len(channel) + 1)], channel, Cursor())
    rest, _ = read(channel, channel, place, at_end=True)
    for container, written in (("base", data), ("side", other)):
        lines = [line.text for line in told + rest if line.container == container]
        assert lines == [line.text for line in whole(written)]


def read(
    seen: list[LogChunk], channel: list[LogChunk], place: Cursor, *, at_end: bool = False
) -> tuple[list[ContainerLine], Cursor]:
    assembler, told = LineAssembler(), list[ContainerLine]()
    ends = {(attempt, container): end for attempt, container, end in place.ends}
    before = place.log_id
    for number, chunk in enumerate(channel[: len(seen)], start=1):
        if number <= int(before.partition("-")[0]):
            continue
        known = ends.get((1, chunk.container), 0)
        log_id_before, before = before, f"{number}-0"
        if chunk.end <= known:
            continue
        fresh = LogChunk(chunk.container, 1, known, chunk.data[known - chunk.start :])
        told += assembler.feed(fresh, log_id_before, AT)
        ends[(1, chunk.container)] = chunk.end
    cursor = Cursor(log_id=before, ends=tuple((a, c, end) for (a, c), end in ends.items()))
    return (told + assembler.flush(), cursor) if at_end else (told, assembler.resumable(cursor))


def test_an_earlier_attempts_rest_is_told_when_the_next_attempt_begins() -> None:
    assembler = LineAssembler()
    assembler.feed(LogChunk("base", 1, 0, b"cut o"), "0-0", AT)
    assert assembler.flush(before_attempt=1) == []
    assert assembler.flush(before_attempt=2) == [ContainerLine("base", "cut o")]


# Lines that are longer than is kept


@pytest.mark.parametrize("step", [1 << 20, 100_000, MAX_LINE_BYTES])
def test_a_line_too_long_to_keep_is_told_in_marked_pieces(step: int) -> None:
    data = ("x" + "é" * ((1 << 19) - 1)).encode() + b"\nnext\n"
    assembler, told = LineAssembler(), list[str]()
    for start in range(0, len(data), step):
        chunk = LogChunk("base", 1, start, data[start : start + step])
        told += [line.text for line in assembler.feed(chunk, f"{start}-0", AT)]
    *pieces, following = told
    assert following == "next"
    assert [piece.startswith(CONTINUED) for piece in pieces] == [False, True, True, True]
    assert [piece.endswith(GOES_ON) for piece in pieces] == [True, True, True, False]
    joined = "".join(piece.removeprefix(CONTINUED).removesuffix(GOES_ON) for piece in pieces)
    assert joined.encode() == data.partition(b"\n")[0]  # no character is cut in two


def test_a_line_without_end_is_not_kept() -> None:
    assembler, cursor = LineAssembler(), Cursor(log_id="2-0", ends=((1, "base", MAX_LINE_BYTES + 1),))
    (told,) = assembler.feed(LogChunk("base", 1, 0, b"x" * (MAX_LINE_BYTES + 1)), "1-0", AT)
    assert len(told.text) == MAX_LINE_BYTES + len(GOES_ON)
    assert assembler.resumable(cursor).ends == ((1, "base", MAX_LINE_BYTES),)
    assert [line.text for line in assembler.flush()] == [f"{CONTINUED}x"]


# Lines that are written over and over


def bar(seconds: float, *pieces: bytes, pause_s: float) -> list[str]:
    """What is told while a bar moves, one chunk after another, and at its end."""
    assembler, told, start = LineAssembler(), list[str](), 0
    for number, data in enumerate(pieces):
        chunk, at = LogChunk("base", 1, start, data), AT + timedelta(seconds=seconds + number * pause_s)
        told += [line.text for line in assembler.feed(chunk, f"{number}-0", at)]
        start += len(data)
    return told + [line.text for line in assembler.flush()]


def test_a_bar_is_seen_while_it_moves_one_state_a_line() -> None:
    states = [f"\r{percent}%".encode() for percent in range(0, 101, 10)]
    assert bar(0, *states, b"\n", b"done\n", pause_s=1.0) == [
        *(f"{percent}%" for percent in range(0, 101, 10)),
        "done",
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r   \r\n"])
def test_of_a_bar_that_comes_at_once_its_last_state_is_told(end: bytes) -> None:
    assert bar(0, b"0%\r50%\r\r100%" + end, pause_s=0) == ["100%"]


def test_a_bar_that_moves_for_hours_makes_no_flood() -> None:
    told = bar(0, *(b"\r%d" % number for number in range(36_000)), pause_s=0.2)
    assert told[-1] == "35999"
    assert 50 < len(told) < 200


@given(data=BARS, cuts=st.lists(st.integers(0, 100)))
def test_what_stands_at_a_lines_end_is_told_wherever_the_chunks_are_cut(data: bytes, cuts: list[int]) -> None:
    stand = [[state for state in line.split(b"\r") if state.strip()][-1:] for line in data.split(b"\n")]
    assembler, told = LineAssembler(), list[str]()
    for number, chunk in enumerate(chunks(data, cuts)):
        told += [line.text for line in assembler.feed(chunk, f"{number}-0", AT + timedelta(hours=number))]
    told += [line.text for line in assembler.flush()]
    remaining = iter(told)
    assert all(state.decode() in remaining for states in stand for state in states)  # in this order
    assert len(told) <= len(chunks(data, cuts)) + data.count(b"\n") + 1


@given(cuts=st.lists(st.integers(0, 2000), max_size=50))
def test_of_a_bar_nothing_is_kept_but_its_last_state(cuts: list[int]) -> None:
    assembler, data = LineAssembler(), b"".join(b"\r%3d%%" % number for number in range(400))
    for number, chunk in enumerate(chunks(data, cuts)):
        assembler.feed(chunk, f"{number}-0", AT)
        (kept,) = [chunk.end - end for _, _, end in assembler.resumable(Cursor(ends=((1, "base", chunk.end),))).ends]
        assert kept <= 10
