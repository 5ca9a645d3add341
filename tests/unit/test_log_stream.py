import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.record import NO_CHAIN, Checkpoint, chain_next
from tests.support.recordings import log
from worker.logs.stream import Chunk, LogLines

RECORDED = [
    ("log-follow-details", "&follow=true&timestamps=true"),
    ("log-same-timestamps-burst", "&timestamps=true"),
    ("log-interleaved-streams", "&timestamps=true"),
    ("log-follow-across-delete", "&follow=true&timestamps=true"),
    ("success", "&timestamps=true"),
]
SECOND_NS = 10**9


@dataclass(frozen=True)
class Line:
    """One line of a container as the kubelet keeps it; ``payload`` includes the newline, if there is one."""

    at_ns: int
    payload: bytes
    zone: str = "Z"

    @property
    def timestamp(self) -> str:
        whole = datetime.fromtimestamp(self.at_ns // SECOND_NS, UTC)
        return f"{whole:%Y-%m-%dT%H:%M:%S}.{self.at_ns % SECOND_NS:09}{self.zone}"

    @property
    def raw(self) -> bytes:
        return self.timestamp.encode() + b" " + self.payload


def payload_of(lines: list[Line]) -> bytes:
    return b"".join(line.payload for line in lines)


def stream_of(lines: list[Line], *, since: str = "") -> bytes:
    """What the log endpoint streams; ``since`` is an exact timestamp of one of the lines, less one second."""
    if not since:
        return b"".join(line.raw for line in lines)
    limit_ns = next(line.at_ns for line in lines if line.timestamp == since) - SECOND_NS
    return b"".join(line.raw for line in lines if line.at_ns >= limit_ns)


def read(lines: LogLines, raw: bytes, *, cut: int = 10_000, max_bytes: int = 16_000) -> list[Chunk]:
    pieces = []
    for i in range(0, len(raw), cut):
        lines.feed(raw[i : i + cut])
        while piece := lines.take(max_bytes):
            pieces.append(piece)
    lines.end()
    while piece := lines.take(max_bytes):
        pieces.append(piece)
    return pieces


def join(pieces: list[Chunk]) -> bytes:
    return b"".join(piece.data for piece in pieces)


def split_lines(raw: bytes) -> list[bytes]:
    return [line + b"\n" for line in raw.split(b"\n")[:-1]] + ([raw.rsplit(b"\n", 1)[-1]] if raw[-1:] != b"\n" else [])


@pytest.mark.parametrize(("situation", "query"), RECORDED)
@pytest.mark.parametrize("cut", [1, 7, 31, 4096, 10**6])
def test_the_payload_of_a_recorded_log_is_what_the_container_wrote(situation: str, query: str, cut: int) -> None:
    raw = log(situation, query=query)
    expected = b"".join(line[31:] for line in split_lines(raw))
    assert join(read(LogLines(), raw, cut=cut)) == expected


def test_what_the_container_wrote_equals_the_log_without_timestamps() -> None:
    with_timestamps = log("success", query="&timestamps=true")
    assert join(read(LogLines(), with_timestamps)) == log("success", query="")


@pytest.mark.parametrize(("situation", "query"), RECORDED)
def test_a_recorded_log_can_be_resumed_at_every_piece(situation: str, query: str) -> None:
    raw = log(situation, query=query)
    whole = join(read(LogLines(), raw))
    for piece in read(LogLines(), raw, max_bytes=2000):
        rest = LogLines(piece.checkpoint)
        assert join(read(rest, raw)) == whole[piece.checkpoint.end :]
        assert rest.found
        assert rest.checkpoint.end == len(whole)


def test_a_recorded_answer_since_the_checkpoints_second_is_enough_to_resume() -> None:
    whole = log("log-follow-details", query="&timestamps=true")
    since = log("log-follow-details", query="&timestamps=true&sinceTime=2026-11-22T09%3A07%3A54Z")
    first = LogLines()
    read(first, whole[: whole.index(b"2026-11-22T09:07:54.517")])
    rest = read(LogLines(first.checkpoint), since)
    assert join(rest) == b"tick 18\ntick 19\nno newline at end"


def test_a_line_without_newline_goes_on_where_it_was_left() -> None:
    first = LogLines()
    assert join(read(first, b"2026-11-22T09:07:54.921679974Z no newline at")) == b"no newline at"
    rest = LogLines(first.checkpoint)
    assert join(read(rest, b"2026-11-22T09:07:54.921679974Z no newline at end\n")) == b" end\n"
    assert rest.checkpoint.line_bytes == len("no newline at end\n")


@pytest.mark.parametrize("kept", range(1, 31))
def test_an_unfinished_timestamp_is_never_published(kept: int) -> None:
    timestamp = b"2026-11-22T09:07:54.921679974Z "
    lines = LogLines()
    assert join(read(lines, timestamp + b"whole\n" + timestamp[:kept])) == b"whole\n"
    assert lines.buffered_bytes == 0
    assert lines.foreign == b""


def test_an_unfinished_timestamp_is_held_back_until_the_rest_comes() -> None:
    lines = LogLines()
    lines.feed(b"2026-11-22T09:07:54.92167")
    assert lines.take(100) is None
    lines.feed(b"9974Z hello")
    piece = lines.take(100)
    assert piece is not None
    assert piece.data == b"hello"


def test_a_piece_that_ends_within_a_line_says_so() -> None:
    lines = LogLines()
    lines.feed(b"2026-11-22T09:07:54.921679974Z " + b"x" * 40_000 + b"\n")
    piece = lines.take(16_000)
    assert piece is not None
    assert piece.data == b"x" * 16_000
    place = piece.checkpoint
    assert (place.end, place.nth, place.line_bytes) == (16_000, 1, 16_000)
    assert place.line_sha256 == hashlib.sha256(b"x" * 16_000).hexdigest()
    assert place.chain == chain_next(NO_CHAIN, piece.data)


def test_the_nth_line_of_one_timestamp_is_counted_across_pieces() -> None:
    same = b"2026-11-22T09:07:54.921679974Z same\n"
    pieces = read(LogLines(), same * 9, cut=10, max_bytes=12)
    assert pieces[-1].checkpoint.nth == 9
    assert join(read(LogLines(pieces[3].checkpoint), same * 9)) == b"same\n" * (9 - pieces[3].checkpoint.nth)


def test_lines_of_one_timestamp_are_counted_anew_after_another() -> None:
    """A clock that steps back can bring a timestamp again."""
    raw = b"2026-11-22T09:07:54.000000005Z a\n2026-11-22T09:07:54.000000009Z b\n2026-11-22T09:07:54.000000005Z c\n"
    (piece,) = read(LogLines(), raw)
    assert piece.checkpoint.nth == 1
    rest = LogLines(piece.checkpoint)
    assert join(read(rest, raw + b"2026-11-22T09:07:54.000000006Z d\n")) == b"d\n"
    assert rest.found


def test_the_checkpoints_line_counts_only_with_its_own_content() -> None:
    first = LogLines()
    read(first, b"2026-11-22T09:07:54.000000001Z this\n")
    rest = LogLines(first.checkpoint)
    assert read(rest, b"2026-11-22T09:07:54.000000001Z that\n2026-11-22T09:07:55.000000001Z more\n") == []
    assert not rest.found


def test_the_checkpoints_line_cut_short_is_not_found() -> None:
    first = LogLines()
    read(first, b"2026-11-22T09:07:54.000000001Z a long line\n")
    rest = LogLines(first.checkpoint)
    assert read(rest, b"2026-11-22T09:07:54.000000001Z a lo") == []
    assert not rest.found


def test_much_younger_lines_hint_that_the_checkpoints_line_was_passed() -> None:
    first = LogLines()
    read(first, b"2026-11-22T09:07:54.000000001Z gone\n")
    rest = LogLines(first.checkpoint)
    rest.feed(b"2026-11-22T09:07:55.000000001Z young\n")
    assert not rest.has_passed
    rest.feed(b"2026-11-22T09:07:59.000000001Z younger\n")
    assert rest.has_passed
    assert not rest.found


def test_after_a_gap_everything_is_taken_and_counted_on() -> None:
    first = LogLines()
    read(first, b"2026-11-22T09:07:54.000000001Z gone\n")
    rest = LogLines(first.checkpoint, is_gap=True)
    (piece,) = read(rest, b"2026-11-22T09:08:54.000000001Z later\n")
    assert (piece.start, piece.data, piece.checkpoint.end) == (5, b"later\n", 11)
    assert piece.checkpoint.chain == chain_next(first.checkpoint.chain, b"later\n")


def test_the_rest_of_an_older_line_before_the_checkpoints_is_passed_over() -> None:
    first = LogLines()
    read(first, b"2026-11-22T09:07:54.000000001Z mine\n")
    rest = LogLines(first.checkpoint)
    raw = b"rest of a long line\n2026-11-22T09:07:54.000000001Z mine\n2026-11-22T09:07:54.000000002Z next\n"
    assert join(read(rest, raw)) == b"next\n"
    assert rest.foreign == b""


def test_text_in_place_of_a_log_is_not_user_output() -> None:
    error = log("restart-on-failure", query="&previous=true")
    lines = LogLines()
    assert read(lines, error, cut=13) == []
    assert lines.foreign == error


def test_text_of_the_kubelet_between_lines_is_put_aside() -> None:
    line = b"2026-11-22T09:07:54.000000001Z mine\n"
    lines = LogLines()
    assert join(read(lines, line + b"failed to watch: too many open files\n" + line, cut=11)) == b"mine\nmine\n"
    assert lines.foreign == b"failed to watch: too many open files\n"
    assert lines.checkpoint.nth == 2


def test_user_output_that_looks_like_a_timestamp_is_kept() -> None:
    stamp = b"2026-11-22T09:07:54.000000001Z "
    wrote = stamp + b"x" * 50 + b"\n" + stamp + b"\n"
    raw = b"".join(stamp + line for line in split_lines(wrote))
    for cut in (1, 40, 1000):
        for max_bytes in (1, 5, 45, 1000):
            assert join(read(LogLines(), raw, cut=cut, max_bytes=max_bytes)) == wrote


def test_a_checkpoint_survives_its_text_form() -> None:
    (piece,) = read(LogLines(), b"2026-11-22T09:07:54.000000001Z mine\n")
    assert Checkpoint.decode(piece.checkpoint.encode()) == piece.checkpoint


contents = st.one_of(
    st.sampled_from(
        [b"", b"a", b"same", b"carriage\rreturn", b"\xff\xfe", b"2026-11-22T09:07:54.921679974Z ", b"x" * 40_000]
    ),
    st.binary(max_size=60).map(lambda b: b.replace(b"\n", b"")),
)
# Mostly one timestamp for many lines; now and then a leap; few steps back, by less than sinceTime's margin in all, and
# by an amount that never meets an earlier timestamp again.
leaps_ns = st.sampled_from([0, 0, 0, 7, 3 * SECOND_NS])


@st.composite
def outputs(draw: st.DrawFn) -> list[Line]:
    texts = draw(st.lists(contents, min_size=1, max_size=25))
    zone = draw(st.sampled_from(["Z", "Z", "+05:30"]))
    steps_back = draw(st.sets(st.integers(0, len(texts)), max_size=2))
    at_ns, lines = 1_795_338_474 * SECOND_NS + 999_999_990, []
    for i, text in enumerate(texts):
        at_ns += -400_000_001 if i in steps_back else draw(leaps_ns)
        lines.append(Line(at_ns, text + b"\n", zone))
    if draw(st.booleans()):
        lines[-1] = Line(lines[-1].at_ns, lines[-1].payload[:-1], zone)
    return lines if lines[-1].payload else lines[:-1]


@settings(max_examples=200, deadline=None)
@given(lines=outputs(), data=st.data())
def test_pieces_of_any_connections_join_to_what_the_container_wrote(lines: list[Line], data: st.DataObject) -> None:
    """However often the stream breaks, wherever, and whether each new one is whole or since the checkpoint."""
    got, place = b"", None
    for is_last in [False] * data.draw(st.integers(0, 4)) + [True]:
        since = place.timestamp if place is not None and data.draw(st.booleans()) else ""
        raw = stream_of(lines, since=since)
        if not is_last:
            raw = raw[: data.draw(st.integers(0, len(raw)))]
        reader = LogLines(place)
        cut, max_bytes = data.draw(st.sampled_from([1000, 1, 33, 10**6])), data.draw(st.integers(1, 20_000))
        for piece in read(
            reader, raw, cut=cut if len(raw) < 3000 else max(cut, 900), max_bytes=max(max_bytes, len(raw) // 100)
        ):
            assert piece.start == len(got)
            got += piece.data
            place = piece.checkpoint
            assert place.end == len(got)
        assert reader.foreign == b""
        assert reader.found or not is_last
    assert got == payload_of(lines)


@settings(max_examples=100, deadline=None)
@given(lines=outputs(), data=st.data())
def test_pieces_lie_end_to_end_and_each_can_be_resumed_after(lines: list[Line], data: st.DataObject) -> None:
    wrote, raw = payload_of(lines), stream_of(lines)
    reader, end = LogLines(), 0
    while raw:
        size = data.draw(st.integers(1, max(1000, len(raw) // 3)))
        reader.feed(raw[:size])
        raw = raw[size:]
        if piece := reader.take(data.draw(st.integers(1, 50_000))):
            assert piece.start == end
            end = piece.checkpoint.end
            assert piece.data == wrote[piece.start : end]
            assert join(read(LogLines(piece.checkpoint), stream_of(lines))) == wrote[end:]


def test_ordinary_lines_are_read_fast_enough() -> None:
    raw = b"".join(
        b"2026-11-22T09:07:54.%09dZ an ordinary line of some eighty bytes, as %06d %s\n" % (i, i, b"x" * 30)
        for i in range(40_000)
    )
    cpu_s = time.process_time()
    assert len(join(read(LogLines(), raw, cut=65_536))) == len(raw) - 31 * 40_000
    mb_per_s = len(raw) / 1e6 / (time.process_time() - cpu_s)
    assert mb_per_s > 20  # measured: about 100; the bound only catches a change of order
