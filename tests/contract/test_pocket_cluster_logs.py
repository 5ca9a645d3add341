"""The log endpoint carries bytes as they were written, in the recorded forms."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.support.cluster_driver import ClusterDriver, Reply, pods, simple_pod, state_of
from tests.support.cluster_fixture import every_cluster  # noqa: F401  # the fixture `cluster`
from tests.support.cluster_recordings import recorded_logs, recorded_pod

pytestmark = pytest.mark.asyncio(loop_scope="module")
Json = dict[str, Any]
STAMP = re.compile(rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ", re.MULTILINE)
FOLLOW = "follow=true&timestamps=true"


@dataclass(frozen=True)
class Followed:
    namespace: str
    followed: Reply


async def follow_from_the_start(cluster: ClusterDriver, pod: Json, query: str = FOLLOW) -> Followed:
    """Create a pod, follow its log as soon as it runs, to the end."""
    namespace = await cluster.namespace()
    await cluster.request("POST", pods(namespace), pod)
    async for event in cluster.stream(pods(namespace, query="watch=1")):
        if {"running", "terminated"} & set(state_of(event["object"])):
            break
    return Followed(namespace, await cluster.request("GET", pods(namespace, "job/log", query)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def details(cluster: ClusterDriver) -> Followed:
    pod = recorded_pod("log-follow-details")
    async with asyncio.timeout(60):
        return await follow_from_the_start(cluster, pod)


def recorded(query: str) -> bytes:
    found = next(one for one in recorded_logs("log-follow-details") if one["query"] == query and one["status"] == 200)
    data: bytes = found["data"]
    return data


def without_stderr(log: bytes) -> bytes:
    """The line on stderr may come before or after the first ones on stdout: two pipes."""
    return re.sub(rb"(?m)^to stderr\n", b"", STAMP.sub(b"", log))


async def test_a_followed_log_has_the_recorded_bytes(details: Followed) -> None:
    assert details.followed.status == 200
    assert without_stderr(details.followed.body) == without_stderr(recorded("&follow=true&timestamps=true"))


async def test_every_line_bears_a_time_with_nine_digits_and_long_lines_only_one(details: Followed) -> None:
    assert len(STAMP.findall(details.followed.body)) == details.followed.body.count(b"\n") + 1


async def test_following_and_reading_give_the_same_bytes(cluster: ClusterDriver, details: Followed) -> None:
    read = await cluster.request("GET", pods(details.namespace, "job/log", "timestamps=true"))
    assert read.body == details.followed.body


async def test_tail_lines(cluster: ClusterDriver, details: Followed) -> None:
    tail = await cluster.request("GET", pods(details.namespace, "job/log", "timestamps=true&tailLines=3"))
    assert STAMP.sub(b"", tail.body) == STAMP.sub(b"", recorded("&timestamps=true&tailLines=3"))


async def test_limit_bytes(cluster: ClusterDriver, details: Followed) -> None:
    limited = await cluster.request("GET", pods(details.namespace, "job/log", "limitBytes=50"))
    whole = await cluster.request("GET", pods(details.namespace, "job/log"))
    assert limited.body == whole.body[:50]


async def test_since_time_is_cut_to_whole_seconds(cluster: ClusterDriver, details: Followed) -> None:
    stamps = [stamp.strip().decode() for stamp in STAMP.findall(details.followed.body)]
    second = stamps[-1][:19]
    for since in (f"{second}Z", f"{second}.999999Z"):
        query = f"timestamps=true&sinceTime={since.replace(':', '%3A')}"
        reply = await cluster.request("GET", pods(details.namespace, "job/log", query))
        found = [stamp.strip().decode() for stamp in STAMP.findall(reply.body)]
        assert found == [stamp for stamp in stamps if stamp >= second]


async def test_two_streams_keep_each_its_order(cluster: ClusterDriver) -> None:
    pod = recorded_pod("log-interleaved-streams")
    log = STAMP.sub(b"", (await follow_from_the_start(cluster, pod)).followed.body).splitlines()
    expected = STAMP.sub(b"", recorded_logs("log-interleaved-streams")[0]["data"]).splitlines()
    for stream in (b"out", b"err"):
        assert [line for line in log if line.startswith(stream)] == [
            line for line in expected if line.startswith(stream)
        ]


async def test_a_burst_loses_nothing(cluster: ClusterDriver) -> None:
    log = (await follow_from_the_start(cluster, recorded_pod("log-same-timestamps-burst"))).followed.body
    assert STAMP.sub(b"", log) == STAMP.sub(b"", recorded_logs("log-same-timestamps-burst")[0]["data"])


async def test_a_follow_goes_on_to_the_last_word_of_a_deleted_pod(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    await cluster.request("POST", pods(namespace), recorded_pod("log-follow-across-delete"))
    async for event in cluster.stream(pods(namespace, query="watch=1")):
        if "running" in state_of(event["object"]):
            break
    url = f"{cluster.url}{pods(namespace, 'job/log', 'follow=true')}"
    async with asyncio.timeout(30), cluster.session.get(url) as response:
        assert await response.content.readline() == b"tick-0\n"
        await cluster.request("DELETE", pods(namespace, "job"))
        rest = await response.read()
    assert rest.splitlines()[-1] == b"bye"


async def test_a_follow_of_two_readers_gives_both_everything(cluster: ClusterDriver) -> None:
    namespace = await cluster.namespace()
    command = ["sh", "-c", "i=0; while [ $i -lt 40 ]; do echo $i; i=$((i+1)); sleep 0.01; done; printf end"]
    await cluster.request("POST", pods(namespace), simple_pod("job", "busybox:1.36", command))
    async for event in cluster.stream(pods(namespace, query="watch=1")):
        if "running" in state_of(event["object"]):
            break
    path = pods(namespace, "job/log", "follow=true")
    replies = await asyncio.gather(*(cluster.request("GET", path) for _ in range(2)))
    expected = b"".join(b"%d\n" % number for number in range(40)) + b"end"
    assert [reply.body for reply in replies] == [expected, expected]
