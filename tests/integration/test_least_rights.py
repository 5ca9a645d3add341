"""With the two Redis users of the operations page, and nothing beyond, all of podrelay works."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import redis

from dispatcher import names
from dispatcher.aio import AsyncDispatcher
from dispatcher.client import Dispatcher
from dispatcher.events import Ended
from dispatcher.script import script_text
from dispatcher.settings import ClientSettings
from dispatcher.spec import parse_spec
from dispatcher.status import Status
from tests.docs.pages import ROOT
from tests.support.installation import QUICK, Installation, clean_environment, running_installation
from tests.support.podrelay_process import PODRELAY
from tests.support.redis_servers import redis_binaries
from tests.support.rights import CALLER, PASSWORDS, WORKER, commands, make_users

DATABASE = 3


def url_of(installation: Installation, user: str) -> str:
    return f"redis://{user}:{quote(PASSWORDS[user], safe='')}@127.0.0.1:{installation.redis.port}/{DATABASE}"


@pytest.fixture(params=list(redis_binaries()))
def installation(request: pytest.FixtureRequest) -> Iterator[Installation]:
    """Its Redis knows the two users, in a database of their own."""
    with running_installation(redis_binary=redis_binaries()[request.param]) as running:
        make_users(running.redis_command, "+select")
        running.redis_url = url_of(running, WORKER)
        yield running


@pytest.fixture
def caller_url(installation: Installation) -> str:
    return url_of(installation, CALLER)


def run(url: str, *command: str, **more: str) -> str:
    """Run a command as the caller, and return what it prints."""
    env = clean_environment(PODRELAY_REDIS_URL=url, **more)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def podrelay(url: str, *words: str) -> str:
    return run(url, *PODRELAY, *words)


def test_all_of_podrelay_works_and_redis_has_denied_nothing(installation: Installation, caller_url: str) -> None:
    workers = {name: installation.start_worker(name, **QUICK) for name in ("ada", "bob")}
    write = "import os; os.makedirs('/airflow/xcom', exist_ok=True); open('/airflow/xcom/return.json', 'w').write('5')"
    asked = ("--image", "python:3.12", "--id", "first", "--return-value", "--follow", "--", "python", "-c", write)
    podrelay(caller_url, "submit", *asked)
    assert json.loads(podrelay(caller_url, "status", "first", "--json"))["result"]["return_value"] == 5
    with Dispatcher(ClientSettings.from_environment({}, redis_url=caller_url)) as client:
        _cancel(client, caller_url)
        _hand_a_key_over(client)
        _take_over(client, workers)
        client.acknowledge("first")
        assert {record.job_id for record in client.list()} >= {"first", "cancelled", "taken-over"}
    assert "first" in podrelay(caller_url, "list")
    assert "ada" in podrelay(caller_url, "workers")
    podrelay(caller_url, "logs", "first")
    _dead_letter(installation, caller_url)
    asyncio.run(_as_a_trigger(caller_url))
    connection = {"conn_type": "podrelay", "extra": {"redis_url": caller_url}}
    code = "from airflow_bridge.hook import PodRelayHook; print(PodRelayHook().test_connection())"
    told = run(caller_url, sys.executable, "-c", code, AIRFLOW_CONN_PODRELAY_DEFAULT=json.dumps(connection))
    assert "(True, " in told
    assert installation.redis_command("ACL", "LOG") == []


def _sleeper(job_id: str, **fields: Any) -> Any:
    return parse_spec({"id": job_id, "image": "simulated:latest", "args": ["--lines=600", "--rate=10"], **fields})


def _until_running(client: Dispatcher, job_id: str) -> None:
    for update in client.follow(job_id):
        if getattr(update.event, "status", None) is Status.RUNNING:
            return


def _cancel(client: Dispatcher, caller_url: str) -> None:
    client.submit(_sleeper("cancelled"))
    _until_running(client, "cancelled")
    podrelay(caller_url, "cancel", "cancelled", "--wait")
    assert client.get("cancelled").status is Status.CANCELLED


def _hand_a_key_over(client: Dispatcher) -> None:
    client.submit(_sleeper("before", key="k"))
    _until_running(client, "before")
    client.submit(parse_spec({"id": "after", "image": "simulated:latest", "args": ["--lines=1"], "key": "k"}))
    assert client.result("before", timeout_s=60).status is Status.CANCELLED
    assert client.result("after", timeout_s=60).status is Status.SUCCEEDED


def _take_over(client: Dispatcher, workers: dict[str, Any]) -> None:
    client.submit(parse_spec({"id": "taken-over", "image": "simulated:latest", "args": ["--lines=60", "--rate=10"]}))
    _until_running(client, "taken-over")
    owner = client.get("taken-over").owner
    workers[owner.partition("-")[0]].kill()
    result = client.result("taken-over", timeout_s=60)
    assert (result.status, result.attempt) == (Status.SUCCEEDED, 1)
    assert client.get("taken-over").owner != owner


def _dead_letter(installation: Installation, caller_url: str) -> None:
    with redis.Redis.from_url(caller_url, protocol=2, driver_info=None) as client:
        client.lpush(f"{names.CELERY_PREFIX}default", "rubbish")
    with redis.Redis(port=installation.redis.port, db=DATABASE, socket_timeout=40) as client:
        dead = "podrelay:queue:default:dead"
        assert client.blmove(dead, dead, 30)


async def _as_a_trigger(caller_url: str) -> None:
    async with AsyncDispatcher(ClientSettings.from_environment({}, redis_url=caller_url)) as client:
        await client.submit(parse_spec({"id": "deferred", "image": "simulated:latest", "args": ["--lines=3"]}))
        async for update in client.follow("deferred"):
            await client.keep_places({("deferred", "reader"): update.cursor})
        assert isinstance(update.event, Ended)
        assert await client.place("deferred", "reader") == update.cursor
        assert await client.list()
        assert await client.workers()


@pytest.mark.parametrize("installation", list(redis_binaries())[:1], indirect=True)
def test_a_redis_that_does_not_tell_what_it_is_serves_too(installation: Installation, caller_url: str) -> None:
    for user in (WORKER, CALLER):
        installation.redis_command("ACL", "SETUSER", user, "-info")
    installation.start_worker(**QUICK)
    told = podrelay(caller_url, "submit", "--image", "python:3.12", "--follow", "--", "python", "-c", "print('hello')")
    assert "hello" in told
    denied = installation.redis_command("ACL", "LOG")
    assert all(b"info" in entry for entry in denied)
    assert denied


def test_a_worker_may_whatever_a_script_does() -> None:
    (worker, _) = commands()
    called = {
        command.lower()
        for path in (ROOT / "dispatcher" / "lua").glob("*.lua")
        for command in re.findall(
            r"call\('([A-Z]+)'", script_text(path.stem) if path.stem != "prelude" else path.read_text()
        )
    }
    assert len(called) > 20
    assert called <= {word.removeprefix("+") for word in worker}
