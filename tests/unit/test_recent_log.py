"""What is kept of a published log, for the case that Redis loses it again."""

import asyncio

import pytest

from dispatcher.record import Checkpoint
from worker.logs import recent as recent_log
from worker.logs.recent import RecentBytes, RecentLog
from worker.logs.stream import Chunk


def pieces(*sizes: int) -> list[Chunk]:
    found, start = [], 0
    for size in sizes:
        found.append(Chunk(start, b"x" * size, Checkpoint(end=start + size)))
        start += size
    return found


def a_log() -> RecentLog[Chunk]:
    return RecentLog(RecentBytes())


async def test_what_was_appended_after_a_place_is_given_once() -> None:
    recent, appended = a_log(), pieces(3, 4, 5)
    recent.note(Checkpoint(), appended[:2])
    recent.note(Checkpoint(end=7), appended[2:])
    assert recent.start == Checkpoint()
    assert recent.take(Checkpoint(end=3)) == appended[1:]
    assert recent.take(Checkpoint(end=3)) == []
    assert recent.start is None


async def test_a_place_that_is_not_known_gives_nothing_and_forgets_nothing() -> None:
    recent = a_log()
    recent.note(Checkpoint(end=10), pieces(3))
    assert recent.take(Checkpoint(end=4)) == []
    assert recent.start == Checkpoint(end=10)


async def test_it_is_bounded_in_bytes() -> None:
    recent, half = a_log(), recent_log.KEPT_BYTES // 2 + 1
    recent.note(Checkpoint(), pieces(half, half))
    assert recent.start == Checkpoint(end=half)


async def test_all_logs_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_log, "ALL_BYTES", 10)
    monkeypatch.setattr(recent_log, "LEAST_BYTES", 2)
    everybodys = RecentBytes()
    one, other = RecentLog[Chunk](everybodys), RecentLog[Chunk](everybodys)
    one.note(Checkpoint(), pieces(8))
    other.note(Checkpoint(), pieces(2, 2))
    assert (one.start, other.start) == (Checkpoint(), Checkpoint(end=2))
    other.note(Checkpoint(end=4), pieces(2))
    assert other.start == Checkpoint(end=4)  # each keeps the least
    one.clear()
    assert everybodys.used == 2


async def test_an_append_that_redis_took_proves_what_was_long_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_log, "KEPT_S", -1.0)
    recent = a_log()
    recent.note(Checkpoint(), pieces(3))
    assert recent.start is None


async def test_it_is_forgotten_when_the_log_is_silent_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_log, "IDLE_S", 0.01)
    recent = a_log()
    recent.note(Checkpoint(), pieces(3))
    async with asyncio.timeout(5):
        while recent.start is not None:
            await asyncio.sleep(0)
    assert recent.everybodys.used == 0
