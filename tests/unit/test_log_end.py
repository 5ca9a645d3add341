"""Where a log ends: only the pod can say. The cluster's answers are played, one after the other."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from dispatcher.record import Checkpoint, JobRecord
from dispatcher.spec import JobSpec
from dispatcher.status import Status
from dispatcher.steps import Appended, AppendOutcome, Fence, Step
from worker.cluster.client import Backoff, ClusterRefusedError, ClusterUnavailableError
from worker.cluster.observation import Observation
from worker.cluster.pod_json import observe
from worker.logs import reader
from worker.logs.attempt import JobLogs
from worker.logs.container_log import ContainerLog
from worker.logs.outbox import LogBudget, LogSource, Outbox
from worker.logs.reader import POD_GONE, ROTATED, STILL_RUNNING

OF_A_RESTARTING_KUBELET = ClusterRefusedError(
    404, {"reason": "NotFound", "message": "the server could not find the requested resource ( pods/log job)"}
)
UNREACHABLE = ClusterUnavailableError("dial tcp 127.0.0.1:10250: connect: connection refused")
SENTENCE = b"unable to retrieve container logs for containerd://0a1b2c3d"


@dataclass
class Stays:
    """A stream that brings this and stays open; ``more`` is brought later."""

    data: bytes = b""
    more: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)


Answer = bytes | Exception | Stays


class Cluster:
    """Gives these answers in turn, the last one for ever; ``asked``: follow and sinceTime of each request."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[bool, str | None]] = []
        self.news = asyncio.Event()
        self.is_available = asyncio.Event()
        self.is_available.set()

    @asynccontextmanager
    async def log(self, *_: object, since: str | None, follow: bool) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked.append((follow, since))
        self.news.set()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        yield self._pieces(answer)

    async def _pieces(self, answer: bytes | Stays) -> AsyncIterator[bytes]:
        yield answer if isinstance(answer, bytes) else answer.data
        while isinstance(answer, Stays) and (data := await answer.more.get()):
            yield data

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(10):
            while len(self.asked) < times:
                self.news.clear()
                await self.news.wait()


class Redis:
    """Takes everything; keeps chunks and the reasons of gaps."""

    def __init__(self) -> None:
        self.data = b""
        self.gaps: list[str] = []
        self.news = asyncio.Event()

    async def run_many(self, steps: Sequence[Step[Appended]]) -> list[Appended]:
        for step in steps:
            entry = [x if isinstance(x, bytes) else str(x).encode() for x in step.args]
            if entry[-2] == b"g":
                self.gaps.append(entry[-1].decode())
            else:
                self.data += zlib.decompress(entry[-1]) if entry[-2] == b"z" else entry[-1]
        self.news.set()
        return [Appended(AppendOutcome.APPLIED, "", "")] * len(steps)

    async def until_has(self, data: bytes) -> None:
        async with asyncio.timeout(10):
            while self.data != data:
                self.news.clear()
                await self.news.wait()


class Job:
    """A job that nothing else happens to; ``doubts``: how often its pod was to be looked at."""

    fence = Fence("w1", 1)

    def __init__(self) -> None:
        self.doubts = 0

    async def reload(self) -> None: ...

    def cancel_requested(self, by: str) -> None: ...

    def mark_stale(self) -> None:
        self.doubts += 1

    def recheck(self) -> None: ...


class Play:
    """One log that is followed."""

    def __init__(
        self,
        *answers: Answer,
        checkpoint: Checkpoint | None = None,
        restarts: int = 0,
        cluster: "Cluster | None" = None,
    ) -> None:
        self.cluster, self.redis, self.job = cluster or Cluster(*answers), Redis(), Job()
        source = LogSource("j", "ns", "p", "base", 1, 1 << 24)
        world: dict[str, Any] = {"job": self.job, "cluster": self.cluster, "store": self.redis}
        outbox = Outbox(source, checkpoint or Checkpoint(), LogBudget(1 << 24))
        self.log = ContainerLog(outbox, restarts=restarts, **world)

    def begin(self) -> None:
        self.running = asyncio.create_task(self.log.run())

    async def end(self) -> None:
        await asyncio.wait_for(self.running, 10)

    @property
    def is_complete(self) -> bool:
        return self.log.summary.is_complete


