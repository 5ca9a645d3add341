"""Every end that a reader can come to, and every way to it, step by step, without a Redis."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from dispatcher.channel import WITHOUT_LOG, Entry, encode_chunk
from dispatcher.errors import JobUnknownError, PodrelayError, RedisUnavailableError
from dispatcher.events import Cursor, Ended, Heard, JobResult, LogSummary, Silence, StatusChanged, encode_event
from dispatcher.reader import JobReader, Next, Position, after_look
from dispatcher.record import NO_CHAIN, UNREADABLE, chain_next
from dispatcher.status import Status
from dispatcher.steps import Presence

AT_WORK = Presence(
    at=1000.0,
    generation="g",
    status=Status.RUNNING,
    owner="w1",
    owner_is_alive=True,
    queue="gpu",
    is_overdue=False,
    workers_alive=1,
    last_seen_at=None,
    owner_last_seen_at=None,
    namespace="",
    last_event_id="1-0",
    last_log_id="0-0",
)
ENDED = replace(AT_WORK, status=Status.SUCCEEDED, owner="", owner_is_alive=False, last_event_id="9-0")
GONE = replace(AT_WORK, status=None, owner="", owner_is_alive=False, queue="", last_event_id="0-0")
ALONE = replace(AT_WORK, owner_is_alive=False, workers_alive=0)
ODD = replace(AT_WORK, status=Status.carried(UNREADABLE))
OVERDUE = replace(AT_WORK, status=Status.QUEUED, owner="", owner_is_alive=False, workers_alive=0, is_overdue=True)

CHUNKS = (b"one ", b"two ")
BEHIND_THE_END = Cursor("g", "9-0", "3-0", ((1, "base", 8),))
BEYOND = Cursor("g", "2000000-0", "2000000-0", ((1, "base", 8),))  # of a Redis whose clock was ahead


def entry(entry_id: str, *fields: object) -> Entry:
    raw = [x if isinstance(x, bytes) else str(x).encode() for x in fields]
    return entry_id.encode(), dict(zip(raw[::2], raw[1::2], strict=True))


def moved(entry_id: str = "1-0") -> Entry:
    return entry(entry_id, "e", encode_event(StatusChanged(status=Status.RUNNING, attempt=1)))


def chunk(number: int) -> Entry:
    """The first (2-0) or second (3-0) of the log's chunks."""
    chain = NO_CHAIN
    for data in CHUNKS[: number + 1]:
        chain = chain_next(chain, data)
    start = sum(map(len, CHUNKS[:number]))
    made = encode_chunk(container="base", attempt=1, start=start, data=CHUNKS[number], chain=chain)
    return entry(f"{2 + number}-0", *made)


def the_end(entry_id: str = "9-0") -> Entry:
    whole = b"".join(CHUNKS)
    chain = chain_next(chain_next(NO_CHAIN, CHUNKS[0]), CHUNKS[1])
    logs = {"base": LogSummary(bytes=len(whole), sha256=chain, is_complete=True)}
    result = JobResult(job_id="j", status=Status.SUCCEEDED, attempt=1, logs=logs)
    return entry(entry_id, "e", encode_event(Ended(result=result)), "l", "3-0")


@dataclass(frozen=True)
class Read:
    events: Sequence[Entry] = ()
    log: Sequence[Entry] = ()
    generation: str = "g"
    asked: Position | None = None  #: None: where the reader stands


@dataclass(frozen=True)
class Look:
    present: Presence
    now: float = 0.0
    asked: Position | None = None


@dataclass(frozen=True)
class Away:
    for_s: float


def told(updates: Sequence[Heard]) -> str:
    """``StatusChanged LogChunk no_worker``"""
    return " ".join(x.event.kind.value if isinstance(x.event, Silence) else type(x.event).__name__ for x in updates)


