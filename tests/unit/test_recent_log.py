"""What is kept of a published log, for the case that Redis loses it again."""

import asyncio

import pytest

from dispatcher.record import Checkpoint
from worker import recent_log
from worker.log_lines import Piece
from worker.recent_log import RecentLog


def pieces(*sizes: int) -> list[Piece]:
    found, start = [], 0
    for size in sizes:
        found.append(Piece(start, b"x" * size, Checkpoint(end=start + size)))
        start += size
    return found


async def test_what_was_appended_after_a_place_is_given_once() -> None:
    recent, appended = RecentLog[Piece](), pieces(3, 4, 5)
    recent.note(Checkpoint(), appended[:2])
    recent.note(Checkpoint(end=7), appended[2:])
    assert recent.start == Checkpoint()
    assert recent.take(Checkpoint(end=3)) == appended[1:]
    assert recent.take(Checkpoint(end=3)) == []
    assert recent.start is None


async def test_a_place_that_is_not_known_gives_nothing_and_forgets_nothing() -> None:
    recent = RecentLog[Piece]()
    recent.note(Checkpoint(end=10), pieces(3))
    assert recent.take(Checkpoint(end=4)) == []
    assert recent.start == Checkpoint(end=10)


async def test_it_is_bounded_in_bytes() -> None:
    recent, half = RecentLog[Piece](), recent_log.KEPT_BYTES // 2 + 1
    recent.note(Checkpoint(), pieces(half, half))
    assert recent.start == Checkpoint(end=half)


async def test_it_is_forgotten_when_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_log, "KEPT_S", 0.01)
    recent = RecentLog[Piece]()
    recent.note(Checkpoint(), pieces(3))
    async with asyncio.timeout(5):
        while recent.start is not None:
            await asyncio.sleep(0)
