"""Reading the return value's sidecar through a cluster that is not well; its answers are played."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dispatcher import names
from dispatcher.events import ReturnValueOutcome
from worker.cluster.client import Backoff, ClusterRefusedError, ClusterUnavailableError
from worker.jobs import return_value as ending

VALUE = b'{"rows": 3}'
PRINTED = b"".join(
    b"2026-11-22T09:00:00.000000001Z " + line
    for line in (b"podrelay-return-value 11 " + hashlib.sha256(VALUE).hexdigest().encode() + b"\n", VALUE)
)


class Cluster:
    """Answers log requests in turn, the last answer for ever; the sidecar runs until ``ends_after`` requests."""

    def __init__(self, *answers: bytes | Exception, ends_after: int = 99, is_gone: bool = False) -> None:
        self._answers, self._ends_after, self._is_gone = list(answers), ends_after, is_gone
        self.asked = 0

    @asynccontextmanager
    async def log(self, *_: object, since: str | None, follow: bool) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer

        async def pieces(data: bytes) -> AsyncIterator[bytes]:
            yield data

        yield pieces(answer)

    async def read_pod(self, namespace: str, name: str) -> dict[str, Any] | None:
        state = {"terminated": {"exitCode": 0}} if self.asked >= self._ends_after else {"running": {}}
        sidecar = {"name": names.RETURN_VALUE_CONTAINER}
        status = {"initContainerStatuses": [{**sidecar, "state": state}]}
        pod = {"metadata": {"name": name}, "spec": {"initContainers": [sidecar]}, "status": status}
        return None if self._is_gone else pod


@pytest.fixture(autouse=True)
def without_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "Backoff", lambda: Backoff(first_s=0.001, longest_s=0.01))


async def read(cluster: Any) -> ending.ReturnValue:
    return await ending.read_return_value(cluster, "ns", "pod")


async def test_a_kubelet_that_restarts_does_not_cost_the_return_value() -> None:
    lost = [ClusterUnavailableError("connection refused"), ClusterRefusedError(404, {}), ClusterRefusedError(400, {})]
    found = await read(Cluster(b"", PRINTED[:60], *lost, PRINTED))
    assert (found.outcome, found.value) == (ReturnValueOutcome.PRESENT, {"rows": 3})


async def test_what_a_sidecar_printed_before_its_end_is_read_after_it() -> None:
    found = await read(Cluster(PRINTED[:60], PRINTED, ends_after=1))
    assert found.value == {"rows": 3}


@pytest.mark.parametrize("text", [b"unable to retrieve container logs for containerd://0a1b2c3d", b"<html></html>\n"])
async def test_text_in_place_of_the_log_of_a_sidecar_that_ended_is_not_its_log(text: bytes) -> None:
    found = await read(Cluster(*[text] * 5, PRINTED, ends_after=1))
    assert found.value == {"rows": 3}


@pytest.mark.parametrize("is_gone", [True, False])
async def test_a_sidecar_that_ended_or_went_without_printing_is_not_waited_for(is_gone: bool) -> None:
    cluster = Cluster(b"", ends_after=1, is_gone=is_gone)
    assert (await read(cluster)).outcome is ReturnValueOutcome.TRUNCATED
    assert cluster.asked == (1 if is_gone else 3)
