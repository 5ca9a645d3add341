"""Jobs whose pods have more containers than base: when they end, what fails them, and that their logs come whole."""

from typing import Any

import pytest

from dispatcher.events import Ended, JobResult, LogChunk, LogGap, Notice, StatusChanged
from dispatcher.status import FailureReason, Status
from tests.support.real_redis import eventually
from tests.support.worker_in_process import InProcess, WorkerInProcess, simulated
from worker.jobs import return_value
from worker.logs.reader import STILL_RUNNING


@pytest.fixture
async def worker(running: InProcess) -> WorkerInProcess:
    return await running.start_worker()


def side(*arguments: str, name: str = "side") -> dict[str, Any]:
    return {"name": name, "image": "simulated:latest", "args": list(arguments)}


class Heard:
    """All that a job's channel told."""

    def __init__(self) -> None:
        self.logs: dict[str, bytes] = {}
        self.gaps: list[LogGap] = []
        self.warnings: list[str] = []
        self.details: list[str] = []
        self.result: JobResult

    @classmethod
    async def of(cls, running: InProcess, job_id: str) -> "Heard":
        heard = cls()
        async for update in running.client.follow(job_id):
            match update.event:
                case LogChunk(container=container, data=data):
                    heard.logs[container] = heard.logs.get(container, b"") + data
                case LogGap() as gap:
                    heard.gaps.append(gap)
                case Notice(level="warning", text=text):
                    heard.warnings.append(text)
                case StatusChanged(detail=detail):
                    heard.details.append(detail)
                case Ended(result=result):
                    heard.result = result
                case _:
                    pass
        return heard


async def test_the_end_of_all_is_waited_for_said_and_every_log_is_whole(
    running: InProcess, worker: WorkerInProcess
) -> None:
    spec = simulated(
        containers=[side("--lines=60", "--rate=40")], container_logs="all", end_when="all", on_finish="keep_pod"
    )
    heard = await Heard.of(running, await running.submit(spec, to=worker))
    assert heard.result.succeeded
    assert heard.logs["side"].count(b"\n") == 60
    assert (heard.gaps, heard.result.log_complete, heard.warnings) == ([], True, [])
    assert "base has ended; waiting for side" in heard.details
    assert {c.name: c.state for c in heard.result.containers} == {"base": "terminated", "side": "terminated"}


@pytest.mark.parametrize(
    ("base", "other"),
    [("--duration=1", "--duration=0"), ("--duration=0", "--duration=1"), ("--duration=0", "--duration=0")],
    ids=["before base", "after base", "with base"],
)
async def test_a_failure_of_another_container_fails_the_job_whenever_it_comes(
    running: InProcess, worker: WorkerInProcess, base: str, other: str
) -> None:
    spec = simulated(base, containers=[side(other, "--exit-code=9")], end_when="all")
    result = (await Heard.of(running, await running.submit(spec, to=worker))).result
    assert (result.status, result.reason, result.exit_code) == (Status.FAILED, FailureReason.CONTAINER_FAILED, 0)
    assert "'side' exited with code 9" in result.message


async def test_a_return_value_is_base_s_and_comes_when_all_have_ended(
    running: InProcess, worker: WorkerInProcess
) -> None:
    base = ("--duration=0", '--return-value={"a": 1}')
    spec = simulated(*base, containers=[side("--duration=1")], end_when="all", return_value=True)
    result = (await Heard.of(running, await running.submit(spec, to=worker))).result
    assert (result.status, result.return_value) == (Status.SUCCEEDED, {"a": 1})


async def test_with_base_s_end_what_is_cut_off_is_told_by_warning_gap_and_result(
    running: InProcess, worker: WorkerInProcess
) -> None:
    others = [side("--lines=9999", "--rate=20"), side("--exit-code=9", name="other")]
    spec = simulated("--duration=0.5", containers=others, container_logs="all")
    heard = await Heard.of(running, await running.submit(spec, to=worker))
    assert heard.result.succeeded
    assert [(gap.container, gap.why) for gap in heard.gaps] == [("side", STILL_RUNNING)]
    assert not heard.result.log_complete
    (warning,) = heard.warnings
    assert warning == heard.result.message
    assert "container 'other' exited with code 9" in warning
    assert "before side" in warning
    assert {c.name: c.exit_code for c in heard.result.containers} == {"base": 0, "side": None, "other": 9}