def lines(first: int, to: int, *, size: int = 10) -> bytes:
    return b"".join(
        b"2026-11-22T09:00:%02d.%09dZ " % (i // 1000 % 60, i) + b"%d" % i + b"x" * size + b"\n"
        for i in range(first, to)
    )


def payload(log: bytes) -> bytes:
    return b"".join(line.partition(b" ")[2] + b"\n" for line in log.split(b"\n")[:-1])


@pytest.fixture(autouse=True)
def without_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "EOF_NEWS_S", 0.01)
    monkeypatch.setattr(reader, "SEARCH_SILENCE_S", 0.05)
    monkeypatch.setattr(reader, "Backoff", lambda **_: Backoff(first_s=0.01, longest_s=0.1))


async def test_a_kubelet_that_restarts_under_a_running_container_costs_not_one_line() -> None:
    whole = lines(0, 100)
    play = Play(lines(0, 40), UNREACHABLE, OF_A_RESTARTING_KUBELET, OF_A_RESTARTING_KUBELET, Stays(lines(0, 90)), whole)
    play.begin()
    await play.redis.until_has(payload(lines(0, 90)))
    assert play.job.doubts > 0
    play.log.reader.container_ended()
    await play.end()
    assert (play.redis.data, play.redis.gaps, play.is_complete) == (payload(whole), [], True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        lines(0, 3),
        OF_A_RESTARTING_KUBELET,
        ClusterRefusedError(400, {"message": 'container "base" in pod "job" is waiting to start'}),
        ClusterRefusedError(403, {"message": "pods/log is forbidden"}),
        UNREACHABLE,
        SENTENCE,
        lines(0, 3) + SENTENCE + b"\n",
        b"<html>\n<body>404 Not Found</body>\n</html>\n",
    ],
    ids=["nothing", "end of file", "404", "400", "403", "500", "a sentence", "a sentence after lines", "a page"],
)
async def test_nothing_that_is_answered_is_the_log_s_end_while_the_container_is_not_known_to_have_ended(
    answer: Answer,
) -> None:
    play = Play(answer)
    play.begin()
    await play.cluster.until_asked(4)
    assert not play.running.done()
    assert play.redis.gaps == []
    play.log.reader.stop_reading()
    await play.end()
    assert not play.is_complete
    assert len(play.redis.gaps) == 1


@pytest.mark.parametrize("before", [b"", lines(0, 3)], ids=["in place of all", "after true lines"])
@pytest.mark.parametrize("end", [b"", b"\n"], ids=["", "newline"])
async def test_a_sentence_in_place_of_the_log_is_the_reason_of_a_gap_and_no_output(before: bytes, end: bytes) -> None:
    play = Play(before + SENTENCE + end)
    play.log.reader.container_ended()
    play.begin()
    await play.cluster.until_asked(3)
    play.log.reader.stop_reading()
    await play.end()
    assert (play.redis.data, play.is_complete) == (payload(before), False)
    assert "unable to retrieve container logs for containerd://0a1b2c3d" in play.redis.gaps[0]


async def test_a_sentence_is_no_proof_that_the_checkpoint_s_line_was_rotated_away() -> None:
    play = Play(Stays(lines(0, 5)), SENTENCE, SENTENCE, SENTENCE, lines(0, 9))
    play.begin()
    await play.redis.until_has(payload(lines(0, 5)))
    play.log.reader.container_ended()
    await play.end()
    assert (play.redis.data, play.redis.gaps, play.is_complete) == (payload(lines(0, 9)), [], True)


async def test_a_container_that_wrote_nothing_has_a_complete_log() -> None:
    play = Play(b"")
    play.log.reader.container_ended()
    play.begin()
    await play.end()
    assert (play.redis.data, play.redis.gaps, play.is_complete) == (b"", [], True)
    assert play.cluster.asked == [(False, None)]


async def test_a_container_that_has_ended_before_its_log_was_asked_for_needs_one_request() -> None:
    play = Play(lines(0, 20))
    play.log.reader.container_ended()
    play.begin()
    await play.end()
    assert (play.redis.data, play.is_complete) == (payload(lines(0, 20)), True)
    assert play.cluster.asked == [(False, None)]