def take(reader: JobReader, step: Read | Look | Away) -> str:
    match step:
        case Read(events, log, generation, asked):
            return told(reader.on_read(asked or reader.position, events, log, generation=generation))
        case Look(present, now, asked):
            return told(reader.on_look(asked or reader.position, present, now))
        case Away(for_s):
            error = RedisUnavailableError("Redis at redis://h cannot be used: refused")
            return told(reader.on_unavailable(error, datetime.fromtimestamp(0, UTC), away_s=for_s))


Expected = tuple[Read | Look | Away, str, Next]

#: How it begins (cursor, the look before the first read, what is next), then each step with what is told and is next.
CASES: dict[str, tuple[Cursor | None, Presence, Next, list[Expected]]] = {
    "the end comes while the reader waits": (
        *(None, AT_WORK, Next.WAIT),
        [
            (Read([moved()]), "StatusChanged", Next.WAIT),
            (Read([], [chunk(0), chunk(1)]), "LogChunk LogChunk", Next.WAIT),
            (Read([the_end()]), "Ended", Next.OVER),
        ],
    ),
    "a job that has ended is read at once, to its end": (
        *(None, replace(ENDED, last_log_id="3-0"), Next.READ),
        [(Read([moved(), the_end()], [chunk(0), chunk(1)]), "StatusChanged LogChunk LogChunk Ended", Next.OVER)],
    ),
    "a cursor behind the end": (
        *(BEHIND_THE_END, replace(ENDED, last_log_id="3-0"), Next.READ),
        [(Read(), "", Next.OVER)],
    ),
    "a cursor behind the end of a job whose log is gone": (BEHIND_THE_END, ENDED, Next.READ, [(Read(), "", Next.OVER)]),
    "silent, then final by a look, then its end": (
        *(None, AT_WORK, Next.WAIT),
        [
            (Read([moved()]), "StatusChanged", Next.WAIT),
            (Read(), "", Next.LOOK),
            (Look(ENDED), "", Next.READ),
            (Read([the_end()], [chunk(0), chunk(1)]), "LogChunk LogChunk Ended", Next.OVER),
        ],
    ),
    "final by a look, and no final event any more": (
        *(replace(BEHIND_THE_END, event_id="8-0"), AT_WORK, Next.WAIT),
        [
            (Read(), "", Next.LOOK),
            (Look(replace(ENDED, last_event_id="8-0", last_log_id="3-0")), "", Next.READ),
            (Read(), "", Next.OVER),
        ],
    ),
    "final by a look after the read was asked: that read's silence is no end": (
        *(None, AT_WORK, Next.WAIT),
        [
            (Read(), "", Next.LOOK),
            (Look(ENDED), "", Next.READ),
            (Read(asked=Position("0-0", "0-0", was_final=False)), "", Next.LOOK),
            (Look(ENDED), "", Next.READ),
            (Read([moved(), the_end()]), "StatusChanged LogGap Ended", Next.OVER),
        ],
    ),
    "the final event is held until the log is drained to the end it names": (
        *(None, ENDED, Next.READ),
        [
            (Read([moved(), the_end()], [chunk(0)]), "StatusChanged LogChunk", Next.READ),
            (Read([], [chunk(1)]), "LogChunk Ended", Next.OVER),
        ],
    ),
    "the final event is held until a read finds no more log": (
        *(None, ENDED, Next.READ),
        [
            (Read([moved(), the_end()], [chunk(0)]), "StatusChanged LogChunk", Next.READ),
            (Read(), "LogGap Ended", Next.OVER),
        ],
    ),
    "without the log, the final event waits for nothing": (
        *(WITHOUT_LOG, AT_WORK, Next.WAIT),
        [(Read([moved(), the_end()]), "StatusChanged Ended", Next.OVER)],
    ),
    "nothing is told after the end": (
        *(None, AT_WORK, Next.WAIT),
        [
            (Read([the_end()]), "LogGap Ended", Next.OVER),
            (Read([moved("10-0")], [chunk(0)]), "", Next.OVER),
            (Look(GONE, 1000), "", Next.OVER),
            (Read(generation="h"), "", Next.OVER),
        ],
    ),
    "Redis was emptied: the read means nothing, and what comes anew is read from the beginning": (
        *(replace(BEHIND_THE_END, event_id="8-0"), AT_WORK, Next.WAIT),
        [
            (Read([the_end()], generation="h"), "", Next.READ),
            (Read(generation="h"), "", Next.LOOK),
            (Look(GONE, 0), "job_unknown", Next.WAIT),
            (Read([moved("1-0")], generation="h"), "StatusChanged", Next.WAIT),
            (Read([the_end("2-0")], generation="h"), "Ended", Next.OVER),
        ],
    ),
    "Redis was emptied after a look that said final: that look is no end of what is there now": (
        *(BEHIND_THE_END, ENDED, Next.READ),
        [
            (Read(generation="h"), "", Next.READ),
            (Read(generation="h"), "", Next.LOOK),
            (Look(GONE, 0), "job_unknown", Next.WAIT),
        ],
    ),
    "a failover lost what the reader's place stands on: it reads again from the beginning": (
        *(None, AT_WORK, Next.WAIT),
        [
            (Read([moved("2000000-0")]), "StatusChanged", Next.WAIT),
            (Read(), "", Next.LOOK),
            (Look(AT_WORK), "", Next.READ),
            (Read([moved("1-0")], [chunk(0), chunk(1)]), "StatusChanged LogChunk LogChunk", Next.WAIT),
            (Read([the_end()]), "Ended", Next.OVER),
        ],
    ),
    "a place beyond the log of a Redis in which the job has ended: what the final event names is read": (
        *(replace(BEYOND, event_id="1-0", ends=((1, "base", 4),)), replace(ENDED, last_log_id="3-0"), Next.READ),
        [
            (Read([the_end()]), "", Next.READ),
            (Read([], [chunk(0), chunk(1)]), "LogChunk Ended", Next.OVER),
        ],
    ),
    "a place beyond a Redis in which the job has ended: the end is read, not taken for read": (
        *(BEYOND, replace(ENDED, last_log_id="3-0"), Next.READ),
        [(Read([the_end()], [chunk(0), chunk(1)]), "Ended", Next.OVER)],
    ),
    "an answer to a reader that has moved since counts for nothing": (
        *(BEYOND, AT_WORK, Next.READ),
        [
            (Read([moved("3000000-0")], asked=Position("2000000-0", "2000000-0", was_final=True)), "", Next.READ),
            (Look(ENDED, asked=Position("2000000-0", "2000000-0", was_final=False)), "", Next.READ),
            (Read([moved("1-0"), the_end()]), "StatusChanged Ended", Next.OVER),
        ],
    ),
    "a look from before the last read does not make what was read a place in another Redis": (
        *(None, AT_WORK, Next.WAIT),
        [
            (Read([moved("1000500-0")]), "StatusChanged", Next.WAIT),
            (Look(AT_WORK, asked=Position("0-0", "0-0", was_final=False)), "", Next.WAIT),
        ],
    ),
    "a final event that this Redis wrote anew, before the place of one that it has lost": (
        *(replace(BEHIND_THE_END, event_id="500000-0"), replace(ENDED, last_log_id="3-0"), Next.READ),
        [
            (Read(), "", Next.LOOK),  # it was read from the beginning: that look was no end of it
            (Look(replace(ENDED, last_log_id="3-0")), "", Next.READ),
            (Read([the_end()]), "Ended", Next.OVER),
        ],
    ),
    "each silence is told once": (
        *(None, AT_WORK, Next.WAIT),
        [
            (Look(ALONE), "no_worker", Next.WAIT),
            (Look(ALONE), "", Next.WAIT),
            (Look(AT_WORK), "", Next.WAIT),
            (Look(ALONE), "no_worker", Next.WAIT),
        ],
    ),
    "Redis is away for 4 s: told once, and read on": (
        *(None, AT_WORK, Next.WAIT),
        [
            (Away(0.0), "", Next.WAIT),
            (Away(3.9), "", Next.WAIT),
            (Away(4.0), "redis_away", Next.WAIT),
            (Away(9.0), "", Next.WAIT),
            (Read([moved()], [chunk(0), chunk(1)]), "StatusChanged LogChunk LogChunk", Next.WAIT),
            (Read([the_end()]), "Ended", Next.OVER),
        ],
    ),
    "Redis is away when the job's end is known: read at once when it is back": (
        *(None, ENDED, Next.READ),
        [(Away(0.0), "", Next.READ), (Read([the_end()]), "LogGap Ended", Next.OVER)],
    ),
    "unknown for less than a minute, and known again": (
        *(Cursor("g"), GONE, Next.WAIT),
        [
            (Look(GONE, 100), "job_unknown", Next.WAIT),
            (Look(GONE, 160), "", Next.WAIT),
            (Look(AT_WORK, 161), "", Next.WAIT),
            (Look(GONE, 162), "job_unknown", Next.WAIT),
            (Look(GONE, 222), "", Next.WAIT),
            (Read([moved()]), "StatusChanged", Next.WAIT),
            (Look(GONE, 223), "", Next.WAIT),
        ],
    ),
    "overdue: whoever looks ends it, so nothing is told": (
        *(None, OVERDUE, Next.WAIT),
        [
            (Read([moved()]), "StatusChanged", Next.WAIT),
            (Read(), "", Next.LOOK),
            (Look(OVERDUE), "", Next.WAIT),
            (Read([the_end()]), "LogGap Ended", Next.OVER),
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_reader_comes_to_its_end(name: str) -> None:
    cursor, present, at_first, expected = CASES[name]
    reader = JobReader("j", cursor)
    reader.start(present)
    assert reader.next is at_first
    for number, (step, updates, following) in enumerate(expected):
        assert (number, take(reader, step), reader.next) == (number, updates, following)


@pytest.mark.parametrize(
    ("cursor", "present", "error"),
    [
        (None, GONE, JobUnknownError),
        (None, ODD, PodrelayError),
        (BEHIND_THE_END, ODD, PodrelayError),
        (BEHIND_THE_END, GONE, None),
    ],
)
def test_there_must_be_something_to_read(
    cursor: Cursor | None, present: Presence, error: type[PodrelayError] | None
) -> None:
    reader = JobReader("j", cursor)
    if error is None:
        reader.start(present)
        return
    with pytest.raises(error) as refused:
        reader.start(present)
    assert type(refused.value) is error


@pytest.mark.parametrize(("present", "error"), [(GONE, JobUnknownError), (ODD, PodrelayError)])
def test_a_record_that_stays_away_is_given_up_after_a_minute(present: Presence, error: type[PodrelayError]) -> None:
    reader = JobReader("j")
    reader.start(AT_WORK)
    for now in (100, 130, 160):
        take(reader, Look(present, now))
    with pytest.raises(error) as refused:
        take(reader, Look(present, 160.1))
    assert type(refused.value) is error


def test_whoever_looks_at_an_overdue_job_asks_for_its_end() -> None:
    asked = after_look("j", OVERDUE)
    assert asked is not None
    assert asked.script == "expire"
    assert [after_look("j", present) for present in (AT_WORK, ENDED, GONE, ALONE)] == [None] * 4


def test_a_reader_without_a_first_look_learns_the_generation_by_reading() -> None:
    """What waits for a result has read the record already."""
    reader = JobReader("j", WITHOUT_LOG)
    assert take(reader, Read([moved()])) == ""
    assert reader.next is Next.READ
    assert take(reader, Read([moved(), the_end()])) == "StatusChanged Ended"
    assert reader.is_over
