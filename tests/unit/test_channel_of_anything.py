"""A reader takes anything that stands in a stream: what it cannot read is told and passed over, in bounded memory, and
the job's end is told in any case."""

import itertools
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.channel import MAX_CHUNK_BYTES, Entry, encode_chunk
from dispatcher.channel_reader import ChannelReader
from dispatcher.cli import words
from dispatcher.cursor import MAX_ENDS, Cursor
from dispatcher.errors import InvalidCursorError
from dispatcher.events import (
    MAX_EVENT_BYTES,
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
from dispatcher.status import FailureReason, Status


def entry(number: int, *arguments: Any) -> Entry:
    def raw(value: Any) -> bytes:
        return value if isinstance(value, bytes) else str(value).encode()

    fields = dict(zip(map(raw, arguments[::2]), map(raw, arguments[1::2]), strict=True))
    return b"%d-0" % number, fields


FIRST, REST = b"first\n", b"rest\n"
CHAINS = list(itertools.accumulate([FIRST, b"lost\n", REST], chain_next, initial=NO_CHAIN))
GOOD = {"c": "base", "a": 1, "s": 6, "h": bytes.fromhex(CHAINS[2]), "r": b"lost\n"}
GAP = {"c": "base", "a": 1, "s": 6, "e": 11, "g": "why"}


def read_beside(odd: dict[Any, Any]) -> list[Heard]:
    """What a reader hears where the second of three log entries is an odd one."""
    fields = [part for pair in odd.items() for part in pair]
    log = [
        entry(1, *encode_chunk(container="base", attempt=1, start=0, data=FIRST, chain=CHAINS[1])),
        entry(2, *fields) if fields else entry(2, "x", "y"),
        entry(3, *encode_chunk(container="base", attempt=1, start=11, data=REST, chain=CHAINS[3])),
    ]
    summary = LogSummary(bytes=16, sha256=CHAINS[3], is_complete=True)
    result = JobResult(job_id="j", status=Status.SUCCEEDED, attempt=1, logs={"base": summary})
    end = entry(4, "e", encode_event(Ended(result=result)), "l", "3-0", "t", "succeeded=1.5")
    reader = ChannelReader("j")
    heard = reader.take([end], log)
    assert reader.is_done
    assert isinstance(heard[-1].event, Ended)
    for one in heard:
        json.dumps(words.as_object(one))
        (words.line(one) or "").encode()
        Cursor.decode(one.cursor.encode())
    return heard


JUNK: list[bytes] = [
    *(
        b"",
        b"x",
        b"-1",
        b"1e3",
        b"nan",
        b"9" * 40,
        b"9" * 17,
        b"\xff\xfe",
        b"\0",
        b"base/x",
        b"a:b,c",
        b"x" * 300,
        b"1.5",
    ),
    zlib.compress(b"lost\n")[:-3],
    zlib.compress(b"\0" * (8 << 20), 9),
    b"x" * (MAX_CHUNK_BYTES + 1),
    b"[" * 9000,
]


@pytest.mark.parametrize("name", ["c", "a", "s", "h", "r", "z", "e", "g", "new"])
@pytest.mark.parametrize("good", [GOOD, GAP], ids=["chunk", "gap"])
def test_an_odd_field_of_a_log_entry_costs_that_entry_only(good: dict[str, Any], name: str) -> None:
    for odd in [*({**good, name: junk} for junk in JUNK), {k: v for k, v in good.items() if k != name}]:
        heard = read_beside(odd)
        chunks = [x.event for x in heard if isinstance(x.event, LogChunk)]
        assert chunks[0].data == FIRST
        assert chunks[-1].data == REST or odd[name] in [x.data for x in chunks], (
            "data of another length goes on further"
        )
        if b"".join(x.data for x in chunks) != FIRST + b"lost\n" + REST:
            assert any(isinstance(x.event, LogGap | Notice) for x in heard), "what is missing, or another, is told"


raw = st.binary(max_size=30) | st.sampled_from(JUNK)


@given(st.dictionaries(st.sampled_from("casehrzgx").map(str.encode) | st.binary(max_size=3), raw, max_size=8))
def test_any_log_entry_is_passed_over(fields: dict[bytes, bytes]) -> None:
    read_beside(fields)


@given(st.dictionaries(st.sampled_from([b"e", b"l", b"t", b"x"]), raw, max_size=4))
def test_any_event_is_passed_over_and_the_end_is_told(fields: dict[bytes, bytes]) -> None:
    reader = ChannelReader("j")
    end = Ended(result=JobResult(job_id="j", status=Status.FAILED))
    heard = reader.take([(b"1-0", fields), entry(2, "e", encode_event(end), "l", "0-0", "t", "")], [])
    heard += reader.log_is_drained()
    assert isinstance(heard[-1].event, Ended)
    assert reader.is_done


def test_a_bomb_is_a_gap_and_takes_no_more_memory_than_a_chunk() -> None:
    bomb = zlib.compress(b"\0" * (256 << 20), 9)
    tracemalloc.start()
    heard = read_beside({"c": "base", "a": 1, "s": 6, "h": bytes(32), "z": bomb})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * MAX_CHUNK_BYTES
    (gap,) = [x.event for x in heard if isinstance(x.event, LogGap)]
    assert (gap.container, gap.start, gap.end) == ("base", 6, None)
    assert "cannot be read: more than 1048576 bytes" in gap.why


def test_an_event_that_cannot_be_read_is_a_notice() -> None:
    odd = [
        b"{",
        b"\xff",
        b"[" * 5000,
        b'{"kind":"status","status":"HALTED"}',
        b'{"kind":"notice","text":"' + b"x" * MAX_EVENT_BYTES,
        b'{"kind":"notice","text":5}',
    ]
    reader = ChannelReader("j")
    told = [heard.event for n, text in enumerate(odd, 1) for heard in reader.take([entry(n, "e", text)], [])]
    assert [type(event) for event in told] == [Notice] * len(odd)
    assert "event 4-0 cannot be read" in told[3].text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("times", "status", "reason"),
    [
        ("queued=1.5 succeeded=2.5", Status.FAILED, FailureReason.RETURN_VALUE),
        ("queued=1.5 failed=2.5", Status.FAILED, None),
        ("cancelled=2.5", Status.CANCELLED, None),
        ("failed=nan junk =", Status.FAILED, None),
    ],
)
@pytest.mark.parametrize(
    "text", ["{", '{"kind":"ended"}', '{"kind":"ended","result":{"return_value":' + "[" * 255 + "]" * 255 + "}}"]
)
def test_an_end_that_cannot_be_read_is_an_end(
    text: str, times: str, status: Status, reason: FailureReason | None
) -> None:
    reader = ChannelReader("j")
    (heard,) = reader.take([entry(1, "e", text, "l", "0-0", "t", times)], [])
    assert isinstance(heard.event, Ended)
    result = heard.event.result
    assert (result.job_id, result.status, result.reason, result.log_complete) == ("j", status, reason, False)
    assert "cannot be read" in result.message
    assert reader.is_done