async def test_the_end_of_a_followed_stream_is_not_waited_for() -> None:
    play = Play(Stays(lines(0, 5)), lines(0, 9))
    play.begin()
    await play.redis.until_has(payload(lines(0, 5)))
    play.log.reader.container_ended()
    await play.end()
    assert (play.redis.data, play.redis.gaps, play.is_complete) == (payload(lines(0, 9)), [], True)
    assert play.cluster.asked == [(True, None), (False, None)]


async def test_of_a_large_log_that_was_followed_only_the_last_is_read_again() -> None:
    whole = lines(0, 3000, size=100)
    play = Play(Stays(whole), lines(2000, 3010, size=100))
    play.begin()
    await play.redis.until_has(payload(whole))
    play.log.reader.container_ended()
    await play.end()
    assert (play.redis.data, play.is_complete) == (payload(lines(0, 3010, size=100)), True)
    assert play.cluster.asked == [(True, None), (False, "2026-11-22T09:00:01Z")]


@pytest.mark.parametrize(
    "cut",
    [lines(0, 1500, size=100), lines(0, 4)[:-3], lines(0, 4)[:-20], lines(0, 4) + b"2026-11-22T09:00:00.0000000"],
    ids=["much", "within a line", "after a timestamp", "within a timestamp"],
)
async def test_a_read_that_may_have_been_cut_is_made_once_more(cut: bytes) -> None:
    size = 100 if len(cut) > 1000 else 10
    whole = lines(0, 1600, size=size)
    play = Play(cut, whole, whole)
    play.log.reader.container_ended()
    play.begin()
    await play.end()
    assert (play.redis.data, play.redis.gaps, play.is_complete) == (payload(whole), [], True)


async def test_a_whole_log_that_was_cut_before_the_checkpoint_s_line_is_no_proof_that_it_is_gone() -> None:
    play = Play(Stays(lines(0, 50)), lines(0, 10), lines(0, 10), lines(0, 60))
    play.begin()
    await play.redis.until_has(payload(lines(0, 50)))
    play.log.reader.container_ended()
    await play.end()
    assert (play.redis.data, play.redis.gaps, play.is_complete) == (payload(lines(0, 60)), [], True)


async def test_what_was_rotated_away_is_a_gap_and_the_log_is_not_complete() -> None:
    play = Play(Stays(lines(0, 50)), lines(9000, 9010))
    play.begin()
    await play.redis.until_has(payload(lines(0, 50)))
    play.log.reader.container_ended()
    await play.end()
    assert play.redis.data == payload(lines(0, 50) + lines(9000, 9010))
    assert (play.redis.gaps, play.is_complete) == ([ROTATED], False)


async def test_a_container_that_was_started_again_is_told_as_that() -> None:
    stream = Stays(lines(0, 50))
    play = Play(stream, Stays(lines(9000, 9010)), lines(9000, 9010), lines(9000, 9020))
    play.begin()
    await play.redis.until_has(payload(lines(0, 50)))
    play.log.reader.started_again(1)
    await stream.more.put(b"")
    await play.cluster.until_asked(3)
    play.log.reader.container_ended()
    await play.end()
    assert play.redis.data == payload(lines(0, 50) + lines(9000, 9020))
    assert play.redis.gaps == ["the container was started again (run 2): the log of the run before is not available"]
    assert not play.is_complete


async def test_a_pod_that_goes_leaves_what_its_stream_still_brings_and_a_gap() -> None:
    stream = Stays(lines(0, 5))
    play = Play(stream, ClusterRefusedError(404, {"reason": "NotFound", "message": 'pods "job" not found'}))
    play.begin()
    await play.redis.until_has(payload(lines(0, 5)))
    play.log.reader.pod_gone()
    await play.cluster.until_asked(2)
    await stream.more.put(lines(5, 8))
    await stream.more.put(b"")
    await play.end()
    assert (play.redis.data, play.redis.gaps, play.is_complete) == (payload(lines(0, 8)), [POD_GONE], False)


