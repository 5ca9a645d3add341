"""A task's log: the same lines for any cut and any change of the reader between two chunks; hooks in their order."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_bridge.container_lines import MAX_LINE_BYTES, ContainerLine, LineAssembler
from airflow_bridge.task_log import Line, Style, TaskLog, level_of
from dispatcher.events import Cursor, JobUpdate, LogChunk, StatusChanged
from dispatcher.status import Status

LOG = st.lists(st.sampled_from([b"one\n", b"\n", "zwölf".encode(), b"\xff", b"\r\n", b"tail"]), max_size=12).map(
    b"".join
)


def chunks(data: bytes, cuts: list[int], container: str = "base") -> list[LogChunk]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [LogChunk(container, 1, a, data[a:b]) for a, b in pairwise(places)]


def whole(data: bytes) -> list[ContainerLine]:
    return [ContainerLine("base", x.decode(errors="backslashreplace")) for x in data.split(b"\n") if x]


@given(data=LOG, cuts=st.lists(st.integers(0, 100)))
def test_lines_do_not_depend_on_where_the_chunks_are_cut(data: bytes, cuts: list[int]) -> None:
    assembler, told = LineAssembler(), []
    for number, chunk in enumerate(chunks(data, cuts)):
        told += assembler.feed(chunk, f"{number}-0")
    assert told + assembler.flush() == whole(data)


@given(
    data=LOG,
    other=LOG,
    cuts=st.lists(st.integers(0, 100)),
    other_cuts=st.lists(st.integers(0, 100)),
    order=st.randoms(use_true_random=False),
    stop=st.integers(0, 30),
)
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
        told += assembler.feed(fresh, log_id_before)
        ends[(1, chunk.container)] = chunk.end
    cursor = Cursor(log_id=before, ends=tuple((a, c, end) for (a, c), end in ends.items()))
    return (told + assembler.flush(), cursor) if at_end else (told, assembler.resumable(cursor))


def test_a_line_without_end_is_told_in_pieces() -> None:
    assembler = LineAssembler()
    told = assembler.feed(LogChunk("base", 1, 0, b"x" * (MAX_LINE_BYTES + 1)), "0-0")
    assert [len(line.text) for line in told] == [MAX_LINE_BYTES + 1]
    assert assembler.flush() == []


def test_an_earlier_attempts_rest_is_told_when_the_next_attempt_begins() -> None:
    assembler = LineAssembler()
    assembler.feed(LogChunk("base", 1, 0, b"cut o"), "0-0")
    assert assembler.flush(before_attempt=1) == []
    assert assembler.flush(before_attempt=2) == [ContainerLine("base", "cut o")]


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("hello", 20),
        ("ERROR: no", 40),
        ("[warn] hm", 30),
        ("  DEBUG - x", 10),
        ("FATAL x", 50),
        ("critical", 50),
        ("information", 20),
        ("an ERROR", 20),
    ],
)
def test_a_lines_own_prefix_is_its_level_as_in_kpo(text: str, level: int) -> None:
    from airflow.providers.cncf.kubernetes.utils.pod_manager import _parse_log_level

    assert level_of(text) == _parse_log_level(text)
    if text != "information":
        assert level_of(text) == level


def rendered(log: TaskLog, event: object) -> list[str]:
    """What is due: lines as they are, hooks by name and pod."""
    update = JobUpdate("j", event, Cursor(), datetime(2026, 1, 1, tzinfo=UTC))  # type: ignore[arg-type]
    due = log.render(update)
    return [one.text if isinstance(one, Line) else f"{one.hook} of {one.pod and one.pod.metadata.name}" for one in due]


def test_hooks_are_due_once_for_each_pod_and_after_the_line_that_says_why() -> None:
    log = TaskLog(Style())
    starting = StatusChanged(status=Status.STARTING, pod="p-1", namespace="n", attempt=1)
    running = starting.model_copy(update={"status": Status.RUNNING})
    again = starting.model_copy(update={"pod": "p-2", "attempt": 2})
    assert rendered(log, StatusChanged(status=Status.QUEUED)) == ["Job j is QUEUED"]
    assert rendered(log, starting) == ["Job j is STARTING: pod n/p-1", "on_pod_creation of p-1"]
    assert rendered(log, running) == ["Job j is RUNNING: pod n/p-1", "on_pod_starting of p-1"]
    assert rendered(log, running) == []
    assert rendered(log, LogChunk("base", 1, 0, b"x\ny")) == ["[base] x", "progress_callback of p-1"]
    assert rendered(log, again) == [
        "[base] y",
        "progress_callback of p-1",
        "Job j is STARTING: pod n/p-2 (attempt 2)",
        "on_pod_creation of p-2",
    ]


def test_a_pod_that_is_first_seen_running_has_both_hooks() -> None:
    running = StatusChanged(status=Status.RUNNING, pod="p", namespace="n", attempt=1)
    assert rendered(TaskLog(Style()), running)[1:] == ["on_pod_creation of p", "on_pod_starting of p"]
