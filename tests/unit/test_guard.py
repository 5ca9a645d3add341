"""No loop of a worker ends by what it meets."""

import asyncio
from collections import Counter

import pytest
import redis.exceptions
from structlog.testing import capture_logs

from worker.cluster.client import ClusterUnavailableError
from worker.guard import Guard


async def until_begun(times: int, error: Exception | None) -> Counter[str]:
    """Keep a loop whose every turn ends with this error, or just ends, until it has begun so often."""
    begun, counted = 0, Counter[str]()
    enough = asyncio.Event()

    async def turn() -> None:
        nonlocal begun
        begun += 1
        if begun == times:
            enough.set()
        if error is not None:
            raise error

    kept = asyncio.create_task(Guard(lambda name: counted.update([name])).keep("a loop", turn, longest_s=0.01))
    await enough.wait()
    await asyncio.sleep(0)
    kept.cancel()
    with pytest.raises(asyncio.CancelledError):
        await kept
    return counted


@pytest.mark.parametrize(
    "error",
    [
        ValueError("data"),
        RecursionError(),
        KeyError("x"),
        AssertionError(),
        redis.exceptions.ResponseError("BUSY Redis is busy running a script"),
        redis.exceptions.NoPermissionError("NOPERM"),
        ExceptionGroup("several", [ValueError("one")]),
        None,
    ],
    ids=repr,
)
async def test_a_loop_begins_again_whatever_ended_its_turn_and_each_failure_is_counted(error: Exception | None) -> None:
    with capture_logs():
        counted = await until_begun(5, error)
    assert counted["a loop"] == (5 if error else 0)


async def test_the_same_failure_is_told_once_with_its_traceback_and_not_with_every_turn() -> None:
    with capture_logs() as told:
        await until_begun(20, ValueError("the same"))
    (line,) = [entry for entry in told if entry["log_level"] == "error"]
    assert line["loop"] == "a loop"
    assert line["why"] == "ValueError: the same"
    assert line["exc_info"] is not None


async def test_another_failure_is_told_although_one_was_told_just_now() -> None:
    guard = Guard()
    with capture_logs() as told:
        for name, text in (("a", "x"), ("a", None), ("b", "x"), ("a", "x")):
            with guard.one_of_many(name, job_id="j"):
                int(text)  # type: ignore[arg-type]
    assert [(entry["loop"], entry["why"].partition(":")[0]) for entry in told] == [
        ("a", "ValueError"),
        ("a", "TypeError"),
        ("b", "ValueError"),
    ]
    assert {entry["job_id"] for entry in told} == {"j"}


@pytest.mark.parametrize("error", [ClusterUnavailableError("x"), redis.exceptions.ConnectionError(), TimeoutError()])
async def test_what_concerns_all_items_interrupts_the_look(error: Exception) -> None:
    with pytest.raises(type(error)), Guard().one_of_many("sweep"):
        raise error