async def test_a_return_value_s_way_of_ending_the_pod_makes_nobody_fail(
    running: InProcess, worker: WorkerInProcess
) -> None:
    spec = simulated('--return-value={"a": 1}', containers=[side("--duration=600")], return_value=True)
    heard = await Heard.of(running, await running.submit(spec, to=worker))
    assert (heard.result.status, heard.result.return_value) == (Status.SUCCEEDED, {"a": 1})
    (warning,) = heard.warnings
    assert "before side" in warning
    assert "143" not in warning


async def test_a_return_value_waits_for_the_grace_of_a_container_that_does_not_end(
    running: InProcess, worker: WorkerInProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(return_value, "RETURN_VALUE_S", 1.0)
    stubborn = side("--duration=600", "--ignore-term")
    spec = simulated('--return-value={"a": 1}', containers=[stubborn], return_value=True, termination_grace_period_s=3)
    heard = await Heard.of(running, await running.submit(spec, to=worker))
    assert (heard.result.status, heard.result.return_value) == (Status.SUCCEEDED, {"a": 1})


async def test_a_failed_job_says_what_failed_beside_base_and_no_more(
    running: InProcess, worker: WorkerInProcess
) -> None:
    others = [side("--exit-code=9"), side("--duration=600", name="other")]
    spec = simulated("--duration=0.5", "--exit-code=3", containers=others)
    heard = await Heard.of(running, await running.submit(spec, to=worker))
    assert heard.result.reason is FailureReason.EXIT_CODE
    assert "Others failed too: container 'side' exited with code 9" in heard.result.message
    assert "other" not in heard.result.message
    assert heard.warnings == []


async def test_the_wait_ends_by_a_cancel_and_by_the_run_timeout(running: InProcess, worker: WorkerInProcess) -> None:
    forever = simulated(containers=[side("--duration=600")], end_when="all")
    job_id = await running.submit(forever, to=worker)
    async for update in running.client.follow(job_id):
        if isinstance(update.event, StatusChanged) and "waiting for side" in update.event.detail:
            await running.client.cancel(job_id, by="ann")
    assert (await running.client.result(job_id)).status is Status.CANCELLED
    limited = forever.model_copy(update={"id": "limited", "run_timeout_s": 1.0})
    result = (await Heard.of(running, await running.submit(limited, to=worker))).result
    assert (result.status, result.reason) == (Status.FAILED, FailureReason.RUN_TIMEOUT)
    assert "waiting for side" in result.message


async def test_who_takes_the_job_over_while_it_waits_waits_on_and_no_log_is_lost(running: InProcess) -> None:
    first, second = await running.start_worker("ada"), await running.start_worker("bob")
    spec = simulated(containers=[side("--lines=120", "--rate=30")], container_logs="all", end_when="all")
    job_id = await running.submit(spec, to=first)
    log = b""
    is_killed = False
    async for update in running.client.follow(job_id):
        if isinstance(update.event, LogChunk):
            log += update.event.data
        if isinstance(update.event, StatusChanged) and "waiting for side" in update.event.detail and not is_killed:
            is_killed = True
            await first.kill()
    result = await running.client.result(job_id)
    assert (result.status, result.log_complete, log.count(b"\n")) == (Status.SUCCEEDED, True, 120)
    assert (await running.client.get(job_id)).owner == second.incarnation
    assert len(running.pocket.journal.pods) == 1


def phases(running: InProcess) -> list[str]:
    return [stored.object["status"]["phase"] for _, stored in running.pocket.store.each("pods")]


async def test_who_takes_over_when_both_have_ended_unseen_finds_the_failure(running: InProcess) -> None:
    first = await running.start_worker("ada")
    spec = simulated("--duration=0.5", containers=[side("--duration=1", "--exit-code=9")], end_when="all")
    job_id = await running.submit(spec, to=first)
    async for update in running.client.follow(job_id):
        if isinstance(update.event, StatusChanged) and update.event.status is Status.RUNNING:
            break
    await first.kill()
    await eventually(lambda: phases(running) == ["Failed"], within_s=20)
    await running.start_worker("bob")
    result = await running.client.result(job_id, timeout_s=30)
    assert result.reason is FailureReason.CONTAINER_FAILED