def test_a_log_end_that_is_no_id_holds_no_end_back() -> None:
    for log_end in ("x", "", "9" * 400, "1", "-1-0", "18446744073709551615-18446744073709551615"):
        reader = ChannelReader("j")
        end = Ended(result=JobResult(job_id="j", status=Status.FAILED))
        heard = reader.take([entry(1, "e", encode_event(end), "l", log_end, "t", "")], []) + reader.log_is_drained()
        assert [type(x.event) for x in heard] == [Ended]


def test_more_containers_than_a_job_can_have_take_no_more_places() -> None:
    reader = ChannelReader("j")
    for first in range(0, 3 * MAX_ENDS, 256):
        chunks = (
            encode_chunk(container=f"c{n}", attempt=1, start=0, data=b"x", chain="0" * 64)
            for n in range(first, first + 256)
        )
        heard = reader.take([], [entry(first + i, *chunk) for i, chunk in enumerate(chunks, 1)])
    assert len(reader.cursor.ends) == MAX_ENDS
    assert Cursor.decode(heard[-1].cursor.encode()) == reader.cursor


def test_an_id_that_is_no_time_has_one_nevertheless() -> None:
    (heard,) = ChannelReader("j").take(
        [(b"18446744073709551615-5", {b"e": encode_event(Notice(text="x")).encode()})], []
    )
    assert heard.at.astimezone().isoformat()


def test_a_status_of_this_version_is_told_after_anything() -> None:
    reader = ChannelReader("j")
    good = encode_event(StatusChanged(status=Status.RUNNING))
    heard = reader.take([entry(1, "e", "junk"), entry(2, "e", good)], [entry(1, "c", "base")])
    assert {type(x.event) for x in heard} == {Notice, StatusChanged}
    assert reader.status is Status.RUNNING


@pytest.mark.parametrize(
    "text",
    [
        *("g/x/y/", "///", "g/1-0/1-0/1:base:-5", "g/1-0/1-0/1:base:" + "9" * 21, "g/18446744073709551616-0/0-0/"),
        *("g/1-0/1-0/-1:base:5", "g/1-0/1-0/1:a/b:5", "g/1-0/1-0/1:base:5,", "g/1-0/1-0/,", "g/1-0/1-0/١:base:5"),
        *("g/1-0/1-0/1:base:1e3", "g g/1-0/1-0/", "g/1-0/1-0/\n", "g/" + "1" * 5000 + "-0/0-0/", "\ud800", "\0"),
        *("g/+1-0/0-0/", "g/1_0-0/0-0/", "g/ 1-0/0-0/", "g/0-0/0-0/" + "1:base:1," * 200_000),
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_what_is_no_cursor_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(InvalidCursorError, match="is no cursor") as refused:
        Cursor.decode(text)
    assert isinstance(refused.value, ValueError)
    assert len(str(refused.value)) < 400
    str(refused.value).encode()


@given(st.text(alphabet="g0123456789-/:,base.", max_size=60) | st.text(max_size=40))
def test_any_text_is_a_cursor_that_redis_takes_or_none(text: str) -> None:
    try:
        cursor = Cursor.decode(text)
    except ValueError:
        return
    for place in (cursor.event_id, cursor.log_id):
        assert all(0 <= int(part) < 2**64 for part in place.split("-"))
    assert Cursor.decode(cursor.encode()) == cursor
