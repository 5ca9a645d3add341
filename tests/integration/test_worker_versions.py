"""Workers of two versions on one queue: what only the newer one can do is left to it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from dispatcher.client import Dispatcher
from dispatcher.events import Silence, StatusChanged
from dispatcher.message import encode_message
from dispatcher.names import message_list
from dispatcher.spec import Priority, parse_spec
from dispatcher.status import FailureReason, Status
from dispatcher.version import VERSION
from tests.support.installation import QUICK, Installation, running_installation
from tests.support.redis_changes import wait_for_key

TOO_OLD = f"needs a worker of version ≥ 99.0.0; those alive: {VERSION}"
SPEC = {"image": "busybox:1.37", "command": ["true"], "min_worker_version": "99.0"}


@pytest.fixture
def installation() -> Iterator[Installation]:
    with running_installation() as running:
        running.start_worker("old", **QUICK)
        yield running


def start_newer(installation: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import dispatcher.version\ndispatcher.version.VERSION = '99.0.0'\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    installation.start_worker("new", **QUICK)


def test_a_job_waits_for_a_newer_worker_says_so_and_is_run_by_it(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Dispatcher(installation.client_settings()) as client:
        job_id = client.submit(parse_spec(SPEC)).job_id
        events = []
        for update in client.follow(job_id):
            events.append(update.event)
            if isinstance(update.event, StatusChanged) and update.event.detail == TOO_OLD:
                start_newer(installation, monkeypatch, tmp_path)
        assert client.result(job_id).succeeded
        assert (client.get(job_id).owner or "").startswith("new-")
        assert sum(isinstance(event, StatusChanged) and event.detail == TOO_OLD for event in events) == 1
        versions = {view.info["version"] for view in client.workers()}
        assert versions == {VERSION, "99.0.0"}


def test_where_no_newer_worker_comes_the_job_fails_by_its_queue_timeout_with_those_words(
    installation: Installation,
) -> None:
    with Dispatcher(installation.client_settings()) as client:
        waiting = client.submit(parse_spec({**SPEC, "queue_timeout_s": 5})).job_id
        # It keeps nobody else waiting.
        other = client.submit(parse_spec({"image": "busybox:1.37", "command": ["true"]})).job_id
        assert client.result(other, 60).succeeded
        told = [update.event for update in client.follow(waiting)]
        result = client.result(waiting, 60)
        assert (result.status, result.reason) == (Status.FAILED, FailureReason.QUEUE_TIMEOUT)
        assert TOO_OLD in result.message
        assert any(isinstance(event, StatusChanged) and event.detail == TOO_OLD for event in told)
        assert all(TOO_OLD in event.text for event in told if isinstance(event, Silence))


def test_a_message_in_another_language_is_left_to_a_newer_worker_whole(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = {**SPEC, "id": "by-hand-99", "of_the_future": {"a": 1}}
    with redis.Redis.from_url(installation.redis.url) as raw, Dispatcher(installation.client_settings()) as client:
        raw.lpush(message_list("default", 0), encode_message(spec, queue="default", priority=Priority.HIGH))
        job = "podrelay:job:{by-hand-99}"
        wait_for_key(raw, job, lambda: raw.hget(job, "detail") is not None)
        assert client.get("by-hand-99").detail == TOO_OLD
        kept: str = raw.hget(job, "spec")  # type: ignore[assignment]
        assert json.loads(kept)["of_the_future"] == {"a": 1}
        start_newer(installation, monkeypatch, tmp_path)
        assert client.result("by-hand-99", 60).succeeded
