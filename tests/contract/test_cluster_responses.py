"""Whatever somebody on the way answers in place of the API server: the pods stay, and nothing is believed."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
import structlog.testing
from aiohttp import test_utils, web

from devcluster.apiserver.kubeconfig import write_kubeconfig
from devcluster.cluster import PocketCluster
from dispatcher import names
from tests.support.api_proxy import LOG_PAGES, PAGES, TOO_LARGE, ApiProxy, Page
from worker.cluster import client as cluster_module
from worker.cluster.client import Cluster
from worker.cluster.observation import Observation
from worker.cluster.responses import ClusterRefusedError, ClusterUnavailableError
from worker.cluster.watch import PodWatch

SELECTOR = f"{names.LABEL_INSTALLATION}=i"


def manifest(name: str) -> dict[str, Any]:
    labels = {names.LABEL_INSTALLATION: "i", names.LABEL_QUEUE: "q", names.LABEL_JOB: name, names.LABEL_ATTEMPT: "1"}
    container = {"name": "base", "image": "simulated:latest", "args": ["--duration=600"]}
    spec = {"containers": [container], "restartPolicy": "Never"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


class Scene(NamedTuple):
    proxy: ApiProxy
    cluster: Cluster
    pod: dict[str, Any]


@pytest_asyncio.fixture(name="scene")
async def a_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    async with AsyncExitStack() as stack:
        pocket = await stack.enter_async_context(PocketCluster())
        proxy = await stack.enter_async_context(ApiProxy(pocket.url, random.Random(1)))
        write_kubeconfig(tmp_path / "kubeconfig", proxy.url, pocket.token)
        cluster = await stack.enter_async_context(await Cluster.connect(connections=8))
        yield Scene(proxy, cluster, await cluster.create_pod("default", manifest("job"), may_send=lambda: True))


async def watched(cluster: Cluster) -> None:
    async for _ in cluster.watch_pods("default", SELECTOR, "1"):
        pass


async def logged(cluster: Cluster) -> bytes:
    async with cluster.log("default", "job", "base", since=None, follow=False) as pieces:
        return b"".join([piece async for piece in pieces])


@pytest.mark.parametrize("name", PAGES)
async def test_no_page_is_taken_for_an_answer(scene: Scene, name: str) -> None:
    cluster, uid = scene.cluster, scene.pod["metadata"]["uid"]
    scene.proxy.page = PAGES[name]
    for ask in (
        lambda: cluster.create_pod("default", manifest("new"), may_send=lambda: True),
        lambda: cluster.read_pod("default", "job"),
        lambda: cluster.delete_pod("default", "job", uid=uid),
        lambda: cluster.patch_pod("default", "job", {"uid": uid, "labels": {"a": "b"}}),
        lambda: cluster.pod_events("default", uid),
        lambda: watched(cluster),
        lambda: logged(cluster),
        lambda: cluster.list_pods("default", SELECTOR),
    ):
        with pytest.raises(ClusterUnavailableError) as raised:
            await ask()
        assert len(str(raised.value)) < 600
    assert not cluster.is_available.is_set()
    scene.proxy.page = None
    items, _ = await cluster.list_pods("default", SELECTOR)
    assert [item["metadata"]["uid"] for item in items] == [uid]
    assert cluster.is_available.is_set()


@pytest.mark.parametrize("name", LOG_PAGES)
async def test_what_stands_in_place_of_a_log_is_no_word_about_the_pod(scene: Scene, name: str) -> None:
    scene.proxy.log_page = LOG_PAGES[name]
    if name == "sentence":  # text/plain as a log's is: who reads the lines tells
        assert await logged(scene.cluster) == LOG_PAGES[name].body
        return
    with pytest.raises(ClusterUnavailableError):
        await logged(scene.cluster)


async def test_what_etcd_will_never_take_is_refused_though_it_comes_as_an_error(scene: Scene) -> None:
    scene.proxy.create_page = TOO_LARGE
    with pytest.raises(ClusterRefusedError) as raised:
        await scene.cluster.create_pod("default", manifest("new"), may_send=lambda: True)
    assert raised.value.is_too_large


async def test_the_pod_that_is_not_there_is_proved_by_its_own_name_only(scene: Scene) -> None:
    assert await scene.cluster.read_pod("default", "none") is None
    assert not await scene.cluster.delete_pod("default", "none", uid="u")
    assert not await scene.cluster.delete_pod("default", "job", uid="another")
    assert not await scene.cluster.patch_pod("default", "job", {"uid": "another", "labels": {"a": "b"}})
    assert await scene.cluster.read_pod("default", "job") is not None


async def test_a_page_of_a_list_that_is_too_long_is_asked_for_in_smaller_ones(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        await scene.cluster.create_pod("default", manifest(f"more-{number}"), may_send=lambda: True)
    monkeypatch.setattr(cluster_module, "MAX_PAGE_BYTES", 9_000)
    items, _ = await scene.cluster.list_pods("default", SELECTOR)
    assert len(items) == 8


async def test_a_redirect_takes_the_token_nowhere(scene: Scene) -> None:
    async with ApiProxy("http://127.0.0.1:9", random.Random(1)) as elsewhere:
        scene.proxy.page = Page(307, location=f"{elsewhere.url}/api/v1/namespaces/default/pods/job")
        with pytest.raises(ClusterUnavailableError, match="HTTP 307"):
            await scene.cluster.read_pod("default", "job")
        assert elsewhere.heard == []


# The watch


class Heard:
    """What a worker hears of its pods."""

    def __init__(self) -> None:
        self.changed: list[str] = []
        self.deleted: list[str] = []
        self.lists = 0
        self.news = asyncio.Event()

    def pod_changed(self, pod: Observation) -> None:
        self.changed.append(pod.name)
        self.news.set()

    def pod_deleted(self, pod: Observation) -> None:
        self.deleted.append(pod.name)
        self.news.set()

    def pods_listed(self, namespace: str) -> None:
        self.lists += 1
        self.news.set()


async def until(heard: Heard, is_so: Any) -> None:
    async with asyncio.timeout(30):
        while not is_so():
            heard.news.clear()
            await heard.news.wait()


@pytest_asyncio.fixture(name="heard")
async def a_watch(scene: Scene) -> AsyncIterator[Heard]:
    heard = Heard()
    watch = PodWatch(scene.cluster, "default", installation="i", queue="q", listener=heard)
    running = asyncio.create_task(watch.run())
    await until(heard, lambda: "job" in heard.changed)
    await scene.proxy.until(lambda: scene.proxy.open_streams > 0)
    yield heard
    assert not running.done()
    running.cancel()


@pytest.mark.parametrize("name", ["html200", "html404", "foreign200", "bare200", "empty200", "html403", "path404"])
async def test_a_page_in_place_of_list_and_watch_makes_no_pod_vanish(scene: Scene, heard: Heard, name: str) -> None:
    with structlog.testing.capture_logs() as told:
        scene.proxy.page = PAGES[name]
        scene.proxy.cut()
        await scene.proxy.until(lambda: scene.proxy.refused[PAGES[name].status] >= 4)
        assert (heard.lists, heard.deleted) == (1, [])
        scene.proxy.page = None
        await scene.cluster.create_pod("default", manifest("later"), may_send=lambda: True)
        await until(heard, lambda: "later" in heard.changed)
    assert heard.deleted == []
    assert not [line for line in told if "not served" in line["event"]]


class LyingWatch:
    """Answers watches with the same line for ever, after the true list. ``after_s``: it comes so late."""

    def __init__(self, line: bytes, after_s: float) -> None:
        self._after_s = after_s
        self._line = line
        self.watches = 0

    async def answer(self) -> web.StreamResponse:
        self.watches += 1
        await asyncio.sleep(self._after_s)  # plays a slow server
        return web.Response(body=self._line, content_type="application/json")


@pytest.mark.parametrize(
    ("line", "after_s"),
    [
        (b"<html>\n", 0),
        (b'{"type":"ADDED"}\n', 0),
        (b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","code":500}}\n', 0),
        (b"", 0),
        (b"", 1.2),
    ],
)
async def test_a_watch_that_brings_nothing_but_the_same_bad_line_is_given_up_for_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes, after_s: float
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    heard = Heard()
    async with PocketCluster() as pocket:
        lie = LyingWatch(line, after_s)
        async with ApiProxy(pocket.url, random.Random(1)) as proxy:
            proxy.answer_watch = lie.answer
            write_kubeconfig(tmp_path / "kubeconfig", proxy.url, pocket.token)
            async with await Cluster.connect(connections=8) as cluster:
                watch = PodWatch(cluster, "default", installation="i", queue="q", listener=heard)
                running = asyncio.create_task(watch.run())
                await cluster.create_pod("default", manifest("job"), may_send=lambda: True)
                await until(heard, lambda: heard.lists >= 3)
                assert "job" in heard.changed  # by the list, where the watch brings nothing
                assert lie.watches >= 4
                running.cancel()


async def test_creates_that_are_held_up_make_nobody_blind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow admission webhook may hold every slot for half a minute: whether the API server answers is asked beside
    them."""
    held, goes_on = asyncio.Event(), asyncio.Event()

    async def hold_up(_: web.Request) -> web.Response:
        held.set()
        await goes_on.wait()
        return web.Response(status=503)

    async def pods(_: web.Request) -> web.Response:
        return web.json_response(
            {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}
        )

    app = web.Application()
    app.router.add_post("/api/v1/namespaces/default/pods", hold_up)
    app.router.add_get("/api/v1/namespaces/default/pods", pods)
    server = test_utils.TestServer(app)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    async with server:
        write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{server.port}", "token")
        async with await Cluster.connect(connections=1) as cluster:
            creating = asyncio.create_task(cluster.create_pod("default", manifest("a"), may_send=lambda: True))
            await held.wait()
            async with asyncio.timeout(10):
                assert await cluster.list_pods("default", SELECTOR) == ([], "1")
            goes_on.set()
            with pytest.raises(ClusterUnavailableError):
                await creating