async def test_a_job_that_ends_before_a_container_takes_what_is_there() -> None:
    play = Play(Stays(lines(0, 5)), lines(0, 9))
    play.begin()
    await play.redis.until_has(payload(lines(0, 5)))
    play.log.reader.job_ended()
    await play.end()
    assert (play.redis.data, play.redis.gaps, play.is_complete) == (payload(lines(0, 9)), [STILL_RUNNING], False)


# What the job's logs tell their controllers


def a_record(**changes: Any) -> JobRecord:
    given: dict[str, Any] = {"status": Status.RUNNING, "attempt": 1, "pod": "p", "pod_uid": "u", "namespace": "ns"}
    return JobRecord("j", JobSpec(id="j", image="i", name="n"), digest="d", **given | changes)


def a_pod(state: str, *, restarts: int = 0) -> Observation:
    status = {"name": "base", "restartCount": restarts, "state": {state: {"startedAt": "2026-11-22T09:00:00Z"}}}
    metadata = {"name": "p", "namespace": "ns", "uid": "u"}
    return observe(
        {"metadata": metadata, "spec": {"containers": [{"name": "base"}]}, "status": {"containerStatuses": [status]}}
    )


def job_logs(cluster: Cluster, redis: Redis) -> JobLogs:
    world: dict[str, Any] = {"job": Job(), "cluster": cluster, "store": redis}
    return JobLogs(budget=LogBudget(1 << 24), **world)


NO_SUCH_POD = ClusterRefusedError(404, {"reason": "NotFound", "message": 'pods "p" not found'})


@pytest.mark.parametrize("checkpoints", [{}, {(1, "base"): Checkpoint(7, "2026-11-22T09:00:00Z", 1, 7)}])
async def test_a_pod_that_went_while_nobody_read_leaves_a_gap(checkpoints: dict[tuple[int, str], Checkpoint]) -> None:
    redis = Redis()
    logs = job_logs(Cluster(NO_SUCH_POD), redis)
    summaries = await asyncio.wait_for(logs.drain(30, a_record(checkpoints=checkpoints), is_gone=True), 10)
    assert redis.gaps == [POD_GONE]
    assert not summaries["base"].is_complete


async def test_a_pod_that_went_before_its_container_started_has_no_log_to_miss() -> None:
    redis = Redis()
    logs = job_logs(Cluster(NO_SUCH_POD), redis)
    logs.see(a_pod("waiting"), a_record(), is_gone=False)
    assert await logs.drain(30, a_record(), is_gone=True) == {}
    assert redis.gaps == []


async def test_a_run_after_one_that_was_read_to_its_end_is_followed_too() -> None:
    redis = Redis()
    logs = job_logs(Cluster(lines(0, 5), lines(9000, 9005)), redis)
    before = asyncio.all_tasks()
    logs.see(a_pod("terminated"), a_record(), is_gone=False)
    (following,) = asyncio.all_tasks() - before
    await redis.until_has(payload(lines(0, 5)))
    await asyncio.wait_for(following, 10)
    logs.see(a_pod("terminated", restarts=1), a_record(), is_gone=False)
    summaries = await asyncio.wait_for(logs.drain(30, a_record()), 10)
    assert redis.data == payload(lines(0, 5) + lines(9000, 9005))
    assert "started again (run 2)" in redis.gaps[0]
    assert not summaries["base"].is_complete


async def test_what_is_told_just_as_a_stream_ends_cuts_the_pause_before_the_next_short() -> None:
    """An API server may wish for a minute's pause: the drain's time limit, or the container's end, must not wait."""

    class Busy(Cluster):
        @asynccontextmanager
        async def log(self, *_: object, since: str | None, follow: bool) -> AsyncIterator[AsyncIterator[bytes]]:
            self.asked.append((follow, since))
            if len(self.asked) == 1:
                play.log.reader.job_ended()
            else:
                play.log.reader.stop_reading()
            if follow or len(self.asked) < 3:
                raise ClusterUnavailableError("too many requests", retry_after_s=60.0)
            yield self._pieces(b"")

    play = Play(cluster=Busy(b""))
    play.begin()
    await play.end()
    assert len(play.cluster.asked) == 2
    assert not play.is_complete
